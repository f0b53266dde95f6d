"""Sessions of ``pytest --diffspeed`` in processes of their own, and what is read back from them.

Verdicts are read from the session's journal while it runs, so that one that is killed or hangs
costs only what it had not found yet.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_CHARACTERS = 40_000
"""Of one record among the figures of a check: a line of the results stays far below 200 KB."""


@dataclass
class PytestSession:
    """One session in ``folder``, which must be there; its output goes to ``output.txt`` in it."""

    name: str
    folder: Path
    device: str
    words: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    _process: subprocess.Popen[bytes] | None = None
    _started: float = 0.0

    def start(self) -> PytestSession:
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--diffspeed"]
        words += [f"--diffspeed-device={self.device}", "--diffspeed-store=none"]
        words += ["--diffspeed-json=records.jsonl", "--diffspeed-html=report.html"]
        words += ["--junitxml=junit.xml", *self.words]
        with (self.folder / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                words,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._started = time.monotonic()
        print(f"session {self.name} (pid {self._process.pid}): {' '.join(words[2:])}", flush=True)
        return self

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs, or before it was started."""
        code = None if self._process is None else self._process.poll()
        if code is not None and not self.seconds:
            self.seconds = time.monotonic() - self._started
            print(f"session {self.name} ended with {code} in {self.seconds:.1f} s", flush=True)
        return code

    def kill(self) -> None:
        """End it; workers of it see that it is gone and end too."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            print(f"session {self.name} was killed; it said last:\n{self.tail()}", flush=True)

    def output(self) -> str:
        path = self.folder / "output.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def tail(self, characters: int = 3000) -> str:
        return self.output()[-characters:]

    def journal(self) -> list[dict[str, Any]]:
        """What its processes have flushed so far; a line that is being written is left out."""
        folder = self.folder / ".diffspeed" / "records"
        paths = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
        return [{**row, "journal": path.name} for path in paths for row in json_lines(path)]

    def records(self) -> list[dict[str, Any]]:
        """What ``--diffspeed-json`` wrote when it ended; empty before."""
        return json_lines(self.folder / "records.jsonl")

    def failures(self) -> dict[str, str]:
        """By name of the test: the message of each failure or error that JUnit's file tells of."""
        path = self.folder / "junit.xml"
        if not path.is_file():
            return {}
        found = {}
        for case in ElementTree.parse(path).iter("testcase"):
            for kind in ("failure", "error"):
                for one in case.iter(kind):
                    found[str(case.get("name"))] = str(one.get("message") or one.text or kind)
        return found


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a file of JSON lines; what is no whole line yet is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def first_sentence(text: str, most: int = 160) -> str:
    """The first line of a reason, cut at ``most`` characters."""
    line = (text.strip().splitlines() or [""])[0]
    return line if len(line) <= most else line[: most - 1] + "…"


def bounded(record: Mapping[str, Any], most: int = MOST_CHARACTERS) -> dict[str, Any]:
    """The record whole, or with its longest values cut until it takes at most about ``most``."""
    plain = dict(record)
    uncut = set(plain)
    while uncut and _length(plain) > most:
        name = max(uncut, key=lambda key: _length(plain[key]))
        uncut.remove(name)  # once each, so that this ends
        inner = plain[name]
        if isinstance(inner, Mapping):
            plain[name] = bounded(inner, max(2000, most // 2))
        elif _length(inner) > 2000:
            text = json.dumps(inner, default=str)
            plain[name] = f"{text[:1500]}… ({len(text)} characters)"
    return plain


def _length(value: Any) -> int:
    return len(json.dumps(value, default=str))
