"""Keeps out of pytest's FAILURES, ERRORS and short summary what the block of ours says."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from ..adapters.pytest_internals import (
    asks_for_short_summary,
    leave_out_arguments,
    say_in_short_summary,
)
from .public_names import FIXTURES
from .summary import Summary

NAME = "diffspeed-pytest-sections"
_LONG = frozenset(FIXTURES) - {"technique"}
"""Fixtures of ours whose value is a page, and says nothing about why a body failed."""


class PytestSections:
    """Before pytest prints its sections, takes our failures out of them; with ``-v`` none.

    A traceback of the user's own code stays where pytest prints it.  The short summary repeats no
    test of the block either, unless ``-r`` asks for one.  Reports that other plugins write (JUnit,
    HTML) are done by then and have everything, as have their own sections: :class:`OthersSections`.
    """

    def __init__(self, summary: Summary, config: pytest.Config) -> None:
        self._summary = summary
        self._keeps_short_summary = asks_for_short_summary(config)
        self._whole: dict[str, list[pytest.TestReport]] = {}
        """By kind of report, all of them, also those that are out of pytest's sections."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, object, object]:
        stats = terminalreporter.stats
        if self._summary.explains:
            for kind in ("failed", "error"):
                self._whole[kind] = list(stats.get(kind, []))
                _keep(stats, kind, [one for one in self._whole[kind] if not _is_explained(one)])
        try:
            return (yield)
        finally:
            self.put_back(stats)

    def put_back(self, stats: dict[str, list[object]]) -> None:
        """All of them, for who counts them."""
        for kind, reports in self._whole.items():
            _keep(stats, kind, reports)

    def take_out_again(self, stats: dict[str, list[object]]) -> None:
        """What the block named, before pytest prints its short summary."""
        if not self._keeps_short_summary:
            for kind, reports in self._whole.items():
                _keep(stats, kind, [one for one in reports if not _kinds(one)])


class OthersSections:
    """While other plugins print theirs, our block among them, every report is in its place."""

    def __init__(self, sections: PytestSections) -> None:
        self._sections = sections

    @pytest.hookimpl(wrapper=True, trylast=True)  # within pytest's own, which prints around it
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, object, object]:
        self._sections.put_back(terminalreporter.stats)
        result = yield
        self._sections.take_out_again(terminalreporter.stats)
        return result


def _keep(stats: dict[str, list[object]], kind: str, reports: list[pytest.TestReport]) -> None:
    if kind in stats:
        stats[kind][:] = reports


def _kinds(report: pytest.TestReport) -> str:
    """What the block explains of it, in a phrase; empty where that is nothing."""
    ours = getattr(report, "diffspeed", None)
    return "" if ours is None else str(ours["kinds"])


def _is_explained(report: pytest.TestReport) -> bool:
    """Whether nothing is left to say of a report but its kind, which the short summary gets."""
    if not _kinds(report):
        return False
    say_in_short_summary(report, _kinds(report))
    leave_out_arguments(report, _LONG)
    if report.when == "call":  # what was captured while pipelines were built
        report.sections = [
            (name, text) for name, text in report.sections if not name.endswith(" setup")
        ]
    return not report.diffspeed["has_traceback"]
