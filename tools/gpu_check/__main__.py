"""Runs the parts, each in a process of its own with a time limit, and prints the table.

    python tools/gpu_check --device cuda --out build/gpu_check
    python tools/gpu_check --table build/gpu_check/results.jsonl

``run.sh`` calls it with what the machine lacks on the path.  The folder given with ``--out`` holds
``results.jsonl`` (a line for each check, written as it ends), ``summary.md`` and ``log.txt``.
Exit status: 0 all as expected; 1 something differs, failed or was not reached; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parent))

from checks import Writer, checks_of, read
from parts import PARTS, Entry
from table import is_red, markdown, verdict_line

HERE = Path(__file__).resolve().parent
BESIDE = 4
"""Parts that run beside each other on a GPU machine with many cores."""
_DISTRIBUTIONS = (
    "torch",
    "triton",
    "diffusers",
    "transformers",
    "torchao",
    "accelerate",
    "numpy",
    "pytest",
)


class Running:
    """A part's process.  Its output goes to the log, each line with the part's letter."""

    def __init__(self, entry: Entry, words: Sequence[str], limit_s: float, log: IO[str]) -> None:
        self.entry = entry
        self._started = time.monotonic()
        self._ends = self._started + limit_s
        self._limit_s = limit_s
        self._process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._copy, args=(log,), daemon=True)
        self._reader.start()

    def _copy(self, log: IO[str]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            log.write(f"{self.entry.key}| {line}")
            log.flush()

    def ended(self) -> str | None:
        """``None`` while it runs; else why it ended early, or an empty string."""
        code = self._process.poll()
        if code is None:
            if time.monotonic() < self._ends:
                return None
            self.kill()
            return f"its time limit of {self._limit_s:.0f} s"
        self._reader.join(5)
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"ended with exit status {code}: see log.txt" if code else ""

    def kill(self) -> None:
        """It and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parsed(words)
    if arguments.table is not None:
        rows = read(arguments.table)
        print(markdown(rows), end="")
        return int(is_red(checks_of(rows)))
    chosen = [entry for entry in PARTS if entry.key in arguments.parts]
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = arguments.out / "results.jsonl"
    results.unlink(missing_ok=True)
    Writer(results, "").write("run", **_about(arguments.device))
    for entry in chosen:  # planned, so that a kill now leaves all of them "not reached"
        Writer(results, entry.key).write("part", title=entry.title)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as work:
        _run(chosen, arguments, results, Path(work))
    rows = read(results)
    text = markdown(rows)
    (arguments.out / "summary.md").write_text(text, encoding="utf-8")
    print(text)
    checks = checks_of(rows)
    print(f"{verdict_line(checks)} in {time.monotonic() - _BEGAN:.0f} s; {results}")
    return int(is_red(checks))


def _run(chosen: Sequence[Entry], arguments: Any, results: Path, work: Path) -> None:
    waiting, running = list(chosen), []
    deadline = _BEGAN + arguments.minutes * 60
    at_once = arguments.jobs or (BESIDE if arguments.device == "cuda" else 1)
    with (arguments.out / "log.txt").open("w", encoding="utf-8", buffering=1) as log:
        try:
            while waiting or running:
                while (entry := _next(waiting, running, at_once)) is not None:
                    waiting.remove(entry)
                    left = deadline - time.monotonic()
                    if left < 5:
                        why = f"the whole run's {arguments.minutes:g} minutes were over"
                        Writer(results, entry.key).write("ended", why=why, seconds=0.0)
                        continue
                    running.append(_start(entry, left, arguments, results, work, log))
                for one in list(running):
                    why = one.ended()
                    if why is not None:
                        running.remove(one)
                        _end(one, why, results, arguments.out)
                time.sleep(0.1)
        finally:
            for one in running:
                one.kill()
                _end(one, "the run was ended", results, arguments.out)


def _next(waiting: Sequence[Entry], running: Sequence[Running], at_once: int) -> Entry | None:
    """The first part that may start now: one that must run alone is overtaken while it waits."""
    if any(one.entry.alone for one in running) or len(running) >= at_once:
        return None
    return next((entry for entry in waiting if not (entry.alone and running)), None)


def _start(
    entry: Entry, left_s: float, arguments: Any, results: Path, work: Path, log: IO[str]
) -> Running:
    limit = entry.dry_limit_s if arguments.device == "cpu" else entry.limit_s
    limit = min(limit * arguments.patience, left_s)
    print(f"{entry.key}. {entry.title}: at most {limit:.0f} s", flush=True)
    words = [sys.executable, str(HERE / "part.py"), entry.key, "--device", arguments.device]
    words += ["--results", str(results), "--work", str(work / entry.key), "--limit", f"{limit}"]
    if entry.key in arguments.plant:
        words.append("--planted")
    return Running(entry, words, limit, log)


def _end(one: Running, why: str, results: Path, out: Path) -> None:
    Writer(results, one.entry.key).write("ended", why=why, seconds=round(one.seconds, 1))
    rows = read(results)
    (out / "summary.md").write_text(markdown(rows), encoding="utf-8")
    own = [check for check in checks_of(rows) if check["part"] == one.entry.key]
    print(f"{one.entry.key}. {verdict_line(own)} ({one.seconds:.0f} s)", flush=True)


def _about(device: str) -> dict[str, Any]:
    """Where and with what: without it no figure below means anything."""
    import torch

    from pytest_diffspeed.accelerators.registry import resolve_device

    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": os.environ.get("GPU_CHECK_COMMIT") or _commit(),
        "device": resolve_device(device).name,
        "device_kind": device,
        "cuda_driver": _driver() if device == "cuda" else None,
        "python": platform.python_version(),
        "versions": versions | {"cuda": torch.version.cuda or "none"},
        "command": shlex.join(sys.argv[1:]),
    }


def _commit() -> str:
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git here)"


def _driver() -> str:
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no nvidia-smi here)"


def _parsed(words: Sequence[str] | None) -> argparse.Namespace:
    keys = "".join(entry.key for entry in PARTS)
    parser = argparse.ArgumentParser(
        prog="gpu_check", description="Check the CUDA side of pytest-diffspeed on this machine."
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("build/gpu_check"))
    parser.add_argument("--parts", default=keys, help=f"letters of {keys}, as in 'abd'")
    parser.add_argument("--plant", default="", help="parts whose own fault is planted: they go red")
    parser.add_argument("--minutes", type=float, default=None, help="for all parts together")
    parser.add_argument("--jobs", type=int, default=0, help="parts beside each other")
    parser.add_argument(
        "--patience", type=float, default=1.0, help="each part's limit is multiplied by this"
    )
    parser.add_argument("--table", type=Path, metavar="RESULTS", help="print a run's table again")
    arguments = parser.parse_args(words)
    for name in ("parts", "plant"):
        unknown = sorted(set(getattr(arguments, name).replace(",", "")) - set(keys))
        if unknown:
            parser.error(f"--{name}: no part is called {', '.join(unknown)}; valid: {keys}")
    if arguments.minutes is None:
        arguments.minutes = 15.0 if arguments.device == "cpu" else 8.6
    if arguments.table is not None and not arguments.table.is_file():
        parser.error(f"--table: there is no file {arguments.table}")
    return arguments


_BEGAN = time.monotonic()

if __name__ == "__main__":
    raise SystemExit(main())
