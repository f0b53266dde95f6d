"""Compilation of the denoiser and of ``vae.decode``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...errors import NotEffectiveError
from ..base import Family, Observation, Proof, Technique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class Compile(Technique):
    """``torch.compile`` in its default mode, one graph per component."""

    name: ClassVar[str] = "compile"
    family: ClassVar[Family] = Family.COMPILE
    summary: ClassVar[str] = "torch.compile of denoiser and vae.decode, fullgraph"

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        from ...pipelines.components import denoiser, vae

        denoiser(pipeline).compile(fullgraph=True)
        decoder = vae(pipeline)
        if decoder is not None:
            decoder.decode = torch.compile(decoder.decode, fullgraph=True)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ...pipelines.components import vae

        parts = ["denoiser"] if vae(pipeline) is None else ["denoiser", "VAE decode"]
        frames = seen.compiled_frames or {}
        if len(frames) < len(parts):
            raise NotEffectiveError(
                f"{self.name}: expected compiled code to run for {' and '.join(parts)}, found "
                f"{len(frames)} of {len(parts)} compiled frames in a call: the rest runs eagerly"
            )
        runs = sum(frames.values())
        return Proof(
            self.name,
            f"{len(frames)} compiled frames ran {runs} times in a call of two steps",
            {"compiled_frames": len(frames), "runs": runs},
        )


TECHNIQUES: tuple[Technique, ...] = (Compile(),)
