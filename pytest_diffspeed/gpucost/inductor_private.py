"""How compiled counts drive dynamo and Inductor without their promise to keep it.

Seen in torch 2.11 and 2.14.  What they read of the scheduler is in a file of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo
import torch._dynamo.exc
import torch._dynamo.utils
import torch._functorch.config as functorch_config
import torch._inductor.config as inductor_config
from torch._inductor.graph import GraphLowering

from . import scheduler_private, sites
from .errors import GpuCostError
from .scheduler_private import READ_VALUE, Written, kernels_of

NO_ONE_GRAPH = torch._dynamo.exc.Unsupported
COMPILE_ERRORS = (torch._dynamo.exc.BackendCompilerFailed, torch._dynamo.exc.TorchRuntimeError)
_NEEDED: tuple[tuple[Any, str], ...] = (
    (GraphLowering, "compile_to_module"),
    (GraphLowering, "codegen"),
    (torch._dynamo.utils, "graph_break_reasons"),
    (inductor_config, "patch"),
    (inductor_config, "_config"),
    (inductor_config, "get_config_copy"),
    (functorch_config, "enable_autograd_cache"),
    *scheduler_private.NEEDED,
)
# What would ask the device, keep results on disk or start processes.
FORCED: Mapping[str, Any] = {
    "compile_threads": 1,
    "fx_graph_cache": False,
    "fx_graph_remote_cache": False,
    "shape_padding": False,  # pads where timing on the device says that it pays
    "joint_graph_constant_folding": False,  # computes constants on the device
}


@dataclass(frozen=True)
class Graph:
    """One graph: its kernels in the order of their launch, and the launches in the code."""

    kernels: tuple[Written, ...]
    launches_in_code: int
    code: str


def require() -> None:
    """Look for everything that this file relies on.

    Raises:
        GpuCostError: with what this version of torch lacks.
    """
    for owner, name in _NEEDED:
        if not hasattr(owner, name):
            raise GpuCostError(
                f"compiled GPU cost needs {owner.__name__}.{name}, which torch "
                f"{torch.__version__} lacks"
            )


_ALWAYS_ON = ("triton.cudagraph_trees",)
"""Says how CUDA graphs are made, where they are."""


def switched_on(names: Iterable[str]) -> dict[str, Any]:
    """Those of ``names`` that a variable of the environment or a module has switched on."""
    now = inductor_config.get_config_copy()
    return {name: now[name] for name in names if name not in _ALWAYS_ON and now.get(name)}


def settings() -> dict[str, str]:
    """What was set of Inductor beside its options, and may change the code that it writes.

    By modules, and by variables of the environment.
    """
    config: Any = inductor_config
    now = config.get_config_copy()
    of_modules = {
        name: repr(value) if isinstance(value, _PLAIN) else type(value).__name__
        for name, value in now.items()
        # Inductor sets some to what they are anyway, so being set says nothing.
        if name not in FORCED and value != config._config[name].default
    }
    of_variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("TORCHINDUCTOR_") and not _SAYS_WHERE.search(name)
    }
    return {**of_modules, **of_variables}


_PLAIN = (bool, int, float, str, type(None))
_SAYS_WHERE = re.compile("CACHE|THREADS|WORKER|DEBUG|LOG|TRACE|PROFILE|DIR")
"""Variables that change where and how Inductor works, and not what it writes."""


def reset() -> None:
    """Forget everything that was compiled, and its graph breaks."""
    torch._dynamo.reset()
    torch._dynamo.utils.graph_break_reasons.clear()
    torch._dynamo.utils.counters.clear()


def breaks() -> tuple[str, ...]:
    """Each graph break since :func:`reset`: what dynamo says, and the user's line."""
    found = []
    stacks: list[list[tuple[str, int]]] = []
    for reason in torch._dynamo.utils.graph_break_reasons:
        stack = [(f.filename, f.lineno or 0) for f in reason.user_stack]
        # A break in an inlined call breaks each of its callers too, from the outside in.
        within = any(len(s) > len(stack) and s[len(s) - len(stack) :] == stack for s in stacks)
        stacks.append(stack)
        if within:
            continue
        where = sites.innermost(reversed(stack))
        what = str(reason.reason).strip().splitlines()[0]
        found.append(f"{what} at {where}" if where else what)
    return tuple(found)


