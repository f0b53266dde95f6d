"""Arguments of techniques, as in ``compile(mode=reduce-overhead)``: read and written in one way.

Values are numbers, ``True``, ``False``, ``None`` and words; a word needs quotes only where it holds
something else than letters, digits and ``_ . - /``, or begins as no name and no path does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..common.errors import UnknownStackError, UsageError, nearest

Value = str | int | float | bool | None
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORD = re.compile(r"([A-Za-z_]|\.{0,2}/)[A-Za-z0-9_./-]*")
"""A name, or a path: ``adapters/ink.safetensors``, ``../ink``, ``owner/repository``."""
_CALL = re.compile(r"\s*([^\s()]+)\s*\((.*)\)\s*", re.DOTALL)
_PLAIN_CONSTANTS = ("True", "False", "None")
_KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a word",
    type(None): "None",
}


@dataclass(frozen=True)
class Parameter:
    """One argument that a technique takes.

    ``default`` is what it is where it is left out; ``choices`` are all that it can be, ``None`` if
    any value of the default's type can; ``about`` says in a few words what it does.
    """

    default: Value
    about: str
    choices: tuple[Value, ...] | None = None

    def __post_init__(self) -> None:
        if self.choices is None and (self.default is None or type(self.default) not in _KINDS):
            raise UsageError(f"a Parameter whose default is {self.default!r} needs its choices")


def split(text: str, separator: str) -> list[str]:
    """The pieces of ``text`` between separators that stand in no brackets and no quotes."""
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "()":
            depth += 1 if letter == "(" else -1
        elif letter == separator and depth == 0:
            pieces.append("")
            continue
        pieces[-1] += letter
    return pieces


def name_and_arguments(text: str) -> tuple[str, list[tuple[str | None, Value]]]:
    """``compile(mode=default)`` as its name and its arguments; those by place have no name.

    Raises:
        UnknownStackError: brackets do not close, or a value cannot be read.
    """
    if "(" not in text and ")" not in text:
        return text.strip(), []
    match = _CALL.fullmatch(text)
    if match is None:
        raise UnknownStackError(
            f"{text.strip()!r} is not a technique with arguments, such as "
            "'compile(mode=reduce-overhead)'"
        )
    name, inside = match.groups()
    found: list[tuple[str | None, Value]] = []
    for piece in split(inside, ",") if inside.strip() else []:
        key, equals, value = piece.partition("=")
        if equals and _NAME.fullmatch(key.strip()):
            found.append((key.strip(), _value(name, value)))
        else:
            found.append((None, _value(name, piece)))
    return name, found


def _value(name: str, text: str) -> Value:
    text = text.strip()
    if _WORD.fullmatch(text) and text not in _PLAIN_CONSTANTS:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = ...
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise UnknownStackError(
        f"{name}({text}): an argument is a number, True, False, None or a word, and a word with "
        "other letters than A-Z, 0-9, '_', '.', '-' and '/' stands in quotes"
    )


def bound(
    name: str, given: Sequence[tuple[str | None, Value]], parameters: Mapping[str, Parameter]
) -> dict[str, Value]:
    """What was given, by the names of ``parameters`` and in their order, without what is default.

    Raises:
        UnknownStackError: an argument is unknown, given twice, or no value that it can have.
    """
    found: dict[str, Value] = {}
    places = list(parameters)
    for place, (key, value) in enumerate(given):
        if not parameters:
            raise UnknownStackError(f"{name!r} takes no arguments; write {name!r}")
        if key is None and place >= len(places):
            raise UnknownStackError(
                f"{name!r} takes {', '.join(places)}, and no {place + 1} arguments"
            )
        key = places[place] if key is None else key
        if key not in parameters:
            raise UnknownStackError(f"{name!r} takes no {key!r}; {nearest(key, parameters)}")
        if key in found:
            raise UnknownStackError(f"{name!r} is given {key!r} twice")
        found[key] = _checked(name, key, value, parameters[key])
    return {
        key: found[key]
        for key, parameter in parameters.items()
        if key in found and found[key] != parameter.default
    }


def _checked(name: str, key: str, value: Value, parameter: Parameter) -> Value:
    where = f"{key} of {name!r}"
    if parameter.choices is not None:
        if value not in parameter.choices:
            valid = [written(one) for one in parameter.choices]
            raise UnknownStackError(f"{where} cannot be {value!r}; {nearest(str(value), valid)}")
        return value
    return of_kinds(where, value, {type(parameter.default)})


def of_kinds(where: str, value: Value, kinds: Collection[type]) -> Value:
    """``value``, which must be of one of ``kinds``; where these are none that can be written, of
    any.  A whole number for a float is made one: 7 and 7.0 are one stack.

    Raises:
        UnknownStackError: ``where`` must be something else.
    """
    if type(value) is int and float in kinds and int not in kinds:
        return float(value)
    words = [word for kind, word in _KINDS.items() if kind in kinds]
    if words and type(value) not in kinds:
        raise UnknownStackError(f"{where} must be {' or '.join(words)}, not {value!r}")
    return value


def written(value: Value) -> str:
    """A value as it is read: a plain word without quotes."""
    if isinstance(value, str) and _WORD.fullmatch(value) and value not in _PLAIN_CONSTANTS:
        return value
    return repr(value)


def canonical(name: str, arguments: Mapping[str, Value], *, by_place: int = 0) -> str:
    """``name``, or ``name(key=value, …)`` without spaces, as ids and records have it.

    The first ``by_place`` arguments stand there without their names.
    """
    if not arguments:
        return name
    each = [
        written(value) if place < by_place else f"{key}={written(value)}"
        for place, (key, value) in enumerate(arguments.items())
    ]
    return f"{name}({','.join(each)})"
