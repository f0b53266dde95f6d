"""What a red session prints: each failure once, in a block that is read in ten seconds.

diffspeed: 2 of 4 tests red; figures, logs: -v
GPU SYNC       test_fast.py::test_item[channels_last]  up to 1 in a steady step, 0 allowed
    fastpipe.py:18  if model_output.abs().max().item() > 1e4:
    next: keep it a tensor (torch.where, or compare on the GPU), or read it after the loop
SPEED          test_fast.py::test_fast[bf16]
    1.11× [1.04, 1.19] over fp32, needs 3×; 6 pairs
    next: see where the time goes (stages in the HTML report), or ask for less: min_speedup(1.04)
green: 2 tests, 3 gates PASS

A block has three lines, none wider than a hundred columns; what is longer ends in an ellipsis, and
stands whole in the record, in the other reports, and under ``-v``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..common.text import first_line, plural
from ..records.reader import RecordedGate, RecordedSession
from ..records.verdict import Cause, VerdictKind
from .causes import cause_of, cause_of_gate, cause_of_test
from .narrow import INDENT, WIDTH, clipped, indented, narrowed, near, wrapped
from .terminal import in_order

_KIND = 15
_OWN = WIDTH - len(INDENT)
_LEAST = 24
"""Columns in which the beginning of a clause still says something."""


@dataclass(frozen=True)
class Block:
    """One failure.

    ``shown_above``: pytest prints its traceback, so nothing of it is repeated.  ``is_message``:
    what was found is a sentence of an error, which may take two lines, and no clause of a gate.
    """

    verdict: VerdictKind
    test: str
    claim: str
    cause: Cause
    shown_above: bool = False
    is_message: bool = False

    def lines(self, *, with_claim: bool = False) -> list[str]:
        cause = self.cause
        kind = f"{cause.kind:<{_KIND - 1}} "
        head = kind + _test_id(self.test, WIDTH - len(kind))
        claim = self.claim if with_claim else ""
        if self.shown_above:
            return _beside_or_below(head, cause.next_step)
        lines = _beside_or_below(head, claim) if claim else [head]
        if cause.place is None:
            lines += indented(cause.found, 2 if self.is_message else 1)
        else:
            lines += self._of_place(lines, narrowed(cause.place))
        return [*lines, *indented(f"next: {cause.next_step}", 2)]

    def _of_place(self, above: list[str], place: str) -> list[str]:
        """Place, line of code and clause in one line; where that is too long, the clause stands
        behind the test, or shares the line with the code if a long name leaves it no room there.
        """
        found, source = self.cause.found, self.cause.source or ""
        whole = len("  ".join(part for part in (place, source, f"({found})") if part))
        behind = WIDTH - len(above[-1]) - 2
        if whole > _OWN and behind >= min(len(found), _LEAST):
            above[-1] += f"  {clipped(found, behind)}"
            found = ""
        room = _OWN - len(place) - (6 if found else 2)
        code = clipped(source, max(room - len(found), room // 2))
        clause = f"({clipped(found, room - len(code))})" if found else ""
        return [INDENT + "  ".join(part for part in (place, code, clause) if part)]


def blocks(session: RecordedSession, shown_above: Collection[str] = ()) -> list[Block]:
    """The failures of a session: gates first, the surest one on top, then what failed before them.

    INCONCLUSIVE gates stand last where they do not fail their test.  ``shown_above`` are tests of
    which a traceback is printed.
    """
    expected = {id(gate.result) for gate in session.expected_failures}
    by_result = {id(gate.result): gate for gate in session.latest}
    red: list[Block] = []
    undecided: list[Block] = []
    for result in in_order(gate.result for gate in session.latest):
        gate = by_result[id(result)]
        if result.blocking and id(result) not in expected:
            red.append(_of_gate(gate))
        elif result.verdict is VerdictKind.INCONCLUSIVE and gate.finished and not result.blocking:
            undecided.append(_of_gate(gate))
    otherwise = [_of_test(line, session, shown_above) for line in session.failed_otherwise]
    return [_near(block, session.path) for block in (*red, *otherwise, *undecided)]


def is_red(session: RecordedSession) -> bool:
    return any(block.verdict is VerdictKind.FAIL for block in blocks(session))


def headline(session: RecordedSession) -> str:
    """How many tests are red, for the line above the blocks."""
    red, tests = _red_tests(blocks(session)), {str(line["test"]) for line in session.tests}
    return f"diffspeed: {len(red)} of {plural(len(tests | red), 'test')} red; figures, logs: -v"


def red_lines(
    session: RecordedSession, shown_above: Collection[str] = ()
) -> list[tuple[VerdictKind | None, str]]:
    """The screen below its headline, with the verdict that gives each line its colour."""
    found = blocks(session, shown_above)
    many = Counter((block.test, block.cause.kind) for block in found)
    lines: list[tuple[VerdictKind | None, str]] = []
    for block in found:
        twice = many[block.test, block.cause.kind] > 1
        lines += [(block.verdict, line) for line in block.lines(with_claim=twice)]
    return [*lines, *_of_others(session, _red_tests(found))]


def _red_tests(found: Iterable[Block]) -> set[str]:
    return {block.test for block in found if block.verdict is VerdictKind.FAIL}


def _of_gate(gate: RecordedGate) -> Block:
    result = gate.result
    verdict = VerdictKind.FAIL if result.blocking else result.verdict
    cause = cause_of_gate(gate)
    return Block(verdict, result.test, result.claim, cause, is_message=gate.error is not None)


def _of_test(
    line: Mapping[str, Any], session: RecordedSession, shown_above: Collection[str]
) -> Block:
    """A test that failed where no gate did: a proof, a fixture, its own body."""
    test = str(line["test"])
    cause = cause_of_test(line)
    above = test in shown_above
    if above:
        waiting = sum(str(lost["test"]) == test for lost in session.not_run)
        gates = f"; {plural(waiting, 'gate')} did not run" if waiting else ""
        cause = replace(cause, next_step=f"traceback above{gates}")
    return Block(VerdictKind.FAIL, test, "", cause, above, is_message=True)


def _near(block: Block, root: Path) -> Block:
    """With files named from the root of the session on."""
    cause = block.cause
    place = None if cause.place is None else near(cause.place, root)
    shorter = replace(cause, found=near(cause.found, root), place=place)
    return replace(block, cause=shorter)


def _of_others(session: RecordedSession, red: set[str]) -> Iterator[tuple[VerdictKind | None, str]]:
    """What is not red: what could not be asked, what was expected to fail, and what is green."""
    green: Counter[str] = Counter()
    for gate in session.latest:
        result = gate.result
        if result.test in red:
            continue
        if result.verdict is VerdictKind.NOT_APPLICABLE:
            head = f"{result.verdict}  {result.test}  {result.claim}: {first_line(result.reason)}"
            yield from ((result.verdict, line) for line in wrapped(head))
        elif result.verdict is VerdictKind.PASS:
            green[result.test] += 1
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
        gates = plural(sum(green.values()), "gate")
        yield VerdictKind.PASS, f"green: {plural(len(green), 'test')}, {gates} PASS"


def _beside_or_below(head: str, text: str) -> list[str]:
    both = f"{head}  {text}"
    return [both] if len(both) <= WIDTH else [head, *indented(text, 1)]


def _test_id(test: str, most: int) -> str:
    """The end of a long one says which test it is."""
    return test if len(test) <= most else f"…{test[1 - most :]}"
