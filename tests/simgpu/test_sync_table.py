"""What makes the CPU wait and what does not, row by row.

``PYTORCH`` holds every row of ``test_sync_warning`` in PyTorch's own test/test_torch.py, as it was
when a mask on the CPU stopped being a sync (the header native/IndexingUtils.h that torch 2.13.0 and
2.14.1 ship says the same).  That test runs on a GPU; ours runs the rows here.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from pytest_diffspeed.simgpu import SyncKind
from pytest_diffspeed.simgpu.rules import RULES


class Inputs:
    """The tensors that PyTorch's test prepares, and some more."""

    def __init__(self, device):
        size = 4
        self.device = device
        self.size = size
        self.x = torch.rand(size, device=device)
        self.y = torch.rand((), device=device)
        self.ind = torch.randint(size, (3,), device=device)
        self.ind_cpu = self.ind.cpu()
        self.repeats = torch.full((1,), 2, device=device)
        self.mask = torch.tensor([True, False, True, False], device=device)
        self.mask_cpu = self.mask.cpu()
        self.host = torch.rand(size)
        self.square = torch.eye(3, device=device)

    def put(self, index, value):
        self.x[index] = value

    def pinned(self):
        return torch.ones(4).pin_memory()


PYTORCH_NO_SYNC = {
    "put device mask, number": lambda t: t.put(t.mask, 1.0),
    "put CPU mask, device value": lambda t: t.put(t.mask_cpu, t.y),
    "put device index": lambda t: t.put(t.ind, t.y),
    "get CPU mask": lambda t: t.x[t.mask_cpu],
    "get device index": lambda t: t.x[t.ind],
    "one_hot with num_classes": lambda t: functional.one_hot(t.ind, num_classes=t.size),
    "randperm": lambda t: torch.randperm(20000, device=t.device),
    "repeat_interleave int": lambda t: torch.repeat_interleave(t.x, 2, output_size=2 * t.size),
    "repeat_interleave sized": lambda t: torch.repeat_interleave(
        t.x, t.repeats, output_size=2 * t.size
    ),
    "any": lambda t: torch.any(t.y),
}
PYTORCH_SYNC = {
    "put device mask, device value": lambda t: t.put(t.mask, t.y),
    "put CPU index": lambda t: t.put(t.ind_cpu, t.y),
    "get device mask": lambda t: t.x[t.mask],
    "get CPU index": lambda t: t.x[t.ind_cpu],
    "nonzero": lambda t: t.x.nonzero(),
    "condition": lambda t: bool(t.y),
    "one_hot": lambda t: functional.one_hot(t.ind),
    "repeat_interleave": lambda t: torch.repeat_interleave(t.x, t.repeats),
}
READ, SHAPE = SyncKind.VALUE_READ, SyncKind.DATA_DEPENDENT_SHAPE
UP, DOWN = SyncKind.BLOCKING_H2D, SyncKind.BLOCKING_D2H
EXPLICIT, MAY, FREED = SyncKind.SYNCHRONIZE, SyncKind.MAY_BLOCK, SyncKind.EMPTY_CACHE

# `normal` of tensors waits in torch 2.13 and not in 2.14: the installed header says which this is.
_HEADER = Path(torch.__file__).parent / "include/ATen/native/DistributionTemplates.h"
NORMAL_CHECKS_ON_THE_DEVICE = "_assert_async" in _HEADER.read_text(encoding="utf-8")

