"""FasterCache: attention is approximated, and so is the pass without the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..feature_caches import FeatureCache, why_no_timestep
from ..skipped_work import Skipped
from ..technique import Technique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_LEAST_LEFT_OUT = 1e-3
"""Of the FLOPs in linear layers.  A pass without its half for guidance leaves out half of its own,
and no call has hundreds of steps of which one is such."""


class FasterCache(FeatureCache):
    """``diffusers.hooks.FasterCacheConfig`` (arXiv 2410.19355).

    In a range of timesteps the half of the batch that guidance runs without the prompt is left out
    in all but each ``unconditional_batch_skip_range``-th step, and attention in such steps in all
    but each ``…_block_skip_range``-th.  Of a model without guidance in its batch
    (``is_guidance_distilled=True``) attention alone is.
    """

    name: ClassVar[str] = "faster_cache"
    summary: ClassVar[str] = "approximates attention, and the half of the batch without the prompt"
    kind: ClassVar[str] = "FasterCache"
    wraps: ClassVar[str] = "attention"
    keeps_passes_apart: ClassVar[bool] = False
    asks_for_timestep: ClassVar[bool] = True
    example: ClassVar[str] = "faster_cache(is_guidance_distilled=True)"

    def why_not(self, pipeline: DiffusionPipeline, model: Any) -> str | None:
        if not hasattr(model, "enable_cache"):
            return f"a {type(model).__name__} has no such cache in diffusers; transformers have"
        return why_no_timestep(pipeline, model)

    @property
    def advice(self) -> str:
        return (
            "work is left out at timesteps in …_timestep_skip_range only: widen these, or draw in "
            "more steps"
        )

    def explain(self, error: Exception) -> str | None:
        if not isinstance(error, (IndexError, RuntimeError, TypeError, ValueError)):
            return None
        return (
            f"a call with it raised {type(error).__name__} ({error}); it takes denoisers whose "
            "batch is one half without the prompt and one with it and whose output has "
            "tensor_format=BCFHW, BFCHW or BCHW; is_guidance_distilled=True is for those that run "
            "without guidance"
        )

    def took_hold(self, found: Skipped) -> bool:
        return found.skipped > 0 or found.linear_flops < 1 - _LEAST_LEFT_OUT


TECHNIQUES: tuple[Technique, ...] = (FasterCache(),)
