"""Formats of a session's report.  One file a format; adding one edits none.

A file here is found by its being there, and its name is the format's: ``--diffspeed-NAME=PATH``
writes it when a session ends, and ``diffspeed report --NAME FILE`` from records.  It has

- ``HELP``, a string without expressions in it: what the option's help says.  Sessions that write
  nothing read it from the file and do not import it.
- ``MARK``, what stands near the beginning of every file that it writes, so that nobody else's is
  replaced.
- ``write(target, finished)``, which writes the report of a
  :class:`~pytest_diffspeed.records.finished.FinishedSession` to the path ``target`` and returns a
  line for the terminal, or ``None``.
- ``SHOWS_HISTORY = True`` where it shows the history of a session's tests, which is then read.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from types import MappingProxyType

from ...common.literals import literals


@functools.cache
def help_of_formats() -> Mapping[str, str]:
    """What each format is, by its name."""
    found: dict[str, str] = {}
    for module, texts in literals(sys.modules[__name__], "HELP"):
        if texts is None:
            import importlib

            texts = [importlib.import_module(module).HELP]
        found[module.rpartition(".")[2]] = texts[-1]
    return MappingProxyType(found)
