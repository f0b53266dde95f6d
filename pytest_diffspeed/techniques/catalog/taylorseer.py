"""TaylorSeer: what modules give is extrapolated between steps that compute it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..feature_caches import FeatureCache
from ..technique import Technique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class TaylorSeer(FeatureCache):
    """``diffusers.hooks.TaylorSeerCacheConfig`` (arXiv 2503.06923).

    After ``disable_cache_before_step`` steps all of what it wraps computes in each
    ``cache_interval``-th one only; in between a Taylor series stands in for it.  By default it
    wraps attention that diffusers calls ``attn``; with ``use_lite_mode=True`` all blocks.
    """

    name: ClassVar[str] = "taylorseer"
    summary: ClassVar[str] = "extrapolates attention, or all blocks, between steps that compute it"
    kind: ClassVar[str] = "TaylorSeerCache"
    wraps: ClassVar[str] = "module"
    example: ClassVar[str] = "taylorseer(cache_interval=2,disable_cache_before_step=1)"
    other_names: ClassVar[str] = (
        "; give them by a pattern, such as taylorseer(cache_identifiers='blocks.*attn[12]'), or "
        "take all blocks by taylorseer(use_lite_mode=True)"
    )

    def why_not(self, pipeline: DiffusionPipeline, model: Any) -> str | None:
        if hasattr(model, "enable_cache"):
            return None
        return f"a {type(model).__name__} has no such cache in diffusers; transformers have"

    @property
    def advice(self) -> str:
        return (
            "it computes all of the first disable_cache_before_step="
            f"{self.setting('disable_cache_before_step')} steps and then each "
            f"cache_interval={self.setting('cache_interval')}th one: lower the first, raise the "
            "second, or draw in more steps"
        )


TECHNIQUES: tuple[Technique, ...] = (TaylorSeer(),)
