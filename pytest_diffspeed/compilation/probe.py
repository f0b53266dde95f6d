"""Find the graph breaks of a callable, without compiling a kernel and without leaving a trace.

``torch._dynamo.explain`` alone is no gate: it misses a break before the first operation, counts
``-1`` breaks for a module that was compiled in place, and resets dynamo for the whole process.  So
its machinery runs here without the resets, and three ways in which a break shows are combined: what
dynamo logs as a break, the reasons on the graphs, and the growth of its counters.
"""

from __future__ import annotations

import linecache
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ..adapters.dynamo import (
    TORCH_FOLDER,
    DynamoLog,
    ExplainWithBackend,
    SeenBreak,
    compile_stance,
    graph_break_counters,
    is_disabled,
    original_of,
    quiet_logs,
    watching,
)
from ..adapters.dynamo_fullgraph import captured_as_with_fullgraph
from ..adapters.dynamo_undisturbed import compile_for_looking, undisturbed
from ..common.arguments import shown
from ..common.errors import WrongTypeError
from ..common.lazy_results import refuse_unfinished
from ..common.paths import short_path
from ..common.quiet import third_party
from .fix_hints import first_reason, remedy
from .line_counts import count_lines
from .report import (
    CompileFailedError,
    GraphBreak,
    GraphBreakReport,
    NothingCompiledError,
)
from .targets import Target, target_of

_RESUMED = re.compile(r"^torch_dynamo_resume_in_(.+)_at_\d+$")
_LOOP = "graph break in loop"
_GENERATOR_CALLED = "Attempt to trace generator"


