"""Hooks of modules that stay for as long as a call is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def hooked(handles: Iterable[Any]) -> Iterator[None]:
    """Hooks whose ``handles`` these are, until the context is left."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def around(
    module: torch.nn.Module, enter: Callable[[], object], leave: Callable[[], object]
) -> list[Any]:
    """Have ``enter()`` and ``leave()`` called around each call of ``module``, one that raises too;
    gives the handles.
    """

    def entering(*_: object) -> None:
        enter()

    def leaving(*_: object) -> None:
        leave()

    return [
        module.register_forward_pre_hook(entering),
        module.register_forward_hook(leaving, always_call=True),
    ]
