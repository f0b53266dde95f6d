"""The tests that pytest would run, collected in this process; none of them runs."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from ..common.errors import UsageError
from ..plugin.declared_options import IN_CI
from ..plugin.public_names import STACK_FIXTURE, is_ours


@dataclass(frozen=True)
class CollectedTest:
    """``arm`` is the pipeline with its stack that a diffspeed test runs on; ``None``: no such."""

    name: str
    arm: str | None
    is_ours: bool


def collect(words: Sequence[str]) -> list[CollectedTest]:
    """The tests of a command line of pytest, in their order.

    Raises:
        UsageError: pytest cannot collect them; the error holds what it says.
    """
    seen = _Seen()
    status, said = collect_only(words, seen)
    if status == pytest.ExitCode.NO_TESTS_COLLECTED or (status == 0 and not seen.tests):
        raise UsageError("pytest collects no test there, so there is nothing to deal out")
    if status != pytest.ExitCode.OK:
        raise UsageError(f"pytest cannot collect the tests:\n{said.strip()}")
    return seen.tests


def collect_only(words: Sequence[str], plugin: object) -> tuple[int, str]:
    """Collect what ``words`` name, with one plugin more; pytest's exit status and what it said."""
    if "" not in sys.path:  # as `python -m pytest` looks for modules, and as tests are run
        sys.path.insert(0, "")
    os.environ.pop(IN_CI, None)  # that gates run in this job is not asked of these commands
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = pytest.main(
            ["--collect-only", "-q", "-p", "no:cacheprovider", *words], plugins=[plugin]
        )
    return int(status), said.getvalue()


@dataclass(eq=False)  # pytest 8 keeps its plugins in a set
class _Seen:
    tests: list[CollectedTest] = field(default_factory=list)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            params = getattr(getattr(item, "callspec", None), "params", {})
            spec = params.get(STACK_FIXTURE)
            arm = None if spec is None else f"{spec.stack.name} of {spec.source}"
            self.tests.append(CollectedTest(item.nodeid, arm, is_ours(item)))
