"""What compiled counts read of Inductor's scheduler without its promise to keep it.

Seen in torch 2.11 and 2.14.  Here private objects become plain data; what it means is decided in
``compiled.py``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._inductor import ir, scheduler
from torch._inductor.dependencies import MemoryDep, StarDep
from torch._inductor.loop_body import LoopBody
from torch._inductor.virtualized import V

from . import sites, torch_private
from .cost import JOINS
from .launches import COPY, ORDERS, Operand

NEEDED: tuple[tuple[Any, str], ...] = (
    (scheduler.BaseSchedulerNode, "get_read_write_buffer_accesses"),
    (scheduler.BaseSchedulerNode, "is_split_scan"),
    (scheduler, "FusedSchedulerNode"),
    (scheduler, "NopKernelSchedulerNode"),
    (scheduler, "ExternKernelSchedulerNode"),
    (ir, "MultiOutput"),
    (ir, "DeviceCopy"),
    (ir, "InplaceCopyFallback"),
    (LoopBody, "get_read_exprs"),
    (LoopBody, "get_write_exprs"),
)

READ_VALUE = ("_local_scalar_dense",)
"""What ``item()`` is: a copy to the host that the code does not write as one."""


@dataclass(frozen=True)
class Written:
    """A kernel as Inductor's scheduler has it.

    ``source``: "triton", "extern" (a library, or an op that Inductor does not write itself),
    "transfer" or "user" (a Triton kernel of the user's).  ``moves``: "" or what a Triton kernel
    does and nothing else: "cast", "layout", "copy".  ``around``: the user's own line around the
    first of ``lines``, and :func:`.sites.way`.  ``group``: elements, and elements reduced to
    one.
    """

    source: str
    namespace: str
    ops: tuple[str, ...]
    bytes: int
    lines: tuple[str, ...]
    around: tuple[str, str, str] = ("", "", "")
    is_reduction: bool = False
    is_template: bool = False
    moves: str = ""
    group: tuple[int, ...] = ()
    operands: tuple[Operand, ...] = ()
    outs: tuple[Operand, ...] = ()
    transposed: bool = False
    to_device: bool = True


def kernels_of(lowering: Any, cleared: Iterator[int]) -> Iterator[Written]:
    """The kernels of one graph, in the order of their launch.

    ``cleared``: the bytes of each workspace that the code clears, which no node of the scheduler
    tells.
    """
    with V.set_graph_handler(lowering):
        for node in lowering.scheduler.nodes:
            for one in _of_node(node, cleared):
                yield replace(one, around=_around(node, *one.lines[:1]))


def _of_node(node: Any, cleared: Iterator[int]) -> Iterator[Written]:
    if isinstance(node, scheduler.NopKernelSchedulerNode):
        return
    if isinstance(node, scheduler.ExternKernelSchedulerNode):
        yield from _extern(node)
    elif _on_gpu(node.get_device()):
        kernel = _triton(node)
        if node.is_split_scan():  # its blocks meet in a workspace, which is cleared first
            yield Written("extern", "aten", ("zero_",), next(cleared, 0), kernel.lines)
        yield kernel


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
    whole = _accesses(node)
    if not isinstance(node, scheduler.FusedSchedulerNode):
        return sum(whole.values())
    reached: Counter[str] = Counter()
    for part in node.get_nodes():
        reached.update(_accesses(part))
    return sum(min(size, reached.get(name, size)) for name, size in whole.items())


def _accesses(node: Any) -> dict[str, int]:
    """Bytes of each buffer that a node reads or writes, by its name: Inductor's, but in two cases.

    It has what is only overwritten among the buffers that are read, so that writes keep their
    order; and whoever reads a buffer after a part of it was overwritten reads that part for it.
    """
    found = node.get_read_write_buffer_accesses(include_reads=True, include_writes=True)
    found = {name: int(size) for name, size in found.items()}
    real = node.scheduler.mutation_real_name
    outputs = node.get_outputs()
    overwritten = {real.get(name, name) for out in outputs for name in out.get_mutations()}
    own = {out.get_name() for out in outputs}
    loaded = {dep.name: dep for dep in node.read_writes.reads if isinstance(dep, MemoryDep)}
    whole = {dep.name for dep in node.read_writes.reads if isinstance(dep, StarDep)}
    for name in found.keys() & (loaded.keys() | whole) - own:
        of = real.get(name, name)
        if of in overwritten and name not in loaded and not node.is_extern():
            del found[name]
        elif of != name:
            buffer = V.graph.get_buffer(of)
            elements = math.prod(map(int, buffer.get_size()))
            if name in loaded and name not in whole:
                elements = min(elements, int(loaded[name].get_numel()))
            found[name] = elements * buffer.get_dtype().itemsize
    return found


_ADDRESSING = {"load", "store", "get_index", "index_expr", "constant", "check_bounds", "output"}


def _moves(node: Any) -> str:
    """Of a kernel that only loads, converts and stores: "cast", "layout" or "copy"; "" of others.

    By the same rules as of an eager op: a copy keeps the order in memory, or has to be one for
    what it does.
    """
    bodies: list[Any] = [getattr(part, "_body", None) for part in node.get_nodes()]
    if node.is_reduction() or None in bodies:
        return ""
    counts = sum((Counter(body.op_counts) for body in bodies), Counter[str]())
    if not counts["load"] or set(counts) - _ADDRESSING - {"to_dtype"}:
        return ""
    if counts["to_dtype"]:
        return "cast"
    ops = set(_origins(node, last_line_first=True)[0])
    rearranges = bool(ops) and ops <= COPY - ORDERS
    return "copy" if rearranges or all(map(_keeps_order, bodies)) else "layout"


def _keeps_order(body: Any) -> bool:
    """Whether each value is stored as far from the first one as it is loaded from.

    Loop variables that take one value are none in these expressions.
    """
    exprs = [*body.get_read_exprs(), *body.get_write_exprs()]
    return not any((expr - exprs[0]).free_symbols for expr in exprs)


_VIEWS = {"view", "reshape", "as_strided", "_unsafe_view", "alias", "permute", "reinterpret_tensor"}
_NO_LAUNCHES = ("AssertScalar", "SetSourceTensorKernel", "ResizeStorageBytes")


def _extern(node: Any) -> Iterator[Written]:
    inner = node.node
    if isinstance(inner, ir.MultiOutput) or type(inner).__name__ in _NO_LAUNCHES:
        return
    operands = tuple(filter(None, map(_operand, inner.inputs)))
    _, lines = _origins(node, last_line_first=True)
    nbytes = sum(_accesses(node).values())
    if type(inner).__name__ == "DynamicScalar":  # the wrapper reads a value, and waits for it
        yield Written("transfer", "aten", READ_VALUE, nbytes, lines, to_device=False)
        return
    if isinstance(inner, ir.InplaceCopyFallback):  # of complex numbers, which Triton has not
        yield _copy(inner, lines)
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


def _copy(inner: Any, lines: tuple[str, ...]) -> Written:
    """``target.copy_(source)``, which writes all of the target and reads none of it."""
    target, source = inner.inputs[:2]
    out, read = _operand(target), _operand(source)
    sides = _on_gpu(source.get_device()), _on_gpu(target.get_device())
    moved = out.bytes if out else 0
    return Written(
        source="extern" if sides == (True, True) else "transfer",
        namespace="aten",
        ops=("copy_",),
        bytes=moved + (read.bytes if read and all(sides) else 0),
        lines=lines,
        operands=tuple(filter(None, (out, read))),
        outs=(out,) if out else (),
        to_device=sides[1],
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
        where = sites.innermost(_frames(origin))
        if where:
            lines[where] += 1
            latest[where] = number
    ranked = sorted(lines, key=lambda line: (0 if last_line_first else -lines[line], -latest[line]))
    return tuple(sorted(ops - _UNNAMED) or sorted(ops)), tuple(ranked)


def _around(node: Any, site: str = "") -> tuple[str, str, str]:
    """The line of the user's own code around ``site``, where that is another one, and the two
    marks of all lines around it.

    No line where several led to what was fused into one kernel: none of them is *the* line.
    """
    frames = [
        _frames(origin)
        for part in node.get_nodes()
        for origin in getattr(part.node, "origins", None) or ()
    ]
    own: set[str] = set()
    ways: set[tuple[str, str]] = set()
    for of_one in frames:
        if site and sites.innermost(of_one) == site:
            own.add(sites.innermost_own(of_one))
            ways.add(sites.way(of_one))
    own -= {site, ""}
    route, path = (JOINS.join(sorted({way[at] for way in ways})) for at in (0, 1))
    return own.pop() if len(own) == 1 else "", route, path


def _frames(origin: Any) -> list[tuple[str, int]]:
    return sites.frames_of(origin.meta.get("stack_trace") or "")


def _op_of(origin: Any) -> str:
    op = origin.meta.get("original_aten") or origin.target
    schema = getattr(op, "_schema", None)
    return schema.name.partition("::")[2] if schema is not None else str(op)
