"""Counting in the call that a source describes: its inputs, where a real call would have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from .allowances import parse_allowances
from .backends import backend
from .count import count_on
from .report import SyncReport
from .scopes import Scope

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ..pipelines.call import PipelineCall


def count_call(
    pipeline: DiffusionPipeline,
    call: PipelineCall,
    *,
    scope: Scope,
    steps: int,
    device: str | None = None,
    allow: Sequence[str] = (),
) -> SyncReport:
    """As :func:`~pytest_diffspeed.syncs.count.count_syncs`, with the arguments of ``call``.

    Latents and other tensors are on the device already, as those of a real call are.  Images are
    decoded only where the scope asks for it, unless the source itself gives an ``output_type``.
    """
    arguments = call.arguments(pipeline, steps=steps)
    for name in ("generator", "output_type"):
        # The generator of a timed call is on the CPU, and a stochastic scheduler would copy its
        # noise to the device in each step; without one the device draws.
        if name not in call.own_arguments:
            arguments.pop(name, None)
    with backend(device) as counter:

        def place(value: Any) -> Any:
            return counter.place(value) if isinstance(value, torch.Tensor) else value

        placed = {name: pytree.tree_map(place, value) for name, value in arguments.items()}
        return count_on(counter, pipeline, scope, steps, parse_allowances(allow), placed)
