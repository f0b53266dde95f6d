"""What compiled counts read of Inductor's scheduler without its promise to keep it.

Seen in torch 2.11 and 2.14.  Here private objects become plain data; what it means is decided in
``compiled.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._inductor import ir, scheduler
from torch._inductor.virtualized import V

from . import sites, torch_private
from .launches import Operand

NEEDED: tuple[tuple[Any, str], ...] = (
    (scheduler.BaseSchedulerNode, "get_read_write_buffers_sizes"),
    (scheduler.BaseSchedulerNode, "get_read_write_buffer_accesses"),
    (scheduler, "FusedSchedulerNode"),
    (scheduler, "NopKernelSchedulerNode"),
    (scheduler, "ExternKernelSchedulerNode"),
    (ir, "MultiOutput"),
    (ir, "DeviceCopy"),
)


@dataclass(frozen=True)
class Written:
    """A kernel as Inductor's scheduler has it.

    ``source``: "triton", "extern" (a library, or an op that Inductor does not write itself),
    "transfer" or "user" (a Triton kernel of the user's).  ``moves``: "" or what a Triton kernel
    does and nothing else: "cast", "layout".  ``group``: elements, and elements reduced to one.
    """

    source: str
    namespace: str
    ops: tuple[str, ...]
    bytes: int
    lines: tuple[str, ...]
    is_reduction: bool = False
    is_template: bool = False
    moves: str = ""
    group: tuple[int, ...] = ()
    operands: tuple[Operand, ...] = ()
    outs: tuple[Operand, ...] = ()
    transposed: bool = False
    to_device: bool = True


def kernels_of(lowering: Any) -> Iterator[Written]:
    """The kernels of one graph, in the order of their launch."""
    with V.set_graph_handler(lowering):
        for node in lowering.scheduler.nodes:
            if isinstance(node, scheduler.NopKernelSchedulerNode):
                continue
            if isinstance(node, scheduler.ExternKernelSchedulerNode):
                yield from _extern(node)
            elif _on_gpu(node.get_device()):
                yield _triton(node)


def _on_gpu(device: Any) -> bool:
    return device is not None and device.type == "cuda"


def _triton(node: Any) -> Written:
    template = bool(node.is_template())
    moves = "" if template else _moves(node)
    ops, lines = _origins(node, last_line_first=bool(moves))
    group = () if template else tuple(int(size) for size in node.group[1])
    return Written(
        source="triton",
        namespace="triton",
        ops=ops,
        bytes=_bytes(node),
        lines=lines,
        is_reduction=bool(node.is_reduction()),
        is_template=template,
        moves=moves,
        group=group[:1] if group[1:] == (1,) else group,
    )


def _bytes(node: Any) -> int:
    """What a Triton kernel reads and writes at least, each buffer once.

    Of a fused one Inductor counts every buffer whole; of each part, which may take a few rows of a
    table, what its loop can reach.  The smaller of both is enough.
    """
    if not isinstance(node, scheduler.FusedSchedulerNode):
        return int(node.get_read_write_buffers_sizes())
    whole = node.get_read_write_buffer_accesses(include_reads=True, include_writes=True)
    reached: Counter[str] = Counter()
    for part in node.get_nodes():
        reached.update(part.get_read_write_buffer_accesses(include_reads=True, include_writes=True))
    return sum(int(min(size, reached.get(name, size))) for name, size in whole.items())


_ADDRESSING = {"load", "store", "get_index", "index_expr", "constant", "check_bounds", "output"}


def _moves(node: Any) -> str:
    """Of a kernel that only loads, converts and stores: "cast" or "layout"; "" of others."""
    counts: Counter[str] = Counter()
    for part in node.get_nodes():
        body = getattr(part, "_body", None)
        if body is None:
            return ""
        counts.update(body.op_counts)
    if node.is_reduction() or not counts["load"] or set(counts) - _ADDRESSING - {"to_dtype"}:
        return ""
    return "cast" if counts["to_dtype"] else "layout"


_VIEWS = {"view", "reshape", "as_strided", "_unsafe_view", "alias", "permute", "reinterpret_tensor"}
_NO_LAUNCHES = ("AssertScalar", "SetSourceTensorKernel", "ResizeStorageBytes")


def _extern(node: Any) -> Iterator[Written]:
    inner = node.node
    if isinstance(inner, ir.MultiOutput) or type(inner).__name__ in _NO_LAUNCHES:
        return
    operands = tuple(filter(None, map(_operand, inner.inputs)))
    _, lines = _origins(node, last_line_first=True)
    nbytes = int(node.get_read_write_buffers_sizes())
    if type(inner).__name__ == "DynamicScalar":  # the wrapper reads a value, and waits for it
        yield Written("transfer", "aten", ("_local_scalar_dense",), nbytes, lines, to_device=False)
        return
    if isinstance(inner, ir.DeviceCopy):
        out = _operand(inner)
        yield Written(
            source="transfer",
            namespace="aten",
            ops=("_to_copy",),
            bytes=out.bytes if out else 0,
            lines=lines,
            outs=(out,) if out else (),
            to_device=_on_gpu(inner.get_device()),
        )
        return
    if type(inner).__name__ == "UserDefinedTritonKernel":
        kernel = inner.get_kernel_and_metadata()[0]
        name = getattr(getattr(kernel, "fn", kernel), "__name__", "kernel")
        yield Written("user", "triton", (str(name),), nbytes, lines)
        return
    namespace, name = _library_name(inner)
    if namespace == "aten" and (name in _VIEWS or _is_view(inner)):
        return
    outs = _outs(node)
    if not any(_on_gpu(b.get_device()) for b in (inner, *inner.inputs) if _has_device(b)):
        return
    yield Written(
        source="extern",
        namespace=namespace,
        ops=(name,),
        bytes=nbytes,
        lines=lines,
        operands=operands,
        outs=outs,
        transposed=_is_transposed(inner),
    )


def _has_device(buffer: Any) -> bool:
    return hasattr(buffer, "get_device")


def _library_name(inner: Any) -> tuple[str, str]:
    op = getattr(inner, "op_overload", None)
    kernel = str(getattr(inner, "python_kernel_name", None) or "")
    if kernel.startswith("extern_kernels."):
        return "aten", kernel.split(".")[1]
    if isinstance(op, torch._ops.OpOverload):
        namespace, _, name = op._schema.name.partition("::")
        return namespace, name
    if op is not None:
        return "higher_order", str(op)
    return "aten", kernel.split(".")[-1] or type(inner).__name__


def _is_view(inner: Any) -> bool:
    op = getattr(inner, "op_overload", None)
    return isinstance(op, torch._ops.OpOverload) and torch_private.is_view(op)


def _outs(node: Any) -> tuple[Operand, ...]:
    """Outputs of an op; one with several has them in nodes of their own."""
    own = _operand(node.node)
    if own is not None:
        return (own,)
    found = []
    for buffer in node.get_outputs():
        for user in buffer.users:
            answer = _operand(getattr(user.node, "node", None))
            if answer is not None:
                found.append(answer)
    return tuple(found)


def _operand(buffer: Any) -> Operand | None:
    try:
        shape = tuple(int(size) for size in buffer.get_size())
        stride = tuple(int(step) for step in buffer.get_stride())
        return Operand(shape, stride, buffer.get_dtype())
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _is_transposed(inner: Any) -> bool:
    """Of a convolution: the seventh argument of the op that it comes from."""
    for origin in getattr(inner, "origins", None) or ():
        if "convolution" in str(origin.target) and len(origin.args) > 6:
            return origin.args[6] is True
    return False


_UNNAMED = _VIEWS | {
    "expand",
    "unsqueeze",
    "squeeze",
    "t",
    "transpose",
    "slice",
    "select",
    "detach",
}


def _origins(node: Any, *, last_line_first: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ops that a kernel comes from, as the user's program has them, and their lines.

    The line of most ops comes first, of equal ones the latest: a kernel is named after what it ends
    with.  A library's kernel is its last op, and a copy is made for the last one.
    """
    origins = {
        origin
        for part in node.get_nodes()
        for origin in getattr(part.node, "origins", None) or ()
        if origin.op == "call_function"
    }
    place = {fx: number for number, fx in enumerate(V.graph.graph.nodes)}
    ordered = sorted(origins, key=lambda fx: (place.get(fx, -1), fx.name))
    ops = {_op_of(origin) for origin in ordered}
    lines: Counter[str] = Counter()
    latest: dict[str, int] = {}
    for number, origin in enumerate(ordered):
        where = sites.of_trace(origin.meta.get("stack_trace") or "")
        if where:
            lines[where] += 1
            latest[where] = number
    ranked = sorted(lines, key=lambda line: (0 if last_line_first else -lines[line], -latest[line]))
    return tuple(sorted(ops - _UNNAMED) or sorted(ops)), tuple(ranked)


def _op_of(origin: Any) -> str:
    op = origin.meta.get("original_aten") or origin.target
    schema = getattr(op, "_schema", None)
    return schema.name.partition("::")[2] if schema is not None else str(op)
