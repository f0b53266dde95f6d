"""The device: what lives on it, what it refuses, and that nothing of it stays behind."""

import copy
import subprocess
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.nn import functional

from pytest_diffspeed.simgpu import SimulatedGpu, SimulatorError, SyncKind, device


def test_tensors_say_where_they_are(gpu, kind):
    x = torch.randn(2, 3, device=gpu.device)
    assert x.device == torch.device(kind, 0)
    assert (x + 1).device == x.device
    assert torch.zeros_like(x).device == x.device
    assert torch.randn(2).to(gpu.device).device == x.device
    assert torch.randn(2).to(kind).device == x.device
    assert x.cpu().device.type == "cpu"
    assert torch.zeros_like(x, device="cpu").device.type == "cpu"
    assert x.is_cuda == (kind == "cuda")
    with gpu.device:
        assert torch.ones(2).device == x.device


def test_views_share_their_memory(gpu):
    x = torch.zeros(4, device=gpu.device)
    view = x.view(2, 2).t()[0]
    view += 1
    assert x.tolist() == [1, 0, 1, 0]
    assert view.data_ptr() == x.data_ptr()


def test_in_place_ops_return_the_tensor_itself(gpu):
    x = torch.ones(3, device=gpu.device)
    assert x.add_(1) is x
    out = torch.empty(3, device=gpu.device)
    assert torch.mul(x, 2, out=out) is out
    assert out.tolist() == [4, 4, 4]


def test_in_place_ops_change_the_shape_outside_too(gpu):
    x = torch.ones(2, 3, device=gpu.device)
    x.t_().unsqueeze_(0)
    assert (x.shape, x.stride()) == ((1, 3, 2), (3, 1, 3))
    found = torch.empty(0, dtype=torch.long, device=gpu.device)
    assert torch.nonzero(torch.ones(2, device=gpu.device), out=found).shape == (2, 1)
    assert found.sum().item() == 1


def test_copies_do_not_share_memory(gpu):
    host = torch.zeros(2)
    x = host.to(gpu.device)
    x += 1
    down = x.cpu()
    down += 1
    assert (host.tolist(), x.tolist(), down.tolist()) == ([0, 0], [1, 1], [2, 2])


@pytest.mark.parametrize(
    "program",
    [
        lambda x, host: x + host,
        lambda x, host: torch.cat([x, host]),
        lambda x, host: torch.where(x > 0, x, host),
        lambda x, host: host.add_(x),
        lambda x, host: host.add_(x[0]),
        lambda x, host: x @ host,
        lambda x, host: functional.linear(x, host[None]),
        lambda x, host: functional.scaled_dot_product_attention(
            x.expand(1, 1, 4, 4), host.expand(1, 1, 4, 4), x.expand(1, 1, 4, 4)
        ),
    ],
    ids=["add", "cat", "where", "in place", "in place 0-dim", "matmul", "linear", "attention"],
)
def test_refuses_mixed_devices(gpu, program):
    x, host = torch.ones(4, device=gpu.device), torch.ones(4)
    with pytest.raises(RuntimeError, match="same device"):
        program(x, host)


def test_takes_0_dim_cpu_tensors_as_numbers(gpu):
    x = torch.ones(4, device=gpu.device)
    assert (x + torch.tensor(1.0)).tolist() == [2, 2, 2, 2]
    assert torch.where(x > 0, torch.tensor(3.0), x).tolist() == [3, 3, 3, 3]
    with pytest.raises(RuntimeError, match="same device"):
        torch.stack([x[0], torch.tensor(3.0)])  # not an op of TensorIterator: CUDA refuses it
    with pytest.raises(RuntimeError, match="same device"):
        torch.addmm(torch.tensor(1.0), x[None], x[:, None])
    with pytest.raises(RuntimeError, match="same device"):
        torch.cat([x, torch.ones(1)])


def test_refuses_numpy_as_torch_does(gpu):
    x = torch.ones(2, device=gpu.device)
    message = f"can't convert {gpu.device} device type tensor to numpy. Use Tensor.cpu()"
    for program in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(TypeError, match=message):
            program()


