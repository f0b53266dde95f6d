"""docs/tutorial.md, done as it is written: its files, commands and patches, and what they print."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.M | re.S)


class Reader:
    """Somebody who does what the page says, block by block."""

    def __init__(self, pytester, run_pytest):
        self.folder = pytester.path
        self._run_pytest = run_pytest
        self.printed = None

    def python(self, text):
        name = re.match(r"# (\w+\.py)\n", text).group(1)
        (self.folder / name).write_text(text)

    def diff(self, text):
        self._run(["git", "apply", "-"], text)

    def console(self, text):
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "))
            if words[:3] == ["python", "-m", "pytest"]:
                self.printed = self._run_pytest(*words[3:])
            else:
                assert words[0] == "git", line
                self._run(words)

    def text(self, text):
        """Lines that were printed, in this order; … stands for what differs from run to run."""
        lines = [line.replace("[", "[[]").replace("…", "*") for line in text.splitlines()]
        self.printed.stdout.fnmatch_lines(lines)

    def _run(self, words, given=""):
        subprocess.run(words, cwd=self.folder, input=given, text=True, check=True)


@pytest.fixture
def reader(pytester, private_temp, monkeypatch):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")
    pytester.syspathinsert()

    def run_pytest(*words):  # with the device that the page has; this machine may have another
        return pytester.runpytest_inprocess(*words, "--diffspeed-device=cpu")

    return Reader(pytester, run_pytest)


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(reader):
    for kind, text in BLOCKS:
        getattr(reader, kind)(text)
