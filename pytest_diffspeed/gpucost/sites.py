"""Which line of a stack is the user's: none of torch's, triton's, Python's or this library's."""

from __future__ import annotations

import hashlib
import linecache
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

_LIBRARIES = ("torch", "triton", "torchao", "functorch")
"""What translates a line of the user's into kernels, and is never the line itself."""
_HERE = str(Path(__file__).parent) + os.sep
_COUNTED_CALL = _HERE + "counting.py"
_OWN_PACKAGE = str(Path(__file__).parents[(__package__ or "").count(".")]) + os.sep
"""What this library is in, installed or not: it wraps the user's modules."""
_PACKAGES = re.compile(r".*[/\\](?:site|dist)-packages[/\\]")
_TRACE_LINE = re.compile(r'File "([^"]+)", line (\d+)')


def innermost(frames: Iterable[tuple[str, int]]) -> str:
    """The first of ``frames`` (innermost first) that is the user's, as "file:line", or ""."""
    for file, line in frames:
        if _is_users(file):
            return f"{short(file)}:{line}"
    return ""


def innermost_own(frames: Iterable[tuple[str, int]]) -> str:
    """The first of ``frames`` that is of no installed package, up to the call that is counted.

    It is where a pull request that calls a library once more has changed something.
    """
    own = (f"{short(file)}:{line}" for file, line in _counted(frames) if not _PACKAGES.match(file))
    return next(own, "")


def way(frames: Iterable[tuple[str, int]]) -> tuple[str, str]:
    """Two marks of how the call that is counted led to an op: one of the lines of installed
    packages alone, one of them and the texts of all other lines.

    By these an op is found again where lines have moved, and where another line calls it too.
    """
    lines = [
        (f"{short(file)}:{line}", True)
        if _PACKAGES.match(file)
        else (linecache.getline(file, line).strip(), False)
        for file, line in _counted(frames)
    ]
    return _mark(line for line, packaged in lines if packaged), _mark(line for line, _ in lines)


def _mark(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]


def _counted(frames: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """The user's, up to the call that is counted."""
    for file, line in frames:
        if file == _COUNTED_CALL:
            return
        if _is_users(file) and not file.startswith(_OWN_PACKAGE):
            yield file, line


def frames_of(trace: str) -> list[tuple[str, int]]:
    """Of a traceback's text, in which the outermost frame comes first; here it is the last."""
    return [(file, int(line)) for file, line in _TRACE_LINE.findall(trace)][::-1]


@lru_cache(maxsize=4096)
def _is_users(file: str) -> bool:
    written = os.environ.get("TORCHINDUCTOR_CACHE_DIR")  # a fake GPU has a folder of its own
    if file.startswith(("<", _HERE, *([written + os.sep] if written else []))) or not file:
        return False
    packages = _PACKAGES.match(file)
    if packages:
        return file[packages.end() :].split(os.sep)[0] not in _LIBRARIES
    return not any(file.startswith(folder) for folder in _python())


@lru_cache(maxsize=1)
def _python() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[name] + os.sep for name in ("stdlib", "platstdlib"))


def short(file: str) -> str:
    """Relative to the installed packages or to the current folder: the same on every machine."""
    packages = _PACKAGES.match(file)
    if packages:
        return file[packages.end() :].replace(os.sep, "/")
    here = os.getcwd() + os.sep
    return (file[len(here) :] if file.startswith(here) else file).replace(os.sep, "/")
