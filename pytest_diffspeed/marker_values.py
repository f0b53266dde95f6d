"""Checks of marker arguments: each returns the value it accepts or says what would be valid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .errors import UsageError, nearest
from .techniques.stacks import PREVIOUS, Stack, parse_stack


class BadValueError(UsageError):
    """A marker's argument has the right name and a value that cannot be meant."""

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
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadValueError(argument, f"must be a number such as {example}, not {value!r}")
    number = float(value)
    if not math.isfinite(number) or not above < number < below or number < least:
        bounds = []
        if above > -math.inf:
            bounds.append(f"greater than {above:g}")
        if least > -math.inf:
            bounds.append(f"at least {least:g}")
        if below < math.inf:
            bounds.append(f"less than {below:g}")
        raise BadValueError(
            argument,
            f"must be finite and {' and '.join(bounds)} (such as {example}), not {value!r}",
        )
    return number


def as_count(argument: str, value: object, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadValueError(argument, f"must be a whole number of at least {least}, not {value!r}")
    return value


def as_flag(argument: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadValueError(argument, f"must be True or False, not {value!r}")
    return value


def as_one_of(argument: str, value: object, valid: Sequence[str]) -> str:
    if not isinstance(value, str):
        raise BadValueError(argument, f"must be one of {', '.join(valid)}, not {value!r}")
    if value not in valid:
        raise BadValueError(argument, f"does not know {value!r}; {nearest(value, valid)}")
    return value


def as_words(argument: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise BadValueError(argument, f"must be a list of strings, not {value!r}")
    for word in value:
        if not (isinstance(word, str) and word.strip()):
            raise BadValueError(argument, f"must hold non-empty strings only, not {word!r}")
    return tuple(value)


def as_stack(argument: str, value: object, *, previous: bool = False) -> Stack:
    if not isinstance(value, str):
        raise BadValueError(argument, f"must be a stack such as 'bf16+compile', not {value!r}")
    if previous and value == PREVIOUS.name:
        return PREVIOUS
    try:
        return parse_stack(value)
    except UsageError as error:
        raise BadValueError(argument, f"is {value!r}: {error}") from None


def as_optional_stack(value: object) -> Stack | None:
    return None if value is None else as_stack("stack", value)


def as_device(value: object) -> str | None:
    if value is None:
        return None
    if not (isinstance(value, str) and value.strip()):
        raise BadValueError(
            "device", f"must be 'cpu', 'cuda' or a pattern on the device's name, not {value!r}"
        )
    return value
