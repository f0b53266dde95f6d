"""The store that a ``diffspeed history`` command looks at."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from sqlalchemy import Connection

from ..common.errors import UsageError
from ..common.workdir import NAME
from ..history.series import tests_like
from ..history.store import Store
from ..history.url import check_store, parse_store
from .history_text import plain


class HistoryPlace:
    """The store that the command line names, and how to name it in the next command."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        rootdir: Path = arguments.rootdir or _rootdir(Path.cwd())
        try:
            url = parse_store(arguments.store)
            if url is None:
                raise UsageError("'none' keeps no history, so there is nothing to look at")
            check_store(url, rootdir)
        except UsageError as error:
            raise UsageError(f"--store: {error}") from None
        self.rootdir = rootdir
        self.store = Store(url, rootdir)
        self.name = str(self.store.url.path if url.backend == "sqlite" else url)
        self._args = [] if url.is_default else ["--store", str(url)]
        self._args += [] if arguments.rootdir is None else ["--rootdir", str(arguments.rootdir)]

    def then(self, what: str, *args: str) -> None:
        """Print the next useful command."""
        print(f"{what}: {shlex.join(['diffspeed', 'history', *map(plain, args), *self._args])}")


def tests_named(connection: Connection, text: str) -> list[str]:
    """The test called ``text``, else all whose names hold it, at least one.

    Raises:
        UsageError: there is none.
    """
    tests = tests_like(connection, text)
    if not tests:
        raise UsageError(
            f"no test of this history is called {plain(text)!r}, nor holds that in its name; "
            "diffspeed history list names them"
        )
    return tests


def _rootdir(start: Path) -> Path:
    """The nearest folder, from ``start`` upwards, that holds a folder of ours."""
    for folder in (start, *start.parents):
        if (folder / NAME).is_dir():
            return folder
    return start
