"""Each gate end to end on this device, by real sessions: green, and red by a fault of its own.

Three sessions of ``pytest --diffspeed`` on the small project in ``gates_project``: ``green`` (every
gate that needs no inductor, on what deserves a PASS), ``red`` (each gate on a pipeline with one
planted fault; breaks, syncs and recompilations must be told with the planted line) and
``compiled`` (the gates on compiled code, with inductor).  They run beside each other, since they
mostly import and compile, and the device's lock keeps their timings apart.  Verdicts are taken from
the journals while the sessions run.

Decided beside the verdicts: on CUDA syncs are counted on the GPU and memory by its allocator;
device time and host time are both in the ratio; exit codes, JUnit, HTML and header fit; records
name device and driver.

Planted: the green test of what is counted gets the pipeline with a graph break.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks import NoMeaning, Part
from pytest_sessions import PytestSession, bounded, first_sentence

PROJECT = Path(__file__).resolve().parents[1] / "gates_project"
STEPS = 4
HOST_SLEEP_S = 0.1
"""``SLEEP_S`` of the project, in each step."""
DEVICE_CYCLES = 150_000_000
FASTEST_HZ = 2.2e9
"""Above the boost clocks of an H100 and an H200 (1.98 GHz)."""
RESERVE_S = 8.0
"""For the checks at the end, before the part's limit."""

Rule = Callable[[Mapping[str, Any], str], "str | None"]
"""Given a record and the device's name: what is wrong with it, or ``None``."""


@dataclass(frozen=True)
class Expected:
    """What one gate of one test must answer; ``says`` are texts that its reason must contain."""

    session: str
    test: str
    gate: str
    verdict: str
    says: tuple[str, ...] = ()
    rule: Rule | None = None

    @property
    def name(self) -> str:
        colour = {"PASS": "green", "FAIL": "red"}[self.verdict]
        return f"{self.gate} {colour}: {self.test.removeprefix('test_').replace('_', ' ')}"

    @property
    def phrase(self) -> str:
        naming = f" naming {', '.join(self.says)}" if self.says else ""
        where = f", {self.rule.__doc__}" if self.rule is not None and self.rule.__doc__ else ""
        return f"{self.verdict}{naming}{where}"


def counted_on_the_gpu(record: Mapping[str, Any], device: str) -> str | None:
    """counted on this GPU where there is one"""
    found = str(record["figures"].get("counted_on"))
    wanted = f"CUDA, {device}," if device else "simulated GPU"
    return None if found.startswith(wanted) else f"counted on {found!r}, not on {wanted!r}"


def counted_by_the_allocator(record: Mapping[str, Any], device: str) -> str | None:
    """measured by the allocator where there is one"""
    figures = record["figures"]
    if not device:
        found = str(figures.get("counted_on"))
        return None if "simulated" in found else f"counted on {found!r}, not on a simulated GPU"
    if "simulated" in record["reason"] or figures.get("counted_on") != device:
        return f"counted on {figures.get('counted_on')!r}, not on {device!r}"
    for arm in ("baseline", "candidate"):
        reserved, peak = (
            figures.get(f"{arm}_reserved_bytes", 0),
            figures.get(f"{arm}_peak_bytes", 0),
        )
        if not reserved >= peak > 0:
            return f"{arm}: {reserved} bytes reserved, {peak} allocated"
    return None