OURS = {
    # values
    "item": (lambda t: t.y.item(), [READ]),
    "float": (lambda t: float(t.y), [READ]),
    "int": (lambda t: int(t.ind[0]), [READ]),
    "index": (lambda t: range(9)[t.ind[0]], [READ]),
    "format": (lambda t: f"{t.y:.2f}", [READ]),
    "is_nonzero": (lambda t: torch.is_nonzero(t.y), [READ]),
    "in": (lambda t: 3 in t.ind, [READ]),
    "equal": (lambda t: torch.equal(t.x, t.x + 1), [READ]),
    "allclose": (lambda t: torch.allclose(t.x, t.x), [READ]),
    "index by 0-dim tensor": (lambda t: t.host[t.ind[0]], [READ]),
    "slice by 0-dim tensor": (lambda t: t.x[: t.ind[0]], [READ]),
    "arange to tensor": (lambda t: torch.arange(t.ind[0], device=t.device), [READ]),
    "full of tensor": (lambda t: torch.full((2,), t.y, device=t.device), [READ]),
    "masked_fill by device value": (lambda t: t.x.masked_fill(t.mask, t.y), [READ]),
    "linspace of tensors": (lambda t: torch.linspace(t.y, t.y + 1, 3), [READ, READ]),
    "solve": (lambda t: torch.linalg.solve(t.square, t.square[0]), [READ]),
    "inverse": (lambda t: torch.linalg.inv(t.square), [READ]),
    "normal by tensors": (
        lambda t: torch.normal(t.x, t.x.abs()),
        [] if NORMAL_CHECKS_ON_THE_DEVICE else [READ],
    ),
    # shapes
    "where of one": (lambda t: torch.where(t.x > 0), [SHAPE]),
    "masked_select": (lambda t: t.x.masked_select(t.mask), [SHAPE]),
    "unique": (lambda t: torch.unique(t.x), [SHAPE]),
    "argwhere": (lambda t: torch.argwhere(t.x), [SHAPE]),
    "bincount": (lambda t: torch.bincount(t.ind), [DOWN, READ]),
    "histc": (lambda t: torch.histc(t.x), [READ, READ]),
    "repeat_interleave": (lambda t: torch.repeat_interleave(t.x, t.repeats), [SHAPE, READ]),
    "one_hot": (lambda t: functional.one_hot(t.ind), [READ]),
    "unique_consecutive": (lambda t: torch.unique_consecutive(t.x), [SHAPE]),
    "isin of many": (lambda t: torch.isin(t.ind, torch.arange(99, device=t.device)), [SHAPE] * 2),
    "two masks": (lambda t: torch.eye(4, device=t.device)[t.mask, t.mask], [SHAPE, SHAPE]),
    # copies
    "to device": (lambda t: t.host.to(t.device), [UP]),
    "to device with a dtype": (lambda t: t.host.to(t.device, torch.float16), [UP]),
    "from numpy": (lambda t: torch.from_numpy(np.ones(3)).to(t.device), [UP]),
    "pinned, blocking": (lambda t: t.pinned().to(t.device), [UP]),
    "tensor from a list": (lambda t: torch.tensor([1.0, 2.0], device=t.device), [UP]),
    "tensor from a number": (lambda t: torch.tensor(1.0, device=t.device), [UP]),
    "as_tensor": (lambda t: torch.as_tensor(np.ones(3), device=t.device), [UP]),
    "new_tensor": (lambda t: t.x.new_tensor([1.0]), [UP]),
    "tensor from device tensors": (lambda t: torch.tensor([t.y, t.y]), [READ, READ]),
    "copy_ from CPU": (lambda t: t.x.copy_(t.host), [UP]),
    "put number at one place": (lambda t: t.put(0, 1.0), [UP]),
    "put number by device index": (lambda t: t.put(t.ind, 1.0), [UP]),
    "cpu": (lambda t: t.x.cpu(), [DOWN]),
    "to CPU": (lambda t: t.x.to("cpu"), [DOWN]),
    "copy_ to CPU": (lambda t: t.host.copy_(t.x), [DOWN]),
    "tolist": (lambda t: t.x.tolist(), [DOWN]),
    "numpy by force": (lambda t: t.x.numpy(force=True), [DOWN]),
    # asked for
    "synchronize": (lambda t: torch.cuda.synchronize(), [EXPLICIT]),
    "accelerator": (lambda t: torch.accelerator.synchronize(), [EXPLICIT]),
    "stream": (lambda t: torch.cuda.current_stream().synchronize(), [EXPLICIT]),
    "event": (lambda t: torch.cuda.Event().synchronize(), [EXPLICIT]),
    "empty_cache": (lambda t: torch.cuda.empty_cache(), [FREED]),
    "empty_cache of torch.cuda.memory": (lambda t: torch.cuda.memory.empty_cache(), [FREED]),
    "empty_cache of the accelerator": (lambda t: torch.accelerator.empty_cache(), [FREED]),
    # perhaps
    "pageable, non_blocking": (lambda t: t.host.to(t.device, non_blocking=True), [MAY]),
    "pageable copy_": (lambda t: t.host.copy_(t.x, non_blocking=True), [MAY]),
    # what looks like a sync and is none
    "kernels": (lambda t: (t.x * 2 + t.y).sum().softmax(0), []),
    "0-dim CPU tensor": (lambda t: t.x + torch.tensor(1.0), []),
    "pinned, non_blocking": (lambda t: t.pinned().to(t.device, non_blocking=True), []),
    "pinned view": (lambda t: t.pinned()[1:].to(t.device, non_blocking=True), []),
    "made pinned": (
        lambda t: torch.empty(2, pin_memory=True).to(t.device, non_blocking=True),
        [],
    ),
    "to CPU, non_blocking": (lambda t: t.x.to("cpu", non_blocking=True), []),
    "device to device": (lambda t: t.x.clone().to(torch.float16), []),
    "to where it is": (lambda t: t.x.to(t.device), []),
    "nothing to copy": (lambda t: torch.empty(0).to(t.device), []),
    "equal to itself": (lambda t: torch.equal(t.x, t.x), []),
    "equal of other shapes": (lambda t: torch.equal(t.x, t.ind), []),
    "len": (lambda t: len(t.x), []),
    "shape": (lambda t: t.x.shape[0] + t.x.numel(), []),
    "repeat_interleave by int": (lambda t: torch.repeat_interleave(t.x, 2), []),
    "put number into a slice": (lambda t: t.put(slice(0, 2), 1.0), []),
    "put device value": (lambda t: t.put(0, t.y), []),
    "masked_fill by number": (lambda t: t.x.masked_fill(t.mask, 2.0), []),
    "where of three": (lambda t: torch.where(t.mask, t.x, t.y), []),
    "iteration": (lambda t: [element + 1 for element in t.x], []),
    "full": (lambda t: torch.full((2,), 1.0, device=t.device), []),
    "arange": (lambda t: torch.arange(4, device=t.device), []),
    "quantile": (lambda t: torch.quantile(t.x, 0.5), []),
    "sort": (lambda t: t.x.sort(), []),
    "argmax": (lambda t: t.x.argmax(), []),
    "isin of few": (lambda t: torch.isin(t.ind, t.ind), []),
    # These let the device check, by `_assert_async`.
    "multinomial": (lambda t: torch.multinomial(t.x + 1, 1), []),
    "multinomial by rows": (lambda t: torch.multinomial(t.square + 1, 2), []),
    "put and add": (lambda t: t.x.index_put_((t.ind,), t.y, accumulate=True), []),
    "nonzero_static": (lambda t: torch.nonzero_static(t.x, size=2), []),
    "histc with bounds": (lambda t: torch.histc(t.x, 4, 0, 1), []),
    "bincount of nothing": (lambda t: torch.bincount(t.ind[:0]), []),
    "unique of nothing": (lambda t: torch.unique(t.x[:0]), []),
    "wait for an event": (lambda t: torch.cuda.current_stream().wait_event(torch.cuda.Event()), []),
}


