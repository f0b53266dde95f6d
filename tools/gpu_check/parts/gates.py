"""Each gate end to end on this device, by real sessions: green, and red by a fault of its own.

Three sessions of ``pytest --diffspeed`` on the small project in ``projects/gates``: ``green``
(every gate that needs no inductor, on what deserves a PASS), ``red`` (each gate on a pipeline with
one planted fault; breaks, syncs and recompilations must be told with the planted line) and
``compiled`` (the gates on compiled code, with inductor).  They run beside each other, since they
mostly import and compile, and the device's lock keeps their timings apart.  Verdicts are taken from
the journals while the sessions run.

Decided beside the verdicts: on CUDA syncs are counted on the GPU and memory by its allocator;
device time and host time are both in the ratio; exit codes, JUnit, HTML and header fit; records
name device and driver.

Planted: the green test of what is counted gets the pipeline with a graph break.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checks import NoMeaning, Part
from gate_verdicts import (
    STEPS,
    Expected,
    expectations,
    judged,
    planted_lines,
    planted_seconds,
    verdict_of,
    verdicts_by_claim,
)
from pytest_sessions import PytestSession, bounded, first_sentence

PROJECT = Path(__file__).resolve().parents[1] / "projects" / "gates"
RESERVE_S = 8.0
"""For the checks at the end, before the part's limit."""

SESSIONS = ("compiled", "red", "green")
"""In the order in which they are started: inductor takes longest."""
PLANTED_SECONDS = "the planted seconds are in the ratio"
ENVIRONMENT = "records name device and driver"


def run(part: Part) -> None:
    lines = planted_lines((PROJECT / "planted_faults.py").read_text(encoding="utf-8"))
    pending = expectations(lines)
    ends = [f"session {name}" for name in SESSIONS]
    part.plan([*(one.name for one in pending), PLANTED_SECONDS, ENVIRONMENT, *ends])
    device = gpu_name(part)
    waiting = [_session(part, name) for name in SESSIONS]
    running: list[PytestSession] = []
    at_once = 2 if part.small else len(waiting)
    try:
        while (waiting or running) and part.time_left_s > RESERVE_S:
            while waiting and len(running) < at_once:
                running.append(waiting.pop(0).start())
            time.sleep(0.5)
            for session in list(running):
                ended = session.exit_code is not None  # asked before what it wrote is read
                pending = _take_verdicts(part, pending, session, ended=ended, device=device)
                if ended:
                    running.remove(session)
                    _end(part, session, device)
    finally:
        for session in running:
            session.kill()


def gpu_name(part: Part) -> str:
    """As torch calls it; empty without one."""
    if part.device == "cpu":
        return ""
    import torch

    return str(torch.cuda.get_device_properties(0).name)


def _session(part: Part, name: str) -> PytestSession:
    folder = part.work / name
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__", ".diffspeed"))
    environment = {"GPU_CHECK_COUNTED": "planted_faults:breaking"} if part.planted else {}
    budget = 60 if part.small else 15  # a gate ends when it is decided; busy CPUs take longer
    words = [f"test_{name}.py", f"--diffspeed-steps={STEPS}", f"--diffspeed-budget={budget}"]
    return PytestSession(name, folder, part.device, words, environment)


def _take_verdicts(
    part: Part, pending: Sequence[Expected], session: PytestSession, *, ended: bool, device: str
) -> list[Expected]:
    """Write the checks whose gates are decided; the others, unless the session has ended."""
    rows = session.journal()
    left = []
    for one in pending:
        record = verdict_of(rows, one) if one.session == session.name else None
        if record is None and not (ended and one.session == session.name):
            left.append(one)
            continue
        with part.check(one.name, one.phrase) as check:
            if record is None:
                check.expect(False, f"no verdict: {_why_none(session, one.test)}")
            else:
                ok, found = judged(record, one, device)
                check.expect(ok, found, record=bounded(record))
    return left


def _why_none(session: PytestSession, test: str) -> str:
    for name, message in session.failures().items():
        if name.startswith(f"{test}["):
            return first_sentence(message)
    return f"exit code {session.exit_code}; it said last: {session.tail(300).strip()!r}"


def _end(part: Part, session: PytestSession, device: str) -> None:
    if session.name == "red":
        with part.check(PLANTED_SECONDS, "device and host sleep, each in the candidate's") as check:
            ok, found = planted_seconds(session.journal(), gpu=bool(device))
            check.expect(ok, found)
    if session.name == "green":
        with part.check(ENVIRONMENT, "this device, and its driver") as check:
            about = next(row for row in session.records() if row["kind"] == "session")
            environment = about["environment"]
            found = f"{environment['device']}, driver {environment.get('driver')}"
            ok = bool(environment["device"]) and (not device or environment["device"] == device)
            if device:
                ok = ok and bool(environment.get("driver"))
            check.expect(ok, found, environment=environment, device=about["device"])
            if ok and not device:
                raise NoMeaning(f"a CPU has no driver; its records name {environment['device']}")
    expected = "exit 1, each test red" if session.name == "red" else "exit 0, no test red"
    with part.check(
        f"session {session.name}", f"{expected}, header, JUnit, JSON and HTML"
    ) as check:
        tests, problems = session_problems(session, device)
        found = f"exit {session.exit_code}, {len(session.failures())} of {len(tests)} tests red"
        took = f" in {session.seconds:.0f} s"
        check.expect(
            not problems,
            f"{found}{took}" + "".join(f"; {problem}" for problem in problems),
            seconds=round(session.seconds, 1),
            durations=[(row["test"], row.get("duration_s")) for row in tests],
            afterwards=[
                bounded(row, 4000)
                for row in session.journal()
                if row["kind"] in ("memory", "stages", "noise-floor", "proof")
            ],
            output=session.tail(12_000),
        )


def session_problems(session: PytestSession, device: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of tests, and what does not fit together at the end of a session."""
    problems = []
    records = session.records()
    tests = [row for row in records if row["kind"] == "test"]
    red = session.name == "red"
    if session.exit_code != int(red):
        problems.append(f"exit code {session.exit_code}, not {int(red)}")
    failed = {row["test"].rpartition("::")[2] for row in tests if row["outcome"] == "failed"}
    if failed != set(session.failures()):
        problems.append(f"JUnit has {sorted(session.failures())}, the records {sorted(failed)}")
    if not tests or len(failed) != (len(tests) if red else 0):
        problems.append(f"{len(failed)} of {len(tests)} tests failed")
    if verdicts_by_claim(session.journal()) != verdicts_by_claim(records):
        problems.append("the JSON file has other verdicts than the journal")
    page = session.folder / "report.html"
    html = page.read_text(encoding="utf-8") if page.is_file() else ""
    names = [test["test"].rpartition("::")[2].partition("[")[0] for test in tests]
    if "</html>" not in html or not all(name in html for name in names):
        problems.append(f"the HTML report is not whole ({len(html)} characters)")
    header = next(
        (line for line in session.output().splitlines() if line.startswith("diffspeed: ")), ""
    )
    wanted = f"diffspeed: cuda:0 ({device})" if device else "diffspeed: cpu ("
    if not header.startswith(wanted):
        problems.append(f"the header says {header[:120]!r}")
    return tests, problems