def expectations(lines: Mapping[str, str]) -> list[Expected]:
    """In order of value; ``lines`` are the planted ones by their words."""
    syncs, memory = counted_on_the_gpu, counted_by_the_allocator
    return [
        Expected("red", "test_break", "no_graph_breaks", "FAIL", (lines["break"],)),
        Expected("red", "test_sync", "no_gpu_syncs", "FAIL", (lines["sync"],), syncs),
        Expected("red", "test_recompile", "no_recompiles", "FAIL", (lines["recompile"],)),
        Expected("red", "test_memory", "max_memory", "FAIL", (), memory),
        Expected("red", "test_not_numbers", "image_similarity", "FAIL", ("NaN",)),
        Expected("red", "test_other_images", "image_similarity", "FAIL", ("psnr",)),
        Expected("red", "test_device_sleep", "min_speedup", "FAIL"),
        Expected("red", "test_device_sleep", "max_slowdown", "FAIL"),
        Expected("red", "test_host_sleep", "min_speedup", "FAIL"),
        Expected("red", "test_host_sleep", "max_slowdown", "FAIL"),
        Expected("red", "test_compile_time", "max_compile_time", "FAIL", ("allowed: 0.001 s",)),
        Expected("green", "test_counted", "no_graph_breaks", "PASS"),
        Expected("green", "test_counted", "no_gpu_syncs", "PASS", (), syncs),
        Expected("green", "test_memory", "max_memory", "PASS", (), memory),
        Expected("green", "test_images", "image_similarity", "PASS"),
        Expected("green", "test_speed", "min_speedup", "PASS"),
        Expected("green", "test_speed", "max_slowdown", "PASS"),
        Expected("compiled", "test_compiled", "no_recompiles", "PASS"),
        Expected("compiled", "test_compiled", "max_compile_time", "PASS"),
    ]


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


def planted_lines(text: str) -> dict[str, str]:
    """``planted_faults.py:12`` by the word of each ``# PLANTED word``."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        marked = re.search(r"# PLANTED (\w+)$", line)
        if marked is not None:
            found[marked[1]] = f"planted_faults.py:{number}"
    return found


def _session(part: Part, name: str) -> PytestSession:
    folder = part.work / name
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__", ".diffspeed"))
    environment = {}
    if part.small:
        environment["GPU_CHECK_COMPILED"] = "random:sdxl-tiny"
    if part.planted:
        environment["GPU_CHECK_COUNTED"] = "planted_faults:breaking"
    words = [f"test_{name}.py", f"--diffspeed-steps={STEPS}", "--diffspeed-budget=15"]
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


def verdict_of(rows: Sequence[Mapping[str, Any]], one: Expected) -> Mapping[str, Any] | None:
    """The last word of a gate, or why it could not be checked."""
    own = [
        row
        for row in rows
        if row["kind"] in ("gate", "gate-error")
        and f"::{one.test}[" in row["test"]
        and str(row["claim"]).split()[0] == one.gate
    ]
    return own[-1] if own else None


def judged(record: Mapping[str, Any], one: Expected, device: str) -> tuple[bool, str]:
    """Whether a record is what was expected, and what it says in one sentence."""
    if record["kind"] == "gate-error":
        return False, f"could not be checked: {first_sentence(record['error'])}"
    found = f"{record['verdict']}: {first_sentence(record['reason'])}"
    problems = []
    if record["verdict"] != one.verdict:
        problems.append(f"not {one.verdict}")
    problems += [f"does not say {text!r}" for text in one.says if text not in record["reason"]]
    if one.rule is not None:
        problem = one.rule(record, device)
        problems += [] if problem is None else [problem]
    said = [text for text in one.says if text in record["reason"]]
    told = f" [{'; '.join(problems)}]" if problems else f" [{', '.join(said)}]" if said else ""
    return not problems, (f"{told.strip()} {found}" if problems else f"{found}{told}")


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
    if _verdicts(session.journal()) != _verdicts(records):
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


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    return {(row["test"], row["claim"]): row["verdict"] for row in rows if row["kind"] == "gate"}


def planted_seconds(rows: Sequence[Mapping[str, Any]], *, gpu: bool) -> tuple[bool, str]:
    """Whether a call is longer by what was planted, on the device and on the host.

    What the CPU does while the device sleeps is hidden behind it, so half of the sleep is enough.
    """
    device_s = STEPS * (DEVICE_CYCLES / FASTEST_HZ if gpu else HOST_SLEEP_S)
    planted = {"test_device_sleep": device_s, "test_host_sleep": STEPS * HOST_SLEEP_S}
    ok, told = True, []
    for test, seconds in planted.items():
        one = Expected("red", test, "min_speedup", "FAIL")
        record = verdict_of(rows, one)
        figures = {} if record is None else record.get("figures", {})
        before, after = figures.get("baseline_s"), figures.get("candidate_s")
        if before is None or after is None:
            ok = False
            told.append(f"{test}: no figures")
            continue
        ok = ok and after - before >= seconds / 2
        told.append(f"{test}: {before:.3f} → {after:.3f} s, planted {seconds:.3f} s")
    return ok, "; ".join(told)
