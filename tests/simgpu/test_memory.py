"""Live bytes and their peak: one storage counts once."""

import torch


def test_live_bytes_and_where_the_peak_was(gpu):
    before = gpu.memory.live_bytes
    x = torch.zeros(1000, device=gpu.device)  # 4 bytes each
    assert gpu.memory.live_bytes - before == 4000
    view = x[10:]
    x += 1
    assert gpu.memory.live_bytes - before == 4000
    gpu.reset_peak_memory()
    big = torch.zeros(5000, device=gpu.device)
    line = big.gpu.memory.report().peak_site.line
    del big
    report = gpu.memory
    assert report.live_bytes - before == 4000
    assert report.peak_bytes - before == 24000
    assert report.peak_site.file == __file__
    assert report.peak_site.source == "big = torch.zeros(5000, device=gpu.device)"
    assert report.peak_site.line == line
    assert str(report).endswith(
        f"{report.peak_bytes} at the peak at {__file__}:{line} ({report.peak_op}) (counted)"
    )
    del x
    assert gpu.memory.live_bytes - before == 4000  # the view holds it
    del view
    assert gpu.memory.live_bytes == before


def test_temporaries_are_freed_at_once(gpu):
    x = torch.zeros(1000, device=gpu.device)
    before = gpu.memory.live_bytes
    for _ in range(3):
        (x * 2 + 1).sum().item()
    assert gpu.memory.live_bytes == before


def test_torch_cuda_says_the_same(gpu):
    x = torch.zeros(1000, device=gpu.device)
    assert torch.cuda.memory_allocated() == gpu.memory.live_bytes
    assert torch.cuda.max_memory_allocated() == gpu.memory.peak_bytes
    assert torch.cuda.memory_stats()["allocated_bytes.all.peak"] == gpu.memory.peak_bytes
    free, total = torch.cuda.mem_get_info()
    assert total - free == gpu.memory.live_bytes
    del x
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() == gpu.memory.live_bytes
