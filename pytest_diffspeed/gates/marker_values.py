"""Checks of marker arguments: each returns the value it accepts or says what would be valid."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import TypeVar

from ..accelerators.registry import accelerators
from ..common.arguments import number
from ..common.errors import UsageError, nearest
from ..techniques.stacks import BASE, PREVIOUS, Stack, parse_stack

Word = TypeVar("Word", bound=str)


class BadValueError(UsageError):
    """A marker's argument has the right name and a value that makes no sense."""

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(message)
        self.argument = argument


def as_number(
    argument: str,
    value: object,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    least: float = -math.inf,
    example: str,
) -> float:
    try:
        return number(value, above=above, below=below, least=least, example=example)
    except UsageError as error:
        raise BadValueError(argument, str(error)) from None


MOST_RATIO = 1000.0
"""No call of a pipeline is so many times faster, slower or larger than another one."""


def as_ratio(argument: str, value: object, *, example: str) -> float:
    """A ratio that something could reach and something could miss."""
    ratio = as_number(argument, value, above=0.0, example=example)
    if not 1.0 / MOST_RATIO <= ratio <= MOST_RATIO:
        raise BadValueError(
            argument,
            f"must lie between {1.0 / MOST_RATIO:g} and {MOST_RATIO:g} (such as {example}), not "
            f"{value!r}: the gate could never fire, or never pass",
        )
    return ratio


def as_count(argument: str, value: object, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadValueError(argument, f"must be a whole number of at least {least}, not {value!r}")
    return value


def as_numbers(argument: str, value: object) -> tuple[float, ...] | None:
    """Like :func:`as_words`, of numbers of at least zero."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence) or not value:
        raise BadValueError(argument, f"must be a list of numbers, not {value!r}")
    return tuple(as_number(argument, number, least=0.0, example="1.0") for number in value)


def as_counts(argument: str, value: object, *, least: int = 0) -> tuple[int, ...] | None:
    """Like :func:`as_words`, of whole numbers."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
        raise BadValueError(argument, f"must be a list of whole numbers, not {value!r}")
    if not value:
        raise BadValueError(argument, f"must hold at least one whole number, not {value!r}")
    return tuple(as_count(argument, number, least=least) for number in value)


def as_sizes(argument: str, value: object) -> tuple[tuple[int, int], ...] | None:
    if value is None:
        return None
    sizes: list[tuple[int, int]] = []
    for size in value if isinstance(value, Sequence) else ():
        text = isinstance(size, (str, bytes, bytearray))
        if text or not isinstance(size, Sequence) or len(size) != 2:
            sizes.clear()
            break
        height, width = (as_count(argument, side, least=1) for side in size)
        sizes.append((height, width))
    if not sizes:
        raise BadValueError(argument, f"must hold (height, width) pairs, not {value!r}")
    return tuple(sizes)


def as_flag(argument: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadValueError(argument, f"must be True or False, not {value!r}")
    return value


def as_one_of(argument: str, value: object, valid: Sequence[Word]) -> Word:
    """One of the words of a ``Literal`` (``typing.get_args``), or of a list."""
    if not isinstance(value, str):
        raise BadValueError(argument, f"must be one of {', '.join(valid)}, not {value!r}")
    for word in valid:
        if word == value:
            return word
    raise BadValueError(argument, f"does not know {value!r}; {nearest(value, valid)}")


_COMPONENT = re.compile(r"<\w+( \d+)?>(\.\w+)*|\w+(\.\w+)*")
"""A dotted name of a pipeline's, or the name of what does not hang on it: ``<Tower>``."""


def as_component(argument: str, value: object, reserved: Sequence[str] = ()) -> str:
    """A component's name, or one of ``reserved``; which components there are is seen in a call."""
    if not isinstance(value, str):
        words = f"one of {', '.join(reserved)} or a component" if reserved else "a component"
        raise BadValueError(argument, f"must be {words} such as 'denoiser', not {value!r}")
    close = difflib.get_close_matches(value, reserved, n=1, cutoff=0.8)
    if value not in reserved and (close or not _COMPONENT.fullmatch(value)):
        valid = (*reserved, "denoiser", "vae.decode")
        raise BadValueError(argument, f"does not know {value!r}; {nearest(value, valid)}")
    return value


def as_components(argument: str, value: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of components; ``None`` stays: it means all."""
    words = as_words(argument, value)
    return None if words is None else tuple(as_component(argument, word) for word in words)


def as_words(argument: str, value: object, *, least: int = 1) -> tuple[str, ...] | None:
    """``None`` stays: it means the default.  An empty list would leave nothing to check."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
        raise BadValueError(argument, f"must be a list of strings, not {value!r}")
    if len(value) < least:
        raise BadValueError(argument, f"must hold at least one string, not {value!r}")
    for word in value:
        if not (isinstance(word, str) and word.strip()):
            raise BadValueError(argument, f"must hold non-empty strings only, not {word!r}")
    return tuple(value)


def as_stack(argument: str, value: object, *, previous: bool = False, base: bool = False) -> Stack:
    if not isinstance(value, str):
        raise BadValueError(argument, f"must be a stack such as 'bf16+compile', not {value!r}")
    if previous and value == PREVIOUS.name:
        return PREVIOUS
    if base and value == BASE.name:
        return BASE
    try:
        return parse_stack(value)
    except UsageError as error:
        raise BadValueError(argument, f"is {value!r}: {error}") from None


def as_optional_stack(value: object) -> Stack | None:
    return None if value is None else as_stack("stack", value)


def as_device(value: object) -> str | None:
    """``cpu``, ``cuda``, ``cuda:N``, or a pattern on what the maker calls the device.

    Such names have several words, so a single one without a wildcard is a misspelt kind: it would
    match nothing, and the gate would never fire.
    """
    if value is None:
        return None
    example = "must be 'cpu', 'cuda' or a pattern on the device's name such as 'NVIDIA H100*'"
    if not (isinstance(value, str) and value.strip()):
        raise BadValueError("device", f"{example}, not {value!r}")
    if value not in accelerators() and re.fullmatch(r"[\w.-]+", value):
        match = difflib.get_close_matches(value.lower(), list(accelerators()), n=1)
        hint = f"; did you mean {match[0]!r}?" if match else ""
        raise BadValueError("device", f"{example}, not {value!r}{hint}")
    return value
