"""Pyramid attention broadcast: what an attention gave is used again for a few steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..feature_caches import FeatureCache, why_no_timestep
from ..technique import Technique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class PyramidAttention(FeatureCache):
    """``diffusers.hooks.PyramidAttentionBroadcastConfig`` (arXiv 2408.12588).

    Within a range of timesteps an attention computes in each ``…_block_skip_range``-th step only.
    It is put on UNets too, whose attention is of the same classes.
    """

    name: ClassVar[str] = "pyramid_attention"
    summary: ClassVar[str] = "uses what an attention gave again for a few steps"
    kind: ClassVar[str] = "PyramidAttentionBroadcast"
    wraps: ClassVar[str] = "attention"
    keeps_passes_apart: ClassVar[bool] = False
    asks_for_timestep: ClassVar[bool] = True
    example: ClassVar[str] = "pyramid_attention(spatial_attention_block_skip_range=2)"

    def why_not(self, pipeline: DiffusionPipeline, model: Any) -> str | None:
        return why_no_timestep(pipeline, model)

    @property
    def advice(self) -> str:
        return (
            "an attention is left out at timesteps in …_attention_timestep_skip_range only, and in "
            "all but each …_attention_block_skip_range-th step: widen the first, raise the second, "
            "or draw in more steps"
        )

    def values(self, pipeline: DiffusionPipeline, name: str, model: Any) -> dict[str, Any]:
        known = super().values(pipeline, name, model)
        if not any(key.endswith("_block_skip_range") for key in known):
            known["spatial_attention_block_skip_range"] = 2  # as diffusers does, with a warning
        return known


TECHNIQUES: tuple[Technique, ...] = (PyramidAttention(),)
