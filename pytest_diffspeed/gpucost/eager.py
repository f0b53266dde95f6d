"""Eager counts: each ATen op that reaches the GPU is what eager mode launches for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from . import launches, sites
from . import torch_private as private
from .cost import Kernel
from .launches import Operand


def operand(tensor: torch.Tensor) -> Operand:
    """Of a fake or real tensor."""
    return Operand(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)


class EagerCounter(private.TorchDispatchMode):
    """Counts what runs eagerly while it is open; what is compiled meanwhile it does not see.

    ``refused`` is the first error of an op that needs a GPU: the code may have caught it, and then
    went on where no GPU would have gone.
    """

    supports_higher_order_operators = True  # torchao's int8 product is one on fake tensors

    def __init__(self, kernels: list[Kernel]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels = kernels
        self.refused: Exception | None = None

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(private.is_foreign_subclass(cls) for cls in types):
            return NotImplemented  # it says what it is made of; that is counted
        if private.is_composite(func):
            with self:
                return private.run_composite(func, args, kwargs)
        try:
            out = func(*args, **kwargs)
        except Exception as error:
            if self.refused is None and private.is_a_refusal(error):
                self.refused = error
            raise
        made = kernels_of(func, args, kwargs, out)
        if made:
            frames = list(private.frames())
            own, (route, path) = sites.innermost_own(frames), sites.way(frames)
            self.kernels += [
                replace(k, called_from=own if own != k.site else "", route=route, path=path)
                for k in made
            ]
        return out


def kernels_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[Kernel]:
    """What one op launched, from its arguments and its answer: mostly nothing or one kernel."""
    namespace, name = private.op_name(func)
    ins = _tensors((args, kwargs))
    # What an op writes to and does not return is its answer too.
    outs = _tensors(out) or _tensors(private.written_arguments(func, args, kwargs))
    on_gpu = any(t.device.type == "cuda" for t in outs + ins)
    if namespace == "prim" or not outs or not on_gpu:
        return []
    if namespace == "higher_order":
        return _higher_order(name, args, ins, outs)
    builtin = namespace in ("aten", "prims") and name not in launches.UNSEEN
    if builtin and (name in launches.FREE or private.is_view(func)):
        return []
    written = private.writes(func)
    memory = {private.storage_key(t) for t in ins}
    if builtin and not written and all(private.storage_key(t) in memory for t in outs):
        return []  # a view that no schema marks
    site = sites.innermost(private.frames())
    transfer = _transfer(ins, outs, name)
    if transfer:
        return [Kernel(name, transfer, outs[0].nbytes, shape=tuple(outs[0].shape), site=site)]
    target_only = _overwritten(name, args)
    reads = [t for t in ins if all(t is not other for other in target_only)]
    nbytes = _bytes(name, reads, outs)
    if not builtin:
        shape = (outs[0].numel(),)
        return [Kernel(f"{namespace}::{name}", "opaque", nbytes, shape=shape, site=site)]
    transposed = name in launches.CONV and len(args) > 6 and args[6] is True
    done = launches.work(
        name, [operand(t) for t in ins], [operand(t) for t in outs], transposed=transposed
    )
    first = ins[0] if ins and launches.copies_first(name, [operand(t) for t in ins[:1]]) else None
    if first is not None:
        moved = 2 * operand(first).bytes
        shape = (first.numel(),)
        copy = Kernel("clone", "layout", moved, shape=shape, site=site, evidence="modelled")
        return [copy, _kernel(name, done, nbytes, site)]
    copied = [
        Kernel(name, "h2d", t.nbytes, shape=tuple(t.shape), site=site)
        for t in ins
        if name in launches.GATHER and t.device.type == "cpu" and t.dim()
    ]  # native/IndexingUtils.h, expandTensors: indices on the CPU are copied
    return [*copied, _with_bias(_kernel(name, done, nbytes, site), args, outs)]


def _kernel(name: str, done: launches.Work, nbytes: int, site: str) -> Kernel:
    return Kernel(
        name=name,
        kind=done.kind,
        bytes=nbytes,
        flops=done.flops,
        unit=done.unit,
        shape=done.shape,
        site=site,
        hidden_launches=done.hidden_launches,
        hidden_bytes=done.hidden_bytes,
        evidence=done.evidence,
    )


def _with_bias(kernel: Kernel, args: tuple[Any, ...], outs: list[torch.Tensor]) -> Kernel:
    """In eager mode cuDNN's convolution adds no bias: a kernel behind it does.

    ``native/cudnn/ConvShared.cpp``, ``cudnn_convolution`` has no bias; ``native/Convolution.cpp``
    adds it to the output.
    """
    if kernel.kind != "conv" or len(args) < 3 or not isinstance(args[2], torch.Tensor):
        return kernel
    return replace(
        kernel,
        hidden_launches=kernel.hidden_launches + 1,
        hidden_bytes=kernel.hidden_bytes + 2 * outs[0].nbytes,
    )


def _higher_order(
    name: str, args: tuple[Any, ...], ins: list[torch.Tensor], outs: list[torch.Tensor]
) -> list[Kernel]:
    """``out_dtype`` of a product is torchao's int8 GEMM; of any other operator nothing is known."""
    site = sites.innermost(private.frames())
    nbytes = _bytes(name, ins, outs)
    if name == "out_dtype" and len(ins) == 2:
        done = launches.work("_int_mm", [operand(t) for t in ins], [operand(t) for t in outs])
        return [_kernel("_int_mm", done, nbytes, site)]
    return [Kernel(name, "opaque", nbytes, shape=(outs[0].numel(),), site=site)]


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in private.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _transfer(ins: list[torch.Tensor], outs: list[torch.Tensor], name: str) -> str:
    """Of a copy that leaves its device: "h2d" or "d2h"; "" of anything else."""
    if name not in ("_to_copy", "copy_", "_copy_from", "_copy_from_and_resize"):
        return ""
    source, target = ins[-1].device.type, outs[0].device.type
    if source == target:
        return ""
    return "h2d" if target == "cuda" else "d2h"


def _overwritten(name: str, args: tuple[Any, ...]) -> list[torch.Tensor]:
    """Arguments that are written and never read: targets of copies and fills."""
    if name in ("copy_", "fill_", "zero_", "normal_", "uniform_", "random_", "bernoulli_"):
        return _tensors(args[:1])
    return []


def _bytes(name: str, reads: Iterable[torch.Tensor], writes: list[torch.Tensor]) -> int:
    """Each tensor that is read once, each that is written once."""
    written = sum(operand(t).bytes for t in writes)
    distinct = {
        (private.storage_key(t), t.storage_offset(), tuple(t.shape), tuple(t.stride())): t
        for t in reads
        if t.device.type == "cuda"
    }
    read = [operand(t).bytes for t in distinct.values()]
    if name in launches.GATHER and read:
        read[0] = min(read[0], written)
    return written + sum(read)
