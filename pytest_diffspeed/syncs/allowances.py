"""Syncs that somebody decided to live with, each with the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..common.arguments import texts
from ..common.errors import UsageError

if TYPE_CHECKING:
    from ..simgpu import SyncEvent

_LINE = re.compile(r"(?P<file>.+):(?P<line>\d+)")


@dataclass(frozen=True)
class Allowance:
    """``file.py:123``, a file, or text of the source line; what follows ``#`` is the reason.

    ``*`` and ``?`` stand for any text and any character, in the file, the source line, the
    function, the op or the kind.  Brackets stand for themselves, since source lines are full of
    them.
    """

    where: str
    reason: str

    @classmethod
    def parse(cls, text: str) -> Allowance:
        """From ``"scheduling_ddim.py:466  # tables are read on the CPU"``.

        Raises:
            UsageError: there is nothing before the ``#``, or only wildcards: that would be all.
        """
        where, _, reason = text.partition("#")
        if not where.strip():
            raise UsageError(
                f"allow={text!r} allows nothing; write 'file.py:123' or a pattern, then '# reason'"
            )
        if not where.strip("*?.:/ "):
            raise UsageError(
                f"allow={text!r} allows every line, and a gate that allows all is none; name lines "
                "('file.py:123'), or take a budget: no_gpu_syncs(first_step=…, per_step=…)"
            )
        return cls(where.strip(), reason.strip())

    def matches(self, event: SyncEvent) -> bool:
        site = event.site
        line = _LINE.fullmatch(self.where)
        if line is not None:
            return site.line == int(line["line"]) and _is_file(site.file, line["file"])
        fields = (site.source, site.function, event.op, str(event.kind))
        return (
            _is_file(site.file, self.where)
            or self.where in site.source
            or any(_matches(field, self.where) for field in fields)
        )

    def __str__(self) -> str:
        return f"{self.where} ({self.reason or 'no reason given'})"


def _is_file(path: str, pattern: str) -> bool:
    """Whether ``pattern`` is the end of ``path``, from a folder on, or matches it."""
    path, pattern = path.replace("\\", "/"), pattern.replace("\\", "/")
    return path == pattern or path.endswith(f"/{pattern}") or _matches(path, pattern)


def _matches(text: str, pattern: str) -> bool:
    parts = {"*": ".*", "?": "."}
    expression = "".join(parts.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def parse_allowances(allow: Sequence[str]) -> tuple[Allowance, ...]:
    """Each of a list of texts.

    Raises:
        WrongTypeError: it is no list of texts.
        UsageError: one of them allows nothing.
    """
    return tuple(
        Allowance.parse(text) for text in texts("allow", allow, example="file.py:123  # reason")
    )