@dataclass(frozen=True)
class Call:
    """The inputs of one call, whether it records gradients, and in what else it happened."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    grad: bool = True
    surroundings: Callable[[], AbstractContextManager[Any]] = nullcontext

    def anew(self) -> Call:
        """The same call with lists and dicts of its own, since a function may take out of those
        that it is given (HunyuanDiT pops the residuals of its ControlNet); tensors are the same.
        """
        args, kwargs = pytree.tree_map(lambda leaf: leaf, (self.args, dict(self.kwargs)))
        return replace(self, args=args, kwargs=kwargs)

    def run(self, fn: Callable[..., Any]) -> Any:
        with nullcontext() if self.grad else torch.no_grad(), self.surroundings():
            return fn(*self.args, **self.kwargs)


def find_graph_breaks(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> GraphBreakReport:
    """Where ``torch.compile(fn)`` would break its graph, for one call's inputs.

    ``fn`` is called twice (compiled with a backend that runs the graphs eagerly), since some breaks
    show only on the second call, and once more eagerly where there are breaks, to count how often
    their lines run.  Nothing is left behind: other compiled modules do not compile again, and
    ``fn`` has as many compilations before its ``recompile_limit`` as before.

    What ``fullgraph=True`` captures in the installed torch (since 2.10 ``.item()`` and masks among
    it) is no break, unless ``fn`` is compiled already without it: then these break as they do
    there.

    Args:
        fn: a module, or any callable; one that is compiled already is looked at uncompiled, one of
            which only parts are compiled by themselves is looked at part by part.
        *args: its inputs.
        **kwargs: its inputs.

    Raises:
        CompileFailedError: capturing failed, which is no graph break.
        NothingCompiledError: there was nothing to capture, so there is no answer.
        WrongTypeError: ``fn`` cannot be called, or is a class.
        UsageError: ``fn`` gives a coroutine or a generator, so nothing of it has run.
        Exception: what ``fn`` raises without compilation too.
    """
    if isinstance(fn, type) or not callable(fn):
        raise WrongTypeError(
            f"find_graph_breaks() takes a module or a function and its inputs, not {shown(fn)}; "
            "write for example find_graph_breaks(pipeline.unet, sample, timestep, embeddings)"
        )
    call = Call(args, kwargs, torch.is_grad_enabled())
    return probe_breaks(fn, [call, call])


def probe_breaks(
    fn: Callable[..., Any],
    calls: Sequence[Call],
    *,
    name: str | None = None,
    restart: Callable[[], object] = lambda: None,
) -> GraphBreakReport:
    """Like :func:`find_graph_breaks`, for several calls in a row; ``restart`` comes before the
    first of them, each time they are run, and at the end.

    What the first call captured is used again by the later ones.
    """
    name = name or _name(fn)
    if is_disabled(fn):
        raise NothingCompiledError(
            f"{name}: it is under torch.compiler.disable, so nothing of it is compiled and there "
            "is nothing to check; take the decorator off, or look at something else"
        )
    target = target_of(fn)
    explain = ExplainWithBackend("eager")
    new_graphs: list[int] = []
    started = time.perf_counter()
    with ExitStack() as afterwards:
        afterwards.callback(restart)
        with ExitStack() as stack:
            stack.enter_context(_quiet())
            if target.fullgraph:
                stack.enter_context(captured_as_with_fullgraph())
            seen = stack.enter_context(watching())
            stack.enter_context(undisturbed(seen))
            stack.enter_context(_same_random_numbers())
            before = graph_break_counters()

            def compile_(part: Callable[..., Any]) -> Callable[..., Any]:
                return compile_for_looking(part, explain)

            with target.prepared(compile_) as compiled:
                restart()
                for call in calls:
                    captured = len(explain.graphs)
                    _run(call, compiled, target, name, restart)
                    new_graphs.append(len(explain.graphs) - captured)
            counted = graph_break_counters() - before
            found = explain.output()
            sites = _sites(seen, found.break_reasons, counted)
        if not found.graph_count and not sites:
            raise NothingCompiledError(_nothing(name, target, seen))
        if sites:
            with _quiet(), _same_random_numbers(), target.uncompiled() as eager:
                restart()
                lines = {(site.file, site.line) for site in sites}
                runs = count_lines(lambda: calls[-1].anew().run(eager), lines)
            sites = [_with_runs(site, runs) for site in sites]
    return GraphBreakReport(
        name=name,
        graphs=found.graph_count,
        ops=found.op_count,
        breaks=tuple(sites),
        how=target.how,
        graphs_by_call=tuple(new_graphs),
        recompiles=sum(bool(one.reasons) for one in seen.compiles),
        counted={first_reason(message): count for message, count in counted.items()},
        notes=target.notes,
        seconds=time.perf_counter() - started,
    )


def _run(
    call: Call,
    compiled: Callable[..., Any],
    target: Target,
    name: str,
    restart: Callable[[], object],
) -> None:
    """One call; tells a failing compilation from a failing call."""
    try:
        result = call.anew().run(compiled)
    except Exception as error:
        with target.uncompiled() as eager:
            restart()
            # What it raises without compilation too is the user's to see.
            plain = call.anew().run(eager)
        # Torch 2.11 on Python 3.12 fails inside itself at a coroutine.
        refuse_unfinished(plain, f"a call of {name}")
        raise CompileFailedError(
            f"{name}: torch.compile failed while it captured the graph, which is not a graph "
            f"break (the same call runs without compilation): {root_error(error)}"
            + "".join(f"; {note}" for note in target.notes),
            next_step="compile it by itself to see more, or leave it out with `components`",
        ) from error
    refuse_unfinished(result, f"a call of {name}")


def root_error(error: BaseException) -> str:
    """The innermost cause of a failing compilation, in one line."""
    while (cause := error.__cause__ or getattr(error, "inner_exception", None)) is not None:
        error = cause
    return f"{type(error).__name__}: {first_reason(str(error))}"


def _sites(seen: DynamoLog, reasons: Sequence[Any], counted: Mapping[str, int]) -> list[GraphBreak]:
    """Each place once, whatever number of frames the break went through on its way out."""
    groups: dict[tuple[Any, ...], list[SeenBreak]] = {}
    # What runs eagerly because of another break may call generators, which dynamo refuses as a
    # start: taking out the other break takes out these.
    causes = [one for one in seen.breaks if not one.message.startswith(_GENERATOR_CALLED)]
    breaks = causes or seen.breaks
    own = {one.stack[-1][:2] for one in breaks if one.place is not None}
    for one in breaks:
        innermost = one.stack[-1][:2]
        if one.place is not None:
            groups.setdefault(one.place, []).append(one)
        elif innermost in own:
            # On its way out of a function that was inlined; the function itself came later.
            match = next(_keys_at(breaks, innermost))
            groups.setdefault(match, []).append(one)
        else:
            groups.setdefault(innermost, []).append(one)
    sites = [_site(group) for group in groups.values()]
    known = {(site.file, site.line) for site in sites}
    for reason in reasons:  # on a graph, and not logged
        stack = tuple((f.filename, f.lineno or 0, f.name) for f in reason.user_stack)
        if stack and stack[-1][:2] not in known and reason.graph_break and not sites:
            sites.append(_site([SeenBreak(reason.reason, stack, None)]))
    if not sites:  # only the counter knows
        sites = [
            GraphBreak(
                first_reason(message), "place unknown", 0, remedy=remedy(message, (), "", ())
            )
            for message in counted
        ]
    return sites


def _keys_at(breaks: Sequence[SeenBreak], innermost: tuple[str, int]) -> Iterator[tuple[Any, ...]]:
    for one in breaks:
        if one.place is not None and one.stack[-1][:2] == innermost:
            yield one.place


def _site(group: Sequence[SeenBreak]) -> GraphBreak:
    # The longest way to it tells most about who called; the first one tells the reason.
    stack = max((one.stack for one in group), key=len)
    message = next((one.message for one in group if one.place is not None), group[0].message)
    lines = [linecache.getline(file, line).strip() for file, line, _ in stack]
    position = _users_frame(stack)
    file, line, function = stack[position]
    skipped = next((one.stack[0] for one in group if _LOOP in one.message), None)
    if skipped is None and all(one.place is None for one in group):
        skipped = group[0].stack[0]
    return GraphBreak(
        reason=first_reason(message),
        file=file,
        line=line,
        source=lines[position],
        function=_resumed(function),
        remedy=remedy(message, stack, lines[position], lines),
        skipped=None if skipped is None else _format(skipped),
        stack=tuple((f, number, _resumed(fn)) for f, number, fn in stack),
        disabled="torch.compiler.disable" in message,
    )


def _users_frame(stack: Sequence[tuple[str, int, str]]) -> int:
    """The innermost frame outside torch, or the innermost one where all are torch's."""
    for position in reversed(range(len(stack))):
        if not stack[position][0].startswith(TORCH_FOLDER):
            return position
    return len(stack) - 1


