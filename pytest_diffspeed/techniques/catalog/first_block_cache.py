"""First-block caching: the other blocks are skipped where the first one hardly changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..feature_caches import FeatureCache, why_no_blocks
from ..technique import Technique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class FirstBlockCache(FeatureCache):
    """``diffusers.hooks.FirstBlockCacheConfig`` (after ParaAttention's).

    In each pass the residual of the first block is compared with that of the last pass which
    computed everything; where it differs by less than ``threshold``, the residual of all other
    blocks is used again.  The comparison waits for the device once in each pass.
    """

    name: ClassVar[str] = "first_block_cache"
    summary: ClassVar[str] = "skips all blocks but the first where that one hardly changed"
    kind: ClassVar[str] = "FirstBlockCache"
    wraps: ClassVar[str] = "block"
    example: ClassVar[str] = "first_block_cache(threshold=0.1)"

    def why_not(self, pipeline: DiffusionPipeline, model: Any) -> str | None:
        return why_no_blocks(model, 2)

    @property
    def advice(self) -> str:
        return (
            "the first block's residual changed by more than the threshold from each step to the "
            "next: raise threshold"
        )


TECHNIQUES: tuple[Technique, ...] = (FirstBlockCache(),)