@pytest.mark.parametrize("row", PYTORCH_NO_SYNC, ids=str)
def test_pytorch_expects_no_sync(gpu, row):
    inputs = Inputs(gpu.device)
    with gpu.record() as log:
        PYTORCH_NO_SYNC[row](inputs)
    assert log.events == []


@pytest.mark.parametrize("row", PYTORCH_SYNC, ids=str)
def test_pytorch_expects_a_sync(gpu, row):
    inputs = Inputs(gpu.device)
    with gpu.record() as log:
        PYTORCH_SYNC[row](inputs)
    assert log.syncs  # how many is in OURS: PyTorch's test asks whether, and not how often


@pytest.mark.parametrize("level", ["warn", "error"])
@pytest.mark.parametrize("row", [*PYTORCH_SYNC, *PYTORCH_NO_SYNC], ids=str)
def test_pytorch_rows_in_sync_debug_mode(gpu, row, level):
    """As PyTorch's test asks it: at each level of the mode, by what is raised or warned."""
    inputs = Inputs(gpu.device)
    expected = row in PYTORCH_SYNC
    program = {**PYTORCH_SYNC, **PYTORCH_NO_SYNC}[row]
    found = False
    try:
        torch.cuda.set_sync_debug_mode(level)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            program(inputs)
        found = any("called a synchronizing " in str(one.message) for one in caught)
    except RuntimeError as error:
        assert level == "error"
        found = "called a synchronizing " in str(error)
    finally:
        torch.cuda.set_sync_debug_mode(0)
    assert found is expected


