"""Watch the calls of all modules of the process, wherever they are.

``torch.nn.Module.__call__`` is a plain attribute of the class in torch 2.11 to 2.15, and what
dynamo compiles begins further in (``_call_impl``), so code that was compiled before runs as it is.
Dynamo knows that others replace the attribute (``torch.fx`` does), and looks into what stands
there when it compiles anew, so nothing should be compiled for the first time meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

Watcher = Callable[[torch.nn.Module, Callable[[], Any]], Any]
"""Gets a module and what runs it; gives back what that gave."""


@contextmanager
def module_calls(watcher: Watcher) -> Iterator[None]:
    """Every ``module(...)`` goes through ``watcher`` while this is open, but for those inside of
    compiled code, which calls no module.
    """
    before = torch.nn.Module.__call__

    def watched(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return before(module, *args, **kwargs)
        return watcher(module, lambda: before(module, *args, **kwargs))

    torch.nn.Module.__call__ = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.__call__ = before  # type: ignore[method-assign]
