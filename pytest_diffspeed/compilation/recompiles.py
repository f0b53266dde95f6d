"""What compiles again after warm-up, why, and what has stopped being compiled at all.

Unlike a look at graph breaks this runs the *compiled* callables as they are, with their own
backend: what it counts is what a user pays for.  What compiles meanwhile is dropped afterwards: the
next gate finds, and times, what was there before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..adapters.attributes import replaced
from ..adapters.dynamo import (
    SeenCompile,
    cudagraph_skip_reasons,
    inductor_counters,
    is_compile_error,
    most_compiled,
    quiet_logs,
    watching,
)
from ..adapters.dynamo_undisturbed import new_compilations_forgotten
from ..adapters.torch_internals import compiled_frames_run
from ..common.paths import short_path
from ..common.quiet import third_party
from ..common.text import plural
from .probe import root_error
from .report import CompileFailedError, NothingCompiledError
from .targets import Mark, outermost_marks

_GUARD_NUMBER = re.compile(r"^\d+(/\d+)*: ")
_GUARD_COMMENT = re.compile(r"\s+# .*$")
"""Where dynamo made the guard, several lines long in one: the values stand before it."""
_OF_MODULES = re.compile(r"(?:\.__dict__\['_modules'\]|\._modules|\._parameters)\['([^']+)'\]")
"""How dynamo writes ``.mid_block`` and ``.weight`` in guards."""
ELSEWHERE = "elsewhere"
"""The component of what compiles outside all compiled parts."""


@dataclass(frozen=True)
class Recompile:
    """One compilation after warm-up.

    ``when`` names the call; ``why`` is dynamo's guard with the value that failed it; ``component``
    is what was called, such as ``unet`` or ``vae.decode``.
    """

    when: str
    function: str
    file: str
    line: int
    why: str
    component: str

    def __str__(self) -> str:
        where = f"{self.function} ({short_path(self.file)}:{self.line})"
        return f"{self.when}: {where} compiled again: {self.why}"


@dataclass(frozen=True)
class RecompileReport:
    """What happened over the calls.

    Attributes:
        calls: their names.
        components: what is compiled, by the names in ``recompiles``.
        recompiles: in order.
        eager: what runs eagerly although it was meant to be compiled, a sentence each.
        cudagraph_skips: why inductor left out CUDA graphs, a sentence each.
        often: functions that were compiled several times during warm-up already, once for each
            block of a model for example.
        left_out: what is compiled too, and was not looked at.
        gave_up: where dynamo passed its recompile limit; ``eager`` has a sentence on each.
    """

    calls: tuple[str, ...]
    components: tuple[str, ...]
    recompiles: tuple[Recompile, ...]
    eager: tuple[str, ...] = ()
    cudagraph_skips: tuple[str, ...] = ()
    often: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    gave_up: tuple[Recompile, ...] = ()

    @property
    def ok(self) -> bool:
        return not (self.recompiles or self.eager or self.cudagraph_skips)

    def by_component(self) -> dict[str, int]:
        """How often each component compiled again, 0 included."""
        counts = dict.fromkeys(self.components, 0)
        for one in self.recompiles:
            counts[one.component] = counts.get(one.component, 0) + 1
        return counts

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        count = plural(len(self.recompiles), "recompilation")
        head = f"{count} in {plural(len(self.calls), 'call')}"
        lines = [*map(str, self.recompiles), *self.eager, *self.cudagraph_skips, *self.often]
        return "\n".join([head, *(f"  {line}" for line in lines)])


def find_recompiles(
    modules: Mapping[str, torch.nn.Module],
    calls: Sequence[tuple[str, Callable[[], object]]],
    *,
    warm_up: Callable[[], object],
    often: int = 3,
    cuda_graphs: bool = True,
    skipped_before: Sequence[str] = (),
    explain: Callable[[Callable[[], object], Exception], str] | None = None,
    only: Callable[[str], bool] = lambda component: True,
) -> RecompileReport:
    """Run ``warm_up()`` once more, then each call, and report what compiled and what did not run
    compiled.

    Args:
        modules: by name, those of which something is compiled; submodules count.
        calls: a name and what to run, in this order; each is run twice, the second time to see
            that compiled code runs.
        warm_up: the call that compiled everything before.
        often: from how many compilations of one function on it is told.
        cuda_graphs: whether leaving out CUDA graphs is worth telling: on a CPU there are none.
        skipped_before: why they were left out during warm-up.
        explain: says why a call did not compile, given the call and what it raised.
        only: which of the components to look at; what compiles again in the others is not told.

    Raises:
        CompileFailedError: a call does not compile: with ``fullgraph=True``, a graph break.
        NothingCompiledError: nothing of ``modules`` is compiled, so nothing could compile again.
    """
    marks = [
        (_component(name, module, mark), mark)
        for name, module in modules.items()
        for mark in outermost_marks(module)
    ]
    if not marks:
        raise NothingCompiledError(
            "nothing of the pipeline is compiled, so nothing could ever compile again; use a stack "
            "with a technique that compiles"
        )
    found = _Found(explain or (lambda call, error: root_error(error)), only)
    skips_before = inductor_counters()["cudagraph_skips"]
    known = len(cudagraph_skip_reasons())
    with third_party(), quiet_logs(), new_compilations_forgotten():
        repeated = [
            f"{function} ({short_path(file)}:{line}) was compiled {count} times during warm-up"
            for (function, file, line), count in most_compiled(often)
        ]
        for name, call in (("the same call again", warm_up), *calls):
            found.observe(name, call, marks)
    skipped: list[str] = []
    if cuda_graphs:
        reasons = dict.fromkeys((*skipped_before, *cudagraph_skip_reasons()[known:]))
        skipped = [f"CUDA graphs were left out: {reason}" for reason in reasons]
        skips = inductor_counters()["cudagraph_skips"] - skips_before
        if skips and not skipped:
            skipped = [f"CUDA graphs were left out {skips} times; torch kept no reason"]
    names = ("the same call again", *(name for name, _ in calls))
    components = tuple(dict.fromkeys(component for component, _ in marks))
    eager = tuple(dict.fromkeys(found.eager))
    return RecompileReport(
        names,
        tuple(one for one in components if only(one)),
        tuple(found.recompiles),
        eager,
        tuple(skipped),
        tuple(repeated),
        tuple(one for one in components if not only(one)),
        tuple(found.gave_up),
    )


def _component(name: str, module: torch.nn.Module, mark: Mark) -> str:
    """``vae.decode`` where a method is compiled, else the name of the component."""
    is_method = mark.owner is module and not mark.is_whole(module)
    return f"{name}.{mark.attribute}" if is_method else name


@dataclass
class _Found:
    explain: Callable[[Callable[[], object], Exception], str]
    only: Callable[[str], bool]
    recompiles: list[Recompile] = field(default_factory=list)
    eager: list[str] = field(default_factory=list)
    gave_up: list[Recompile] = field(default_factory=list)

    def observe(
        self, name: str, call: Callable[[], object], marks: Sequence[tuple[str, Mark]]
    ) -> None:
        """Two calls: what compiles in the first one, and whether compiled code runs in the second.

        Past its limit a module compiled with ``fullgraph=True`` raises instead of running eagerly;
        that is an answer, every other error is the caller's to see.
        """
        begun: list[tuple[int, str]] = []
        with watching() as seen:
            with _around(marks, lambda component: begun.append((len(seen.compiles), component))):
                failure = _failure(call)
            silent = [] if failure is not None else self._uncompiled(name, marks, call)
        told: list[SeenCompile] = []
        for number, one in enumerate(seen.compiles):
            component = next((c for n, c in reversed(begun) if n <= number), ELSEWHERE)
            if component != ELSEWHERE and not self.only(component):
                continue
            told.append(one)
            again = Recompile(name, one.function, one.file, one.line, _why(one), component)
            if one.compiled:
                self.recompiles.append(again)
            elif one.limit_exceeded:
                self.gave_up.append(again)
        self.eager += [*_limits(name, told), *silent]
        if failure is None or any(one.limit_exceeded for one in seen.compiles):
            return
        if not is_compile_error(failure):
            raise failure
        _run_uncompiled(call, marks)  # what it raises without compilation too is the user's to see
        raise CompileFailedError(
            f"{name}: it compiled during warm-up and does not compile for this call: "
            f"{self.explain(call, failure)}"
        ) from failure

    def _uncompiled(
        self, when: str, marks: Sequence[tuple[str, Mark]], call: Callable[[], object]
    ) -> list[str]:
        """As :func:`_uncompiled`, while what is not looked at runs without compilation: runs of
        compiled code have no component's name.
        """
        own = [(component, mark) for component, mark in marks if self.only(component)]
        others = [mark for component, mark in marks if not self.only(component)]
        with ExitStack() as stack:
            for mark in others:
                stack.enter_context(replaced(mark.owner, mark.attribute, mark.original))
            return _uncompiled(when, own, call)


def _failure(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def _run_uncompiled(call: Callable[[], object], marks: Sequence[tuple[str, Mark]]) -> None:
    with ExitStack() as stack:
        for _, mark in marks:
            stack.enter_context(replaced(mark.owner, mark.attribute, mark.original))
        call()


def _why(one: SeenCompile) -> str:
    if one.reasons:
        guard = _GUARD_NUMBER.sub("", one.reasons[0].strip().splitlines()[0])
        return _OF_MODULES.sub(r".\1", _GUARD_COMMENT.sub("", guard))
    if one.earlier:
        return f"for another object than in its {one.earlier} earlier compilations"
    return "for the first time: the calls before did not run it"


def _limits(when: str, compiles: Iterable[SeenCompile]) -> list[str]:
    return [
        f"{when}: {one.function} ({short_path(one.file)}:{one.line}) passed dynamo's recompile "
        f"limit with {one.earlier} compilations and runs eagerly from now on; the last reason: "
        f"{_why(one)}"
        for one in compiles
        if one.limit_exceeded
    ]


def _uncompiled(
    when: str, marks: Sequence[tuple[str, Mark]], call: Callable[[], object]
) -> list[str]:
    """Compare how often compiled callables are called with how often compiled code runs."""
    calls: Counter[str] = Counter()
    with _around(marks, lambda component: calls.update([component])):
        runs = sum(compiled_frames_run(call).values())
    called = sum(calls.values())
    if runs >= called:
        return []
    return [
        f"{when}: compiled parts were called {called} times and compiled code ran {runs} times; "
        "the rest runs eagerly without a word (past dynamo's recompile limit, or in a part that "
        "cannot be compiled)"
    ]


@contextmanager
def _around(marks: Sequence[tuple[str, Mark]], on_call: Callable[[str], object]) -> Iterator[None]:
    """Tell each call of what is compiled, from outside: compiled code begins further in."""

    def watched(component: str, mark: Mark) -> Callable[..., Any]:
        def calling(*args: Any, **kwargs: Any) -> Any:
            on_call(component)
            return mark.compiled(*args, **kwargs)

        return calling

    with ExitStack() as stack:
        for component, mark in marks:
            stack.enter_context(replaced(mark.owner, mark.attribute, watched(component, mark)))
        yield
