"""Renew docs/gallery.md: the mistakes that are planted, and what a session prints of them.

python tools/gallery.py

The page's words are written by hand.  A block below ``<!-- planted: NAME, NAME -->`` is the source
of these functions and classes, one below ``<!-- printed: TEST -->`` the test's lines.  Both come
from ``tests/plugin/test_red_session.py``, which holds the page against a session of its own.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"
PLANTED = re.compile(r"(<!-- planted: ([\w, ]+) -->\n```python\n)(.*?)(```\n)", re.S)
PRINTED = re.compile(r"(<!-- printed: (\w+) -->\n```text\n)(.*?)(```\n)", re.S)


def renewed(page: str, sources: Sequence[str], lines: Sequence[str]) -> str:
    """The page with the blocks that these modules and this session's lines give.

    Raises:
        KeyError: a function, a class or a test that the page names is not there.
    """
    known = {name: source for text in sources for name, source in definitions(text).items()}

    def planted(match: re.Match[str]) -> str:
        code = "\n\n\n".join(known[name] for name in match[2].split(", "))
        return f"{match[1]}{code}\n{match[4]}"

    def printed(match: re.Match[str]) -> str:
        return f"{match[1]}{lines_of(match[2], lines)}{match[4]}"

    return PRINTED.sub(printed, PLANTED.sub(planted, page))


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


def session(fast: str, tests: str) -> list[str]:
    """The lines of the block that the session of all planted mistakes ends with."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fastpipe.py").write_text(fast.strip())
        (folder / "test_red.py").write_text(tests.strip())
        words = ["--diffspeed", "--diffspeed-device=cpu", "--diffspeed-steps=1"]
        lines = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:benchmark", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "COLUMNS": "80"},
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.splitlines()
    heads = [n for n, line in enumerate(lines) if line.startswith("=") and "diffspeed:" in line]
    return lines[heads[-1] : -1]


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.plugin.test_red_session import FAST, TESTS

    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(renewed(page, [FAST, TESTS], session(FAST, TESTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
