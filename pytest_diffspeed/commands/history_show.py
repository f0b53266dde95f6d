"""``diffspeed history show``: one test's series, their jumps, and why they end."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from ..common.errors import UsageError
from ..common.text import plural
from ..history.environments import differences, environment_of
from ..history.series import read_series
from ..history.speed_index import read_indexes
from ..records.series import Series, is_part
from .history_place import HistoryPlace, tests_named
from .history_text import (
    goes_on_lines,
    plain,
    series_lines,
    short,
    stdout_encoding,
)


def show(arguments: argparse.Namespace, place: HistoryPlace) -> None:
    """Print the series of the first test whose name holds what was asked.

    Raises:
        UsageError: there is none, or no series of that stack, environment or anchor.
    """
    encoding = stdout_encoding()
    changes: list[tuple[bool, str, str]] = []
    shown = anchored = 0
    with place.store.reading() as connection:
        tests = tests_named(connection, arguments.test)
        found = read_series(
            connection,
            tests[0],
            arguments.stack,
            arguments.environment,
            arguments.last,
            arguments.anchor,
        )
        before: Series | None = None
        whole, nowhere = Series("", "", "", "", "", "", ()), list[str]()
        for series in found:
            if not (series.claim == whole.claim and is_part(series.figure, whole.figure)):
                whole = series
            elif series.is_always_zero and not arguments.points:
                nowhere.append(series.figure)
                continue
            if before is not None:
                print()
                for line in _between(connection, before, series):
                    print(line)
            before = series
            for line in series_lines(series, points=arguments.points, encoding=encoding):
                print(line)
            shown += 1
            anchored += series.drift is not None
            changes += [
                (series.is_worse(change), change.after_commit, change.by_commit)
                for change in series.changes
                if change.after_commit and change.by_commit
            ]
        indexes = read_indexes(connection, tests[0])
        indexed = len({point.commit for one in indexes for point in one.points})
    if not shown:
        raise UsageError(
            f"{plain(tests[0])} has no series of that stack and environment; without --stack and "
            "--environment all are shown"
        )
    if arguments.anchor is not None and not anchored:
        raise UsageError(
            f"no measured series of {plain(tests[0])} has a point at commit {arguments.anchor!r} "
            "from a clean tree, so none can be told against it; --points lists the commits"
        )
    print()
    if nowhere:
        names = ", ".join(map(plain, dict.fromkeys(nowhere)))
        print(f"0 at every point, and not shown without --points: {names}")
    if len(tests) > 1:
        print(_others(arguments.test, tests[1:]))
    if indexed:
        place.then(f"speed index over {plural(indexed, 'commit')}", "index", tests[0])
    if changes:
        # The last one, but what got worse first.
        worse, after, by = max(enumerate(changes), key=lambda entry: (entry[1][0], entry[0]))[1]
        what = f"what made it {'worse' if worse else 'better'}"
        print(f"{what}: git log --oneline {short(after)}..{short(by)}")
    elif not arguments.points:
        place.then("every point", "show", "--points", tests[0])
    else:
        place.then("all tests", "list")


def _between(connection: Connection, before: Series, after: Series) -> Iterator[str]:
    """What differs where a figure is measured on in another environment; else nothing."""
    if before.goes_on_in(after):
        ends = (environment_of(connection, series.machine) for series in (before, after))
        yield from goes_on_lines(before, after, differences(*ends))
        yield ""


def _others(asked: str, others: Sequence[str]) -> str:
    few = [plain(test) for test in others[:10]]
    more = f" and {len(others) - 10} more" if len(others) > 10 else ""
    names = f"{', '.join(few)}{more}"
    return f"{plural(len(others), 'other test')} with {plain(asked)!r} in the name: {names}"
