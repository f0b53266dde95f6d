"""The inputs of one pipeline call, the same for every arm."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..accelerators.registry import accelerator_of
from ..common.errors import UsageError
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


@dataclass(frozen=True)
class Case:
    """One image to draw: of a prompt, from the latents and the noise of a seed."""

    prompt: str
    seed: int


def image_cases(defaults: CallDefaults, at_least: int) -> tuple[Case, ...]:
    """All prompts with the same seeds, as few as give ``at_least`` images.

    Seeds go on from that of ``defaults``; the first prompt with the first seed comes first.
    """
    seeds = -(-at_least // len(defaults.prompts))
    return tuple(
        Case(prompt, defaults.seed + offset)
        for offset in range(seeds)
        for prompt in defaults.prompts
    )


@dataclass(frozen=True)
class Drawn:
    """What one call gave: ``image`` is ``3 × height × width``, ``latents`` are those that the VAE
    decoded, ``None`` where the pipeline does not show them.
    """

    image: torch.Tensor
    latents: torch.Tensor | None


class PipelineCall:
    """Calls a pipeline with fixed prompt, seed, steps and latents.

    Latents are drawn once, in float32 on the CPU, and cast to each arm's dtype and device, so that
    arms differ in nothing but their technique.  A pipeline whose latents have another layout than
    ``1 × channels × height × width`` gets a CPU generator with the same seed in each call instead:
    its draws in lower precision are the float32 stream, rounded.  So are those of a scheduler that
    adds noise in its steps.
    """

    def __init__(self, pipeline: DiffusionPipeline, defaults: CallDefaults, prompt: str) -> None:
        self.defaults = defaults
        self.prompt = prompt
        self._accepted = set(inspect.signature(type(pipeline).__call__).parameters)
        self._latents_shape = self._shape_of_latents(pipeline)
        self.latents = _draw_latents(self._latents_shape, defaults.seed)

    def of(self, case: Case) -> PipelineCall:
        """The same call with another prompt, and with the latents of another seed."""
        call = copy.copy(self)
        call.prompt = case.prompt
        call.defaults = replace(self.defaults, seed=case.seed)
        call.latents = _draw_latents(self._latents_shape, case.seed)
        return call

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

    def draw(self, pipeline: DiffusionPipeline) -> Drawn:
        """Run the pipeline once to compare what it draws; not for timing.

        Process-wide random generators start from the seed too, for schedulers that draw from them
        instead of the call's generator (the Brownian tree of SDE schedulers), and are put back.

        Raises:
            MeasurementError: what it returned is not one image ``1 × channels × height × width``.
        """
        import torch

        from ..common.errors import MeasurementError

        latents: list[torch.Tensor] = []

        def keep(_: object, __: int, ___: object, given: dict[str, torch.Tensor]) -> dict[str, Any]:
            latents[:] = [given["latents"]]
            return {}

        arguments = self.arguments(pipeline)
        if "callback_on_step_end" in self._accepted:
            arguments["callback_on_step_end"] = keep
            arguments["callback_on_step_end_tensor_inputs"] = ["latents"]
        device = next(denoiser(pipeline).parameters()).device
        with accelerator_of(device).seeded(self.defaults.seed, device):
            images = self._images(pipeline(**arguments))
        if not isinstance(images, torch.Tensor) or images.dim() != 4 or len(images) != 1:
            what = getattr(images, "shape", type(images).__name__)
            raise MeasurementError(
                f"{type(pipeline).__name__} gave {what} for one prompt instead of one image "
                "1 × channels × height × width; only such pipelines can be compared by images"
            )
        final = latents[0].detach()[0] if latents else None
        return Drawn(images.detach()[0], final)

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

    def _shape_of_latents(self, pipeline: DiffusionPipeline) -> tuple[int, ...] | None:
        channels = getattr(getattr(pipeline, "unet", None), "config", {}).get("in_channels")
        scale = getattr(pipeline, "vae_scale_factor", None)
        if "latents" not in self._accepted or channels is None or scale is None:
            return None
        side = pipeline.unet.config.sample_size
        if not isinstance(side, int):
            return None
        height = self.defaults.height or side * scale
        width = self.defaults.width or side * scale
        return (1, channels, height // scale, width // scale)

    @staticmethod
    def _images(output: Any) -> torch.Tensor:
        images = output[0]
        return images  # type: ignore[no-any-return]


def _draw_latents(shape: tuple[int, ...] | None, seed: int) -> torch.Tensor | None:
    import torch

    if shape is None:
        return None
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)
