"""How long does the history take with many records, and does its memory stay flat?

    python benchmarks/history.py --records 100000 [--store postgresql://…]

Stores of a tenth and of all of the records are filled by ``diffspeed history import``, from a file
of sessions as a suite of 12 gates with 6 pairs each leaves them.  Then each command runs in a
process of its own, whose wall time and largest resident memory are printed; so are those of the
last thing that a session of ``pytest --diffspeed`` does, storing itself in a store of that size.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from hashlib import sha1
from importlib.metadata import version
from pathlib import Path
from typing import Any

from startup import processor

from pytest_diffspeed.records.journal import as_line

TESTS = 12
PAIRS = 6
COMPARED = "channels_last"
"""The stack whose gates, a quarter of all, are against the commit before."""
START = datetime(2024, 1, 1, tzinfo=timezone.utc)
COMMAND = "import sys; from pytest_diffspeed.commands.cli import main; sys.exit(main())"
SESSION_END = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from history import session
from pytest_diffspeed.records.finished import FinishedSession
finished = FinishedSession(list(session(int(sys.argv[3]))), Path())
start_s = time.perf_counter()
from pytest_diffspeed.history.record import write
write(sys.argv[2], finished)
print(f"{time.perf_counter() - start_s:.3f}")
"""


def commit(number: int) -> str:
    return sha1(str(number).encode()).hexdigest()


def session(number: int) -> Iterator[Mapping[str, Any]]:
    """The records of one session; ``number`` is that of its commit."""
    shuffle = random.Random(number)
    at = (START + timedelta(hours=number)).isoformat(timespec="seconds")
    environment = {"device": "a device", "threads": 2, "python": "3.11.7", "torch": "2.13.0"}
    yield {
        "kind": "session",
        "session": f"{number:032x}",
        "at": at,
        "version": "0.1.0",
        "commit": commit(number),
        "committed_at": at,
        "subject": f"Change number {number}",
        "dirty": False,
        "environment": environment,
        "machine": "ab12" * 8,
        "device": {"kind": "cpu", "index": None, "name": "a device"},
        "pipeline": "demo",
        "options": {"steps": None, "prompts": [], "techniques": []},
    }
    for index in range(TESTS):
        stack = ("bf16", "compile", "bf16+compile", "channels_last")[index % 4]
        test = f"tests/test_pipelines.py::test_pipeline_{index // 4}[{stack}]"
        over = "base" if stack == COMPARED else "fp32"
        who = {"test": test, "stack": stack, "claim": f"min_speedup over {over} per call"}
        yield {"kind": "proof", "source": "demo", "stack": stack, "proofs": []}
        yield {"kind": "gate-start", **who, "seed": number, "over": over, "need": 1.1}
        ratio = 1.5 * shuffle.gauss(1, 0.02)
        for pair in range(PAIRS):
            seconds = {"baseline_s": shuffle.uniform(0.5, 0.52)}
            seconds["candidate_s"] = seconds["baseline_s"] / ratio
            order = {"index": pair, "candidate_first": pair % 2 == 0, "dropped": None}
            yield {"kind": "pair", **who, **order, **seconds}
        verdict = {"verdict": "PASS", "reason": "shown", "blocking": False}
        figures: dict[str, Any] = {"over": over, "unit": "call", "ratio": ratio, "pairs": PAIRS}
        figures |= {"low": ratio * 0.97, "high": ratio * 1.03, "environment": environment}
        if over == "base":
            figures |= {"need": 1.1, "alpha": 0.05, "coverage": 0.9, "method": "sign"}
            figures["against_base"] = {"rev": "HEAD~1", "commit": commit(number - 1)}
        gate = {"gate": "min_speedup", **who, **verdict, "evidence": "measured"}
        yield {"kind": "gate", **gate, "figures": figures}
        who["claim"] = "no_graph_breaks"
        gate = {"gate": "no_graph_breaks", **who, **verdict, "evidence": "counted"}
        yield {"kind": "gate", **gate, "figures": {"breaks": 0, "allowed": 0}}
        yield {"kind": "test", "test": test, "outcome": "passed", "stack": stack}


def write_records(path: Path, count: int) -> tuple[int, int]:
    """Whole sessions of at least ``count`` records; how many sessions, and records."""
    sessions = records = 0
    with path.open("w", encoding="utf-8") as file:
        while records < count:
            for record in session(sessions):
                file.write(as_line(record))
                records += 1
            sessions += 1
    return sessions, records


def measured(words: list[str], folder: Path) -> tuple[float, float, str]:
    """Seconds and the largest resident MiB of a process, and what it printed."""
    with (folder / "printed").open("w+", encoding="utf-8") as printed:
        start_s = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], cwd=folder, stdout=printed)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start_s
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        out = printed.read()
    assert process.returncode == 0, (words, out)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return wall_s, usage.ru_maxrss / unit, out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000, help="(default: 100000)")
    parser.add_argument("--store", help="an empty store; a SQLite file of its own by default")
    options = parser.parse_args()
    sizes = [options.records] if options.store else [options.records // 10, options.records]
    table: dict[str, list[str]] = {}
    heads = []
    with tempfile.TemporaryDirectory() as name:
        for size in sizes:
            folder = Path(name) / str(size)
            folder.mkdir()
            sessions, records = write_records(folder / "records.jsonl", size)
            heads.append(f"{records} records, {sessions} sessions")
            url = options.store or "sqlite:///history.sqlite"
            store = ["--store", url]
            test = "tests/test_pipelines.py::test_pipeline_0[bf16]"
            commands = {
                "import": ["records.jsonl"],
                "import again": ["records.jsonl"],
                "list": [],
                "show": [test],
                "index": [],
                "export": ["out.jsonl"],
                "prune": ["--keep", str(sessions // 2)],
                "prune --yes": ["--keep", str(sessions // 2), "--yes"],
            }
            for command, words in commands.items():
                verb, *rest = command.split()
                asked = [verb, *words, *(word for word in rest if word.startswith("-")), *store]
                if command == "list":
                    end = [str(Path(__file__).parent), url, str(sessions)]
                    _, _, printed = measured(["-c", SESSION_END, *end], folder)
                    table.setdefault("a session's end", []).append(f"{float(printed):.2f} s")
                wall_s, peak_mib, _ = measured(["-c", COMMAND, "history", *asked], folder)
                table.setdefault(command, []).append(f"{wall_s:.2f} s, {peak_mib:.0f} MiB")
            file = folder / "history.sqlite"
            if file.exists():
                heads[-1] += (
                    f" ({(folder / 'records.jsonl').stat().st_size / 2**20:.0f} MiB of lines)"
                )
    print(f"diffspeed history, {'PostgreSQL' if options.store else 'SQLite'}: {'; '.join(heads)}")
    for command, cells in table.items():
        print(f"  {command:<16}" + "".join(f"{cell:>20}" for cell in cells))
    print("Measured on")
    print(
        f"  pytest-diffspeed {version('pytest-diffspeed')}, SQLAlchemy {version('SQLAlchemy')}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    print(f"  {processor()}, {os.cpu_count()} logical cores")
    print(f"  load average of the last minute at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
