"""Projections: query, key and value by one matrix product."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from ...common.errors import NotEffectiveError
from ..observation import DENOISER, VAE
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class FusedQkv(Technique):
    """One product for query, key and value; in cross-attention one for key and value."""

    name: ClassVar[str] = "fused_qkv"
    family: ClassVar[Family] = Family.PROJECTIONS
    summary: ClassVar[str] = "query, key and value projections fused, in denoiser and VAE"
    undoable: ClassVar[bool] = True
    watches: ClassVar[bool] = True

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        from ...adapters.diffusers_internals import adapted_projections, added_projections, fusable

        for part, model in _models(pipeline).items():
            adapted = adapted_projections(model)
            if adapted:
                return (
                    f"an adapter (LoRA) is loaded on {len(adapted)} projections of its {part}, and "
                    "fusing would drop it; merge it in the source, by `fuse_lora()` and then "
                    "`unload_lora_weights()`"
                )
        model = _models(pipeline)[DENOISER]
        kind = type(model).__name__
        if not hasattr(model, "fuse_qkv_projections"):
            return f"diffusers cannot fuse the projections of its denoiser, a {kind}"
        if added_projections(model):
            return f"diffusers does not fuse a {kind} with added key and value projections"
        if not fusable(model):
            return f"its denoiser, a {kind}, has no separate projections that diffusers would fuse"
        return None

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        from ...adapters.diffusers_internals import fusable

        model = _models(pipeline)[DENOISER]
        if not _ran(DENOISER, fusable(model), before):
            return "no projection that could be fused ran in its denoiser"
        if DENOISER in before.sets_processors:
            return (
                "it sets attention processors of its own in each call, and they read the "
                "projections that are not fused"
            )
        return None

    def apply(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.diffusers_internals import fusable, processors_of

        for part, model in _models(pipeline).items():
            if fusable(model):
                memory(pipeline, self.name)[part] = processors_of(model)
                model.fuse_qkv_projections()

    def undo(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.diffusers_internals import unfuse

        notes = memory(pipeline, self.name)
        for part, model in _models(pipeline).items():
            if part in notes:
                unfuse(model, notes[part])

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ...adapters.diffusers_internals import fused

        before = seen.before or Observation()
        models = _models(pipeline)
        modules = {part: fused(model) for part, model in models.items()}
        # Text-to-image never runs the attention of the VAE's encoder.
        ran = {part: _ran(part, names, before) for part, names in modules.items()}
        unfused = sorted(
            name for names in ran.values() for name in names if f"{name}.to_v" in seen.linears
        )
        total = sum(len(names) for names in ran.values())
        if unfused or not ran[DENOISER]:
            found = (
                f"separate ones in {len(unfused)} of them: {', '.join(unfused[:3])}"
                if unfused
                else f"none in the {DENOISER}"
            )
            raise NotEffectiveError(
                f"{self.name}: expected fused projections to run in {total} attention modules, "
                f"found {found}"
            )
        fewer = {
            part: (before.part(part).gemms, seen.part(part).gemms)
            for part, names in ran.items()
            if names
        }
        for part, (was, now) in fewer.items():
            if now >= was:
                raise NotEffectiveError(
                    f"{self.name}: expected fewer matrix products of the {part} in {seen.steps} "
                    f"steps than {was}, found {now}"
                )
        of_each = ", ".join(f"{len(names)} in the {part}" for part, names in ran.items() if names)
        return Proof(
            self.name,
            f"{total} attention modules with fused projections ({of_each}), {before.gemms} matrix "
            f"products became {seen.gemms} in {seen.steps} steps",
            {
                "fused_modules": sum(len(names) for names in modules.values()),
                "fused_modules_run": total,
                "fused_modules_run_in": {part: len(names) for part, names in ran.items()},
                "gemms_before": before.gemms,
                "gemms": seen.gemms,
            },
        )


def _ran(part: str, modules: Iterable[str], before: Observation) -> list[str]:
    """Those of ``modules`` whose separate projections the untouched pipeline used."""
    return [f"{part}.{name}" for name in modules if f"{part}.{name}.to_v" in before.linears]


def _models(pipeline: DiffusionPipeline) -> dict[str, Any]:
    from ...pipelines.components import denoiser, vae

    parts = {DENOISER: denoiser(pipeline), VAE: vae(pipeline)}
    return {name: part for name, part in parts.items() if part is not None}


TECHNIQUES: tuple[Technique, ...] = (FusedQkv(),)
