"""Run the suite in an environment and read what came of it from pytest's JUnit file."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from environments import Environment
from making import FOLDER, ROOT


@dataclass(frozen=True)
class Outcome:
    """How one test ended: ``passed``, ``failed`` or ``skipped``, and why it was skipped."""

    how: str
    reason: str = ""


def run(environment: Environment, python: Path, failed_only: bool) -> tuple[float, int]:
    """Run it; the outcomes are kept in the environment's folder.

    ``failed_only`` runs what fell the last time and replaces those outcomes.  Gives the seconds it
    took and how many tests ran.
    """
    folder = FOLDER / environment.name
    report = folder / "junit.xml"
    report.unlink(missing_ok=True)
    words = ["-m", "not slow", "-n", "logical", "--maxprocesses=4", "--dist", "loadfile", "-v"]
    words += [f"--junitxml={report}", "-o", f"cache_dir={folder / 'cache'}", *environment.words]
    words.append("--ignore=tests/test_versions.py")  # checks what this run is about to write
    if failed_only:
        words += ["--last-failed", "--last-failed-no-failures", "none"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("VIRTUAL_ENV", "PYTHONPATH"):
        environ.pop(name, None)
    start = time.monotonic()
    with (folder / "suite.log").open("w") as log:
        answer = subprocess.run(
            [str(python), "-m", "pytest", *words, "tests"],
            check=False,
            cwd=ROOT,
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    seconds = time.monotonic() - start
    new = _read(report)
    # 0 and 1 are what a whole session ends with; 5 means that there was nothing to run again.
    if answer.returncode not in (0, 1, 5):
        ended = Outcome("failed", f"pytest ended with {answer.returncode}")
        new["the session as a whole"] = ended
    kept = outcomes(environment) if failed_only else {}
    kept.pop("the session as a whole", None)
    _write(environment, {**kept, **new})
    return seconds, len(new)


def outcomes(environment: Environment) -> dict[str, Outcome]:
    """The outcomes that are kept of an environment, by test."""
    path = FOLDER / environment.name / "outcomes.json"
    if not path.exists():
        return {}
    return {test: Outcome(*kept) for test, kept in json.loads(path.read_text("utf-8")).items()}


def summary(found: dict[str, Outcome]) -> dict[str, object]:
    """Counts, the names of what fell, and the reasons of what was skipped."""
    reasons = Counter(outcome.reason for outcome in found.values() if outcome.how == "skipped")
    fell = sorted(test for test, outcome in found.items() if outcome.how == "failed")
    return {
        "passed": sum(outcome.how == "passed" for outcome in found.values()),
        "failed": len(fell),
        "skipped": sum(reasons.values()),
        "fell": fell,
        "skip_reasons": dict(sorted(reasons.items())),
    }


def _write(environment: Environment, found: dict[str, Outcome]) -> None:
    path = FOLDER / environment.name / "outcomes.json"
    rows = {test: (outcome.how, outcome.reason) for test, outcome in sorted(found.items())}
    path.write_text(json.dumps(rows, indent=0), "utf-8")


def _read(report: Path) -> dict[str, Outcome]:
    if not report.exists():
        return {}
    found: dict[str, Outcome] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            found[test] = Outcome("failed")
        elif skipped is not None:
            found.setdefault(test, Outcome("skipped", skipped.get("message") or ""))
        else:
            found.setdefault(test, Outcome("passed"))
    return found
