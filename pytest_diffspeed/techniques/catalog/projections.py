"""Projections: query, key and value by one matrix product."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ...common.errors import IncompatibleError, NotEffectiveError
from ..targets import models_with, targets_of
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class FusedQkv(Technique):
    """One product for query, key and value; in cross-attention one for key and value."""

    name: ClassVar[str] = "fused_qkv"
    family: ClassVar[Family] = Family.PROJECTIONS
    summary: ClassVar[str] = "query, key and value projections fused, in denoisers and VAE"
    undoable: ClassVar[bool] = True
    watches: ClassVar[bool] = True

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        from ...adapters.diffusers_attention import adapted_projections, fusing

        targets = targets_of(pipeline)
        for part, model in _models(targets.all).items():
            adapted = adapted_projections(model)
            if adapted:
                return (
                    f"an adapter (LoRA) is loaded on {len(adapted)} projections of its {part}, and "
                    "fusing would drop it; merge it in the source, by `fuse_lora()` and then "
                    "`unload_lora_weights()`"
                )
            dropped = fusing(model).dropped
            if dropped:
                return (
                    f"fusing would replace attention processors of its {part} that have weights of "
                    f"their own: {dropped}"
                )
        reasons = [_why_not(part, model) for part, model in _models(targets.denoisers).items()]
        if None in reasons:
            return None
        return "; ".join(reason for reason in reasons if reason) or "it has no denoiser"

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        from ...adapters.diffusers_attention import fusing

        denoisers = _models(targets_of(pipeline).denoisers)
        ran = {part: _ran(part, fusing(model).modules, before) for part, model in denoisers.items()}
        if not any(ran.values()):
            return f"no projection that could be fused ran in its {' or '.join(denoisers)}"
        own = sorted(part for part in ran if ran[part] and part in before.sets_processors)
        if own:
            return (
                f"it sets attention processors of its own in each call ({' and '.join(own)}), and "
                "they read the projections that are not fused"
            )
        return None

    def apply(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.diffusers_attention import fusing, processors_of

        for part, model in _models(targets_of(pipeline).all).items():
            if fusing(model).modules:
                memory(pipeline, self.name)[part] = processors_of(model)
                try:
                    model.fuse_qkv_projections()
                except (AttributeError, RuntimeError) as error:  # of other names or widths
                    raise IncompatibleError(
                        f"{self.name} is incompatible with {type(pipeline).__name__}: diffusers "
                        f"cannot fuse the projections of its {part}, a {type(model).__name__}: "
                        f"{error}"
                    ) from error

    def explain(self, error: Exception) -> str | None:
        """Cross-attention that is called without anything to attend to has no projection that
        diffusers' fused processors look for (AudioLDM's).
        """
        from ...adapters.diffusers_attention import FUSED

        if isinstance(error, AttributeError) and any(f"'{name}'" in str(error) for name in FUSED):
            return (
                "in its call an attention processor looks for a projection that diffusers did not "
                f"fuse: {error}"
            )
        return None

    def undo(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.diffusers_attention import unfuse

        notes = memory(pipeline, self.name)
        for part, model in _models(targets_of(pipeline).all).items():
            if part in notes:
                unfuse(model, notes[part])

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ...adapters.diffusers_attention import fused, fusing

        before = seen.before or Observation()
        targets = targets_of(pipeline)
        denoisers = _models(targets.denoisers)
        modules = {part: fused(model) for part, model in _models(targets.all).items()}
        # Text-to-image never runs the attention of the VAE's encoder.
        ran = {part: _ran(part, names, before) for part, names in modules.items()}
        total = sum(len(names) for names in ran.values())
        unfused = sorted(
            name for names in ran.values() for name in names if f"{name}.to_v" in seen.linears
        )
        lost = [
            part
            for part, model in denoisers.items()
            if not ran[part] and _ran(part, fusing(model).modules, before)
        ]
        if unfused or lost or not any(ran[part] for part in denoisers):
            found = (
                f"separate ones in {len(unfused)} of them: {', '.join(unfused[:3])}"
                if unfused
                else f"none in the {' or '.join(lost or denoisers)}"
            )
            raise NotEffectiveError(
                f"{self.name}: expected fused projections to run in {total} attention modules, "
                f"found {found}"
            )
        changed = {targets.split(part)[0] for part, names in ran.items() if names}
        fewer = {part: (before.part(part).gemms, seen.part(part).gemms) for part in changed}
        for part, (was, now) in fewer.items():
            if now >= was:
                raise NotEffectiveError(
                    f"{self.name}: expected fewer matrix products of the {part} in {seen.steps} "
                    f"steps than {was}, found {now}"
                )
        of_each = ", ".join(f"{len(names)} in the {part}" for part, names in ran.items() if names)
        left = {
            part: _why_not(part, model) or "none of them ran in the call"
            for part, model in denoisers.items()
            if not ran[part]
        }
        others = "".join(f"; not in the {part}: {why}" for part, why in left.items())
        return Proof(
            self.name,
            f"{total} attention modules with fused projections ({of_each}), {before.gemms} matrix "
            f"products became {seen.gemms} in {seen.steps} steps{others}",
            {
                "fused_modules": sum(len(names) for names in modules.values()),
                "fused_modules_run": total,
                "fused_modules_run_in": {part: len(names) for part, names in ran.items()},
                "gemms_before": before.gemms,
                "gemms": seen.gemms,
                **({"left": left} if left else {}),
            },
        )


def _models(parts: Mapping[str, Any]) -> dict[str, Any]:
    return models_with(parts, "fuse_qkv_projections")


def _why_not(part: str, model: Any) -> str | None:
    """Why diffusers fuses no projection of this model, or ``None``."""
    from ...adapters.diffusers_attention import added_projections, fused, fusing

    kind = type(model).__name__
    if not hasattr(model, "fuse_qkv_projections"):
        return f"diffusers cannot fuse the projections of its {part}, a {kind}"
    if added_projections(model):
        return f"diffusers does not fuse a {kind} with added key and value projections"
    would = fusing(model)
    if not would.modules:
        if would.in_vain:
            return (
                f"the attention processors of its {part}, a {kind}, read separate projections "
                f"whether they are fused or not: {would.in_vain}"
            )
        already = " left" if fused(model) else ""
        return (
            f"its {part}, a {kind}, has no separate projections{already} that diffusers would fuse"
        )
    return None


def _ran(part: str, modules: Iterable[str], before: Observation) -> list[str]:
    """Those of ``modules`` whose separate projections the untouched pipeline used."""
    return [f"{part}.{name}" for name in modules if f"{part}.{name}.to_v" in before.linears]


TECHNIQUES: tuple[Technique, ...] = (FusedQkv(),)
