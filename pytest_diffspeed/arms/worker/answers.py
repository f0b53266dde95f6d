"""What a worker may answer, read with suspicion: it runs another commit's code.

A count that is no number is greater than none: it would be "nothing is worse".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from ..counts import CountedLine, Counts


class WrongAnswerError(ValueError):
    """An answer is not what was asked for; it says which part of it."""


@dataclass(frozen=True)
class Ready:
    """An arm that is built: seconds of its first call, and what the parent compares."""

    first_call_s: float
    weights: dict[str, str]
    inputs: dict[str, Any]
    proofs: list[str]


@dataclass(frozen=True)
class Timed:
    """One call: seconds of the unit and of the whole call, and the output's shape."""

    seconds: float
    call_s: float
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Alone:
    """What pairs of the unit alone are of, and in which steps of a call it runs; or ``why_not``."""

    pairs_of: str
    ran_in: tuple[int, ...]
    why_not: str | None


def alone(answer: Mapping[str, Any]) -> Alone:
    """Raises: WrongAnswerError: it is no such answer."""
    given = _mapping(answer.get("alone"), "alone")
    why_not = given.get("why_not")
    return Alone(
        _text(given.get("pairs_of", ""), "pairs_of"),
        tuple(_count(step, "a step") for step in _list(given.get("ran_in", []), "ran_in")),
        None if why_not is None else _text(why_not, "why_not"),
    )


def ready(answer: Mapping[str, Any]) -> Ready:
    """Raises: WrongAnswerError: it is no such answer."""
    facts = _mapping(answer.get("ready"), "ready")
    weights = _mapping(facts.get("weights"), "weights")
    proofs = _list(facts.get("proofs", []), "proofs")
    return Ready(
        _seconds(facts.get("first_call_s"), "first_call_s"),
        {name: _text(value, f"weights of {name}") for name, value in weights.items()},
        dict(_mapping(facts.get("inputs", {}), "inputs")),
        [_text(proof, "a proof") for proof in proofs],
    )


def timed(answer: Mapping[str, Any]) -> Timed:
    """Raises: WrongAnswerError: it is no such answer."""
    seconds = answer.get("seconds")
    if not (isinstance(seconds, float) and math.isfinite(seconds) and seconds > 0):
        raise WrongAnswerError(f"its clock gave {seconds!r} seconds")
    call_s = answer.get("call_s")
    shape = answer.get("shape")
    return Timed(
        seconds,
        math.nan if call_s is None else _seconds(call_s, "call_s"),
        None if shape is None else tuple(_count(size, "shape") for size in _list(shape, "shape")),
    )


def counts(answer: Mapping[str, Any]) -> Counts:
    """Raises: WrongAnswerError: it is no such answer."""
    seen = _mapping(answer.get("seen"), "seen")
    counted: dict[str, dict[str, int]] = {}
    for component, inner in _mapping(seen.get("counts"), "counts").items():
        found = _mapping(inner, f"counts of {component}")
        counted[component] = {what: _count(n, f"{component}: {what}") for what, n in found.items()}
    sites = tuple(_site(one) for one in _list(seen.get("sites"), "sites"))
    notes = tuple(_text(note, "a note") for note in _list(seen.get("notes"), "notes"))
    return Counts(counted, sites, notes)


def _site(plain: Any) -> CountedLine:
    given = _mapping(plain, "a site")
    if set(given) != {field.name for field in fields(CountedLine)}:
        _wrong("a site", plain)
    for name, value in given.items():
        _count(value, f"a site's {name}") if name in ("line", "count") else _text(value, name)
    return CountedLine(**given)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _wrong(what, value)


def _list(value: Any, what: str) -> list[Any]:
    return value if isinstance(value, list) else _wrong(what, value)


def _text(value: Any, what: str) -> str:
    return value if isinstance(value, str) else _wrong(what, value)


def _count(value: Any, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    _wrong(what, value)


def _seconds(value: Any, what: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value >= 0 else _wrong(what, value)


def _wrong(what: str, value: Any) -> NoReturn:
    text = repr(value)
    shown = text if len(text) <= 80 else f"{text[:80]}…"
    raise WrongAnswerError(
        f"it answered something else than it was asked: {what} is {shown}, which is none"
    )
