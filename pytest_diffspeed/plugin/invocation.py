"""How pytest was started, word for word: what a report tells its reader to run again."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

_PASSWORD = re.compile(r"(://[^:/@\s]*):\S*@|([?&]password=)[^&\s]*")
_ADDOPTS = "PYTEST_ADDOPTS"


def invocation_of(config: pytest.Config) -> dict[str, Any]:
    """The words of the command line, passwords in URLs left out, for the line of a session.

    ``tests`` are those of ``words`` that say which tests to run, and ``folder`` is where pytest was
    started, from its root folder on.  What an ini file adds is read again, and no word here.
    """
    words = [_without_password(str(word)) for word in config.invocation_params.args]
    is_module = Path(sys.argv[0]).name == "__main__.py"
    asked = set(map(str, config.args))
    started, root = config.invocation_params.dir, config.rootpath
    try:
        folder = Path(os.path.relpath(started, root)).as_posix()
    except ValueError:  # no way leads from one drive of Windows to another
        folder = started.as_posix()
    added = os.environ.get(_ADDOPTS)
    return {
        "program": ["python", "-m", "pytest"] if is_module else ["pytest"],
        "words": words,
        "tests": [word for word in words if word in asked],
        "folder": folder,
        **({} if not added else {"environment": {_ADDOPTS: _without_password(added)}}),
    }


def _without_password(word: str) -> str:
    return _PASSWORD.sub(lambda found: f"{found[2]}***" if found[2] else f"{found[1]}:***@", word)
