"""What a red session prints: each failure once, in a block that is read in ten seconds.

GPU SYNC       test_fast.py::test_item[channels_last]
    fastpipe.py:18  if model_output.abs().max().item() > 1e4:
    up to 1 in a steady step, 0 allowed
    next: keep it a tensor (torch.where, or compare on the GPU), or read it after the loop
SPEED          test_fast.py::test_fast[bf16]
    1.11× [1.04, 1.19] over fp32, needs 3×; 6 pairs
    next: see where the time goes (stages in the HTML report), or ask for less: min_speedup(1.04)
green: test_other[bf16] (no_gpu_syncs, image_similarity)
8 of 10 tests red; figures and whole messages: -v

No line is wider than a hundred columns; what is longer stands in the record, and under ``-v``.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..common.text import first_line, plural, shortened
from ..records.reader import RecordedGate, RecordedSession
from ..records.verdict import Cause, GateResult, VerdictKind
from .terminal import describe, in_order

WIDTH = 100
"""Columns: what a log of CI and half of a screen show without wrapping."""
_KIND = 15
_INDENT = "    "
_GREEN_LINES = 3
_ALL_OF_IT = "-v has all of it"


@dataclass(frozen=True)
class Block:
    """One failure.  ``shown_above``: pytest prints its traceback, so nothing of it is repeated."""

    verdict: VerdictKind
    test: str
    claim: str
    cause: Cause
    shown_above: bool = False

    def lines(self, *, with_claim: bool = False) -> list[str]:
        cause = self.cause
        kind = f"{cause.kind:<{_KIND - 1}} "
        head = kind + _test_id(self.test, WIDTH - len(kind))
        claim = f"  {self.claim}" if with_claim and self.claim else ""
        lines = [head + claim if len(head + claim) <= WIDTH else head]
        if claim and claim not in lines[0]:
            lines += _wrapped(self.claim, 1)
        place = "  ".join(part for part in (cause.place, cause.source) if part)
        found = "" if self.shown_above else cause.found
        if place and found and len(_INDENT) + len(place) + len(found) + 4 <= WIDTH:
            lines.append(f"{_INDENT}{place}  ({found})")
        else:
            lines += [f"{_INDENT}{shortened(place, WIDTH - len(_INDENT))}"] if place else []
            lines += _wrapped(found, 2 if place else 3)
        return [*lines, *_wrapped(f"next: {cause.next_step}", 2)]


def blocks(session: RecordedSession, shown_above: Collection[str] = ()) -> list[Block]:
    """The failures of a session: gates first, the surest one on top, then what failed before them.

    INCONCLUSIVE gates stand last where they do not fail their test.  ``shown_above`` are tests of
    which a traceback is printed.
    """
    outcomes = {str(line["test"]): line["outcome"] for line in session.tests}
    by_result = {id(gate.result): gate for gate in session.latest}
    red: list[Block] = []
    undecided: list[Block] = []
    for result in in_order(gate.result for gate in session.latest):
        gate = by_result[id(result)]
        if result.blocking and outcomes.get(result.test, "failed") == "failed":
            red.append(_of_gate(gate))
        elif result.verdict is VerdictKind.INCONCLUSIVE and gate.finished and not result.blocking:
            undecided.append(_of_gate(gate))
    otherwise = [_of_test(line, session, shown_above) for line in session.failed_otherwise]
    return [*red, *otherwise, *undecided]


def is_red(session: RecordedSession) -> bool:
    return any(block.verdict is VerdictKind.FAIL for block in blocks(session))


def red_lines(
    session: RecordedSession, shown_above: Collection[str] = ()
) -> list[tuple[VerdictKind | None, str]]:
    """The screen, with the verdict that gives each line its colour."""
    found = blocks(session, shown_above)
    many = Counter((block.test, block.cause.kind) for block in found)
    lines: list[tuple[VerdictKind | None, str]] = []
    for block in found:
        twice = many[block.test, block.cause.kind] > 1
        lines += [(block.verdict, line) for line in block.lines(with_claim=twice)]
    red = {block.test for block in found if block.verdict is VerdictKind.FAIL}
    lines += _of_others(session, red)
    tests = {str(line["test"]) for line in session.tests} | red
    lines.append(
        (VerdictKind.FAIL, f"{len(red)} of {plural(len(tests), 'test')} red; figures, logs: -v")
    )
    return lines


def kinds_of(causes: Iterable[Cause | None]) -> str:
    """A phrase for a line that has room for no more: ``GPU SYNC, IMAGES``."""
    return ", ".join(dict.fromkeys(cause.kind for cause in causes if cause is not None))


def cause_of(result: GateResult) -> Cause:
    """The cause that a result has, or one made of its reason: gates of plug-ins, older records."""
    if result.cause is not None:
        return result.cause
    found = "; ".join(part for part in (describe(result), first_line(result.reason)) if part)
    return Cause(result.gate, found, _ALL_OF_IT)


def _of_gate(gate: RecordedGate) -> Block:
    result = gate.result
    verdict = VerdictKind.FAIL if result.blocking else result.verdict
    cause = cause_of(result)
    if not gate.finished and result.cause is None:
        kind = "STOPPED" if gate.error is None else "NOT CHECKED"
        cause = Cause(kind, first_line(result.reason), "run it again")
    if result.figures.get("remembered_from"):
        step = "change the tree; --diffspeed-fresh asks for another attempt on this one"
        cause = replace(cause, found=f"FAILed already for this tree: {cause.found}", next_step=step)
    return Block(verdict, result.test, result.claim, cause)


def _of_test(
    line: Mapping[str, Any], session: RecordedSession, shown_above: Collection[str]
) -> Block:
    """A test that failed where no gate did: a proof, a fixture, its own body."""
    test = str(line["test"])
    cause = Cause.from_dict(line.get("cause"))
    above = cause is None or test in shown_above
    if cause is None:
        error = str(line.get("error") or "it failed after its gates")
        cause = Cause("TEST FAILED", first_line(error), "pytest's own report of it stands above")
    elif above:
        waiting = sum(str(lost["test"]) == test for lost in session.not_run)
        gates = f"; {plural(waiting, 'gate')} of it did not run" if waiting else ""
        cause = Cause(
            cause.kind, "", f"its traceback stands above{gates}", cause.place, cause.source
        )
    return Block(VerdictKind.FAIL, test, "", cause, above)


def _of_others(session: RecordedSession, red: set[str]) -> Iterator[tuple[VerdictKind | None, str]]:
    """What is not red: what could not be asked, what was expected to fail, and what is green."""
    green: dict[str, list[str]] = {}
    for gate in session.latest:
        result = gate.result
        if result.test in red:
            continue
        if result.verdict is VerdictKind.NOT_APPLICABLE:
            head = f"{result.verdict}  {result.test}  {result.claim}: {first_line(result.reason)}"
            yield from ((result.verdict, line) for line in wrapped(head))
        elif result.verdict is VerdictKind.PASS:
            green.setdefault(result.test, []).append(result.gate)
        elif result.blocking:
            head = f"xfailed  {result.test}  {cause_of(result).kind}: as it was expected to"
            yield from ((None, line) for line in wrapped(head))
    told = {str(line["test"]) for line in session.failed_otherwise}
    shown = {(gate.result.test, gate.result.claim) for gate in session.latest}
    for lost in session.not_run:
        test, claim = str(lost["test"]), lost["claim"]
        if test not in told and not (test in red and (test, claim) in shown):
            head = f"not run  {lost['test']}  {lost['claim']}: {first_line(lost.get('reason', ''))}"
            yield from ((VerdictKind.INCONCLUSIVE, line) for line in wrapped(head))
    if green:
        yield from ((VerdictKind.PASS, line) for line in _green(green))


def _green(tests: Mapping[str, Sequence[str]]) -> list[str]:
    names = [
        f"{test.rpartition('::')[2]} ({', '.join(dict.fromkeys(gates))})"
        for test, gates in tests.items()
    ]
    for shown in range(len(names), 0, -1):
        left = len(names) - shown
        text = "green: " + ", ".join(names[:shown]) + (f", and {left} more" if left else "")
        lines = wrapped(text)
        if len(lines) <= _GREEN_LINES:
            return lines
    return [f"green: {plural(len(names), 'test')}"]


def wrapped(text: str) -> list[str]:
    """Lines of at most :data:`WIDTH` columns, the further ones indented; nothing is left out."""
    return [
        line
        for one in text.splitlines()
        for line in textwrap.wrap(
            one,
            WIDTH,
            subsequent_indent=" " * (len(one) - len(one.lstrip())) + _INDENT,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
    ]


def _wrapped(text: str, most: int) -> list[str]:
    """At most so many lines, indented; the last one ends in an ellipsis where words are left."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT + "  ",
        max_lines=most,
        placeholder=" …",
        break_on_hyphens=False,
    )


def _test_id(test: str, most: int) -> str:
    """The end of a long one says which test it is."""
    return test if len(test) <= most else f"…{test[1 - most :]}"
