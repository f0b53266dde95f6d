"""Memory layout: channels-last convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ...common.errors import NotEffectiveError
from ..technique import Family, Observation, Proof, Technique

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


class ChannelsLast(Technique):
    """Rank-4 weights of the denoiser and the VAE in channels-last strides."""

    name: ClassVar[str] = "channels_last"
    family: ClassVar[Family] = Family.LAYOUT
    summary: ClassVar[str] = "denoiser and VAE in channels-last memory format"
    undoable: ClassVar[bool] = True

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        if not _convolution_weights(pipeline):
            return "neither the denoiser nor the VAE has a 2-d convolution with spatial extent"
        return None

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        self._to(pipeline, torch.channels_last)

    def undo(self, pipeline: DiffusionPipeline) -> None:
        import torch

        self._to(pipeline, torch.contiguous_format)

    def _to(self, pipeline: DiffusionPipeline, memory_format: torch.memory_format) -> None:
        from ...pipelines.components import denoiser, vae

        # `Any`: the annotations of Module.to() have `memory_format` in torch 2.14, not in 2.13.
        parts: tuple[Any, ...] = (denoiser(pipeline), vae(pipeline))
        for part in parts:
            if part is not None:
                part.to(memory_format=memory_format)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        import torch

        weights = _convolution_weights(pipeline)
        left = [
            name
            for name, weight in weights.items()
            if not weight.is_contiguous(memory_format=torch.channels_last)
        ]
        if left or not weights:
            raise NotEffectiveError(
                f"{self.name}: expected channels-last strides in all {len(weights)} convolution "
                f"weights, found other strides in {len(left)}: {', '.join(left[:3])}"
            )
        return Proof(
            self.name,
            f"{len(weights)} convolution weights in channels-last strides",
            {"convolution_weights": len(weights)},
        )


def _convolution_weights(pipeline: DiffusionPipeline) -> dict[str, torch.Tensor]:
    """Rank-4 weights whose strides tell the two formats apart (1×1 kernels are both at once)."""
    from ...pipelines.components import denoiser, vae

    parts = {"denoiser": denoiser(pipeline), "vae": vae(pipeline)}
    return {
        f"{part_name}.{name}": weight
        for part_name, part in parts.items()
        if part is not None
        for name, weight in part.named_parameters()
        if weight.dim() == 4 and weight.shape[1] > 1 and weight.shape[2:].numel() > 1
    }


TECHNIQUES: tuple[Technique, ...] = (ChannelsLast(),)