def test_cannot_be_saved(gpu, tmp_path):
    with pytest.raises(SimulatorError, match="move it to the CPU first"):
        torch.save(torch.ones(2, device=gpu.device), tmp_path / "x.pt")


def test_generators(gpu, kind):
    def draw():
        generator = torch.Generator(gpu.device).manual_seed(3)
        return torch.randn(3, generator=generator, device=gpu.device)

    assert torch.equal(draw(), draw())
    expected = torch.randn(3, generator=torch.Generator().manual_seed(3))
    assert torch.equal(draw().cpu(), expected)
    generator = torch.Generator(device=gpu.device)
    assert generator.device == gpu.device
    assert isinstance(generator, torch.Generator)
    assert isinstance(torch.Generator(), torch.Generator)
    assert torch.Generator().device.type == "cpu"
    torch.empty(2, device=gpu.device).normal_(generator=generator)
    with pytest.raises(RuntimeError, match=f"Expected a '{kind}' device type for generator"):
        torch.randn(2, generator=torch.Generator(), device=gpu.device)
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator"):
        torch.randn(2, generator=generator)


def test_autocast(gpu):
    x = torch.ones(2, 2, device=gpu.device)
    with torch.autocast(gpu.device.type, dtype=torch.bfloat16):
        assert functional.linear(x, x).dtype == torch.bfloat16
        assert torch.softmax(x.bfloat16(), -1).dtype == torch.float32
        with torch.autocast(gpu.device.type, enabled=False):
            assert functional.linear(x, x).dtype == torch.float32
    assert functional.linear(x, x).dtype == torch.float32


@pytest.mark.parametrize("around", [True, False], ids=["around it", "inside it"])
def test_inference_mode_hides_no_sync(around):
    """In it torch hands over ``item`` and ``to`` themselves, not what they are made of."""
    weights = torch.nn.Linear(3, 3)

    def syncs(mode):
        with mode() if around else nullcontext(), SimulatedGpu() as gpu:
            module = copy.deepcopy(weights).to(gpu.device)
            with gpu.record() as log, mode():
                x = torch.tensor([1.0, 2.0, 3.0], device=gpu.device)
                y = module(x + torch.zeros(3).to(gpu.device))
                assert y.device == gpu.device
                float(y.sum()), bool((y > 0).any()), y.nonzero(), y.cpu()
                assert (torch.ones(3, device=gpu.device) * 2).sum().item() == 6
        return [(str(event.kind), event.op) for event in log.syncs]

    found = syncs(torch.inference_mode)
    assert found == syncs(torch.no_grad)
    assert [kind for kind, _ in found].count("value_read") == 3


def test_modules_move_there_and_back(gpu):
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).eval()
    module.append(torch.nn.Linear(3, 3))
    module[2].weight = module[0].weight
    weight, inputs = module[0].weight, torch.randn(2, 3)
    expected = module(inputs)
    module.to(gpu.device)
    assert module[0].weight is weight is module[2].weight
    assert {p.device for p in module.parameters()} == {gpu.device}
    there = module(inputs.to(gpu.device))
    twin = copy.deepcopy(module)
    assert isinstance(twin[0].weight, torch.nn.Parameter)
    assert twin[0].weight.device == gpu.device
    module.to("cpu")
    assert type(module[0].weight) is torch.nn.Parameter
    torch.testing.assert_close(there.cpu(), expected)
    torch.testing.assert_close(module(inputs), expected)


WATCHED = (
    (torch, ("Generator", "set_autocast_enabled")),
    (torch.nn.functional, ("scaled_dot_product_attention",)),
    (torch.accelerator, ("synchronize", "empty_cache")),
    (torch.cuda, tuple(sorted(vars(torch.cuda)))),
    (torch.cuda.memory, tuple(sorted(vars(torch.cuda.memory)))),
    (torch.cuda.random, tuple(sorted(vars(torch.cuda.random)))),
    (torch.cuda.amp.common, ("amp_definitely_not_available",)),
)


