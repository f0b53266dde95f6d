"""A gate's marker, parsed into a frozen dataclass whose fields are the marker's arguments.

The class stands beside its gate in :mod:`.catalog`; ``from_arguments`` checks the arguments and
refuses what makes no sense.  Nothing here imports torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, TypeVar

from ..common.errors import UsageError, nearest
from ..records.verdict import Axis
from ..techniques.stacks import Stack
from .marker_values import BadValueError


@dataclass(frozen=True)
class GateMarker:
    """What all gate markers share: ``stack=`` and ``device=`` restrict where the gate holds.

    ``signature`` is what ``pytest --markers`` prints, as ``max_memory(ratio, …): peak device
    memory``.  It is a string without expressions in it: sessions without ``--diffspeed`` read it
    from the file and import nothing (:mod:`.signatures`).  ``marker`` is the name in it.
    """

    marker: ClassVar[str]
    signature: ClassVar[str]
    axis: ClassVar[Axis]
    """Where reports show the gate."""
    written: str = field(default="", compare=False, repr=False, kw_only=True)
    """As it stands in the test: ``max_memory(0.5)``."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "signature" in cls.__dict__:
            cls.marker = name_of(cls.signature)

    @property
    def claim(self) -> str:
        """Markers of one test with the same claim compete; the most specific one wins."""
        return self.marker

    def is_stricter(self, other: GateMarker) -> bool:
        """Whether this one, with the same claim, can fail where ``other`` passes."""
        return self != other

    @property
    def is_against_base(self) -> bool:
        """Whether it says ``over="base"``: it holds in sessions with a base only."""
        return False

    @property
    def only_stack(self) -> Stack | None:
        return getattr(self, "stack", None)

    @property
    def only_device(self) -> str | None:
        return getattr(self, "device", None)


class _Parsable(Protocol):
    marker: ClassVar[str]
    signature: ClassVar[str]


M = TypeVar("M", bound=_Parsable)


def name_of(signature: str) -> str:
    """``"max_memory"`` of ``"max_memory(ratio, …): peak device memory"``."""
    return signature.partition("(")[0]


def parse(cls: type[M], args: Iterable[Any], kwargs: Mapping[str, Any]) -> M:
    """A marker of class ``cls`` from the arguments that a test gave it.

    Raises:
        UsageError: names the marker, the bad word and what is valid.
    """
    factory: Callable[..., M] = cls.from_arguments  # type: ignore[attr-defined]
    marker: str = cls.marker
    parameters = inspect.signature(factory).parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    valid = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    args = tuple(args)
    _require_shown(marker, (*args, *kwargs.values()))
    for word in kwargs:
        if word not in valid and not open_ended:
            raise UsageError(
                f"{marker}(…, {word}=…): {word!r} is no argument of it; {nearest(word, valid)}"
            )
    try:
        inspect.signature(factory).bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(f"{_call(marker, args, kwargs)}: {error}; it is {cls.signature}") from None
    try:
        parsed = factory(*args, **kwargs)
    except BadValueError as error:
        raise UsageError(f"{_call(marker, args, kwargs)}: `{error.argument}` {error}") from None
    if isinstance(parsed, GateMarker):
        return replace(parsed, written=_call(marker, args, kwargs))
    return parsed


def _require_shown(marker: str, values: Iterable[Any]) -> None:
    """Refuse what cannot be named in a message: everything below names what it was given."""
    for value in values:
        try:
            repr(value)
        except Exception as error:
            raise UsageError(
                f"{marker}: one of its arguments, of type {type(value).__name__}, cannot be shown: "
                f"its repr raises {type(error).__name__}; give numbers, strings and lists"
            ) from None


def _call(marker: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    parts = [repr(a) for a in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
    return f"{marker}({', '.join(parts)})"
