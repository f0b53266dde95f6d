"""What a session ends with: its outputs, and the block on the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ..accelerators.device import Device
from ..arms.base_commit.base import Base
from ..arms.session_options import Options
from ..arms.session_record import about_session
from ..compilation.cache_folder import CompileCache, megabytes
from ..evidence.key import installed_version
from ..evidence.tree import why_unreadable
from ..gates.many_gates import over_many_gates
from ..records.finished import FinishedSession
from ..records.reader import RecordedGate, RecordedSession, recorded_session
from ..records.verdict import GateResult, VerdictKind
from ..reports.ladder import ladder_rows
from ..reports.terminal import gate_lines, ladder_table
from ..reports.writers import write_outputs
from .asked_outputs import asked_outputs
from .declared_options import runs_tests
from .junit_failure import fail_in_junit
from .next_command import github_lines, next_command
from .options import project_folder as _project
from .public_names import is_ours
from .stash import BODY_DID_NOT_END, new_outcome

NAME = "diffspeed-summary"
_COLOURS = {
    VerdictKind.PASS: {"green": True},
    VerdictKind.FAIL: {"red": True, "bold": True},
    VerdictKind.INCONCLUSIVE: {"yellow": True},
    VerdictKind.NOT_APPLICABLE: {"light": True},
}
HOW_TO_START = (
    "no diffspeed test was collected; a first one is\n"
    "    @pytest.mark.diffspeed('compile')\n"
    "    @pytest.mark.min_speedup(1.1)\n"
    "    def test_speed(optimized_pipeline): ..."
)


class Summary:
    """Gathers what reports carry and prints the block at the end; in xdist's controller too."""

    def __init__(
        self,
        config: pytest.Config,
        options: Options,
        device: Device,
        cache: tuple[CompileCache, str] | None = None,
        base: Base | None = None,
    ) -> None:
        self._config = config
        self._cache = cache
        self._base = base
        self._options = options
        self._device = device
        self._records: dict[str, list[dict[str, Any]]] = {}
        """By test, those of its last run: all that is printed and written is read from them."""
        self._asked: dict[str, int] = {}
        """By test, how many gates it asked for."""
        self._waiting: dict[str, list[str]] = {}
        """Claims of tests that began and have not ended."""
        self.journal: Path | None = None
        """Where the session of this process writes; the controller of xdist has none."""
        self._about: dict[str, Any] | None = None
        self._sentences: list[str] = []
        self._problems: list[str] = []
        self._collected = False
        self._collection_failed = False

    def pytest_report_header(self) -> list[str]:
        budget = "auto" if self._options.budget_s is None else f"{self._options.budget_s:g} s"
        versions = ", ".join(
            f"{name} {_version(name)}" for name in ("torch", "diffusers", "torchao")
        )
        against = "" if self._base is None else f"; base {self._base.name}"
        lines = [
            f"diffspeed: {self._device} ({self._device.name}); {versions}; "
            f"pipeline {self._options.pipeline}; budget {budget}{against}"
        ]
        unreadable = why_unreadable(_project(self._config))
        if unreadable is not None:
            lines.append(
                f"diffspeed: git does not tell the commit ({unreadable}), so records name none and "
                "verdicts are kept by source files"
            )
        if self._cache is not None:
            cache, found = self._cache
            lines.append(f"diffspeed: compile cache {cache.folder}: {found}")
        return lines

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._collection_failed |= report.failed

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected |= any(is_ours(item) for item in session.items)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._collected |= any(is_ours(item) for item in items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ours = getattr(report, "diffspeed", None)
        if ours is None:
            if report.nodeid in self._waiting:  # xdist tells so that a worker crashed
                self._take_crashed(report)
            return
        if report.when == "setup" and ours["asked"]:
            self._asked[report.nodeid] = ours["asked"]
            self._waiting[report.nodeid] = ours["claims"]
        else:
            self._waiting.pop(report.nodeid, None)
        self._collected = True  # xdist's controller collects nothing itself
        self.take(report.nodeid, ours)
        if report.when == "call" or report.outcome != "passed":
            self._records.setdefault(report.nodeid, []).append(_test_record(report, ours))

    def _take_crashed(self, report: pytest.TestReport) -> None:
        """A test whose process died under it: what its gates found died too."""
        claims = self._waiting.pop(report.nodeid)
        why = "the worker process that ran this test crashed"
        lost = [
            {"kind": "not-run", "test": report.nodeid, "claim": claim, "reason": why}
            for claim in claims
        ]
        crashed = {**new_outcome(), "why_not_run": why}
        self._records[report.nodeid] = [*lost, _test_record(report, crashed)]

    def take(self, test: str, outcome: Mapping[str, Any]) -> None:
        """What one test found.  A plugin may have run it before: the last run is what holds."""
        self._about = self._about or outcome["about"]
        if outcome["records"] or outcome["not_run"] or outcome["ladder"]:
            self._records[test] = [
                *outcome["records"],
                *({"kind": "ladder", **row} for row in outcome["ladder"]),
                *(
                    {
                        "kind": "not-run",
                        "test": test,
                        "claim": claim,
                        "reason": outcome["why_not_run"],
                    }
                    for claim in outcome["not_run"]
                ),
            ]

    @property
    def _no_verdict(self) -> bool:
        return bool(self._asked) and not any(map(_reached, _results(self._recorded())))

    @property
    def _nothing_checked(self) -> str:
        count = sum(self._asked.values())
        return (
            f"{'1 gate was' if count == 1 else f'{count} gates were'} asked for and none reached a "
            "verdict, so this session fails: nothing was checked"
        )

    def _recorded(self) -> RecordedSession:
        return recorded_session(self._all_records(), _project(self._config))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not runs_tests(self._config):
            return  # what an earlier session wrote stays
        asked = asked_outputs(self._options)
        if not self._records:
            asked.pop("store", None)  # nothing to keep: no folder of ours appears
        if asked and not hasattr(self._config, "workerinput"):
            finished = FinishedSession(
                self._all_records(), _project(self._config), say=self._say_now
            )
            self._sentences, self._problems = write_outputs(asked, finished)
            if self._problems and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._no_verdict and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            fail_in_junit(self._config, "every session reaches a verdict", self._nothing_checked)

    def _say_now(self, sentence: str) -> None:
        """A line for whoever waits at the end of a session."""
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.write_line(f"\ndiffspeed: {sentence}", yellow=True)  # below the last dot
            terminal.flush()

    def _all_records(self) -> list[dict[str, Any]]:
        about = self._about or about_session(
            self._options, self._device, _project(self._config), base=self._base
        )
        tests = [record for records in self._records.values() for record in records]
        return [{"kind": "session", **about}, *tests]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        say = terminalreporter
        if not self._collected:
            if not self._collection_failed and runs_tests(self._config):
                say.write_sep("=", "diffspeed")
                say.write_line(HOW_TO_START)
            return
        if not runs_tests(self._config):
            return
        session = self._recorded()
        if session.ladder:
            say.write_sep("=", "diffspeed: the ladder")
            for line in ladder_rows(session.ladder):
                say.write_line(line)
        if not self._asked:
            self._closing(say, session)
            return
        say.write_sep("=", "diffspeed")
        for gate in _unchecked(session):
            test, claim = gate.result.test, gate.result.claim
            say.write_line(f"not checked     {test}  {claim}", red=True, bold=True)
            for line in str(gate.error).splitlines():
                say.write_line(f"                {line}", red=True)
        results = _results(session)
        for kind, line in gate_lines(results, verbose=self._config.get_verbosity() > 0):
            say.write_line(line, **_COLOURS[kind])
        for lost in session.not_run:
            say.write_line(f"not run         {lost['test']}  {lost['claim']}", yellow=True)
            say.write_line(f"                {lost.get('reason', BODY_DID_NOT_END)}", yellow=True)
        if self._no_verdict:
            say.write_line(self._nothing_checked, red=True, bold=True)
        table = ladder_table(results)
        if table:
            say.write_line("")
            say.write_line("whole calls:")
        for line in table:
            say.write_line(line)
        many = over_many_gates(results)
        if many is not None:
            say.write_line(many)
        self._closing(say, session)

    def _closing(self, say: pytest.TerminalReporter, session: RecordedSession) -> None:
        images = _images(session)
        if images:
            say.write_line("")
            say.write_line("images (baseline, optimized, difference × 8):")
            for image in images:
                say.write_line(f"    {image}")
        if self._cache is not None:
            cache, found = self._cache
            say.write_line(
                f"compile cache {cache.folder}: {found}; {megabytes(cache.size_bytes())} now"
            )
        for line in self._sentences:
            say.write_line(line)
        for line in self._problems:
            say.write_line(line, red=True, bold=True)
        for line in github_lines(session):
            say.write_line(line)
        unchecked = [gate.result.test for gate in _unchecked(session)]
        failed = [str(line["test"]) for line in session.failed_otherwise]
        records = self._options.json_path or self.journal
        say.write_line(next_command(self._config, _results(session), unchecked, records, failed))


def _results(session: RecordedSession) -> list[GateResult]:
    """The verdicts of the gates, each of its last run; none of one that did not end."""
    return [gate.result for gate in session.latest if gate.finished]


def _unchecked(session: RecordedSession) -> list[RecordedGate]:
    """Gates that were tried and could not be checked."""
    return [gate for gate in session.latest if gate.error is not None]


def _images(session: RecordedSession) -> list[str]:
    """The pictures of each test; of one that was stopped, those that its gates had drawn."""
    of_tests = (test.get("images") or [] for test in session.tests)
    of_gates = ((result.figures.get("pictures") or [])[:1] for result in _results(session))
    return list(dict.fromkeys(image for some in (*of_tests, *of_gates) for image in some))


def _test_record(report: pytest.TestReport, ours: Mapping[str, Any]) -> dict[str, Any]:
    """How pytest saw a test end, with its place: a report points there."""
    path, line, _ = report.location
    gates = (record for record in ours["records"] if record["kind"] == "gate")
    stacks = {str(found["stack"]) for found in [*gates, *ours["ladder"]]}
    return {
        "kind": "test",
        "test": report.nodeid,
        "outcome": report.outcome,
        "stack": stacks.pop() if len(stacks) == 1 else None,
        "file": path.replace(os.sep, "/"),
        "line": (line or 0) + 1,
        "duration_s": report.duration,
        "images": [image.replace(os.sep, "/") for image in ours["images"]],
        **_error(report, ours),
    }


def _error(report: pytest.TestReport, ours: Mapping[str, Any]) -> dict[str, str]:
    """Why a test failed, where no gate says so."""
    if not report.failed:
        return {}
    lines = [line for line in report.longreprtext.splitlines() if line.strip()] or ["no message"]
    if report.when == "teardown":
        return {"error": f"teardown failed: {lines[-1][:1000]}"}
    if report.when == "call" and not ours["not_run"]:  # its gates ran
        red = any(one["kind"] == "gate-error" or one.get("blocking") for one in ours["records"])
        return {} if red else {"error": f"failed beside its gates: {lines[-1][:1000]}"}
    return {"error": str(ours["why_not_run"])}


def _reached(result: GateResult) -> bool:
    """Whether a gate looked at any evidence: a ratio without pairs did not."""
    return result.verdict.reached and result.figures.get("pairs") != 0


def _version(name: str) -> str:
    if name == "torch":  # its own word names the build too: 2.14.1+cu130
        import torch

        return str(torch.__version__)
    return installed_version(name) or "absent"
