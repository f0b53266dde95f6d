"""``diffspeed history index``: each test's speed over commits, from comparisons with a base."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby

from ..common.errors import UsageError
from ..common.text import number, plural
from ..history.speed_index import read_indexes
from ..records.speed_index import MOST_DROPS, BaseComparison, IndexPoint, SpeedIndex
from .history_place import HistoryPlace, tests_named
from .history_text import curve, plain, short, stdout_encoding, with_ends

MOST_CURVES = 3
"""Of a test, the newest: a branch that was squashed leaves its commits beside all others."""


def index(arguments: argparse.Namespace, place: HistoryPlace) -> None:
    """Print the speed indexes of all tests, or of those whose names hold what was asked.

    Raises:
        UsageError: there is none, none of such a test, or none with the commit of ``--anchor``.
    """
    encoding = stdout_encoding()
    with place.store.reading() as connection:
        tests = None if arguments.test is None else tests_named(connection, arguments.test)
        only = tests[0] if tests is not None and len(tests) == 1 else None
        every = read_indexes(connection, only, arguments.anchor)
        found = [one for one in every if tests is None or one.test in tests]
    of_what = "" if arguments.test is None else f" of a test with {plain(arguments.test)!r} in it"
    if not found:
        raise UsageError(
            f"no clean tree{of_what} was compared with another commit of the same environment; "
            "pytest --diffspeed --diffspeed-base=HEAD~1 does it for the commit checked out"
        )
    anchor = arguments.anchor
    if anchor is not None and not any(p.commit.startswith(anchor) for i in found for p in i.points):
        raise UsageError(
            f"no comparison{of_what} has a commit {anchor!r}; --points lists the commits"
        )
    first = True
    for _, group in groupby(found, key=lambda one: one.curve):
        curves = list(group)
        left_out = 0 if arguments.all else max(0, len(curves) - MOST_CURVES)
        for position, one in enumerate(curves[left_out:]):
            if not first:
                print()
            first = False
            if position:
                print(f"{_no_way(curves[left_out + position - 1], one)}\n")
            for line in index_lines(one, points=arguments.points, encoding=encoding):
                print(line)
        if left_out:
            print(
                f"{plural(left_out, 'earlier curve')} of this test that no base comparison joins "
                f"to these {'is' if left_out == 1 else 'are'} left out; --all prints all"
            )
    print()
    drops = (drop for one in found for drop in one.drops)
    worst = min(drops, key=lambda drop: drop.ratio, default=None)
    if worst is not None:
        what = "what made it slower" if len(found) == 1 else "the largest drop of all"
        print(f"{what}: git log --oneline {short(worst.base)}..{short(worst.head)}")
    elif not arguments.points:
        place.then(
            "every commit", "index", "--points", *([arguments.test] if arguments.test else [])
        )
    else:
        place.then("all tests", "list")


def _no_way(before: SpeedIndex, after: SpeedIndex) -> str:
    """That two curves of one test are two because nothing joins them."""
    ends = short(before.points[-1].commit), short(after.points[0].commit)
    return f"no base comparison joins {ends[0]} to {ends[1]}, so the next is a curve of its own"


def index_lines(index: SpeedIndex, *, points: bool, encoding: str) -> Iterator[str]:
    """One index: its curve, where it starts and ends, and its largest drops."""
    seen = index.points
    yield f"{plain(index.test)}, stack {plain(index.stack)}"
    compared = plural(len(index.comparisons), "comparison")
    yield (
        f"speed index per {plain(index.unit)} of {compared} with a base on "
        f"{plain(index.device_kind)}, in {plural(index.environments, 'environment')}, "
        f"{plain(index.condition)}; higher is faster"
    )
    dropped = [change.index for change in index.as_series().changes]
    values = [point.value for point in seen]
    bars, marks = curve(values, dropped, encoding=encoding)
    yield f"    {bars}  {number(min(values))} … {number(max(values))}"
    if marks:
        yield f"    {marks}"
    for end in (seen[0], seen[-1]):
        yield f"    {_value(end)} at {_commit(end)}"
    yield from _drop_lines(index.drops, index)
    if points:
        for point in seen:
            yield f"    {point.at}  {short(point.commit):<10} {_value(point)}{_subject(point)}"


def _drop_lines(drops: Sequence[BaseComparison], index: SpeedIndex) -> Iterator[str]:
    for drop in drops[:MOST_DROPS]:
        ends = [
            "open" if end is None else f"{100 * (end - 1):+.1f}" for end in (drop.low, drop.high)
        ]
        subject = f" ({plain(drop.subject)})" if drop.subject else ""
        notes = "".join(f"; {plain(note)}" for note in drop.notes)
        yield (
            f"    drop {100 * (drop.ratio - 1):+.1f} % [{ends[0]}, {ends[1]}] by "
            f"{short(drop.head)}{subject} over {short(drop.base)}{notes}"
        )
    chance = f"without any change, expect at most {number(round(index.by_chance, 2))}"
    if len(drops) > MOST_DROPS:
        yield f"    and {plural(len(drops) - MOST_DROPS, 'smaller drop')}; {chance}"
    elif drops:
        yield f"    no other is slower by more than its interval; {chance}"
    else:
        yield "    none is slower by more than its interval"


def _commit(point: IndexPoint) -> str:
    subject = "" if not point.subject else f", {plain(point.subject)}"
    return f"{short(point.commit)} ({point.at[:10]}{subject})"


def _subject(point: IndexPoint) -> str:
    return f"  {plain(point.subject)[:50]}" if point.subject else ""


def _value(point: IndexPoint) -> str:
    """The commit where the index is 1 by definition has no interval."""
    is_start = point.low == point.high == point.value
    return number(point.value) if is_start else with_ends(point.value, point.low, point.high)
