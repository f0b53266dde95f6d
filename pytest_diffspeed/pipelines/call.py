"""The inputs of one pipeline call, the same for every arm."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .components import denoiser

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class CallDefaults:
    """What a source calls its pipeline with; sizes in pixels, ``None``: the pipeline decides.

    Raises:
        UsageError: a value that no pipeline could be called with.
    """

    prompts: tuple[str, ...]
    steps: int
    height: int | None = None
    width: int | None = None
    guidance: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prompts or not all(isinstance(p, str) and p.strip() for p in self.prompts):
            raise UsageError(f"prompts must be one or more non-empty texts, not {self.prompts!r}")
        for name, least in (("steps", 1), ("height", 1), ("width", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is None and name in ("height", "width"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"{name} must be a whole number of at least {least}, not {value!r}"
                )
        if self.guidance is not None and (
            isinstance(self.guidance, bool) or not isinstance(self.guidance, (int, float))
        ):
            raise UsageError(f"guidance must be a number, not {self.guidance!r}")

    def overridden(
        self, *, steps: int | None = None, prompts: tuple[str, ...] | None = None
    ) -> CallDefaults:
        changed = self
        if steps is not None:
            changed = replace(changed, steps=steps)
        if prompts:
            changed = replace(changed, prompts=prompts)
        return changed


class PipelineCall:
    """Calls a pipeline with fixed prompt, seed, steps and latents.

    Latents are drawn once, in float32 on the CPU, and cast to each arm's dtype and device, so that
    arms differ in nothing but their technique.  A pipeline whose latents have another layout than
    ``1 × channels × height × width`` gets a CPU generator with the same seed in each call instead:
    its draws in lower precision are the float32 stream, rounded.
    """

    def __init__(self, pipeline: DiffusionPipeline, defaults: CallDefaults, prompt: str) -> None:
        self.defaults = defaults
        self.prompt = prompt
        self._accepted = set(inspect.signature(type(pipeline).__call__).parameters)
        self.latents = self._draw_latents(pipeline)

    def inputs(self) -> dict[str, Any]:
        """What it calls with, as plain data: for an evidence key."""
        return {"prompt": self.prompt, **vars(self.defaults)}

    def __call__(
        self, pipeline: DiffusionPipeline, *, output: str = "pt", steps: int | None = None
    ) -> torch.Tensor:
        """Run the pipeline once; the images are ``1 × 3 × height × width`` in [0, 1].

        ``output="latent"`` leaves out the VAE; ``steps`` shortens a call that is not measured.
        """
        return self._images(pipeline(**self.arguments(pipeline, output=output, steps=steps)))

    def arguments(
        self, pipeline: DiffusionPipeline, *, output: str = "pt", steps: int | None = None
    ) -> dict[str, Any]:
        """The keyword arguments of one call; a new generator each time, so calls are alike."""
        import torch

        wanted: dict[str, Any] = {
            "prompt": self.prompt,
            "num_inference_steps": self.defaults.steps if steps is None else steps,
            "height": self.defaults.height,
            "width": self.defaults.width,
            "guidance_scale": self.defaults.guidance,
            "generator": torch.Generator("cpu").manual_seed(self.defaults.seed),
            "output_type": output,
            "return_dict": False,
        }
        if self.latents is not None:
            model = denoiser(pipeline)
            parameter = next(model.parameters())
            wanted["latents"] = self.latents.to(parameter.device, parameter.dtype)
        return {k: v for k, v in wanted.items() if k in self._accepted and v is not None}

    def _draw_latents(self, pipeline: DiffusionPipeline) -> torch.Tensor | None:
        import torch

        channels = getattr(getattr(pipeline, "unet", None), "config", {}).get("in_channels")
        scale = getattr(pipeline, "vae_scale_factor", None)
        if "latents" not in self._accepted or channels is None or scale is None:
            return None
        side = pipeline.unet.config.sample_size
        if not isinstance(side, int):
            return None
        height = self.defaults.height or side * scale
        width = self.defaults.width or side * scale
        generator = torch.Generator("cpu").manual_seed(self.defaults.seed)
        shape = (1, channels, height // scale, width // scale)
        return torch.randn(shape, generator=generator, dtype=torch.float32)

    @staticmethod
    def _images(output: Any) -> torch.Tensor:
        images = output[0]
        return images  # type: ignore[no-any-return]