def _format(frame: tuple[str, int, str]) -> str:
    file, line, function = frame
    return f"`{_resumed(function)}` ({short_path(file)}:{line})"


def _resumed(function: str) -> str:
    match = _RESUMED.match(function)
    return function if match is None else match.group(1)


def _with_runs(site: GraphBreak, runs: Counter[tuple[str, int]]) -> GraphBreak:
    return replace(site, runs=runs.get((site.file, site.line)))


def _nothing(name: str, target: Target, seen: DynamoLog) -> str:
    """Why there was nothing to capture, as far as dynamo says."""
    reasons = list(dict.fromkeys(f"{function}: {reason}" for function, reason in seen.skips))
    if is_disabled(getattr(target.whole, "forward", None)):
        why = "its forward is under torch.compiler.disable"
    elif compile_stance() == "force_eager":
        why = "torch.compiler.set_stance('force_eager') switches compilation off"
    elif target.regions:
        parts = ", ".join(sorted({mark.label for mark in target.regions}))
        why = f"only parts of it are compiled ({parts}), and the calls ran none of them"
    elif reasons:
        why = "dynamo left out " + "; ".join(reasons[:3])
    else:
        why = "it runs no tensor operation that dynamo sees"
    return (
        f"{name}: not a single graph was captured, so nothing could be checked: {why}; look at a "
        "callable that computes on tensors and may be compiled"
    )


def _name(fn: Any) -> str:
    if isinstance(fn, torch.nn.Module):
        return type(original_of(fn) or fn).__name__
    return str(getattr(fn, "__qualname__", None) or type(fn).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    with third_party(), quiet_logs():
        yield


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """A look draws as it likes; afterwards torch's generators are where they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=list(devices)):
        yield
