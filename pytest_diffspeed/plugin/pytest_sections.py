"""Keeps out of pytest's FAILURES, ERRORS and short summary what the block of ours says."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from ..adapters.pytest_internals import say_in_short_summary
from .summary import Summary

NAME = "diffspeed-pytest-sections"


class PytestSections:
    """Before pytest prints its sections, takes our failures out of them; with ``-v`` none.

    A traceback of the user's own code stays where pytest prints it.  Reports that other plugins
    write (JUnit, HTML) are done by then and have everything.
    """

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self.whole: dict[str, list[pytest.TestReport]] = {}
        """By kind of report, all of them, also those that are out of pytest's sections."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, object, object]:
        if self._summary.explains:
            for kind in ("failed", "error"):
                reports = terminalreporter.stats.get(kind, [])
                self.whole[kind] = list(reports)
                reports[:] = [report for report in reports if not _is_explained(report)]
        return (yield)


class PutBack:
    """Once the sections are printed the reports are counted, and named in the short summary."""

    def __init__(self, sections: PytestSections) -> None:
        self._sections = sections

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for kind, reports in self._sections.whole.items():
            if reports:
                terminalreporter.stats[kind][:] = reports


def _is_explained(report: pytest.TestReport) -> bool:
    """Whether nothing is left to say of a report but its kind, which the short summary gets."""
    ours = getattr(report, "diffspeed", None)
    if ours is None or not ours["kinds"]:
        return False
    say_in_short_summary(report, ours["kinds"])
    if report.when == "call":  # what was captured while pipelines were built
        report.sections = [
            (name, text) for name, text in report.sections if not name.endswith(" setup")
        ]
    return not ours["has_traceback"]
