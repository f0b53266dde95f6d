"""Pictures of the arms, embedded as data URIs as far as their budget goes, worst first.

A record names files.  It may come from a stranger, so only pictures below the root folder are
opened, by a decoder of three formats and up to a size, and what is embedded is always encoded here.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ...common.text import plural
from ..loose import words
from .gates import GateView
from .overview import TestRow
from .similarity import Caption, captions

MOST_WIDTH = 1152
"""Of a strip of three images: 384 pixels for each, sharp on a phone and enough on a desk."""
MOST_PIXELS = 64_000_000
"""Three images of 4096 × 4096; a file that claims more is not decoded."""
MOST_BYTES_AS_IS = 96_000
"""A smaller PNG of fitting width is embedded unchanged."""
_AROUND_BYTES = 1_500
"""What tags and caption of a picture take, about."""
_FORMATS = ("PNG", "JPEG", "WEBP")
NO_CAPTION = Caption("", "", (), "", (), False)


@dataclass(frozen=True)
class Shown:
    """One picture: baseline, optimized and their difference, of an image, a video or a sound."""

    src: str
    width: int
    height: int
    rank: int
    caption: Caption


@dataclass(frozen=True)
class Gallery:
    """The pictures of one gate, or of one test without such a gate, drawn with ``stack``.

    ``problems`` are why named pictures are not there, ``left_out`` how many did not fit the budget.
    """

    title: str
    where: str
    stack: str
    gate: GateView | None
    shown: tuple[Shown, ...]
    left_out: int
    problems: tuple[str, ...]


@dataclass
class _Wanted:
    place: int
    title: str
    where: str
    stack: str
    gate: GateView | None
    files: list[tuple[str, Caption]]
    shown: list[Shown]
    problems: list[str]
    left_out: int = 0


class Budget:
    """Bytes that may still be used."""

    def __init__(self, total: int) -> None:
        self.left = total

    def take(self, size: int) -> bool:
        """Whether there was room for ``size`` bytes; if so, they are gone."""
        if size > self.left:
            return False
        self.left -= size
        return True


def galleries(
    gates: Sequence[GateView],
    rows: Iterable[TestRow],
    images_of_test: Mapping[tuple[int, str], Sequence[str]],
    rootdirs: Sequence[Path],
    budget: Budget,
) -> tuple[tuple[Gallery, ...], int]:
    """Fill the budget: the worst picture of each gate first, then the second of each.

    ``gates`` and ``rows`` come in the order of the page, failures first.  ``images_of_test`` is by
    the place of a session and a test of it, and ``rootdirs`` holds the folder that the paths of
    each session start from.  Returns the galleries
    that have something to show, and how many pictures are left out in all.
    """
    wanted: list[_Wanted] = []
    named: set[tuple[int, str]] = set()
    for gate in gates:
        files = words(gate.result.figures.get("pictures"))
        if files:
            named.update((gate.place, file) for file in files)
            captions_of = captions(gate.result.figures)
            pairs = [
                (f, captions_of[i] if i < len(captions_of) else NO_CAPTION)
                for i, f in enumerate(files)
            ]
            of_it = gate.place, gate.result.test
            wanted.append(_Wanted(*of_it, gate.where, gate.result.stack, gate, pairs, [], []))
    for row in rows:
        of_row = row.place, row.test
        files = [file for file in images_of_test.get(of_row, ()) if (row.place, file) not in named]
        if files and not any((one.place, one.title) == of_row for one in wanted):
            unjudged = [(f, NO_CAPTION) for f in files]
            wanted.append(_Wanted(*of_row, row.on, row.stack, None, unjudged, [], []))
    deepest = max((len(one.files) for one in wanted), default=0)
    unreadable = 0
    for rank in range(deepest):
        for one in wanted:
            if rank >= len(one.files):
                continue
            if unreadable > 8:  # no room for pictures of this size: decode no more of them
                one.left_out += 1
                continue
            file, caption = one.files[rank]
            try:
                src, size = _embedded(rootdirs[one.place], file)
            except NotShownError as why:
                if budget.take(_AROUND_BYTES):
                    one.problems.append(f"{file}: {why}")
                continue
            around = _AROUND_BYTES if one.shown else 2 * _AROUND_BYTES  # the first with a heading
            if budget.take(len(src) + around):
                one.shown.append(Shown(src, *size, rank + 1, caption))
            else:
                one.left_out += 1
                unreadable += 1
    found = tuple(
        Gallery(
            one.title,
            one.where,
            one.stack,
            one.gate,
            tuple(one.shown),
            one.left_out,
            tuple(one.problems),
        )
        for one in wanted
        if one.shown or one.problems
    )
    return found, sum(one.left_out for one in wanted)


def left_out_sentence(many: int) -> str | None:
    """What the budget did not hold, or ``None``."""
    if not many:
        return None
    verb = "is" if many == 1 else "are"
    return (
        f"{plural(many, 'picture')} {verb} left out, so that this file stays below 5 MB; the worst "
        "of each gate were taken first, and all lie in the .diffspeed folder of the run."
    )


class NotShownError(Exception):
    """A file is not shown as a picture; the message says why."""


def _embedded(rootdir: Path, file: str) -> tuple[str, tuple[int, int]]:
    kind, content, size = read_picture(rootdir, file)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}", size


def read_picture(rootdir: Path, file: str) -> tuple[str, bytes, tuple[int, int]]:
    """A picture as a browser shows it: ``png`` or ``webp``, its bytes, and width and height.

    Raises:
        NotShownError: it does not lie below ``rootdir``, or is no picture.
    """
    path = _below(rootdir, file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotShownError(f"cannot be read ({error.strerror or type(error).__name__})") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a bomb's warning: the size is checked below
            picture = Image.open(io.BytesIO(content), formats=_FORMATS)
            if picture.width * picture.height > MOST_PIXELS:
                raise NotShownError(f"claims {picture.width} × {picture.height} pixels")
            kind, content, size = _encoded(picture, content)
    except NotShownError:
        raise
    except Exception as error:  # a decoder given a broken file raises nearly anything
        raise NotShownError(f"is no picture ({type(error).__name__})") from None
    return kind, content, size


def _encoded(picture: Image.Image, content: bytes) -> tuple[str, bytes, tuple[int, int]]:
    if picture.format == "PNG" and picture.width <= MOST_WIDTH and len(content) <= MOST_BYTES_AS_IS:
        picture.load()  # a broken one raises here, and not in the reader's browser
        return "png", content, picture.size
    small = picture.convert("RGB")
    if small.width > MOST_WIDTH:
        height = max(1, round(small.height * MOST_WIDTH / small.width))
        small = small.resize((MOST_WIDTH, height), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    small.save(written, "WEBP", quality=88)
    return "webp", written.getvalue(), small.size


def _below(rootdir: Path, file: str) -> Path:
    try:
        path = (rootdir / file).resolve()
        fits = path.is_relative_to(rootdir.resolve()) and path.is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        fits = False
    if not fits:
        raise NotShownError(f"no such file below {rootdir}")
    return path
