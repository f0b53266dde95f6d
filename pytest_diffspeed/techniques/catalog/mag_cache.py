"""MagCache: all blocks are skipped while the size of what they add is known to change little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from ...adapters.diffusers_caches import PutOn, measured_ratios, opens_cache_context
from ..feature_caches import FeatureCache, why_no_blocks
from ..observation import Observation
from ..targets import targets_of
from ..technique import Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_MEASURED = "of this very pipeline they are measured in an untimed call"
_MORE_THAN_A_CALL_HAS = 1 << 30


class MagCache(FeatureCache):
    """``diffusers.hooks.MagCacheConfig`` (Zehong-Ma/MagCache).

    The ratios by which residuals grow from step to step belong to a model and a schedule.  They are
    measured here, in one call of this pipeline as the rest of the stack left it, and so is the
    number of steps that each denoiser runs in.
    """

    name: ClassVar[str] = "mag_cache"
    summary: ClassVar[str] = "skips all blocks while the size of their residual changes little"
    kind: ClassVar[str] = "MagCache"
    wraps: ClassVar[str] = "block"
    example: ClassVar[str] = "mag_cache(threshold=0.1)"
    supplied: ClassVar[Mapping[str, str]] = {
        "mag_ratios": _MEASURED,
        "calibrate": f"a call that calibrates skips nothing; {_MEASURED}",
        "num_inference_steps": "the steps of a call are counted",
    }

    def why_not(self, pipeline: DiffusionPipeline, model: Any) -> str | None:
        return why_no_blocks(model, 1)

    @property
    def advice(self) -> str:
        return (
            f"the first {self.setting('retention_ratio')} of the steps (retention_ratio) are "
            f"computed always, and the error that adds up is allowed {self.setting('threshold')} "
            "(threshold): "
            "lower the first, raise the second, or draw in more steps"
        )

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        if opens_cache_context(pipeline):
            return None
        for name in self._takers(pipeline):
            part, _ = targets_of(pipeline).split(name)
            if max(before.calls_in_steps.get(part, (0,))) > 1:
                return (
                    f"its {name} runs several times in a step, outside of `cache_context`, so the "
                    "one would get what was computed for the other"
                )
        return None

    def apply_seen(self, pipeline: DiffusionPipeline, observe: Callable[[], Observation]) -> None:
        measured = memory(pipeline, self.name).setdefault("ratios", {})
        for name in self._takers(pipeline):
            made = self.put_on(
                pipeline, name, calibrate=True, num_inference_steps=_MORE_THAN_A_CALL_HAS
            )
            try:
                with measured_ratios(made) as found:
                    observe()
            finally:
                made.remove()
            measured[name] = [
                fmean(one for one in step if one is not None) for step in zip_longest(*found)
            ]
        self.apply(pipeline)

    def put_on(self, pipeline: DiffusionPipeline, name: str, **more: object) -> PutOn:
        """With what was measured of this denoiser."""
        ratios = memory(pipeline, self.name).get("ratios", {}).get(name)
        if not more and not ratios:
            raise self.refusal(pipeline, f"its ratios are to be {_MEASURED}, and none was made")
        own = more or {"mag_ratios": ratios, "num_inference_steps": len(ratios)}
        return super().put_on(pipeline, name, **own)

    def more_figures(self, pipeline: DiffusionPipeline) -> dict[str, Any]:
        return {"mag_ratios": dict(memory(pipeline, self.name)["ratios"])}


TECHNIQUES: tuple[Technique, ...] = (MagCache(),)
