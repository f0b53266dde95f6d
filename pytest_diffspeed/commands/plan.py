"""``diffspeed plan``: which tests run in which shard, so that all of them end at about one time.

It runs nothing and hands nothing out: what it writes are words for pytest, one file a shard, which
the jobs of a CI matrix take as ``pytest --diffspeed @FILE``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import StoreError, UsageError
from ..common.files import replace_file
from ..common.text import listed, plural
from ..history.exchange import lines_of
from ..history.url import DEFAULT
from ..records.shard import Shard
from .collected import CollectedTest, collect
from .history_place import HistoryPlace
from .recorded_seconds import RecordedSeconds, seconds_of, sessions_in
from .shard_balance import PlannedShard, PlannedTest, balance

UNKNOWN_S = 60.0
"""Of a test where no record tells of any: the budget of one gate (``--diffspeed-budget``)."""
OTHERS_S = 1.0
"""Of a test that asks for no gate: no record tells of it."""


def plan(arguments: argparse.Namespace) -> int:
    """Print the plan, and write the files of its shards where a folder was named.

    Raises:
        UsageError: there are no tests, fewer than shards, or the records are of several devices.
        RecordError: a file of records cannot be read.
        StoreError: the history cannot be read.
    """
    tests = collect(arguments.words)
    if len(tests) < arguments.shards:
        raise UsageError(
            f"--shards: pytest collects {plural(len(tests), 'test')}, so at most that many shards "
            f"have one; {arguments.shards} were asked for"
        )
    known = _recorded(arguments)
    planned, builds, guess = _planned(tests, known)
    shards = balance(planned, arguments.shards, builds)
    name = _name_of(shards)
    about = f", by {plural(known.sessions, 'session')} on {known.device}" if known.device else ""
    print(f"plan {name}: {plural(len(tests), 'test')} in {plural(len(shards), 'shard')}{about}")
    for number, shard in enumerate(shards, 1):
        _print_shard(Shard(number, len(shards), name), shard, arguments.write)
    _print_guesses(planned, guess)
    alone = PlannedShard(builds, planned).seconds
    slowest = max(shard.seconds for shard in shards)
    print(f"predicted: {slowest:.0f} s until the last shard ends, {alone:.0f} s on one machine")
    return 0


def _recorded(arguments: argparse.Namespace) -> RecordedSeconds:
    if arguments.records:
        return seconds_of(sessions_in(arguments.records), arguments.device)
    place = HistoryPlace(arguments)
    if not place.store.is_there:
        if arguments.store != DEFAULT:
            raise StoreError(f"there is no history in {place.name} yet")
        return seconds_of([], arguments.device)
    return seconds_of(lines_of(place.store, ("session", "test")), arguments.device)


def _planned(
    tests: Sequence[CollectedTest], known: RecordedSeconds
) -> tuple[list[PlannedTest], dict[str, float], float]:
    """The tests with their seconds, what building each arm takes, and what was guessed."""
    calls = {test.name: known.call_s(test.name) for test in tests}
    of_ours = [seconds for seconds in calls.values() if seconds is not None]
    guess = statistics.median(of_ours) if of_ours else UNKNOWN_S
    planned = [
        PlannedTest(
            test.name,
            (guess if test.is_ours else OTHERS_S) if seconds is None else seconds,
            test.arm,
            is_guess=seconds is None and test.is_ours,
        )
        for test in tests
        for seconds in [calls[test.name]]
    ]
    arms: dict[str, list[str]] = {}
    for test in tests:
        if test.arm is not None:
            arms.setdefault(test.arm, []).append(test.name)
    built = {arm: known.build_s(names) for arm, names in arms.items()}
    usual = [seconds for seconds in built.values() if seconds is not None]
    unknown = statistics.median(usual) if usual else 0.0
    builds = {arm: unknown if seconds is None else seconds for arm, seconds in built.items()}
    return planned, builds, guess


def _name_of(shards: Sequence[PlannedShard]) -> str:
    """The same for the same tests in the same shards: shards of two plans must not be mixed."""
    names = [[test.name for test in shard.tests] for shard in shards]
    return hashlib.sha256(json.dumps(names).encode("ascii")).hexdigest()[:8]


def _print_shard(shard: Shard, planned: PlannedShard, folder: Path | None) -> None:
    builds = f", {planned.build_s:.0f} s of them for building" if planned.build_s >= 1 else ""
    arms = f" of {plural(len(planned.arms), 'arm')}" if planned.arms else ""
    tests = plural(len(planned.tests), "test")
    print(f"{shard}: {tests}{arms}, predicted {planned.seconds:.0f} s{builds}")
    words = [f"--diffspeed-shard={shard.word}", *(test.name for test in planned.tests)]
    if folder is None:
        for word in words:
            print(f"    {word}")
        return
    path = folder / f"shard-{shard.number}-of-{shard.of}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, "".join(f"{word}\n" for word in words))
    except OSError as error:
        raise UsageError(f"--write: cannot write {path}: {error.strerror}") from None
    print(f"    pytest --diffspeed @{path}")


def _print_guesses(planned: Sequence[PlannedTest], guess: float) -> None:
    guessed = [test.name for test in planned if test.is_guess]
    if guessed:
        print(
            f"no record tells of {plural(len(guessed), 'test')}, taken for {guess:.0f} s each: "
            f"{listed(guessed)}"
        )
