"""Pictures over time: the worst of each image gate, session by session.

The files that a session drew are replaced by the next one, so a build takes those of the newest
session and keeps what earlier builds took.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...records.history_of_test import DrawnPictures
from ..changes import short
from ..html.gallery import NO_CAPTION, NotShownError, read_picture
from ..html.similarity import Caption, captions
from .folder import SiteFolder


@dataclass(frozen=True)
class Moment:
    """The worst picture of a gate in one session; ``src`` is its file in the site."""

    drawn: DrawnPictures
    src: str
    width: int
    height: int
    commit: str
    caption: Caption


@dataclass(frozen=True)
class Strip:
    """One gate's moments, the newest first; of ``gone`` sessions the files are not there."""

    stack: str
    claim: str
    moments: tuple[Moment, ...]
    gone: int


class Pictures:
    """Takes pictures into a site; ``noted`` is what the next build has to know of them."""

    def __init__(self, folder: SiteFolder, rootdir: Path) -> None:
        self._folder = folder
        self._rootdir = rootdir
        self.noted: dict[str, list[Any]] = {}

    def strips(self, test: str, several: Sequence[DrawnPictures]) -> list[Strip]:
        """By gate; those without any picture say how many are gone."""
        gates: dict[tuple[str, str], list[Moment | None]] = {}
        for drawn in several:
            gate = drawn.stack, drawn.claim
            gates.setdefault(gate, []).append(self._moment(test, drawn))
        return [
            Strip(
                *gate,
                moments=tuple(one for one in gates[gate] if one is not None),
                gone=gates[gate].count(None),
            )
            for gate in sorted(gates)
        ]

    def _moment(self, test: str, drawn: DrawnPictures) -> Moment | None:
        who = json.dumps([drawn.session, test, drawn.stack, drawn.claim])
        key = sha256(who.encode()).hexdigest()[:24]
        found = self._taken(drawn) or self._kept(key)
        if found is None:
            return None
        self.noted[key] = list(found)
        src, width, height = found
        captioned = captions(drawn.figures)
        return Moment(
            drawn,
            src,
            width,
            height,
            "" if drawn.commit is None else short(drawn.commit),
            captioned[0] if captioned else NO_CAPTION,
        )

    def _taken(self, drawn: DrawnPictures) -> tuple[str, int, int] | None:
        if not drawn.is_newest:
            return None
        try:
            kind, content, (width, height) = read_picture(self._rootdir, drawn.files[0])
        except NotShownError:
            return None
        src = f"pictures/{sha256(content).hexdigest()[:24]}.{kind}"
        self._folder.write(src, content)
        return src, width, height

    def _kept(self, key: str) -> tuple[str, int, int] | None:
        noted = self._folder.pictures.get(key)
        if not isinstance(noted, list) or len(noted) != 3 or not isinstance(noted[0], str):
            return None
        src, width, height = noted
        if not (isinstance(width, int) and isinstance(height, int) and self._folder.has(src)):
            return None
        self._folder.keep(src)
        return src, width, height
