"""No test leaves the process other than it found it, and one that does fails under its own name.

A leak changes what every later test measures, so it is an error of the test that leaks, at its
teardown; the state is put back, and later tests are clean.  What a fixture of a wider scope than
one test sets is no leak while that fixture lives: only if its own teardown does not put it back.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ..techniques.global_state import Change, GlobalState
from ..techniques.precision_flags import FLAGS

OURS = "pytest_diffspeed.plugin.fixtures"


class StateGuard:
    """Registered where ``--diffspeed`` is given."""

    def __init__(self) -> None:
        self._expected: GlobalState | None = None
        self._at_body: GlobalState | None = None
        self._set_by: dict[pytest.FixtureDef[Any], list[Change]] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._expected = GlobalState.now()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        # What building *our* arms changes is never meant to last: a pipeline's factory leaked it.
        ours = getattr(fixturedef.func, "__module__", None) == OURS
        if fixturedef.scope == "function" or ours or self._expected is None:
            return (yield)
        before = GlobalState.now()
        result = yield
        changes = before.changes()
        if changes:
            self._set_by[fixturedef] = changes
            for change in changes:
                self._expected.accept(change.name, change.after)
        return result

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        for change in self._set_by.pop(fixturedef, []):
            if self._expected is not None:
                self._expected.accept(change.name, change.before)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        self._at_body = GlobalState.now()
        if self._expected is not None:
            # Fixtures of the first test import diffusers, whose settings no state before them has.
            self._expected.adopt(self._at_body)
        try:
            return (yield)
        finally:
            self._at_body = None

    @contextmanager
    def without_the_body(self) -> Iterator[None]:
        """As it was when the test's body began: what fixtures set holds for gates, no more."""
        now = GlobalState.now()
        if self._at_body is not None:
            self._at_body.restore()
        try:
            yield
        finally:
            now.restore()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            result = yield
        except BaseException:
            message = self._format(item)
            if message:  # the exception wins; what leaked is said beside it
                item.add_report_section("teardown", "diffspeed", message)
            raise
        message = self._format(item)
        if message:
            pytest.fail(message, pytrace=False)
        return result

    def _format(self, item: pytest.Item) -> str:
        """Put the state back; what leaked in a sentence, or nothing."""
        expected, self._expected = self._expected, None
        if expected is None:
            return ""
        leaks = [change for change in expected.changes() if not _is_our_own(change)]
        stuck = expected.restore()
        if not leaks:
            return ""
        end = "It was put back for the tests that follow"
        if stuck:
            end += f", except {', '.join(stuck)}, which torch cannot put back in a process"
        return (
            f"{item.nodeid} left process-wide state changed, which changes what later tests "
            f"measure: {'; '.join(map(str, leaks))}. {end}; let the test, its fixture or its "
            "pipeline's factory put back what it sets (as a fixture does after its "
            "yield)"
        )


def _is_our_own(change: Change) -> bool:
    """A fixture that ends after ours may put the IEEE flag back that it found in it."""
    return change.name.removeprefix("torch.backends.") in FLAGS and change.after == "ieee"
