"""``--diffspeed-strict``: there are gates, and every one that was collected reaches a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ..common.text import first_line
from ..records.reader import as_result
from ..records.verdict import GateResult, VerdictKind
from .declared_options import runs_tests
from .junit_failure import fail_in_junit
from .public_names import is_ours
from .stash import PLAN

NAME = "diffspeed-strict"
_CARRIED = "diffspeed_strict"
"""Under this name xdist carries what a worker collected to the controller."""
_ANY_TEST = "diffspeed_strict_any_test"
"""The same, of whether a worker collected a test of ours."""
_NO_TEST = "no diffspeed test was collected, so this session fails (--diffspeed-strict)"
_DESELECTED, _NOT_REACHED = "deselected", "the session ended before"


class Strict:
    """Follows each gate from collection to its verdict, in xdist's controller too."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._open: dict[tuple[str, str], str] = {}
        """Test and claim of each gate without a verdict, and why."""
        self._reached: set[tuple[str, str]] = set()
        self._any_test = False
        self._says_none = False

    @property
    def no_verdict(self) -> list[dict[str, str]]:
        """The gates that have no verdict so far, as the last line of the records names them."""
        return [
            {"test": test, "claim": claim, "reason": why}
            for (test, claim), why in self._open.items()
        ]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected(session.items, _NOT_REACHED)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._collected(items, _DESELECTED)

    def _collected(self, items: Iterable[pytest.Item], why: str) -> None:
        for item in items:
            self._any_test |= is_ours(item)
            plan = item.stash.get(PLAN, None)
            for gate in plan.gates if plan is not None else ():
                self._open[item.nodeid, gate.claim] = why

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ours: dict[str, Any] | None = getattr(report, "diffspeed", None)
        if ours is None:
            return
        if report.when == "setup":
            for claim in ours["claims"]:
                if (report.nodeid, claim) not in self._reached:
                    self._open[report.nodeid, claim] = _why_not_called(report)
        for claim in ours["not_run"]:
            self._left((report.nodeid, claim), f"not run: {ours['why_not_run']}")
        for record in ours["records"]:
            if record["kind"] == "gate-error":
                key = (report.nodeid, record["claim"])
                self._left(key, f"not checked: {first_line(record['error'], otherwise='')}")
            elif record["kind"] == "gate":
                self._ended(report.nodeid, as_result(record))

    def _ended(self, test: str, result: GateResult) -> None:
        key = (test, result.claim)
        if result.verdict is not VerdictKind.NOT_APPLICABLE:
            self._reached.add(key)  # also a ratio without pairs, which fails by itself
            self._open.pop(key, None)
        elif key in self._open:  # else asked against a base, which may lack the pipeline
            self._left(key, f"NOT_APPLICABLE: {first_line(result.reason, otherwise='')}")

    def _left(self, key: tuple[str, str], why: str) -> None:
        if key not in self._reached:
            self._open[key] = why

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """What a worker of xdist collected and nobody ran: its controller collects nothing."""
        carried = getattr(node, "workeroutput", {})
        self._any_test |= carried.get(_ANY_TEST, False)
        for test, claim, why in carried.get(_CARRIED, ()):
            if (test, claim) not in self._reached:
                self._open.setdefault((test, claim), why)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not runs_tests(self._config):
            self._open.clear()
            return
        output = getattr(self._config, "workeroutput", None)
        if output is not None:  # others run what this worker did not
            waiting = (_DESELECTED, _NOT_REACHED)
            output[_CARRIED] = [[*key, why] for key, why in self._open.items() if why in waiting]
            output[_ANY_TEST] = self._any_test
            return
        if session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return  # red as it is; where collecting failed, tests of ours may be among the lost
        self._says_none = not self._any_test
        if self._open:
            left = (f"{test}  {claim}: {why}" for (test, claim), why in self._open.items())
            fail_in_junit(self._config, "every gate reaches a verdict", "\n".join(left))
        elif self._says_none:
            fail_in_junit(self._config, "every session reaches a verdict", _NO_TEST)
        if self._open or self._says_none:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._says_none:
            terminalreporter.write_sep("=", "diffspeed: strict")
            terminalreporter.write_line(_NO_TEST, red=True, bold=True)
        if not self._open:
            return
        count = len(self._open)
        terminalreporter.write_sep("=", "diffspeed: strict")
        for (test, claim), why in self._open.items():
            terminalreporter.write_line(f"no verdict      {test}  {claim}", red=True)
            terminalreporter.write_line(f"                {why}")
        gates = "1 gate was" if count == 1 else f"{count} gates were"
        terminalreporter.write_line(
            f"{gates} collected and reached no verdict, so this session fails (--diffspeed-strict)",
            red=True,
            bold=True,
        )


def _why_not_called(report: pytest.TestReport) -> str:
    if report.outcome == "passed":
        return "its test was not called"
    expected = getattr(report, "wasxfail", None)
    if expected is not None:
        return f"xfailed before its body: {expected or 'no reason'}"
    if report.outcome == "skipped":
        place = report.longrepr
        return f"skipped: {place[2] if isinstance(place, tuple) else place}"
    return "its set-up failed"