def line_of(error: Any) -> str:
    """The user's line of an :data:`NO_ONE_GRAPH`, or ""."""
    stack = getattr(error, "real_stack", None) or ()
    return sites.innermost(reversed([(f.filename, f.lineno or 0) for f in stack]))


def is_of_values(error: Any) -> bool:
    """Whether an :data:`NO_ONE_GRAPH` is of a value that only a run has (``item()``)."""
    text = str(error).lower()
    return "data-dependent" in text or "data dependent" in text or "tensor.item()" in text


@contextmanager
def code_is_written_only(
    options: Mapping[str, Any], called: Callable[[Graph], None]
) -> Iterator[None]:
    """Inductor writes its code and nothing is built from it or run.

    ``called`` gets a graph each time it would have run.  It answers fake outputs, so that the
    program goes on behind a graph break.
    """

    def compile_to_module(lowering: Any) -> Any:
        written = lowering.codegen()[0]
        code = str(getattr(written, "value", written))
        cleared = (int(found[2]) for found in _CLEARED.finditer(code))
        kernels = tuple(kernels_of(lowering, cleared))
        # Between host and device the code copies by the same words as on the device.
        transfers = sum(one.source == "transfer" and one.ops != READ_VALUE for one in kernels)
        graph = Graph(kernels, launches_in(code) - transfers, code)
        node = next(n for n in lowering.graph.nodes if n.op == "output")
        answers = [_answer(item) for item in node.args[0]]

        def call(args: Any) -> list[Any]:
            called(graph)
            if isinstance(args, list):
                args.clear()
            return [answer() for answer in answers]

        return SimpleNamespace(call=call, __file__="<counted>", runner=None, __name__="counted")

    real = GraphLowering.compile_to_module
    patches = ExitStack()
    with patches:
        patches.enter_context(inductor_config.patch(**{**options, **FORCED}))
        # An error would leave the code as it is, and nothing would tell of it.
        patches.enter_context(torch._dynamo.config.patch(suppress_errors=False))
        patches.enter_context(functorch_config.patch(enable_autograd_cache=False))
        GraphLowering.compile_to_module = compile_to_module  # type: ignore[method-assign, assignment]
        patches.callback(setattr, GraphLowering, "compile_to_module", real)
        yield


def knows_option(name: str) -> bool:
    """Whether Inductor has a setting of that name."""
    return name in inductor_config.get_config_copy()


def _answer(item: Any) -> Callable[[], Any]:
    value = item.meta.get("val") if isinstance(item, torch.fx.Node) else item
    if not isinstance(value, torch.Tensor):
        return lambda: value
    shape, stride = tuple(map(int, value.shape)), tuple(map(int, value.stride()))
    dtype, device = value.dtype, value.device
    return lambda: torch.empty_strided(shape, stride, dtype=dtype, device=device)


_LAUNCH = re.compile(
    r"^\s+(?:\w+(?:, \w+)* = )?"
    r"(?:\w+\.run\(|[^#=\n]+\.copy_\(|\w+\.zero_\(|extern_kernels\.\w+\(|"
    r"torch\.ops\.[\w.]+\(|aten\.[\w.]+\()",
    re.MULTILINE,
)
_CLEARED = re.compile(
    r"(\w+) = empty_strided_cuda\(\((\d+), \), .*, torch\.uint8\)\n\s+\1\.zero_\(\)"
)
_NO_LAUNCH = re.compile(r"torch\.ops\.(?:inductor|aten)\.(?:_reinterpret|view|reshape|as_strided)")


def launches_in(code: str) -> int:
    """Launches in a wrapper's code, read as text: a second way to count, of other material."""
    # Behind `def call` there are launches only; before it stand the kernels' sources.
    start = max(code.rfind("def call("), 0)
    end = code.find("\ndef benchmark_compiled_module", start)
    body = code[start : end if end > 0 else len(code)]
    return sum(1 for match in _LAUNCH.finditer(body) if not _NO_LAUNCH.search(match.group()))
