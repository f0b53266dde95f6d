"""What a session ends with: its outputs, and the block on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ..accelerators.device import Device
from ..arms.base_commit.base import Base
from ..arms.session_options import Options
from ..arms.session_record import about_session
from ..common.text import listed
from ..compilation.cache_folder import CompileCache, megabytes
from ..evidence.key import installed_version
from ..evidence.tree import why_unreadable
from ..records.finished import FinishedSession
from ..records.journal import Journal
from ..records.reader import RecordedSession, recorded_session
from ..records.verdict import Cause, GateResult
from ..reports.writers import write_outputs
from .abouts import Abouts
from .asked_outputs import asked_outputs
from .compile_pools import sentence as compile_pools
from .declared_options import runs_tests
from .gateways import keep_pictures
from .invocation import invocation_of
from .junit_failure import fail_in_junit
from .options import is_worker
from .options import project_folder as _project
from .public_names import is_ours
from .record_of_test import record_of_test
from .stash import PLAN, new_outcome
from .strict import NAME as STRICT
from .terminal_block import TerminalBlock, is_verbose, results_of

NAME = "diffspeed-summary"
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
        self._shown_above: set[str] = set()
        """Tests whose report pytest prints, as a rule a traceback."""
        self.asked: dict[str, list[str]] = {}
        """By test that this process collected, the claims of its gates."""
        self.journal: Path | None = None
        """Where the session of this process writes; the controller of xdist has none."""
        self._abouts = Abouts()
        self._setup_s: dict[str, float] = {}
        """By test, seconds of its set-up."""
        self._sentences: list[str] = []
        self._problems: list[str] = []
        self._collected = False
        self._collection_failed = False
        self._end: dict[str, Any] | None = None

    def pytest_report_header(self) -> list[str]:
        budget = "auto" if self._options.budget_s is None else f"{self._options.budget_s:g} s"
        versions = ", ".join(
            f"{name} {_version(name)}" for name in ("torch", "diffusers", "torchao")
        )
        against = "" if self._base is None else f"; base {self._base.name}"
        lines = [
            f"diffspeed: {self._device} ({self._device.name}); {versions}; budget {budget}{against}"
        ]
        unreadable = why_unreadable(_project(self._config))
        if unreadable is not None:
            lines.append(
                f"diffspeed: git does not tell the commit ({unreadable}), so records name none and "
                "verdicts are kept by source files"
            )
        pools = compile_pools(self._config)
        if pools is not None:
            lines.append(f"diffspeed: {pools}")
        if self._cache is not None:
            cache, found = self._cache
            lines.append(f"diffspeed: compile cache {cache.folder}: {found}")
        return lines

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        """The pipelines that these tests name: not before they are collected is that known."""
        plans = (item.stash.get(PLAN, None) for item in items if is_ours(item))
        usual = self._options.pipeline
        sources = dict.fromkeys(usual if p is None else p.source or usual for p in plans)
        named = "pipeline" if len(sources) == 1 else "pipelines"
        return [f"diffspeed: {named} {listed(list(sources))}"] if sources else []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._collection_failed |= report.failed

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected |= any(is_ours(item) for item in session.items)
        plans = ((item.nodeid, item.stash.get(PLAN, None)) for item in session.items)
        self.asked = {
            test: sorted({gate.claim for gate in plan.gates}) for test, plan in plans if plan
        }

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._collected |= any(is_ours(item) for item in items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ours = getattr(report, "diffspeed", None)
        if ours is None:
            if report.nodeid in self._waiting:  # xdist tells so that a worker crashed
                self._take_crashed(report)
            return
        if report.when == "setup":
            self._setup_s[report.nodeid] = report.duration
        if report.when == "setup" and ours["asked"]:
            self._asked[report.nodeid] = ours["asked"]
            self._waiting[report.nodeid] = ours["claims"]
        else:
            self._waiting.pop(report.nodeid, None)
        self._collected = True  # xdist's controller collects nothing itself
        if not is_worker(self._config):
            keep_pictures(_project(self._config), ours["pictures"])
        self.take(report.nodeid, ours)
        if report.when == "call" or report.outcome != "passed":
            told = record_of_test(report, ours, self._setup_s.get(report.nodeid))
            self._records.setdefault(report.nodeid, []).append(told)
            if _is_printed(report, ours) and _prints_reports(self._config):
                self._shown_above.add(report.nodeid)

    def _take_crashed(self, report: pytest.TestReport) -> None:
        """A test whose process died under it: what its gates found died too."""
        claims = self._waiting.pop(report.nodeid)
        why = "the worker process that ran this test crashed"
        lost = [
            {"kind": "not-run", "test": report.nodeid, "claim": claim, "reason": why}
            for claim in claims
        ]
        cause = Cause("CRASHED", why, "run it alone, without -n: the system may have killed it")
        crashed = {**new_outcome(), "why_not_run": why, "cause": cause.as_dict()}
        self._records[report.nodeid] = [*lost, record_of_test(report, crashed)]

    def take(self, test: str, outcome: Mapping[str, Any]) -> None:
        """What one test found.  A plugin may have run it before: the last run is what holds."""
        self._abouts.take(test, outcome["about"])
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
        return bool(self._asked) and not any(map(_reached, results_of(self._recorded())))

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
        self._end = _end(self._config, session)
        if self.journal is not None:
            Journal(self.journal).write(**self._end)
        asked = asked_outputs(self._options)
        if not self._records:
            asked.pop("store", None)  # nothing to keep: no folder of ours appears
        if asked and not is_worker(self._config):
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
        """Those of a session; where workers on other machines took part, a session for each."""
        about = self._abouts.of_tests(self._records) or [
            (
                about_session(self._options, self._device, _project(self._config), base=self._base),
                list(self._records),
            )
        ]
        return [
            record
            for session, tests in about
            for record in (
                {"kind": "session", **session, "command": invocation_of(self._config)},
                *(record for test in tests for record in self._records[test]),
                *([] if self._end is None else [self._end]),
            )
        ]

    @property
    def explains(self) -> bool:
        """Whether the block says why tests are red, in the place of pytest's own sections."""
        return bool(self._asked) and not is_verbose(self._config) and runs_tests(self._config)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        say = terminalreporter
        if not self._collected:
            if not self._collection_failed and runs_tests(self._config):
                say.write_sep("=", "diffspeed")
                say.write_line(HOW_TO_START)
            return
        if not runs_tests(self._config):
            return
        block = TerminalBlock(say, self._config, self._recorded(), self._shown_above)
        block.ladder()
        if self._asked:
            block.verdicts(self._nothing_checked if self._no_verdict else None)
        sentences = list(self._sentences)
        if self._cache is not None:
            cache, found = self._cache
            sentences.insert(
                0, f"compile cache {cache.folder}: {found}; {megabytes(cache.size_bytes())} now"
            )
        block.closing(sentences, self._problems, records=self._options.json_path or self.journal)


def _end(config: pytest.Config, session: pytest.Session) -> dict[str, Any]:
    """The last line of the records: how pytest saw the session end, before we change that."""
    strict: Any = config.pluginmanager.get_plugin(STRICT)
    return {
        "kind": "end",
        "exit_status": int(session.exitstatus),
        "strict": strict is not None,
        "no_verdict": [] if strict is None else strict.no_verdict,
    }


def _is_printed(report: pytest.TestReport, ours: Mapping[str, Any]) -> bool:
    """Whether pytest's own sections have it: what the block explains stands there no more."""
    return report.failed and (ours["has_traceback"] or not ours["kinds"])


def _prints_reports(config: pytest.Config) -> bool:
    """Whether pytest has such sections: ``--tb=no`` and ``--no-summary`` leave them out."""
    return config.getoption("--tb") != "no" and not config.getoption("--no-summary")


def _reached(result: GateResult) -> bool:
    """Whether a gate looked at any evidence: a ratio without pairs did not."""
    return result.verdict.reached and result.figures.get("pairs") != 0


def _version(name: str) -> str:
    if name == "torch":  # its own word names the build too: 2.14.1+cu130
        import torch

        return str(torch.__version__)
    return installed_version(name) or "absent"
