"""Memory layout: channels-last convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ...common.errors import IncompatibleError, NotEffectiveError
from ..observation import ConvolutionInputs
from ..targets import targets_of
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


class ChannelsLast(Technique):
    """Convolution weights of each denoiser and of the VAE in channels-last strides.

    Each by its own rank: those of images (4) in ``torch.channels_last``, those of videos (5) in
    ``torch.channels_last_3d``.  What a convolution gives has the layout of its weight or input, so
    the activations follow.
    """

    name: ClassVar[str] = "channels_last"
    family: ClassVar[Family] = Family.LAYOUT
    summary: ClassVar[str] = "convolutions of denoisers and VAE in channels-last memory format"
    undoable: ClassVar[bool] = True

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        if not _convolution_weights(pipeline):
            return "neither its denoisers nor its VAE have a convolution with spatial extent"
        return None

    def apply(self, pipeline: DiffusionPipeline) -> None:
        converted = memory(pipeline, self.name).setdefault("converted", {})
        for name, weight in _convolution_weights(pipeline).items():
            if not weight.is_contiguous(memory_format=_format(weight)):
                converted[name] = weight.stride()
                weight.data = weight.data.contiguous(memory_format=_format(weight))

    def undo(self, pipeline: DiffusionPipeline) -> None:
        import torch

        converted = memory(pipeline, self.name).get("converted", {})
        for name, weight in _convolution_weights(pipeline).items():
            if name in converted:
                before = torch.empty_strided(
                    weight.shape, converted[name], dtype=weight.dtype, device=weight.device
                )
                weight.data = before.copy_(weight.data)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        weights = _convolution_weights(pipeline)
        left = [n for n, w in weights.items() if not w.is_contiguous(memory_format=_format(w))]
        if left or not weights:
            raise NotEffectiveError(
                f"{self.name}: expected channels-last strides in all {len(weights)} convolution "
                f"weights, found other strides in {len(left)}: {', '.join(left[:3])}"
            )
        inputs = {part: ops.convolutions for part, ops in seen.parts.items() if ops.convolutions}
        self._require_inputs(pipeline, inputs)
        listed = "; ".join(f"in the {part} {_of_part(found)}" for part, found in inputs.items())
        none_in = [part for part in targets_of(pipeline).denoisers if part not in inputs]
        without = f"; the {' and '.join(none_in)} ran none" if none_in else ""
        return Proof(
            self.name,
            f"{len(weights)} convolution weights in channels-last strides; inputs in "
            f"{seen.steps} steps: {listed}{without}",
            {
                "convolution_weights": len(weights),
                "convolution_inputs": {part: vars(found) for part, found in inputs.items()},
            },
        )

    def _require_inputs(
        self, pipeline: DiffusionPipeline, inputs: Mapping[str, ConvolutionInputs]
    ) -> None:
        """Refuse a pipeline whose own code gives the convolutions of a part another layout.

        Only a call with such weights shows it.
        """
        lost = [part for part, found in inputs.items() if found.other and not found.channels_last]
        if not lost and any(found.channels_last for found in inputs.values()):
            return
        why = [
            f"none of the inputs of the {part}'s convolutions ({inputs[part].other}) is "
            "channels-last, since what runs before each of them, torch's own convolution on this "
            "device included, gives another layout"
            for part in lost
        ]
        why += [
            f"in the {part} {_of_part(found)}" for part, found in inputs.items() if part not in lost
        ]
        raise IncompatibleError(
            f"{self.name} is incompatible with {type(pipeline).__name__}: "
            + ("; ".join(why) or "no convolution of its denoisers and VAE ran in the call")
        )


def _of_part(found: ConvolutionInputs) -> str:
    counted = found.channels_last + found.other
    some = [f"{found.channels_last} of {counted} channels-last"] if counted else []
    patches = [f"{found.patches} read in patches"] if found.patches else []
    return ", ".join(some + patches)


def _convolution_weights(pipeline: DiffusionPipeline) -> dict[str, torch.Tensor]:
    """Weights whose strides tell the two formats apart (1×1 kernels are both at once)."""
    return {
        f"{part_name}.{name}": weight
        for part_name, part in targets_of(pipeline).all.items()
        for name, weight in part.named_parameters()
        if name.rpartition(".")[2] == "weight"
        and weight.dim() in (4, 5)
        and weight.shape[1] > 1
        and weight.shape[2:].numel() > 1
    }


def _format(weight: torch.Tensor) -> torch.memory_format:
    import torch

    return torch.channels_last if weight.dim() == 4 else torch.channels_last_3d


TECHNIQUES: tuple[Technique, ...] = (ChannelsLast(),)
