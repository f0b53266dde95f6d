"""What a format of an export is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...records.reader import RecordedSession
from .figures import KINDS, ExportedFigure


@dataclass(frozen=True)
class Exported:
    """One session, or several as one (``session.sessions``), ready to be written in any format.

    ``figures`` are those to export, each name once; ``milliseconds`` says whether durations were
    asked for.
    """

    session: RecordedSession
    figures: Sequence[ExportedFigure]
    milliseconds: bool


@dataclass(frozen=True)
class Format:
    """``render`` gives the text of each file, by the word that its name gets before its ending
    (``""`` for a format of one file).  A file that would hold nothing is not in it.
    """

    name: str
    about: str
    render: Callable[[Exported], Mapping[str, str]]
    parts: tuple[str, ...] = ("",)
    """All words that ``render`` may give: a file of one that it does not give is out of date."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of figures that the format can carry."""
