"""What ``fullgraph=True`` means to dynamo, asked of the installed torch.

Seen in torch 2.10 to 2.15: ``fullgraph`` of the context that ``torch.compile`` leaves on what it
returns, and two settings that it stands in for while it traces.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch._dynamo import config, eval_frame

from .dynamo import quiet_logs, watching
from .dynamo_undisturbed import undisturbed


def compiled_with_fullgraph(compiled: Any) -> bool:
    """Whether ``torch.compile(…, fullgraph=True)`` gave ``compiled``.

    ``False`` too for what says nothing of it.
    """
    if isinstance(compiled, eval_frame.OptimizedModule):
        return bool(getattr(compiled.dynamo_ctx, "fullgraph", False))
    while compiled is not None:
        for value in _closed_over(compiled):
            if isinstance(value, eval_frame.OptimizeContext):
                return bool(getattr(value, "fullgraph", False))
        compiled = getattr(compiled, "__wrapped__", None)  # somebody's decorator around it
    return False


def _closed_over(function: Any) -> Iterator[object]:
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # an empty cell
            yield cell.cell_contents


@contextmanager
def captured_as_with_fullgraph() -> Iterator[None]:
    """Dynamo captures what ``fullgraph=True`` lets it capture, and breaks where it must.

    Whether ``.item()`` and sizes that depend on values stay in the graph is a setting, which
    ``fullgraph=True`` stands in for.
    """
    with config.patch(dict.fromkeys(_settings_of_fullgraph(), True)):
        yield


@functools.cache
def _settings_of_fullgraph() -> tuple[str, ...]:
    """Torch is asked by compiling one function of each kind; its answer holds for the process."""
    asked: tuple[tuple[str, Callable[[torch.Tensor], torch.Tensor]], ...] = (
        ("capture_scalar_outputs", _reads_a_value),
        ("capture_dynamic_output_shape_ops", _masks),
    )
    return tuple(setting for setting, function in asked if _captures_without(setting, function))


def _captures_without(setting: str, function: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    with ExitStack() as stack:
        stack.enter_context(quiet_logs())
        stack.enter_context(undisturbed(stack.enter_context(watching())))
        # Whoever switched compilation off did so for what they compile.
        stack.enter_context(torch.compiler.set_stance("default"))
        stack.enter_context(config.patch({setting: False, "disable": False}))
        try:
            torch.compile(function, fullgraph=True, backend="eager")(torch.ones(2))
        except torch._dynamo.exc.TorchDynamoException:
            return False
    return True


def _reads_a_value(x: torch.Tensor) -> torch.Tensor:
    return x * x.sum().item()


def _masks(x: torch.Tensor) -> torch.Tensor:
    return x[x > 0] + 1
