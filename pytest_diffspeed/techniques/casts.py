"""Which line of the user's own code casts, where a proof found another dtype than was applied."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

from ..common.paths import in_packages, short_path

_CAST = re.compile(
    r"\.(float|double|half|bfloat16)\(\)"
    r"|\.(?:to|type)\([^()]*torch\.(float\w*|double|half|bfloat16)\b"
)
_NAMES = {"float": "float32", "double": "float64", "half": "float16"}


def casting_line(objects: Iterable[object], wanted: str) -> tuple[str, str] | None:
    """The first line, as ``fastpipe.py:39`` and its text, that casts to another dtype than
    ``wanted`` (``torch.bfloat16``), in the classes of ``objects`` that are not installed.

    It is read, not watched: such a line need not be the one.
    """
    seen: set[type] = set()
    for thing in objects:
        for kind in type(thing).__mro__:
            if kind in seen:
                continue
            seen.add(kind)
            found = _in_class(kind, wanted)
            if found is not None:
                return found
    return None


def _in_class(kind: type, wanted: str) -> tuple[str, str] | None:
    try:
        file = inspect.getsourcefile(kind)
        if file is None or in_packages(file) is not None:
            return None
        lines, first = inspect.getsourcelines(kind)
    except (OSError, TypeError):  # built in, or made without a file
        return None
    for number, line in enumerate(lines, start=first):
        match = _CAST.search(line.partition("#")[0])
        if match is not None:
            name = match[1] or match[2]
            if f"torch.{_NAMES.get(name, name)}" != wanted:
                return f"{short_path(file)}:{number}", line.strip()
    return None