def _state():
    found = {
        (owner.__name__, name): vars(owner).get(name) for owner, names in WATCHED for name in names
    }
    found["names"] = tuple(sorted(vars(torch.cuda)))
    found["swap"] = torch.__future__.get_swap_module_params_on_conversion()
    found["lift"] = torch._C._only_lift_cpu_tensors()
    found["modes"] = len(torch.utils._python_dispatch._get_current_dispatch_mode_stack())
    found["available"] = torch.cuda.is_available()
    found["accelerator"] = torch.accelerator.current_accelerator(check_available=True)
    return found


def test_leaving_puts_everything_back(kind):
    before = _state()
    with SimulatedGpu(kind):
        inside = _state()
    assert _state() == before
    assert inside != before
    assert inside["available"] is before["available"]


def test_an_exception_puts_everything_back(kind):
    before = _state()
    with pytest.raises(ZeroDivisionError), SimulatedGpu(kind):
        raise ZeroDivisionError
    assert _state() == before


def test_a_failure_to_open_puts_everything_back(kind, monkeypatch):
    before = _state()

    def fail(executor):
        raise ZeroDivisionError

    monkeypatch.setattr(device, "_Mode", fail)
    with pytest.raises(ZeroDivisionError):
        SimulatedGpu(kind).__enter__()
    assert _state() == before


def test_a_second_one_works(kind):
    for _ in range(2):
        with SimulatedGpu(kind) as gpu:
            assert torch.ones(2, device=gpu.device).sum().item() == 2
    with pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
        torch.ones(2, device=gpu.device)


def test_nested_ones_are_the_same_device(kind):
    with SimulatedGpu(kind) as outer:
        x = torch.ones(2, device=outer.device)
        with SimulatedGpu() as inner, outer.record() as log:
            assert inner.device == outer.device
            (torch.ones(2, device=inner.device) + x).sum().item()
        assert [event.kind for event in log] == [SyncKind.VALUE_READ]
        torch.ones(2, device=outer.device)  # still there


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="needs a CUDA build of torch")
def test_two_kinds_at_once_are_refused():
    with SimulatedGpu("cuda"), pytest.raises(SimulatorError, match="leave its context first"):
        SimulatedGpu("simgpu").__enter__()


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="needs a CPU build of torch")
def test_cuda_on_a_cpu_build_is_refused():
    with pytest.raises(SimulatorError, match="built without CUDA"):
        SimulatedGpu("cuda")


def test_unknown_kinds_and_closed_devices_are_refused():
    with pytest.raises(SimulatorError, match="not 'tpu'"):
        SimulatedGpu("tpu")
    with pytest.raises(SimulatorError, match="inside `with"):
        _ = SimulatedGpu().device


def test_an_exception_in_a_nested_one_leaves_the_outer_one_open(kind):
    before = _state()
    with SimulatedGpu(kind) as outer:
        with pytest.raises(ZeroDivisionError), SimulatedGpu() as inner, inner.record():
            raise ZeroDivisionError
        with outer.record() as log:
            assert torch.ones(2, device=outer.device).sum().item() == 2
        assert len(log) == 1
    assert _state() == before


def test_one_thread_may_leave_before_the_other(kind):
    """What is changed in torch goes when the last context of the process is left."""
    before = _state()
    opened, leave, found = threading.Event(), threading.Event(), []

    def elsewhere():
        with SimulatedGpu(kind) as own:
            opened.set()
            assert leave.wait(60)
            found.append(torch.ones(2, device=own.device).sum().item())

    thread = threading.Thread(target=elsewhere)
    with SimulatedGpu(kind):
        thread.start()
        assert opened.wait(60)
    assert torch.cuda.Event is not before["torch.cuda", "Event"]  # the other one is open
    leave.set()
    thread.join()
    assert found == [2.0]
    assert _state() == before


