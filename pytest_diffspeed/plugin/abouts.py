"""What the tests of a session rest on: one environment, or one for each kind of worker.

Workers of pytest-xdist may run on other machines than its controller, which writes the records of
all.  Ratios of two environments say nothing of each other, so each gets a session of its own there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SAME = ("machine", "device", "commit", "dirty")
"""What workers of one session share: the rest of their lines differs for each process."""


class Abouts:
    """The ``session`` lines that came with the tests."""

    def __init__(self) -> None:
        self._abouts: dict[tuple[str, ...], dict[str, Any]] = {}
        self._of_test: dict[str, tuple[str, ...]] = {}

    def take(self, test: str, about: Mapping[str, Any] | None) -> None:
        """A test came with the line ``about``; ``None`` where its session had not begun."""
        if about is None:
            return
        key = tuple(repr(_of(about, name)) for name in _SAME)
        self._abouts.setdefault(key, dict(about))
        self._of_test[test] = key

    def of_tests(self, tests: Iterable[str]) -> list[tuple[dict[str, Any], list[str]]]:
        """Each session line with its tests; those that came with none belong to the first."""
        if not self._abouts:
            return []
        found: dict[tuple[str, ...], list[str]] = {key: [] for key in self._abouts}
        first = next(iter(found))
        for test in tests:
            found[self._of_test.get(test, first)].append(test)
        return [(self._abouts[key], of_it) for key, of_it in found.items()]


def _of(about: Mapping[str, Any], name: str) -> object:
    """GPUs of one name are one kind of device, whatever their number."""
    value = about.get(name)
    if name == "device" and isinstance(value, Mapping):
        return value.get("kind"), value.get("name")
    return value
