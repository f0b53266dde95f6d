"""Two arms and two workers on one GPU: neither disturbs the other, and all memory is given back.

Three sessions on the small project in ``projects/sharing``, beside each other: two workers of
pytest-xdist that both count, and time; and two scratch repositories with ``--diffspeed-base``,
whose head is slower (FAIL) or has other words in its README (PASS).  All that time do so through
one lock.  Timed calls and holders of the lock note their moments, so "never two at once" is read
from clocks.

Beside it: what the processes take of the device together (sampled through NVML), what torch of each
process says of itself, and that all of it is free again at the end.

Planted: the docs-only head is the slower one.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checks import Found, NoMeaning, Part
from device_memory import MIB, DeviceMemory
from pytest_sessions import PytestSession, bounded, first_sentence, json_lines
from shared_moments import context_bytes, kept_apart, most_of_each

PROJECT = Path(__file__).resolve().parents[1] / "projects" / "sharing"
LEFT_OVER_MIB = 64
RESERVE_S = 8.0
SLOWER = "--diffspeed-base: a slower head"
DOCS_ONLY = "--diffspeed-base: a docs-only head"
WORKERS = "xdist -n 2: both workers count and time"
PLACES = "both workers take the one device"
LOCK = "the lock keeps timings apart"
PEAKS = "peaks: each worker counts its own"
COST = "device memory of all processes"
GIVEN_BACK = "all device memory is given back"
NO_GIT = "there is no git here, with which the base would be checked out"
_AUTHOR = ("-c", "user.name=gpu check", "-c", "user.email=gpu-check@example.org")


def run(part: Part) -> None:
    part.plan([SLOWER, DOCS_ONLY, WORKERS, PLACES, LOCK, PEAKS, COST, GIVEN_BACK])
    memory, before = None, 0
    if part.device == "cuda":
        memory = DeviceMemory()
        before = memory.used()
        memory.start()
    notes = part.work / "notes.jsonl"
    xdist = _session(part, "xdist", notes, ["-n", "2", "--dist=loadfile", "test_first.py"])
    xdist.words = [*xdist.words, "test_second.py"]
    sessions = {WORKERS: xdist}
    has_git = shutil.which("git") is not None
    if has_git:
        for name, slower in ((SLOWER, True), (DOCS_ONLY, part.planted)):
            sessions[name] = _against_base(part, name, notes, slower=slower)
    checks = {SLOWER: _slower, DOCS_ONLY: _docs_only, WORKERS: _workers}
    try:
        for session in sessions.values():
            session.start()
        waiting = dict(sessions)
        while waiting and part.time_left_s > RESERVE_S:
            time.sleep(0.2)
            for name, session in list(waiting.items()):
                if session.exit_code is not None:
                    del waiting[name]
                    checks[name](part, session)
    finally:
        for session in sessions.values():
            session.kill()
    for name in (SLOWER, DOCS_ONLY):
        if not has_git:
            with part.check(name):
                raise NoMeaning(NO_GIT)
    if WORKERS not in waiting:  # what was killed shows nothing
        _places(part, xdist)
        _peaks(part, xdist)
        _lock(part, json_lines(notes))
    _memory(part, memory, before, json_lines(notes))


def _session(part: Part, name: str, notes: Path, words: Sequence[str]) -> PytestSession:
    folder = part.work / name
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__", ".diffspeed"))
    (folder / "ignored.txt").rename(folder / ".gitignore")
    environment = {"GPU_CHECK_NOTES": str(notes)}
    budget = 60 if part.small else 15  # a gate ends when it is decided; busy CPUs take longer
    words = [*words, f"--diffspeed-budget={budget}"]
    return PytestSession(name, folder, part.device, words, environment)


def _against_base(part: Part, name: str, notes: Path, *, slower: bool) -> PytestSession:
    """A repository whose tag ``base`` is compared with its head."""
    words = ["--diffspeed-base=base", "--diffspeed-instances=1", "test_base.py"]
    session = _session(part, name.rpartition(" a ")[2].replace(" ", "-"), notes, words)
    folder = session.folder
    (folder / "README.md").write_text("Shared.\n", encoding="utf-8")
    _git(folder, "init", "--quiet")
    _git(folder, "add", "--all")
    _git(folder, *_AUTHOR, "commit", "--quiet", "--message=The base")
    _git(folder, "tag", "base")
    if slower:
        module = folder / "shared_pipeline.py"
        text = module.read_text(encoding="utf-8")
        assert text.count("SLOWER = False") == 1
        module.write_text(text.replace("SLOWER = False", "SLOWER = True"), encoding="utf-8")
    else:
        (folder / "README.md").write_text("Shared, and explained.\n", encoding="utf-8")
    _git(folder, "add", "--all")
    _git(folder, *_AUTHOR, "commit", "--quiet", "--message=The head")
    return session


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout


def _slower(part: Part, session: PytestSession) -> None:
    with part.check(SLOWER, "FAIL against the base's commit, nothing of it left") as check:
        _judge_base(check, session, "FAIL", exit_code=1)


def _docs_only(part: Part, session: PytestSession) -> None:
    with part.check(DOCS_ONLY, "PASS against the base's commit, nothing of it left") as check:
        _judge_base(check, session, "PASS", exit_code=0)


def _judge_base(check: Found, session: PytestSession, verdict: str, *, exit_code: int) -> None:
    rows = session.journal()
    gates = [row for row in rows if row["kind"] == "gate"]
    workers = [row for row in rows if row["kind"] == "worker"]
    problems = []
    found = f"no verdict: {session.tail(300).strip()!r}"
    if gates:
        gate = gates[-1]
        found = f"{gate['verdict']}: {first_sentence(gate['reason'])}"
        if gate["verdict"] != verdict or len(gates) > 1:
            problems.append(f"not one {verdict}")
        if gate["figures"].get("against_base", {}).get("subject") != "The base":
            problems.append(f"compared with {gate['figures'].get('against_base')}")
    else:
        problems.append("no gate was decided")
    if session.exit_code != exit_code:
        problems.append(f"exit code {session.exit_code}, not {exit_code}")
    if [row["arm"] for row in workers] != ["base", "head"]:
        problems.append(f"workers: {[row.get('arm') for row in workers]}")
    trees = _git(session.folder, "worktree", "list").splitlines()
    if len(trees) != 1:
        problems.append(f"worktrees are left: {trees[1:]}")
    check.expect(
        not problems,
        f"{found} ({session.seconds:.0f} s)" + "".join(f"; {problem}" for problem in problems),
        gates=[bounded(gate) for gate in gates],
        workers=workers,
        errors=[row for row in rows if row["kind"] == "gate-error"],
        seconds=round(session.seconds, 1),
        output=session.tail(6000),
    )


def _workers(part: Part, session: PytestSession) -> None:
    with part.check(WORKERS, "exit 0, 6 PASS of two processes in one file") as check:
        records = session.records()
        gates = [row for row in records if row["kind"] == "gate"]
        verdicts = [f"{row['gate']} {row['verdict']}" for row in gates]
        passed = sum(row["verdict"] == "PASS" for row in gates)
        heads = sum(row["kind"] == "session" for row in records)
        journals = {row["journal"] for row in session.journal() if row["kind"] == "gate"}
        ok = session.exit_code == 0 and passed == len(gates) == 6
        check.expect(
            ok and heads == 1 and len(journals) == 2,
            f"exit {session.exit_code}, {passed} of {len(gates)} PASS from {len(journals)} "
            f"processes, {heads} session line ({session.seconds:.0f} s)",
            verdicts=verdicts,
            gates=[bounded(gate, 12_000) for gate in gates],
            failures=session.failures(),
            output=session.tail(6000),
        )


@contextmanager
def _with_journals(
    part: Part, name: str, expected: str, session: PytestSession
) -> Iterator[tuple[Found, dict[str, list[dict[str, Any]]]]]:
    """A check on the journals of xdist's workers, by their names."""
    with part.check(name, expected) as check:
        journals: dict[str, list[dict[str, Any]]] = {}
        for row in session.journal():
            journals.setdefault(row["journal"], []).append(row)
        yield check, journals


