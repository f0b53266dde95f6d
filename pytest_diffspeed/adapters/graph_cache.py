"""What inductor's cache of compiled graphs is asked for.

``FxGraphCache.load_with_key``, which gives a graph or ``None`` and a dictionary with ``key`` and
``cache_state``; seen in torch 2.14.1.  AOTAutograd's cache asks it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..common.errors import DiffspeedError
from .attributes import replaced_in_class
from .tested import TORCH


@contextmanager
def cache_lookups(asked: Callable[[str, bool], object]) -> Iterator[None]:
    """``asked(key, found)`` is called after each lookup meanwhile.

    Raises:
        DiffspeedError: this torch has no such function.
    """
    from torch._inductor.codecache import FxGraphCache

    name = "load_with_key"
    load: Callable[..., Any] | None = getattr(FxGraphCache, name, None)
    if load is None:
        raise DiffspeedError(
            f"inductor's FxGraphCache has no {name}, which tells whose graphs a stack finds there; "
            f"pytest-diffspeed was tested with torch {TORCH}"
        )

    def asking(*args: Any, **kwargs: Any) -> Any:
        graph, about = load(*args, **kwargs)
        asked(about["key"], graph is not None)
        return graph, about

    with replaced_in_class(FxGraphCache, name, staticmethod(asking)):
        yield
