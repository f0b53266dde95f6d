"""What compiles again after warm-up, why, and what has stopped being compiled at all.

Unlike a look at graph breaks this runs the *compiled* callables as they are, with their own
backend: what it counts is what a user pays for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..adapters.attributes import replaced
from ..adapters.dynamo import (
    SeenCompile,
    cudagraph_skip_reasons,
    inductor_counters,
    most_compiled,
    quiet_logs,
    watching,
)
from ..adapters.torch_internals import compiled_frames_run
from ..quiet import third_party
from .report import NothingCompiledError, plural, short_path
from .targets import Mark, outermost_marks

_GUARD_NUMBER = re.compile(r"^\d+(/\d+)*: ")


@dataclass(frozen=True)
class Recompile:
    """One compilation after warm-up.

    ``when`` names the call; ``why`` is dynamo's guard with the value that failed it.
    """

    when: str
    function: str
    file: str
    line: int
    why: str

    def __str__(self) -> str:
        where = f"{self.function} ({short_path(self.file)}:{self.line})"
        return f"{self.when}: {where} compiled again: {self.why}"


@dataclass(frozen=True)
class RecompileReport:
    """What happened over the calls.

    Attributes:
        calls: their names.
        recompiles: in order.
        eager: what runs eagerly although it was meant to be compiled, a sentence each.
        cudagraph_skips: why inductor left out CUDA graphs, a sentence each.
        often: functions that were compiled several times during warm-up already, once for each
            block of a model for example.
    """

    calls: tuple[str, ...]
    recompiles: tuple[Recompile, ...]
    eager: tuple[str, ...] = ()
    cudagraph_skips: tuple[str, ...] = ()
    often: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not (self.recompiles or self.eager or self.cudagraph_skips)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        count = plural(len(self.recompiles), "recompilation")
        head = f"{count} in {plural(len(self.calls), 'call')}"
        lines = [*map(str, self.recompiles), *self.eager, *self.cudagraph_skips, *self.often]
        return "\n".join([head, *(f"  {line}" for line in lines)])


def find_recompiles(
    modules: Iterable[torch.nn.Module],
    calls: Sequence[tuple[str, Callable[[], object]]],
    *,
    warm_up: Callable[[], object],
    often: int = 3,
    cuda_graphs: bool = True,
    skipped_before: Sequence[str] = (),
) -> RecompileReport:
    """Run ``warm_up()`` once more, then each call, and report what compiled and what did not run
    compiled.

    Args:
        modules: those of which something is compiled; submodules count.
        calls: a name and what to run, in this order; each is run twice, the second time to see
            that compiled code runs.
        warm_up: the call that compiled everything before.
        often: from how many compilations of one function on it is told.
        cuda_graphs: whether leaving out CUDA graphs is worth telling: on a CPU there are none.
        skipped_before: why they were left out during warm-up.

    Raises:
        NothingCompiledError: nothing of ``modules`` is compiled, so nothing could compile again.
    """
    marks = [mark for module in modules for mark in outermost_marks(module)]
    if not marks:
        raise NothingCompiledError(
            "nothing of the pipeline is compiled, so nothing could ever compile again; use a stack "
            "with a technique that compiles"
        )
    found = _Found()
    skips_before = inductor_counters()["cudagraph_skips"]
    known = len(cudagraph_skip_reasons())
    with third_party(), quiet_logs():
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
    eager = tuple(dict.fromkeys(found.eager))
    return RecompileReport(names, tuple(found.recompiles), eager, tuple(skipped), tuple(repeated))


@dataclass
class _Found:
    recompiles: list[Recompile] = field(default_factory=list)
    eager: list[str] = field(default_factory=list)

    def observe(self, name: str, call: Callable[[], object], marks: Sequence[Mark]) -> None:
        """Two calls: what compiles in the first one, and whether compiled code runs in the second.

        Past its limit a module compiled with ``fullgraph=True`` raises instead of running eagerly;
        that is an answer, every other error is the caller's to see.
        """
        with watching() as seen:
            failure = _failure(call)
            silent = [] if failure is not None else _uncompiled(name, marks, call)
        self.recompiles += [
            Recompile(name, one.function, one.file, one.line, _why(one))
            for one in seen.compiles
            if one.compiled
        ]
        self.eager += [*_limits(name, seen.compiles), *silent]
        if failure is not None and not any(one.limit_exceeded for one in seen.compiles):
            raise failure


def _failure(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def _why(one: SeenCompile) -> str:
    if one.reasons:
        return _GUARD_NUMBER.sub("", one.reasons[0].strip().splitlines()[0])
    if one.earlier:
        return f"for another object than in its {one.earlier} earlier compilations"
    return "for the first time: the calls before did not run it"


def _limits(when: str, compiles: Iterable[SeenCompile]) -> list[str]:
    return [
        f"{when}: {one.function} ({short_path(one.file)}:{one.line}) passed dynamo's recompile "
        f"limit with {one.earlier} compilations and runs eagerly from now on"
        + (f"; the last reason: {one.reasons[0].splitlines()[0]}" if one.reasons else "")
        for one in compiles
        if one.limit_exceeded
    ]


def _uncompiled(when: str, marks: Sequence[Mark], call: Callable[[], object]) -> list[str]:
    """Compare how often compiled callables are called with how often compiled code runs."""
    with _counting(marks) as calls:
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
def _counting(marks: Sequence[Mark]) -> Iterator[Counter[str]]:
    """Count the calls of what is compiled, from outside: compiled code begins further in."""
    counts: Counter[str] = Counter()

    def counted(mark: Mark) -> Callable[..., Any]:
        def calling(*args: Any, **kwargs: Any) -> Any:
            counts[mark.label] += 1
            return mark.compiled(*args, **kwargs)

        return calling

    with ExitStack() as stack:
        for mark in marks:
            stack.enter_context(replaced(mark.owner, mark.attribute, counted(mark)))
        yield counts
