import pytest


@pytest.mark.diffspeed("tf32", "sdpa_cudnn")
@pytest.mark.min_speedup(1.1)
def test_hardware(optimized_pipeline): ...


@pytest.mark.diffspeed("bf16")
@pytest.mark.min_speedup(2.0, device="cuda")
@pytest.mark.no_gpu_syncs()
def test_another_device(optimized_pipeline): ...
