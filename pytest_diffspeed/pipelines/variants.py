"""Calls that differ from the usual one in one thing: size, batch, prompt, guidance, adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..common.errors import SourceError
from ..common.text import shortened
from .call import PipelineCall
from .signature import call_signature

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
    loras: Sequence[str] = (),
    lora_scale: float = 1.0,
) -> list[Variant]:
    """A name and a call for each; sizes are (height, width) in pixels, ``loras`` files, folders or
    repositories, whose share is multiplied by ``lora_scale``.

    An adapter that a call swaps in stays there: whoever makes the calls puts the first one back.

    Raises:
        SourceError: the pipeline's call does not take what would be varied.
    """
    signature = call_signature(pipeline)
    needs = {
        "sizes": (sizes, {"height", "width"}),
        "batch_sizes": (batch_sizes, {"prompt"}),
        "prompts": (prompts, {"prompt"}),
        "guidance": (guidance, {"guidance_scale"}),
    }
    for argument, (values, names) in needs.items():
        missing = sorted(name for name in names if not signature.may_take(name))
        if values and missing:
            raise SourceError(
                f"{argument} cannot be varied: a call of {type(pipeline).__name__} takes no "
                f"{' and no '.join(missing)}"
            )

    found: list[Variant] = []
    for height, width in sizes:
        sized = call.varied(height=height, width=width)
        found.append((f"size {height} × {width}", _running(pipeline, sized, steps)))
    for batch in batch_sizes:
        found.append((f"batch of {batch}", _batched(pipeline, call, steps, batch)))
    for prompt in prompts:
        prompted = call.with_prompt(prompt)
        found.append((f"prompt {shortened(prompt, 30)!r}", _running(pipeline, prompted, steps)))
    for scale in guidance:
        guided = call.varied(guidance=scale)
        found.append((f"guidance {scale:g}", _running(pipeline, guided, steps)))
    short = {path: path.rstrip("/").rpartition("/")[2] for path in loras}
    for path in loras:
        alone = list(short.values()).count(short[path]) == 1
        name = short[path] if alone else path
        found.append((f"lora {name}", _swapped(pipeline, call, steps, path, lora_scale)))
    return found


def _running(pipeline: DiffusionPipeline, call: PipelineCall, steps: int) -> Callable[[], object]:
    return lambda: call(pipeline, steps=steps)


def _swapped(
    pipeline: DiffusionPipeline, call: PipelineCall, steps: int, path: str, scale: float
) -> Callable[[], object]:
    from .lora import hot_swap

    def run() -> object:
        hot_swap(pipeline, path, scale=scale)
        return call(pipeline, steps=steps)

    return run


def _batched(
    pipeline: DiffusionPipeline, call: PipelineCall, steps: int, batch: int
) -> Callable[[], object]:
    def run() -> object:
        arguments = call.arguments(pipeline, steps=steps)
        arguments["prompt"] = [call.prompt] * batch
        if call.latents is not None:  # the generator draws as many as the batch needs
            del arguments["latents"]
        return pipeline(**arguments)

    return run
