"""The columns of a report on several sessions: a device each, and an environment where they differ.

Ratios of two environments say nothing of each other, so sessions share a column only where what
their figures rest on is the same: device, driver, versions and threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .reader import RecordedSession
from .shard import shard_of

_UNKNOWN = "unknown device"
_MOST_DIFFERENCES = 3


@dataclass(frozen=True)
class DeviceColumn:
    """``title`` is the device's name, and where two columns share one, what they differ in."""

    title: str
    sessions: tuple[RecordedSession, ...]


def device_name(about: Mapping[str, Any]) -> str:
    """The name of the device of a ``session`` line."""
    device = about.get("device")
    device = device if isinstance(device, Mapping) else {}
    return str(device.get("name") or device.get("kind") or _UNKNOWN)


def columns(session: RecordedSession) -> tuple[DeviceColumn, ...]:
    """In the order of the sessions that begin them."""
    return columns_of(session.sessions)


def columns_of(sessions: Iterable[RecordedSession]) -> tuple[DeviceColumn, ...]:
    found: dict[tuple[str, str], list[RecordedSession]] = {}
    for part in sessions:
        key = device_name(part.about), str(part.about.get("machine"))
        found.setdefault(key, []).append(part)
    names = Counter(name for name, _ in found)
    return tuple(
        DeviceColumn(
            name if names[name] == 1 else f"{name}, {_what_differs(machine, name, found)}",
            tuple(parts),
        )
        for (name, machine), parts in found.items()
    )


def _what_differs(
    machine: str, name: str, found: Mapping[tuple[str, str], list[RecordedSession]]
) -> str:
    """Such as ``torch 2.13.0``: what tells an environment from the others of that device."""
    known = {of: _environment(parts[0]) for (device, of), parts in found.items() if device == name}
    own = known[machine]
    differing = [
        f"{key} {own.get(key, 'absent')}"
        for key in dict.fromkeys(key for one in known.values() for key in one)
        if len({str(one.get(key)) for one in known.values()}) > 1
    ]
    return ", ".join(differing[:_MOST_DIFFERENCES]) or f"environment {machine[:8]}"


def _environment(session: RecordedSession) -> Mapping[str, Any]:
    environment = session.about.get("environment")
    return environment if isinstance(environment, Mapping) else {}


class Places:
    """Where the tests of several sessions ran, in words that tell them apart."""

    def __init__(self, session: RecordedSession) -> None:
        self.columns = columns(session)
        self._titles = {
            id(part): column.title for column in self.columns for part in column.sessions
        }
        self._numbers = {id(part): number for number, part in enumerate(session.sessions, 1)}
        self._twice = {
            (column.title, test) for column in self.columns for test in tests_of_several(column)
        }

    def device(self, part: RecordedSession) -> str:
        """The title of the column that a session is in."""
        return self._titles[id(part)]

    def of(self, part: RecordedSession, test: str) -> str:
        """Such as ``NVIDIA L4, shard 1/3``.

        Without the device where there is one, and without the session where no other one of that
        device ran the test.
        """
        title = self.device(part)
        words = [title] if len(self.columns) > 1 else []
        if (title, test) in self._twice:
            words.append(self.session(part))
        return ", ".join(words)

    def session(self, part: RecordedSession) -> str:
        """Such as ``shard 1/3``, ``session 2``, or ``shard 1/3 (session 2)`` where it ran twice."""
        shard, number = shard_of(part.about), f"session {self._numbers[id(part)]}"
        if shard is None:
            return number
        own = self._titles[id(part)]
        (sharing,) = (c.sessions for c in self.columns if c.title == own)
        again = sum(shard_of(other.about) == shard for other in sharing) > 1
        return f"{shard} ({number})" if again else str(shard)


def tests_of_several(column: DeviceColumn) -> list[str]:
    """Tests that more than one session of a device ran, sorted."""
    runs = Counter(test for part in column.sessions for test in tests_of(part))
    return sorted(test for test, many in runs.items() if many > 1)


def tests_of(session: RecordedSession) -> set[str]:
    """Every test that a record of a session names."""
    named = (line for lines in (session.tests, session.not_run) for line in lines)
    return {gate.result.test for gate in session.gates} | {str(line["test"]) for line in named}
