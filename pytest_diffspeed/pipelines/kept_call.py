"""A component's call as it was made: its inputs, and the modes of torch that it was made in.

Without its autocast a call has other dtypes when it is run again, or cannot be run at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from ..compilation.probe import Call
from .copied_inputs import copied

Surroundings = Callable[[], AbstractContextManager[Any]]


def kept_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], inner: Surroundings = nullcontext
) -> Call:
    """The call that is being made right now, with copies of its inputs.

    Args:
        args: its inputs.
        kwargs: its inputs.
        inner: makes what has to be entered around it beside the modes of torch.
    """
    args, kwargs = copied((args, kwargs))
    return Call(args, kwargs, torch.is_grad_enabled(), _all_of(*_modes(), inner))


def modes_of_thread() -> Surroundings:
    """Makes, in another thread, what torch is in right now in this one, and keeps by thread:
    gradients, inference, autocast and the default device.
    """
    grad, device = torch.is_grad_enabled(), torch.get_default_device()
    modes: list[Surroundings] = [lambda: torch.set_grad_enabled(grad), *_modes()]
    if device.type != "cpu":  # a default of "cpu" is none, which is what a thread begins with
        modes.append(lambda: device)
    return _all_of(*modes)


def _all_of(*several: Surroundings) -> Surroundings:
    @contextmanager
    def entered() -> Iterator[None]:
        with ExitStack() as stack:
            for enter in several:
                stack.enter_context(enter())
            yield

    return entered


def _modes() -> tuple[Surroundings, ...]:
    """Makes the modes of torch in which we are right now: inference, and autocast."""
    found: list[Surroundings] = []
    if torch.is_inference_mode_enabled():
        found.append(torch.inference_mode)
    accelerator = torch.accelerator.current_accelerator()
    kinds = dict.fromkeys(("cpu", *(() if accelerator is None else (accelerator.type,))))
    for kind in kinds:
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            found.append(lambda kind=kind, dtype=dtype: torch.autocast(kind, dtype))  # type: ignore[misc]
    return tuple(found)
