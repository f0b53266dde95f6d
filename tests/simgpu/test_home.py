"""What a module kept of a simulated GPU is on the CPU afterwards."""

from collections import deque, namedtuple

import pytest
import torch

from pytest_diffspeed.accelerators.simulated import weights_replaced
from pytest_diffspeed.simgpu import SimulatedGpu, bring_home

Pair = namedtuple("Pair", "cos sin")


class Tables:
    """No module, as the rotary embedding of Z-Image."""

    def __init__(self):
        self.table = None

    def on(self, device):
        if self.table is None or self.table[0].device != device:
            self.table = [torch.arange(4.0).to(device)]
        return self.table[0]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 4)
        self.tables = Tables()
        self.masks = {"sizes": deque()}
        self.pair = None

    def forward(self, x):
        table = self.tables.on(x.device)
        self.masks["sizes"].append(table > 1)
        self.pair = Pair(table.cos(), (table.sin(), 3))
        self.inner.last = x
        return self.inner(x) + table


def kept(net):
    masks = net.masks["sizes"]
    return [net.tables.table[0], *masks, net.pair.cos, net.pair.sin[0], net.inner.last]


def test_tensors_that_a_module_kept_come_home():
    net = Net()
    expected = net(torch.ones(1, 4))
    with SimulatedGpu() as gpu:
        with weights_replaced({"net": net}, gpu.wrap):
            output = net(gpu.wrap(torch.ones(1, 4)))
            assert {one.device.type for one in kept(net)} > {"cpu"}
        assert torch.equal(output.cpu(), expected)
    assert all(type(one) is torch.Tensor and one.device.type == "cpu" for one in kept(net))
    assert torch.equal(net.tables.table[0], torch.arange(4.0))
    assert torch.equal(net.pair.sin[0], torch.arange(4.0).sin())
    assert isinstance(net.pair, Pair) and net.pair.sin[1] == 3
    assert torch.equal(net(torch.ones(1, 4)), expected)


def test_they_come_home_from_a_call_that_raised():
    net = Net()
    with (
        SimulatedGpu() as gpu,
        pytest.raises(ZeroDivisionError),
        weights_replaced({"net": net}, gpu.wrap),
    ):
        net(gpu.wrap(torch.ones(1, 4)))
        raise ZeroDivisionError
    assert all(type(one) is torch.Tensor for one in kept(net))


def test_circles_and_what_nobody_can_look_into_end():
    holder = Tables()
    holder.itself, holder.other = holder, object()
    deep = holder.deep = []
    for _ in range(5000):
        deep.append([])
        deep = deep[0]
    with SimulatedGpu() as gpu:
        holder.table = (gpu.wrap(torch.ones(1)),)
        bring_home([holder])
    assert type(holder.table[0]) is torch.Tensor
