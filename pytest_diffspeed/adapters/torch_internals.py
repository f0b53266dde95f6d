"""What this package uses of torch that torch does not promise to keep.

Each use names the versions in which it was seen and fails with a clear sentence when it is gone.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

from ..common.errors import DiffspeedError
from .attributes import replaced
from .tested import TORCH

_REGION = re.compile(r"Torch-Compiled Region: ((\d+)/\d+)")
_GRAPH = "## Call CompiledFxGraph"
_PART = "diffspeed part: "
_MISSING = object()


def storage_key(storage: torch.UntypedStorage) -> int:
    """The same for all Python objects of one storage, while it lives; seen in torch 2.9 to 2.15."""
    return int(storage._cdata)


def compiled_frames_run(call: Callable[[], object]) -> Counter[int]:
    """How often each compiled frame ran during ``call()``, by dynamo's number of the frame.

    Read from a profiler trace: dynamo marks each run of compiled code as
    ``Torch-Compiled Region: frame/compilation``, seen in torch 2.11 to 2.15.  Counting *new*
    graphs instead would miss a second pipeline of the same architecture, which runs the code that
    was compiled for the first one.
    """
    with _profile([torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    regions = (_REGION.fullmatch(event.name) for event in profile.events() or ())
    return Counter(int(region.group(2)) for region in regions if region is not None)


def _profile(activities: list[torch.profiler.ProfilerActivity]) -> torch.profiler.profile:
    """Without ``acc_events`` torch 2.11 warns once in a process that a profile holds one cycle of
    events, which is all there is; a session with ``-W error`` would fail by it.
    """
    return torch.profiler.profile(activities=activities, acc_events=True)


@dataclass
class Trace:
    """What a profiler saw, by the parts that the caller marked.

    ``calls`` of each part; in it, ``frames`` (runs of each compiled frame) and ``compilations``
    (the same by dynamo's number of the compilation, ``"2/1"``), ``resumed`` (runs of
    compiled code from inside compiled code: what follows a graph break), ``graph_calls`` (runs of
    graphs that inductor made), and aten ops by their names without namespace: ``outside`` of any
    compiled frame, ``between`` the graphs of one, and ``all_ops``.  What runs in a part that is
    called inside of another one is of the inner one alone.
    """

    calls: Counter[str] = field(default_factory=Counter)
    frames: dict[str, Counter[int]] = field(default_factory=dict)
    compilations: dict[str, Counter[str]] = field(default_factory=dict)
    resumed: Counter[str] = field(default_factory=Counter)
    graph_calls: Counter[str] = field(default_factory=Counter)
    outside: dict[str, Counter[str]] = field(default_factory=dict)
    between: dict[str, Counter[str]] = field(default_factory=dict)
    all_ops: dict[str, Counter[str]] = field(default_factory=dict)
    cuda_graph_launches: int = 0


def marked(part: str) -> AbstractContextManager[Any]:
    """What runs inside is of ``part`` in a :func:`trace`."""
    return torch.profiler.record_function(_PART + part)


def trace(call: Callable[[], object], outermost: Set[str] = frozenset()) -> Trace:
    """Run ``call`` under the profiler.  Of the ops named ``outermost``, one that runs inside of
    another is not counted: it is how the other one does its work.

    A compiled frame shows as in :func:`compiled_frames_run`; it holds what runs between its graphs
    too.  A graph of inductor's shows as ``## Call CompiledFxGraph``, a replayed CUDA graph as the
    runtime's ``cudaGraphLaunch``.  What an event is inside of is read from
    ``FunctionEvent.cpu_parent``.  Seen in torch 2.13.0, but for CUDA graphs.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with _profile(activities) as profile:
        call()
    return read_trace(profile.events() or (), outermost)