def test_threads(gpu, kind):
    x = torch.ones(2, device=gpu.device)
    found = {}

    def elsewhere():
        with torch.no_grad():
            found["op"] = (x + 1).sum().item()
            with SimulatedGpu(kind) as own:
                found["made"] = (torch.ones(2, device=own.device) + x).tolist()

    thread = threading.Thread(target=elsewhere)
    with gpu.record() as log:
        thread.start()
        thread.join()
    assert found == {"op": 4.0, "made": [2.0, 2.0]}
    # A recording hears of a thread that works on its device, and not of one that opened it itself.
    (event,) = log.syncs
    assert event.site.source == 'found["op"] = (x + 1).sum().item()'
    assert (torch.ones(2, device=gpu.device) + x).tolist() == [2, 2]


def test_the_name_can_be_taken_by_others():
    program = (
        "import torch\n"
        "torch.utils.rename_privateuse1_backend('npu')\n"
        "from pytest_diffspeed.simgpu import SimulatedGpu, SimulatorError\n"
        "try:\n"
        "    SimulatedGpu('simgpu').__enter__()\n"
        "except SimulatorError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "is called 'npu' in this process already" in done.stdout, done.stderr


def test_detection_is_as_before_afterwards(kind):
    """In a new process, since what cannot be undone may be done already in this one."""
    program = f"""
import torch
from diffusers.utils.torch_utils import get_device

def state():
    return (
        torch.cuda.is_available(),
        torch.cuda.is_initialized(),
        torch.cuda.device_count(),
        torch.accelerator.is_available(),
        torch.accelerator.device_count(),
        torch.accelerator.current_accelerator(check_available=True),
        torch.get_default_device(),
        torch.ones(1).is_pinned(),
        get_device(),
    )

before = state()
from pytest_diffspeed.simgpu import SimulatedGpu
with SimulatedGpu({kind!r}) as gpu:
    torch.ones(1, device=gpu.device)
    assert not torch.cuda.is_available()
torch.manual_seed(0)
assert before == state(), (before, state())
try:
    torch.ones(1, device="cuda")
except (AssertionError, RuntimeError) as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused: "), done.stdout + done.stderr


def test_an_older_torch_gets_a_sentence(monkeypatch):
    monkeypatch.delattr(torch.cuda, "_lazy_init")
    with pytest.raises(
        SimulatorError, match=r"needs torch\.cuda\._lazy_init, which torch .* lacks"
    ):
        SimulatedGpu("simgpu").__enter__()


def test_default_devices_work_afterwards(kind):
    """Torch remembers which functions make tensors: none of ours may stay among them."""
    torch.utils._device._device_constructors.cache_clear()  # as in a new process
    with SimulatedGpu(kind) as gpu, gpu.device:
        assert torch.tensor(1.0).device == gpu.device
        assert torch.ones(1).device == gpu.device
    with torch.device("meta"):
        assert torch.tensor([1.0]).device.type == "meta"
        assert torch.as_tensor([1.0]).device.type == "meta"


def test_data_moves_between_the_devices_as_offloading_hooks_move_it(kind):
    """``parameter.data = …`` keeps the object; a parameter stays one, and torch's own is back."""
    layer = torch.nn.Linear(4, 4, bias=False).requires_grad_(False)
    weight, values = layer.weight, layer.weight.tolist()
    with SimulatedGpu(kind) as gpu:
        weight.data = weight.data.to(gpu.device)
        assert layer.weight is weight and isinstance(weight, torch.nn.Parameter)
        assert weight.device == gpu.device and gpu.memory.live_bytes == 64
        assert layer(torch.ones(1, 4, device=gpu.device)).device == gpu.device
        weight.data = weight.data.cpu()
        assert weight.device.type == "cpu" and gpu.memory.live_bytes == 0
        weight.data = weight.data + 1  # on one device it is what torch does
    assert "data" not in vars(torch.Tensor)
    assert isinstance(weight, torch.nn.Parameter)
    torch.testing.assert_close(weight, torch.tensor(values) + 1)
