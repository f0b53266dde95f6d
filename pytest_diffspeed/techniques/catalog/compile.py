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

        expected = 1 if vae(pipeline) is None else 2
        if seen.graphs_compiled is None or seen.graphs_compiled < expected:
            raise NotEffectiveError(
                f"{self.name}: expected at least {expected} compiled graphs (denoiser and VAE "
                f"decode), found {seen.graphs_compiled or 0}: the rest runs eagerly"
            )
        return Proof(
            self.name,
            f"{seen.graphs_compiled} graphs compiled",
            {"graphs_compiled": seen.graphs_compiled},
        )


TECHNIQUES: tuple[Technique, ...] = (Compile(),)
