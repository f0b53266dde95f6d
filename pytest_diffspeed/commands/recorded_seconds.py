"""What tests took in earlier sessions, from files of records and from a history."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..common.errors import UsageError
from ..common.text import listed
from ..records.devices import device_name
from ..records.lines import read_lines
from ..records.reader import by_session

LATEST = 5
"""Sessions of a test whose median counts: speed changes, and older ones tell of other code."""


@dataclass(frozen=True)
class TestSeconds:
    """Seconds of a test in each session that ran it, the newest first."""

    call_s: tuple[float, ...]
    setup_s: tuple[float, ...]


@dataclass(frozen=True)
class RecordedSeconds:
    """By test; ``sessions`` many tell of them, and ``device`` is what they ran on."""

    tests: Mapping[str, TestSeconds]
    sessions: int
    device: str | None

    def call_s(self, test: str) -> float | None:
        """The median of its calls, gates included; ``None`` where nobody knows."""
        known = self.tests.get(test)
        return statistics.median(known.call_s) if known is not None and known.call_s else None

    def build_s(self, tests: Iterable[str]) -> float | None:
        """What it took to build what ``tests`` share: the longest of their set-ups, since the first
        of them builds it for all.
        """
        known = [self.tests[test].setup_s for test in tests if test in self.tests]
        found = [max(setups) for setups in known if setups]
        return max(found, default=None)


def seconds_of(
    sessions: Iterable[Sequence[Mapping[str, Any]]], device: str | None
) -> RecordedSeconds:
    """The seconds that sessions tell of.

    Args:
        sessions: the records of each, in any order.
        device: pattern of the name of a device, or its kind; ``None``: all must be of one.

    Raises:
        UsageError: they are of several devices, or none is of this one.
    """
    told = [records for records in sessions if records and records[0]["kind"] == "session"]
    chosen = [records for records in told if device is None or _is_on(records[0], device)]
    names = list(dict.fromkeys(_kind_of_device(records[0]) for records in told))
    if device is not None and told and not chosen:
        raise UsageError(f"--device: no session ran on {device!r}; there are {listed(names)}")
    if device is None and len(names) > 1:
        raise UsageError(
            f"the sessions ran on several devices ({listed(names)}), and seconds of one say "
            "nothing of another; say where the shards will run: --device PATTERN"
        )
    chosen.sort(key=lambda records: str(records[0].get("at")), reverse=True)
    calls: dict[str, list[float]] = {}
    setups: dict[str, list[float]] = {}
    for records in chosen:
        for record in records:
            if record["kind"] == "test":
                for of_tests, name in ((calls, "duration_s"), (setups, "setup_s")):
                    if isinstance(record.get(name), (int, float)):
                        of_tests.setdefault(str(record["test"]), []).append(float(record[name]))
    tests = {
        test: TestSeconds(tuple(calls[test][:LATEST]), tuple(setups.get(test, [])[:LATEST]))
        for test in calls
    }
    on = listed(list(dict.fromkeys(device_name(records[0]) for records in chosen)))
    return RecordedSeconds(tests, len(chosen), on or None)


def sessions_in(paths: Iterable[Path]) -> list[Sequence[Mapping[str, Any]]]:
    """The records of every session in these files.

    Raises:
        RecordError: one cannot be read.
    """
    return [records for path in paths for records in by_session(read_lines(path).records)]


def _is_on(about: Mapping[str, Any], pattern: str) -> bool:
    kind = about["device"].get("kind")
    return pattern == kind or fnmatchcase(device_name(about).lower(), pattern.lower())


def _kind_of_device(about: Mapping[str, Any]) -> str:
    """Hosted runners have CPUs of several models, which are taken for one."""
    return "cpu" if about["device"].get("kind") == "cpu" else device_name(about)
