"""``<rootdir>/.diffspeed/``: what this package keeps between sessions, and its own .gitignore.

Pytest's cache would be the wrong place: ``--cache-clear`` deletes it.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from .errors import DiffspeedError

NAME = ".diffspeed"


def workdir(rootdir: Path) -> Path:
    """The folder, made on first use; git ignores all of it.

    Raises:
        DiffspeedError: it cannot be written, so nothing that is measured could be kept.
    """
    folder = rootdir / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("# Created by pytest-diffspeed.\n*\n", encoding="utf-8")
    except OSError as error:
        raise DiffspeedError(
            f"cannot write to {folder} ({error.strerror}), where records are kept; make pytest's "
            "rootdir writable, or choose another one with --rootdir"
        ) from None
    return folder


def safe_name(text: str) -> str:
    """A file name for any test id: short, portable, and different for different ids."""
    readable = re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("._")[-80:]
    return f"{readable}-{sha256(text.encode()).hexdigest()[:8]}"
