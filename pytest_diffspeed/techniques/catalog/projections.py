"""Projections: query, key and value by one matrix product."""

from __future__ import annotations

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
        from ...adapters.diffusers_internals import added_projections, fusable

        model = _models(pipeline)[DENOISER]
        kind = type(model).__name__
        if not hasattr(model, "fuse_qkv_projections"):
            return f"diffusers cannot fuse the projections of its denoiser, a {kind}"
        if added_projections(model):
            return f"diffusers does not fuse a {kind} with added key and value projections"
        if not fusable(model):
            return f"its denoiser, a {kind}, has no separate projections left to fuse"
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
        modules = {
            f"{part}.{name}" for part, model in _models(pipeline).items() for name in fused(model)
        }
        # Text-to-image never runs the attention of the VAE's encoder.
        ran = {name for name in modules if f"{name}.to_v" in before.linears}
        unfused = sorted(name for name in ran if f"{name}.to_v" in seen.linears)
        if unfused or not ran:
            raise NotEffectiveError(
                f"{self.name}: expected fused projections to run in {len(ran)} attention modules, "
                f"found separate ones in {len(unfused)} of them: {', '.join(unfused[:3]) or 'none'}"
            )
        if seen.gemms >= before.gemms:
            raise NotEffectiveError(
                f"{self.name}: expected fewer matrix products in {seen.steps} steps than "
                f"{before.gemms}, found {seen.gemms}"
            )
        return Proof(
            self.name,
            f"{len(ran)} attention modules with fused projections, {before.gemms} matrix products "
            f"became {seen.gemms} in {seen.steps} steps",
            {
                "fused_modules": len(modules),
                "fused_modules_run": len(ran),
                "gemms_before": before.gemms,
                "gemms": seen.gemms,
            },
        )


def _models(pipeline: DiffusionPipeline) -> dict[str, Any]:
    from ...pipelines.components import denoiser, vae

    parts = {DENOISER: denoiser(pipeline), VAE: vae(pipeline)}
    return {name: part for name, part in parts.items() if part is not None}


TECHNIQUES: tuple[Technique, ...] = (FusedQkv(),)
