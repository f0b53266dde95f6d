"""Put another value on an instance for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_NOTHING = object()


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """``owner.name`` is ``value``; afterwards the instance is as it was.

    Works on the instance's ``__dict__``, past ``__setattr__``: that of a torch module registers
    modules elsewhere, and that of ``torch.compile``'s wrapper writes to the module it wraps.
    """
    own = vars(owner)
    before = own.get(name, _NOTHING)
    own[name] = value
    try:
        yield
    finally:
        if before is _NOTHING:
            own.pop(name, None)
        else:
            own[name] = before


@contextmanager
def replaced_in_class(owner: type, name: str, value: object) -> Iterator[None]:
    """The same for what stands in the body of a class, of which it is a static method, say."""
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
