"""Attention without ``scaled_dot_product_attention``, by diffusers' oldest processors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..observation import FUSED_ATTENTION, MATH_ATTENTION, PLAIN_SOFTMAX
from ..targets import models_with, targets_of
from ..technique import Observation, Proof, Technique
from ..undo_notes import memory
from .attention import AttentionTechnique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_NEAREST = "sdpa_math is the nearest to it"


class NoSdpa(AttentionTechnique):
    """The ladder's first arm: diffusers' oldest processors, which never call SDPA."""

    name: ClassVar[str] = "no_sdpa"
    summary: ClassVar[str] = "attention as plain matrix products and softmax, without SDPA"
    contradicts: ClassVar[Mapping[str, str]] = {
        "fused_qkv": "diffusers' processor without SDPA reads the projections that are not fused"
    }

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        return _without_plain_processors(pipeline, _models(pipeline))

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        targets = targets_of(pipeline)
        attending = {n: part for n, part in targets.all.items() if before.part(n).sdpa_calls}
        why = _without_plain_processors(pipeline, _processing(attending))
        if why is not None:
            return why
        unreached = _sdpa_without_processor(attending, before)
        if unreached:
            return (
                f"SDPA is called by code that no attention processor replaces, in "
                f"{', '.join(unreached[:3])}{_others(pipeline, unreached)}; {_NEAREST}"
            )
        if before.sets_processors:
            where = " and ".join(sorted(before.sets_processors))
            return (
                f"it sets attention processors of its own in each call ({where}), over whatever "
                f"was there; {_NEAREST}"
            )
        return super().incompatible_with_call(pipeline, before)

    def apply(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.diffusers_attention import processors_of

        for part, model in _models(pipeline).items():
            memory(pipeline, self.name)[part] = processors_of(model)
            model.set_default_attn_processor()

    def undo(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.diffusers_attention import set_processors

        notes = memory(pipeline, self.name)
        for part, model in _models(pipeline).items():
            if part in notes:
                set_processors(model, notes[part])

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        forbidden = FUSED_ATTENTION | {MATH_ATTENTION}
        found = self.require_only(pipeline, seen, frozenset({PLAIN_SOFTMAX}), forbidden)
        softmaxes = sum(ops.get(PLAIN_SOFTMAX, 0) for ops in found.values())
        return Proof(
            self.name,
            f"{softmaxes} plain softmaxes and no fused attention in {' and '.join(found)}"
            f"{self.without_attention(pipeline, seen)}",
            {"attention": found},
        )

    def prove_compiled(
        self, pipeline: DiffusionPipeline, seen: Observation
    ) -> Mapping[str, Any] | None:
        # Inductor recognizes plain attention and fuses it again where one of its patterns fits.
        return self.require_compiled_only(pipeline, seen, frozenset())


def _models(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """The diffusers models that have attention processors; a denoiser that has none is alone."""
    from ...adapters.diffusers_attention import processors_of

    targets = targets_of(pipeline)
    all_of_them = _processing(targets.all)
    denoisers = _processing(targets.denoisers)
    attending = {name: model for name, model in all_of_them.items() if processors_of(model)}
    if not attending.keys() & denoisers.keys():
        return {**denoisers, **attending}
    return attending


def _processing(parts: Mapping[str, Any]) -> dict[str, Any]:
    return models_with(parts, "attn_processors")


def _without_plain_processors(pipeline: DiffusionPipeline, models: Mapping[str, Any]) -> str | None:
    """Why some of ``models`` cannot attend without SDPA, and which denoisers could."""
    from ...adapters.diffusers_attention import plain_processors_missing

    whys = {name: plain_processors_missing(model) for name, model in models.items()}
    refused = {name: why for name, why in whys.items() if why is not None}
    if not refused:
        return None
    listed = "; ".join(f"{name}: {why}" for name, why in refused.items())
    return f"{listed}{_others(pipeline, refused)}; {_NEAREST}"


def _others(pipeline: DiffusionPipeline, refused: Iterable[str]) -> str:
    """The denoisers that are not the reason."""
    targets = targets_of(pipeline)
    reasons = {targets.split(name)[0] for name in refused}
    others = [name for name in targets.denoisers if name not in reasons]
    return f" (not so the {' and '.join(others)})" if others else ""


def _sdpa_without_processor(parts: Mapping[str, Any], before: Observation) -> list[str]:
    """Modules that called SDPA and are no attention with a processor, such as torch's own
    ``MultiheadAttention`` in a ControlNetUnion.
    """
    from ...adapters.diffusers_attention import processors_of

    replaceable = {
        f"{name}.{path}".removesuffix(".processor")
        for name, model in _processing(parts).items()
        for path in processors_of(model)
    }
    called = [f"{part}.{path}" for part in parts for path in before.part(part).sdpa_places]
    return [
        place
        for place in called
        if not any(f"{place}.".startswith(f"{attention}.") for attention in replaceable)
    ]


TECHNIQUES: tuple[Technique, ...] = (NoSdpa(),)
