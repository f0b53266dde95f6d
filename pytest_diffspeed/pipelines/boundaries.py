"""Where the stages of a pipeline's call begin and end, for :mod:`pytest_diffspeed.timing.stages`.

Nothing of what is timed is changed, above all nothing that is compiled:

- Text encoders and denoiser are watched from outside their ``__call__``.  Not by forward hooks:
  those of a module that was compiled in place (``module.compile()``) run inside what is compiled,
  so dynamo compiles the hook, and one that reads a clock is a graph break, with ``fullgraph=True``
  an error (torch 2.13.0).
- ``vae.decode`` is an attribute through which the pipeline calls; what stands there, possibly a
  compiled function, is put back when the call is over.
- ``step`` of all schedulers is watched by class (see :mod:`.scheduler_watch`), since pipelines copy
  theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..adapters.attributes import replaced
from ..adapters.torch_internals import around_calls
from ..common.errors import SourceError
from ..timing.stages import Around, Boundaries, Part
from .components import denoiser, modules, vae
from .scheduler_watch import ENDS_STEP, schedulers_of, watch_schedulers

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


def text_encoders(pipeline: DiffusionPipeline) -> list[torch.nn.Module]:
    """``text_encoder``, ``text_encoder_2``, and so on, those that the pipeline has."""
    return [part for name, part in modules(pipeline).items() if name.startswith("text_encoder")]


def stage_boundaries(pipeline: DiffusionPipeline) -> Boundaries:
    """Puts a recorder around the parts of ``pipeline`` while its context is open."""

    @contextmanager
    def boundaries(around: Around) -> Iterator[None]:
        with ExitStack() as stack:
            for encoder in text_encoders(pipeline):
                watch = around_calls(encoder, lambda f: around(Part.TEXT_ENCODER, f))
                stack.enter_context(watch)
            watch = around_calls(denoiser(pipeline), lambda f: around(Part.DENOISER, f))
            stack.enter_context(watch)
            decoder = vae(pipeline)
            decode = getattr(decoder, "decode", None)
            if decode is not None:
                stack.enter_context(replaced(decoder, "decode", around(Part.VAE_DECODE, decode)))
            steps = watch_schedulers(
                lambda _, __, function: around(Part.SCHEDULER_STEP, function),
                schedulers_of(pipeline).values(),
                ENDS_STEP,
            )
            stack.enter_context(steps)
            yield

    return boundaries


def require_unit(pipeline: DiffusionPipeline, unit: str) -> None:
    """Refuse to time what the pipeline lacks.

    Raises:
        SourceError: with what is missing.
    """
    kind = type(pipeline).__name__
    if unit in ("step", Part.DENOISER):
        denoiser(pipeline)  # says itself what is missing
    there = {
        "step": schedulers_of(pipeline) or None,
        Part.TEXT_ENCODER.value: text_encoders(pipeline) or None,
        Part.VAE_DECODE.value: getattr(vae(pipeline), "decode", None),
    }
    needs = {
        "step": "a scheduler with a `step`",
        Part.TEXT_ENCODER.value: "a `text_encoder`",
        Part.VAE_DECODE.value: "a `vae` with a `decode`",
    }
    if unit in there and there[unit] is None:
        raise SourceError(f"unit={unit!r} cannot be timed: {kind} lacks {needs[unit]}")