OVER_A_LIST = {
    "torch.tensor": (torch.tensor, False),
    "torch.as_tensor": (torch.as_tensor, False),
    "torch.asarray": (torch.asarray, False),
    "torch.Tensor": (torch.Tensor, False),
    "torch.FloatTensor": (torch.FloatTensor, False),
    "torch.DoubleTensor": (torch.DoubleTensor, False),
    "torch.HalfTensor": (torch.HalfTensor, False),
    "torch.BFloat16Tensor": (torch.BFloat16Tensor, False),
    "torch.LongTensor": (torch.LongTensor, False),
    "torch.IntTensor": (torch.IntTensor, False),
    "torch.ByteTensor": (torch.ByteTensor, False),
    "torch.BoolTensor": (torch.BoolTensor, False),
    "new_tensor of a CPU tensor": (torch.ones(2).new_tensor, False),
    "new of a CPU tensor": (torch.ones(2).new, False),
    "new_tensor": (lambda data: data[0].new_tensor(data), True),
    "new": (lambda data: data[0].new(data), True),
    "torch.tensor on the device": (
        lambda data: torch.tensor(data, device=data[0].device),
        True,
    ),
    "torch.asarray on the device": (
        lambda data: torch.asarray(data, device=data[0].device),
        True,
    ),
    "torch.Size": (lambda data: torch.ones(torch.Size([n.long() for n in data])), False),
}
"""Constructors by what reads a list of numbers of the device, and whether the result is there."""


@pytest.mark.parametrize("name", OVER_A_LIST)
def test_each_number_in_a_list_is_one_read(gpu, name):
    construct, on_device = OVER_A_LIST[name]
    integers = name in ("torch.LongTensor", "torch.IntTensor", "torch.ByteTensor")
    numbers = list(torch.ones(3, dtype=torch.int64 if integers else None, device=gpu.device))
    if name == "torch.BoolTensor":
        numbers = [number > 0 for number in numbers]
    with gpu.record() as log:
        made = construct(numbers)
    assert [event.kind for event in log] == [READ] * 3 + [UP] * on_device
    assert {event.site.file for event in log} == {__file__}
    assert made.device == (gpu.device if on_device else torch.device("cpu"))
    assert made.flatten().tolist() == [1, 1, 1][: made.numel()]


def test_lists_within_lists_and_vectors_of_one(gpu):
    one = torch.ones(1, device=gpu.device)
    with gpu.record() as log:
        assert torch.tensor([[one[0], 2.0], [3.0, one[0]]]).tolist() == [[1, 2], [3, 1]]
        assert torch.Tensor([one, one]).tolist() == [1, 1]
    assert [event.kind for event in log] == [READ] * 4
    assert torch.stack([one[0], one[0]]).device == gpu.device  # no number is read


@pytest.mark.parametrize("construct", [torch.tensor, torch.Tensor, torch.asarray])
def test_lists_of_vectors_are_refused_as_torch_refuses_them(gpu, construct):
    for device in ("cpu", gpu.device):
        vectors = list(torch.ones(2, 3, device=device))
        with gpu.record() as log, pytest.raises(ValueError, match="only one element tensors"):
            construct(vectors)
        assert log.events == []


@pytest.mark.parametrize("row", OURS, ids=str)
def test_kinds(gpu, row):
    inputs = Inputs(gpu.device)
    program, kinds = OURS[row]
    with gpu.record() as log:
        program(inputs)
    assert [event.kind for event in log.events] == kinds


def test_printing_reads_many_values_at_one_line(gpu):
    x = torch.tensor([1.5, 2.5], device=gpu.device)
    with gpu.record() as log:
        text = repr(x)
    assert "1.5000, 2.5000" in text
    assert {event.site.line for event in log.syncs} == {log.syncs[0].site.line}
    assert log.syncs[0].site.file == __file__
    assert len(log.syncs) > 1


def test_each_rule_names_its_source():
    assert all(rule.source for rule in RULES.values())


def test_a_missing_rule_is_seen(gpu, monkeypatch):
    """The rows above are red where the table lacks an op."""
    inputs = Inputs(gpu.device)
    monkeypatch.delitem(RULES, "nonzero")
    with gpu.record() as log:
        inputs.y.nonzero_static(size=1)
        inputs.x.nonzero()
    # Ops that ran before have been looked up already; this one is new to this device.
    assert not [event for event in log.events if event.op == "aten.nonzero"]


def test_the_line_is_the_caller_s_where_torch_was_imported_over_a_link(gpu, tmp_path):
    """As in a virtual environment that is a link: its files have two names."""
    link = tmp_path / "torch"
    link.symlink_to(Path(torch.__file__).parent)
    scope = {}
    exec(compile("def through_torch(f): return f()", str(link / "_tensor.py"), "exec"), scope)
    x = torch.ones(1, device=gpu.device)
    with gpu.record() as log:
        scope["through_torch"](lambda: scope["through_torch"](x.item))
    assert [(event.kind, event.site.file) for event in log] == [(READ, __file__)]
