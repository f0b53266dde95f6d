"""Compiled counts: what ``torch.compile`` would have launched, by what Inductor wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from . import inductor_private, launches
from .cost import Kernel
from .inductor_private import Graph
from .scheduler_private import Written

_BUILTIN = ("aten", "prims", "inductor", "inductor_prims")


def kernel_of(written: Written) -> Kernel:
    """What one kernel of Inductor's is."""
    called_from, route, path = written.around
    return replace(_kernel_of(written), called_from=called_from, route=route, path=path)


def _kernel_of(written: Written) -> Kernel:
    site, also = (written.lines[0], written.lines[1:]) if written.lines else ("", ())
    name = "+".join(written.ops)
    if written.source == "transfer":
        kind = "h2d" if written.to_device else "d2h"
        shape = written.outs[0].shape if written.outs else ()
        return Kernel(name, kind, written.bytes, shape=shape, site=site, also=also)
    if written.source == "triton":
        kind = "triton_reduction" if written.is_reduction else "triton_pointwise"
        if written.is_template:
            kind = "triton_template"
        kind = written.moves or kind
        return Kernel(name, kind, written.bytes, shape=written.group, site=site, also=also)
    unseen = name in launches.UNSEEN
    if written.source == "user" or written.namespace not in _BUILTIN or unseen:
        shape = (written.outs[0].numel,) if written.outs else ()
        full = f"{written.namespace}::{name}"
        return Kernel(full, "opaque", written.bytes, shape=shape, site=site, also=also)
    done = launches.work(name, written.operands, written.outs, transposed=written.transposed)
    return Kernel(
        name=name,
        kind=done.kind,
        bytes=written.bytes,
        flops=done.flops,
        unit=done.unit,
        shape=done.shape,
        site=site,
        also=also,
        hidden_launches=done.hidden_launches,
        hidden_bytes=done.hidden_bytes,
        evidence=done.evidence,
    )


def unlike_its_code(graphs: Iterable[Graph]) -> tuple[str, ...]:
    """A sentence if the launches in the code are not the kernels that the scheduler told of."""
    counted = launched = 0
    for graph in graphs:
        counted += sum(written.source != "transfer" for written in graph.kernels)
        launched += graph.launches_in_code
    if counted == launched:
        return ()
    return (
        f"Inductor's code has {launched} launches where {counted} kernels were counted: figures of "
        "this code may be wrong, please report it",
    )


# Options that only a device can answer, and what is counted instead.
NOT_COUNTED = {
    "max_autotune": "its candidates can be timed on a GPU only",
    "max_autotune_gemm": "its candidates can be timed on a GPU only",
    "max_autotune_pointwise": "its candidates can be timed on a GPU only",
    "benchmark_fusion": "it times fusions on a GPU",
    "benchmark_combo_kernel": "it times kernels on a GPU",
    "benchmark_kernel": "it times kernels on a GPU",
    "triton.cudagraphs": "CUDA graphs change no kernel, and whether they can be made is not known",
    "triton.cudagraph_trees": "CUDA graphs change no kernel",
    "cpp_wrapper": "a wrapper in C++ launches the same kernels",
}


def countable(options: dict[str, object]) -> tuple[dict[str, object], tuple[str, ...]]:
    """Inductor's options without those that need a GPU, and a sentence for each left out."""
    kept, notes = {}, []
    for name, value in options.items():
        if name in NOT_COUNTED and value:
            notes.append(f"{name} was counted as off: {NOT_COUNTED[name]}")
        elif name in inductor_private.FORCED and value != inductor_private.FORCED[name]:
            notes.append(
                f"{name} was counted as {inductor_private.FORCED[name]}: other values ask the GPU"
            )
        else:
            kept[name] = value
    return kept, tuple(notes)
