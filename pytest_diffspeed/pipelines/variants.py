"""Calls that differ from the usual one in one thing: size, batch, prompt, guidance."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..common.errors import SourceError
from .call import PipelineCall

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Variant = tuple[str, Callable[[], object]]


def variants(
    pipeline: DiffusionPipeline,
    call: PipelineCall,
    *,
    steps: int,
    sizes: Sequence[tuple[int, int]] = (),
    batch_sizes: Sequence[int] = (),
    prompts: Sequence[str] = (),
    guidance: Sequence[float] = (),
) -> list[Variant]:
    """A name and a call for each; sizes are (height, width) in pixels.

    Raises:
        SourceError: the pipeline's call does not take what would be varied.
    """
    accepted = set(inspect.signature(type(pipeline).__call__).parameters)
    needs = {
        "sizes": (sizes, {"height", "width"}),
        "batch_sizes": (batch_sizes, {"prompt"}),
        "prompts": (prompts, {"prompt"}),
        "guidance": (guidance, {"guidance_scale"}),
    }
    for argument, (values, names) in needs.items():
        missing = sorted(names - accepted)
        if values and missing:
            raise SourceError(
                f"{argument} cannot be varied: a call of {type(pipeline).__name__} takes no "
                f"{' and no '.join(missing)}"
            )

    def with_defaults(**changes: object) -> PipelineCall:
        defaults = replace(call.defaults, **changes)  # type: ignore[arg-type]
        return PipelineCall(pipeline, defaults, call.prompt)

    found: list[Variant] = []
    for height, width in sizes:
        sized = with_defaults(height=height, width=width)
        found.append((f"size {height} × {width}", _running(pipeline, sized, steps)))
    for batch in batch_sizes:
        found.append((f"batch of {batch}", _batched(pipeline, call, steps, batch)))
    for prompt in prompts:
        prompted = PipelineCall(pipeline, call.defaults, prompt)
        found.append((f"prompt {_short(prompt)!r}", _running(pipeline, prompted, steps)))
    for scale in guidance:
        guided = with_defaults(guidance=scale)
        found.append((f"guidance {scale:g}", _running(pipeline, guided, steps)))
    return found


def _running(pipeline: DiffusionPipeline, call: PipelineCall, steps: int) -> Callable[[], object]:
    return lambda: call(pipeline, steps=steps)


def _batched(
    pipeline: DiffusionPipeline, call: PipelineCall, steps: int, batch: int
) -> Callable[[], object]:
    def run() -> object:
        arguments = call.arguments(pipeline, steps=steps)
        arguments["prompt"] = [call.prompt] * batch
        latents = arguments.get("latents")
        if isinstance(latents, torch.Tensor):
            arguments["latents"] = latents.expand(batch, *latents.shape[1:]).contiguous()
        return pipeline(**arguments)

    return run


def _short(text: str) -> str:
    return text if len(text) <= 30 else text[:29] + "…"
