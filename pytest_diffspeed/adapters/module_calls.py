"""Watch the calls of all modules of the process, wherever they are.

``torch.nn.Module.__call__`` is a plain attribute of the class in torch 2.11 to 2.15.  Code that was
compiled before runs as it is.  But dynamo knows that others replace the attribute (``torch.fx``
does), and compiles what stands there into what it compiles anew, which goes stale afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

Watcher = Callable[[torch.nn.Module, Callable[[], Any]], Any]
"""Gets a module and what runs it; gives back what that gave."""


@contextmanager
def module_calls(watcher: Watcher, *, eagerly: bool) -> Iterator[None]:
    """Every ``module(...)`` goes through ``watcher`` while this is open, but for those inside of
    compiled code.  With ``eagerly``, what is compiled runs eagerly, and nothing is compiled.
    """
    before = torch.nn.Module.__call__

    def watched(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return before(module, *args, **kwargs)
        return watcher(module, lambda: before(module, *args, **kwargs))

    torch.nn.Module.__call__ = watched  # type: ignore[method-assign]
    try:
        with _eager() if eagerly else nullcontext():
            yield
    finally:
        torch.nn.Module.__call__ = before  # type: ignore[method-assign]


@contextmanager
def calls_taken_over(
    take: Callable[[torch.nn.Module, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any],
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Every ``module(...)`` becomes ``take(module, its call, args, kwargs)`` while this is open.

    Gives what makes a context in which modules are called as if this was not open, nor anything
    else that watches them.
    """
    own = torch.nn.Module.__call__

    def taken(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        return take(module, lambda *a, **k: own(module, *a, **k), args, kwargs)

    @contextmanager
    def untouched() -> Iterator[None]:
        before = torch.nn.Module.__call__
        torch.nn.Module.__call__ = own  # type: ignore[method-assign]
        try:
            yield
        finally:
            torch.nn.Module.__call__ = before  # type: ignore[method-assign]

    torch.nn.Module.__call__ = taken  # type: ignore[method-assign]
    try:
        yield untouched
    finally:
        torch.nn.Module.__call__ = own  # type: ignore[method-assign]


def _eager() -> AbstractContextManager[object]:
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and it is slow to import
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance
