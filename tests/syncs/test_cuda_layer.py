"""The layers for a real GPU, on the simulated one: it warns where CUDA's sync debug mode does."""

import threading
import warnings

import diffusers
import pytest
import torch

from pytest_diffspeed.accelerators.cuda_syncs import record_cuda
from pytest_diffspeed.adapters.op_watch import RunningOp
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.simgpu import SimulatedGpu
from pytest_diffspeed.syncs.scheduler_drivers import create, drive


@pytest.fixture
def gpu():
    with SimulatedGpu() as gpu, torch.no_grad():
        yield gpu


PROGRAMS = {
    "item": lambda x: x.sum().item(),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "CPU index": lambda x: x[torch.tensor([0])],
    "up": lambda x: torch.ones(2).to(x.device),
    "list": lambda x: torch.tensor([1.0], device=x.device),
    "down": lambda x: x.cpu(),
    "synchronize": lambda x: torch.cuda.synchronize(),
    "accelerator": lambda x: torch.accelerator.synchronize(),
    "stream": lambda x: torch.cuda.current_stream().synchronize(),
    "event": lambda x: torch.cuda.Event().synchronize(),
    "empty_cache": lambda x: torch.cuda.empty_cache(),
    "empty_cache of torch.cuda.memory": lambda x: torch.cuda.memory.empty_cache(),
    "empty_cache of the accelerator": lambda x: torch.accelerator.empty_cache(),
    "pageable": lambda x: torch.ones(2).to(x.device, non_blocking=True),
    "pageable copy_": lambda x: x.copy_(torch.ones(3), non_blocking=True),
    "pinned": lambda x: torch.ones(2).pin_memory().to(x.device, non_blocking=True),
    "pinned copy_": lambda x: x.copy_(torch.ones(3).pin_memory(), non_blocking=True),
    "two kinds": lambda x: torch.repeat_interleave(x, x.long()),
    "two other kinds": lambda x: torch.bincount(x.long()),
    "svd": lambda x: torch.linalg.svd(x[None]),
    "nothing": lambda x: x * 2,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_both_layers_see_the_same(gpu, name):
    x = torch.ones(3, device=gpu.device)
    with gpu.record() as simulated:
        PROGRAMS[name](x)
    with record_cuda() as real:
        PROGRAMS[name](x)

    def plain(log):
        return [(event.kind, str(event.site), event.site.source) for event in log]

    assert plain(real) == plain(simulated)


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"]
)
def test_both_layers_count_the_same_in_schedulers(gpu, name):
    with third_party():
        scheduler = create(getattr(diffusers, name))
        with gpu.record() as simulated:
            drive(scheduler, gpu.device, 4)
        with record_cuda() as real:
            drive(scheduler, gpu.device, 4)
    assert len(real) == len(simulated) > 0
    assert [str(e.site) for e in real] == [str(e.site) for e in simulated]
    assert [e.kind for e in real] == [e.kind for e in simulated]


def test_without_ops_the_sites_remain(gpu):
    x = torch.ones(3, device=gpu.device)
    with record_cuda(watch_ops=False) as log:
        x.sum().item()
    (event,) = log
    assert (str(event.kind), event.op) == ("unclassified", "unknown")
    assert event.site.file == __file__


def test_everything_is_put_back(gpu):
    before = (
        torch.cuda.get_sync_debug_mode(),
        torch.cuda.synchronize,
        torch.accelerator.synchronize,
        torch.accelerator.empty_cache,
        torch.cuda.empty_cache,
        torch.cuda.memory.empty_cache,
        torch.cuda.Stream.synchronize,
        torch.Tensor.to,
        torch.Tensor.copy_,
        vars(torch.Tensor).keys(),
        warnings.showwarning,
        list(warnings.filters),
    )
    with pytest.raises(ZeroDivisionError), record_cuda():
        raise ZeroDivisionError
    after = (
        torch.cuda.get_sync_debug_mode(),
        torch.cuda.synchronize,
        torch.accelerator.synchronize,
        torch.accelerator.empty_cache,
        torch.cuda.empty_cache,
        torch.cuda.memory.empty_cache,
        torch.cuda.Stream.synchronize,
        torch.Tensor.to,
        torch.Tensor.copy_,
        vars(torch.Tensor).keys(),
        warnings.showwarning,
        list(warnings.filters),
    )
    assert after == before


def test_other_warnings_go_where_they_went(gpu):
    with pytest.warns(UserWarning, match="mine"), record_cuda() as log:
        warnings.warn("mine", UserWarning, stacklevel=1)
    assert len(log) == 0


def test_what_torch_says_of_the_mode_is_no_error(gpu, monkeypatch):
    set_mode = torch.cuda.set_sync_debug_mode

    def warns(mode):
        said = "Synchronization debug mode is a prototype feature and does not yet detect all …"
        warnings.warn(said, UserWarning, stacklevel=1)
        set_mode(mode)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", warns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with record_cuda() as log:
            torch.ones(3, device=gpu.device).sum().item()
    assert len(log) == 1


def test_each_sync_of_one_line_is_counted(gpu):
    """Python shows a warning of one line once; ours are counted each time."""
    x = torch.ones(3, device=gpu.device)
    with record_cuda() as log:
        for _ in range(3):
            x.sum().item()
    assert len(log) == 3


def test_other_threads_are_not_ours(gpu):
    x = torch.ones(3, device=gpu.device)
    with record_cuda() as log:
        thread = threading.Thread(target=lambda: x.sum().item())
        thread.start()
        thread.join()
    assert len(log) == 0


@pytest.mark.parametrize("add", [torch.add, torch.ops.aten.add.out])
def test_an_op_is_known_when_its_warning_comes(add):
    """Torch's own C++ warnings, as those of CUDA's sync debug mode are."""
    watch, seen = RunningOp(), []
    with warnings.catch_warnings(), watch:
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: seen.append((str(message), watch.op))
        add(torch.ones(3), torch.ones(3), out=torch.ones(5))
    ((message, op),) = seen
    assert "was resized" in message
    assert op == "aten.add"


def test_direct_calls_warn_through_python_without_the_mode():
    """Compiled code calls its fallbacks so; torch prints these warnings past Python's."""
    watch, seen = RunningOp(), []
    with warnings.catch_warnings(), watch.of_direct_calls():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: seen.append((str(message), watch.op))
        torch.ops.aten.add.out(torch.ones(3), torch.ones(3), out=torch.ones(5))
    ((message, op),) = seen
    assert "was resized" in message
    assert op == "aten.add"


def test_direct_calls_of_the_device_are_known(gpu):
    x = torch.ones(3, device=gpu.device)
    with record_cuda(watch_ops=False) as log:
        torch.ops.aten.nonzero.default(x)
    (event,) = log
    assert (str(event.kind), event.op) == ("data_dependent_shape", "aten.nonzero")


def test_what_an_op_raises_comes_through():
    with pytest.raises(RuntimeError, match="inconsistent tensor size"), RunningOp():
        torch.ones(3) @ torch.ones(4)
