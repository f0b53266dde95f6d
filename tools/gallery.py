"""Renew docs/gallery.md: the mistakes that are planted, and what sessions print of them.

python tools/gallery.py

The page's words are written by hand.  A block below ``<!-- planted: NAME, NAME -->`` is the source
of these functions and classes, one below ``<!-- printed: TEST -->`` the test's lines, and the file
of a picture below ``<!-- pictured: TEST -->`` the worst one that its session wrote.  All come from
two modules of ``tests/plugin``, which hold the page against sessions of their own.

The HTML report of the first session is left in ``build/report.html``, of which
``tools/report_screenshot.py`` takes the picture in the README.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"
PLANTED = re.compile(
    r"(<!-- planted: ([\w, ]+) -->\n(?:<!-- run by \S+ -->\n)?```python\n)(.*?)(```\n)", re.S
)
PRINTED = re.compile(r"(<!-- printed: (\w+) -->\n```text\n)(.*?)(```\n)", re.S)
PICTURED = re.compile(r"<!-- pictured: (\w+) -->\n!\[[^\]]+\]\((images/[\w.-]+\.png)\)\n")
WORDS = ("--diffspeed", "--diffspeed-device=cpu", "-p", "no:benchmark")
REPORT = "report.html"
PROJECT = "/home/me/project"
"""What a message of the report calls the folder of the session, which is another one each time."""
SAVE = "--diffspeed-save-counts"
CONFTEST = """
from pytest_diffspeed.techniques.catalog.compile import Compile

Compile.backend = "eager"  # what breaks or compiles again is dynamo's, and inductor takes minutes
"""


class Mistakes(NamedTuple):
    """One session: ``fast`` is its ``fastpipe.py``, ``tests`` its ``test_red.py``.

    ``before`` is ``fastpipe.py`` as it was when the GPU costs of ``saved``, an expression for
    ``-k``, were counted into their files.
    """

    fast: str
    tests: str
    steps: int
    before: str = ""
    saved: str = ""

    @property
    def known(self) -> dict[str, str]:
        """The source of each function and class, by name."""
        return {**definitions(self.fast), **definitions(self.tests)}


def renewed(page: str, mistakes: Mistakes, lines: Sequence[str]) -> str:
    """The page with the blocks that this session gives; those of other sessions as they are.

    Raises:
        KeyError: the session printed nothing of a test that the page names.
    """
    known = mistakes.known

    def planted(match: re.Match[str]) -> str:
        names = match[2].split(", ")
        if not set(names) <= set(known):
            return match[0]
        code = "\n\n\n".join(known[name] for name in names)
        return f"{match[1]}{code}\n{match[4]}"

    def printed(match: re.Match[str]) -> str:
        if match[2] not in known:
            return match[0]
        return f"{match[1]}{lines_of(match[2], lines)}{match[4]}"

    return PRINTED.sub(printed, PLANTED.sub(planted, page))


def strangers(page: str, sessions: Sequence[Mistakes]) -> list[str]:
    """What the page names and no session has, which nothing would renew."""
    blocks = [match[2].split(", ") for match in PLANTED.finditer(page)]
    blocks += [[match[2]] for match in PRINTED.finditer(page)]
    blocks += [[match[1]] for match in PICTURED.finditer(page)]
    known = [set(mistakes.known) for mistakes in sessions]
    return [", ".join(names) for names in blocks if not any(set(names) <= one for one in known)]


def definitions(text: str) -> dict[str, str]:
    """The source of each function and class of a module, decorators too."""
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def lines_of(test: str, lines: Sequence[str]) -> str:
    """What the block of a session says of one test: its head, and what is indented below it."""
    heads = [number for number, line in enumerate(lines) if f"::{test}[" in line]
    if not heads:
        raise KeyError(test)
    end = heads[0] + 1
    while lines[end].startswith("    "):
        end += 1
    return "".join(f"{line}\n" for line in lines[heads[0] : end])


def worst_picture(test: str, folder: Path) -> Path:
    """The first of the pictures that a session in ``folder`` wrote of one test.

    Raises:
        FileNotFoundError: it wrote none.
    """
    found = sorted((folder / ".diffspeed" / "images").glob(f"test_red.py_{test}_*/*.png"))
    if not found:
        raise FileNotFoundError(f"the session wrote no picture of {test}")
    return found[0]


def session(mistakes: Mistakes, folder: Path) -> list[str]:
    """The lines of the block that a session of these mistakes ends with, run in ``folder``."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_red.py").write_text(mistakes.tests.strip())
    if mistakes.saved:
        (folder / "fastpipe.py").write_text(mistakes.before.strip())
        run(folder, f"--diffspeed-steps={mistakes.steps}", "-k", mistakes.saved, SAVE)
    (folder / "fastpipe.py").write_text(mistakes.fast.strip())
    lines = run(folder, f"--diffspeed-steps={mistakes.steps}", f"--diffspeed-html={REPORT}")
    heads = [n for n, line in enumerate(lines) if line.startswith("=") and "diffspeed:" in line]
    return lines[heads[-1] : -1]


def run(folder: Path, *words: str) -> list[str]:
    path = (ROOT, folder, ROOT / "tests" / "compilation")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *WORDS, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ":".join(map(str, path)), "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.plugin.test_red_session import MISTAKES
    from tests.plugin.test_red_session_of_counts import COUNTED

    page = PAGE.read_text(encoding="utf-8")
    if missing := strangers(page, (MISTAKES, COUNTED)):
        sys.exit(f"{PAGE.name} names what no session has: {'; '.join(missing)}")
    for mistakes in (MISTAKES, COUNTED):
        with tempfile.TemporaryDirectory() as name:
            page = renewed(page, mistakes, session(mistakes, Path(name)))
            for test, picture in PICTURED.findall(page):
                if test in mistakes.known:
                    shutil.copy(worst_picture(test, Path(name)), PAGE.parent / picture)
            if mistakes is MISTAKES:
                (ROOT / "build").mkdir(exist_ok=True)
                report = (Path(name) / REPORT).read_text(encoding="utf-8")
                report = report.replace(name, PROJECT)
                (ROOT / "build" / REPORT).write_text(report, encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
