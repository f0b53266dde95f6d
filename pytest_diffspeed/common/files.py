"""Files that a session writes: where they may lie, and how they are replaced at once."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import UsageError
from .text import shortened

SOURCE_SUFFIXES = frozenset(
    [
        ".bash",
        ".bin",
        ".c",
        ".cc",
        ".cfg",
        ".cpp",
        ".cu",
        ".go",
        ".h",
        ".hpp",
        ".ini",
        ".ipynb",
        ".js",
        ".lock",
        ".pt",
        ".pth",
        ".py",
        ".pyi",
        ".pyx",
        ".rs",
        ".safetensors",
        ".sh",
        ".toml",
        ".ts",
        ".yaml",
        ".yml",
    ]
)
"""Endings of files that people write, and of weights: no output of ours has one of these."""


def check_output(text: str, mark: str) -> Path:
    """The path of a file that is to be written when a session ends, checked before it begins.

    Args:
        text: as the user gave it.
        mark: stands near the beginning of every file of this kind that we wrote; a file without it
            is somebody else's and is not replaced.

    Raises:
        UsageError: nothing can be written there, or something would be lost.
    """
    cannot = f"cannot write {shortened(text, 80)!r}"
    if not text.strip() or "\0" in text:
        raise UsageError(f"{cannot}: that is no name of a file")
    path = Path(text)
    try:
        if not path.absolute().parent.is_dir():
            raise UsageError(f"{cannot}: it must be a file in a folder that exists")
        found = path.lstat()
    except FileNotFoundError:
        found = None
    except OSError as error:  # a name of 300 letters, a folder that may not be entered
        raise UsageError(f"{cannot}: {error.strerror}") from None
    if path.suffix.lower() in SOURCE_SUFFIXES:
        raise UsageError(f"{cannot}: a file that ends with {path.suffix} is not a report's")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(f"{cannot}: its folder is not writable")
    if found is None:
        return path
    if stat.S_ISLNK(found.st_mode):
        raise UsageError(
            f"{cannot}: it is a symbolic link to {os.readlink(path)}; name the file itself"
        )
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, a pipe or a socket"
        raise UsageError(f"{cannot}: it is {what}, not a file")
    if found.st_size and mark not in _beginning(path):
        raise UsageError(
            f"{cannot}: the file that is there is none that pytest-diffspeed wrote; delete it, or "
            "name another one"
        )
    return path


def replace_file(path: Path, text: str) -> None:
    """Write ``path`` at once: a killed run leaves what was there.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(text)


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A text file that takes the place of ``path`` once all of it is written.

    It is a new file of this process: nobody can have put a link in its place.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-", text=True)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
        part.chmod(_mode_of(path))
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def _mode_of(path: Path) -> int:
    """The permissions of what is replaced; for a new file those that this process gives its own."""
    with suppress(OSError):
        return stat.S_IMODE(path.lstat().st_mode) if not path.is_symlink() else 0o600
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(2000).decode("utf-8", "replace")
    except OSError:
        return ""