def _places(part: Part, session: PytestSession) -> None:
    wanted = "cuda:0" if part.device == "cuda" else "cpu"
    with _with_journals(part, PLACES, wanted, session) as (check, journals):
        devices = [
            f"{row['device']['kind']}"
            + ("" if row["device"]["index"] is None else f":{row['device']['index']}")
            for rows in journals.values()
            for row in rows
            if row["kind"] == "session"
        ]
        check.expect(devices == [wanted, wanted], " and ".join(devices) or "no session")


def _lock(part: Part, notes: Sequence[Mapping[str, Any]]) -> None:
    with part.check(LOCK, "no two processes time at once, none draws while one times") as check:
        ok, found, figures = kept_apart(notes)
        check.expect(ok, found, **figures)


def _peaks(part: Part, session: PytestSession) -> None:
    where = "by the allocator, " if part.device == "cuda" else ""
    with _with_journals(part, PEAKS, f"{where}the same in both within 2 %", session) as found:
        check, journals = found
        rows = [
            row["figures"]
            for rows in journals.values()
            for row in rows
            if row["kind"] == "gate" and row["gate"] == "max_memory"
        ]
        peaks = [row["candidate_peak_bytes"] for row in rows]
        counted = {str(row.get("counted_on")) for row in rows}
        simulated = any("simulated" in one for one in counted)
        same = len(peaks) == 2 and max(peaks) <= 1.02 * min(peaks)
        told = " and ".join(f"{peak / MIB:.1f} MiB" for peak in peaks)
        check.expect(
            same and simulated == part.small, f"{told} on {', '.join(sorted(counted))}", gates=rows
        )


def _memory(
    part: Part, memory: DeviceMemory | None, before: int, notes: Sequence[Mapping[str, Any]]
) -> None:
    own = most_of_each(notes)
    with part.check(COST) as check:
        if memory is None:
            raise NoMeaning("without a GPU there is no device memory to share")
        memory.stop()
        peak = max((used for _, used in memory.samples), default=before)
        contexts = context_bytes(notes, before)
        each = f", about {contexts / MIB:.0f} MiB a context" if contexts else ""
        check.record(
            f"{before / MIB:.0f} MiB before, {peak / MIB:.0f} MiB at most with {len(own)} processes"
            f"{each} ({memory.source})",
            before=before,
            peak=peak,
            samples=memory.samples[:400],
            most_by_process=memory.most_by_process,
            torch_by_process=own,
            problems=memory.problems,
        )
    with part.check(GIVEN_BACK, f"as before within {LEFT_OVER_MIB} MiB") as check:
        if memory is None:
            raise NoMeaning("without a GPU there is no device memory to give back")
        after = memory.settled(before + LEFT_OVER_MIB * MIB, 6.0)
        check.expect(
            after - before <= LEFT_OVER_MIB * MIB,
            f"{before / MIB:.0f} MiB before, {after / MIB:.0f} MiB after",
            processes=memory.processes(),
        )