def read_trace(events: Iterable[Any], outermost: Set[str] = frozenset()) -> Trace:
    """What the profiler's events tell; see :func:`trace`.

    With CUDA activity, the profiler adds a copy of each marked region on the device's own time
    line.  Only what the CPU did is counted.  ``FunctionEvent.device_type`` is of an enum that torch
    keeps in ``torch._C._autograd`` (seen in 2.13.0).
    """
    found = Trace()
    for event in events:
        if event.device_type != torch._C._autograd.DeviceType.CPU:
            continue
        name = event.name
        if name.startswith(_PART):
            found.calls[name.removeprefix(_PART)] += 1
            continue
        found.cuda_graph_launches += name.startswith("cudaGraphLaunch")  # a version may follow
        region = _REGION.fullmatch(name)
        if region is None and not name.startswith(("aten::", _GRAPH)):
            continue
        part, in_frame, in_graph = _surroundings(event)
        if part is None or _is_inside_another(event, outermost):
            continue
        if region is not None and in_frame:
            found.resumed[part] += 1
        elif region is not None:
            found.frames.setdefault(part, Counter())[int(region.group(2))] += 1
            found.compilations.setdefault(part, Counter())[region.group(1)] += 1
        elif name.startswith(_GRAPH):
            found.graph_calls[part] += 1
        else:
            op = name.removeprefix("aten::")
            found.all_ops.setdefault(part, Counter())[op] += 1
            if not in_graph:
                where = found.between if in_frame else found.outside
                where.setdefault(part, Counter())[op] += 1
    return found


def _is_inside_another(event: Any, ops: Set[str]) -> bool:
    """Whether an event of ``ops`` has one of ``ops`` around it."""
    if event.name.removeprefix("aten::") not in ops:
        return False
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.removeprefix("aten::") in ops:
            return True
        parent = parent.cpu_parent
    return False


def _surroundings(event: Any) -> tuple[str | None, bool, bool]:
    """The part that an event is in; whether a compiled frame, and whether a graph is around it."""
    in_frame = in_graph = False
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.startswith(_PART):
            return parent.name.removeprefix(_PART), in_frame, in_graph
        in_frame = in_frame or _REGION.fullmatch(parent.name) is not None
        in_graph = in_graph or parent.name.startswith(_GRAPH)
        parent = parent.cpu_parent
    return None, in_frame, in_graph


def tree_leaves(values: object) -> list[Any]:
    """What stands in nested containers, and in output classes that torch was told of.

    ``torch.utils._pytree``, seen in torch 2.11 to 2.15.
    """
    from torch.utils._pytree import tree_leaves as leaves

    found: list[Any] = leaves(values)
    return found


