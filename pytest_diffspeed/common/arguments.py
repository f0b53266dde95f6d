"""Arguments of functions and markers, checked: one sentence for what makes no sense.

A value of the wrong type is a :class:`~.errors.WrongTypeError`, a ``TypeError`` too; one of the
right type that cannot work is a :class:`~.errors.UsageError`, a ``ValueError``.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import ParamSpec, TypeVar

from .errors import UsageError, WrongTypeError, nearest

P = ParamSpec("P")
R = TypeVar("R")


def spelt_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, which answers a misspelt keyword with the nearest one.

    Not for functions with ``**kwargs``: what they take, only they know.
    """
    parameters = inspect.signature(function).parameters.values()
    valid = frozenset(one.name for one in parameters if one.kind is not one.POSITIONAL_ONLY)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        require_known(f"{function.__name__}()", kwargs, valid)
        return function(*args, **kwargs)

    return checked


def require_known(who: str, words: Iterable[str], valid: Collection[str]) -> None:
    """Refuse a keyword that ``who`` does not take.

    Raises:
        WrongTypeError: as Python does, with the nearest one.
    """
    for word in words:
        if word not in valid:
            raise WrongTypeError(f"{who} has no argument {word!r}; {nearest(word, valid)}")


def number(
    value: object,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    least: float = -math.inf,
    example: str,
) -> float:
    """``value`` as a finite float between bounds; NumPy's numbers are numbers, ``True`` is none.

    Raises:
        WrongTypeError, UsageError: a clause that begins with "must be", for behind the name.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise WrongTypeError(f"must be a number such as {example}, not {shown(value)}")
    try:
        found = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        found = math.inf
    if not math.isfinite(found) or not above < found < below or found < least:
        bounds = []
        if above > -math.inf:
            bounds.append(f"greater than {above:g}")
        if least > -math.inf:
            bounds.append(f"at least {least:g}")
        if below < math.inf:
            bounds.append(f"less than {below:g}")
        words = " and ".join(["finite", *bounds])
        raise UsageError(f"must be {words} (such as {example}), not {value!r}")
    return found


def named_number(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    example: str,
) -> float:
    """:func:`number`, whose errors begin with the argument's name."""
    try:
        return number(value, above=above, below=below, example=example)
    except UsageError as error:
        raise type(error)(f"{name} {error}") from None


def whole_number(name: str, value: object, *, least: int) -> int:
    """``value``, a whole number.

    Raises:
        WrongTypeError, UsageError: with the argument's name.
    """
    wrong = f"{name} must be a whole number of at least {least}, not {shown(value)}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise WrongTypeError(wrong)
    if value < least:
        raise UsageError(wrong)
    return int(value)


def texts(name: str, value: object, *, example: str) -> tuple[str, ...]:
    """``value``, a list of texts: a text by itself would be taken for a list of its letters.

    Raises:
        WrongTypeError: with the argument's name.
    """
    is_text = isinstance(value, (str, bytes, bytearray))
    if isinstance(value, Sequence) and not is_text and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise WrongTypeError(
        f"{name} must be a list of texts such as [{example!r}], not {shown(value)}"
    )


def one_of(name: str, value: object, valid: Sequence[str]) -> None:
    """Refuse what is none of the words ``valid``; these come from ``typing.get_args``.

    Raises:
        WrongTypeError, UsageError: with the argument's name, and the nearest word.
    """
    if not isinstance(value, str):
        raise WrongTypeError(f"{name} must be one of {', '.join(valid)}, not {shown(value)}")
    if value not in valid:
        raise UsageError(f"{name}={value!r} is not known; {nearest(value, valid)}")


_LONGEST = 60
"""Characters of a value in a message: a pipeline's own text has hundreds of lines."""


def shown(value: object) -> str:
    """What was given, for a message: ``'2'``, ``the class UNet2DConditionModel``, ``a Tensor``."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    plain = (str, bool, int, float, list, tuple, dict, set)
    text = repr(value) if value is None or isinstance(value, plain) else ""
    if text and len(text) <= _LONGEST and "\n" not in text:
        return text
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"
