"""Somebody who does what docs/tutorial.md says, with what is installed in some environment."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def blocks() -> Iterator[tuple[str, str]]:
    """Kind and text of each block of the page, in order."""
    yield from re.findall(r"^```(\w+)\n(.*?)^```", _PAGE.read_text("utf-8"), re.M | re.S)


class Reader:
    """Works in ``folder``; ``python`` stands for the word in the page, and ``env`` is its
    environment.
    """

    def __init__(self, folder: Path, python: Path, env: Mapping[str, str]) -> None:
        who = {
            f"GIT_{role}_{about}": value
            for role in ("AUTHOR", "COMMITTER")
            for about, value in (("NAME", "somebody"), ("EMAIL", "somebody@example.org"))
        }
        self.env = {**env, **who}
        self.folder = folder
        self._python = str(python)
        self._printed: list[str] = []

    def do(self, kind: str, text: str) -> None:
        """One block: a file to write, a patch, commands, or what the last of them printed."""
        {
            "python": self._write,
            "diff": self._patch,
            "console": self._enter,
            "text": self._compare,
        }[kind](text)

    def _write(self, text: str) -> None:
        name = re.match(r"# (\w+\.py)\n", text)
        assert name is not None, text
        (self.folder / name[1]).write_text(text)

    def _patch(self, text: str) -> None:
        self._run(["git", "apply", "-"], text).check_returncode()

    def _enter(self, text: str) -> None:
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "))
            if words[:3] == ["python", "-m", "pytest"]:
                # With the device that the page has; this machine may have another.
                done = self._run([self._python, *words[1:], "--diffspeed-device=cpu"])
                self._printed = done.stdout.splitlines()
            else:
                assert words[0] == "git", line
                self._run(words).check_returncode()

    def _compare(self, text: str) -> None:
        """Lines that were printed, in this order; … stands for what differs from run to run."""
        lines = [line.replace("[", "[[]").replace("…", "*") for line in text.splitlines()]
        pytest.LineMatcher(self._printed).fnmatch_lines(lines)

    def _run(self, words: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.env,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