@contextmanager
def around_calls(
    module: torch.nn.Module, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Every ``module(...)`` goes through ``wrap(what it called before)`` while this is open.

    ``Module.__call__`` calls ``self._compiled_call_impl`` if there is one, which is where
    ``module.compile()`` puts the compiled function, and ``self._call_impl`` otherwise.  Replacing
    the former by a function that calls it leaves the module, its hooks and what was compiled of it
    alone: the compiled code begins one frame further in.  Seen in torch 2.11 to 2.15.
    """
    compiled: Any = getattr(module, "_compiled_call_impl", _MISSING)
    if compiled is _MISSING or not hasattr(module, "_call_impl"):
        raise DiffspeedError(
            f"calls of {type(module).__name__} cannot be watched: this version of torch calls "
            f"modules in another way than {TORCH}, with which pytest-diffspeed was tested"
        )
    with replaced(module, "_compiled_call_impl", wrap(compiled or module._call_impl)):
        yield


def wrap_compiled_call(
    module: torch.nn.Module, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Like :func:`around_calls` for good, of a module that ``module.compile()`` has compiled."""
    compiled: Any = vars(module).get("_compiled_call_impl")
    if compiled is None:
        raise DiffspeedError(
            f"{type(module).__name__} has no compiled call to wrap: this version of torch compiles "
            f"modules in another way than {TORCH}, with which pytest-diffspeed was tested"
        )
    vars(module)["_compiled_call_impl"] = wrap(compiled)


def uncompile(module: torch.nn.Module) -> None:
    """Undo ``module.compile()``: the class's ``_compiled_call_impl = None`` shows again.

    Seen in torch 2.11 to 2.15.
    """
    vars(module).pop("_compiled_call_impl", None)


def caches_switched_off() -> str | None:
    """What keeps inductor from keeping compiled graphs, or ``None``; seen in torch 2.11 to 2.15."""
    import torch._inductor.config as settings

    if settings.force_disable_caches:
        return "TORCHINDUCTOR_FORCE_DISABLE_CACHES switches inductor's caches off"
    if not settings.fx_graph_cache:
        return "TORCHINDUCTOR_FX_GRAPH_CACHE=0 switches inductor's cache of graphs off"
    return None


def inductor_options(mode: str | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """``options=`` of ``torch.compile`` for ``mode`` with ``flags`` on top.

    ``torch.compile`` takes a mode or options and not both, so the mode is spelled out.  Options
    are in force while inductor compiles, in the first call and again in each recompilation, and
    nowhere else.

    Raises:
        DiffspeedError: inductor of this version has no such flag.
    """
    import torch._inductor
    import torch._inductor.config

    known = torch._inductor.config.get_config_copy()
    gone = sorted(set(flags) - set(known))
    if gone:
        raise DiffspeedError(
            f"inductor of torch {torch.__version__} has no option {', '.join(gone)}; they were "
            f"seen in {TORCH}, so this version of pytest-diffspeed is too old for it"
        )
    of_mode = torch._inductor.list_mode_options(mode) if mode is not None else {}
    return {**of_mode, **flags}


def told_apart(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Options with which inductor compiles as with ``options``, and which dynamo takes for others.

    Dynamo runs what it compiled before if its guards hold and inductor's options are equal.  Which
    kernel ``sdpa_kernel`` allows is in no guard.  ``profile_bandwidth_regex`` is read where
    ``profile_bandwidth`` is on alone, to choose what is printed; seen in torch 2.11 to 2.15.
    """
    return {**options, "profile_bandwidth_regex": name}


@dataclass(frozen=True)
class CudaGraphSkips:
    """How often inductor has given up CUDA graphs in this process, and its reasons so far."""

    count: int
    reasons: tuple[str, ...]


def cuda_graph_skips() -> CudaGraphSkips:
    """Read from dynamo's counters and compilation metrics, seen in torch 2.11 to 2.15."""
    from torch._dynamo.utils import counters, get_compilation_metrics

    found = (getattr(m, "cudagraph_skip_reason", None) for m in get_compilation_metrics())
    reasons = tuple(reason for reason in found if reason)
    return CudaGraphSkips(counters["inductor"]["cudagraph_skips"], reasons)


@contextmanager
def cuda_graph_skip_reasons() -> Iterator[list[str]]:
    """What inductor says meanwhile of CUDA graphs that it gives up, each in one line.

    It counts those of its calls too, such as a function that writes to its input, and puts the
    reason in its metrics only while it compiles.  It warns of all through one logger, which has
    this name in torch 2.11.0 to 2.14.1.
    """
    reasons: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = " ".join(record.getMessage().split())
            if line.startswith("skipping cudagraphs"):
                reasons.append(line)

    logger, handler = logging.getLogger("torch._inductor.cudagraph_utils.__cudagraphs"), Keep()
    logger.addHandler(handler)
    try:
        yield reasons
    finally:
        logger.removeHandler(handler)


def fresh_outputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Outputs of ``function`` that its next call does not overwrite.

    A CUDA graph writes to the same memory in each replay.  A scheduler that keeps what the denoiser
    said for later steps would find the newest output in all of them.  So a call begins a step,
    which allows the graph to reuse its memory, and hands out copies.  ``tree_map_only`` is that of
    ``torch.utils._pytree``, in which diffusers registers its output classes (torch 2.11 to 2.15).
    """
    import functools

    from torch.utils._pytree import tree_map_only

    @functools.wraps(function)
    def fresh(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return tree_map_only(torch.Tensor, torch.clone, function(*args, **kwargs))

    return fresh
