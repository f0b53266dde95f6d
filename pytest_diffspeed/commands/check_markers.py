"""``diffspeed check-markers``: whether the markers of test files make sense; no test runs.

For pre-commit.  The files are collected as pytest does it, which checks our markers without torch;
what the files themselves import is imported.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import pytest

from ..common.errors import UsageError
from ..common.text import plural
from ..plugin.public_names import is_ours
from ..plugin.stray_marks import refuse_stray_marks
from .collected import collect_only

PLUGIN = "diffspeed"
"""The name of our entry point, by which pytest knows the plugin."""


def check_markers(files: Sequence[str]) -> int:
    """0: all make sense; 1: what pytest says of those that do not.

    Raises:
        UsageError: this plugin is switched off there, so that nothing was checked.
    """
    seen = _Collected()
    status, said = collect_only(["--", *files], seen)
    if not seen.is_checked and status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise UsageError(
            "pytest ran without this plugin, so no marker was checked; take `-p no:diffspeed` and "
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD away"
        )
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        print(said.rstrip())
        return 1
    print(f"{plural(seen.ours, 'test')} with markers or fixtures of diffspeed: they make sense")
    return 0


@dataclass(eq=False)  # pytest 8 keeps its plugins in a set
class _Collected:
    """A plugin of this one session: looks for marks that mark no test, and counts our tests."""

    is_checked: bool = False
    ours: int = 0

    def pytest_configure(self, config: pytest.Config) -> None:
        self.is_checked = config.pluginmanager.has_plugin(PLUGIN)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if report.passed:
            refuse_stray_marks(collector, report)
        return report

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.ours = sum(map(is_ours, session.items))
