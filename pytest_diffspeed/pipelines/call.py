"""One pipeline call, with the same inputs for every arm."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..accelerators.registry import accelerator_of
from ..common.errors import SourceError
from .cases import CallDefaults, Case
from .components import placement
from .fingerprints import value_fingerprint
from .latents import LatentsPlan, plan_latents
from .load_errors import explain_load_error
from .outputs import Output, as_asked, read_output
from .signature import call_signature, check_arguments, what_was_given

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class Drawn:
    """What one call gave: an image, a video or a sound, and the ``latents`` that the VAE decoded,
    ``None`` where the pipeline does not show them.
    """

    output: Output
    latents: torch.Tensor | None


class PipelineCall:
    """Calls a pipeline with the fixed inputs of one case, its seed, steps and latents.

    Latents have the shape that the pipeline itself makes, seen in a call that ends when they are
    there; they are drawn once, in float32 on the CPU, and cast to each arm's dtype and device, so
    that arms differ in nothing but their technique.  ``latents_from`` says what holds here:

    - ``"drawn"``: that;
    - ``"generator"``: the pipeline takes no latents, or makes them of more than noise (of an image,
      say), as ``latents_reason`` tells.  It gets a CPU generator with the same seed in each call:
      its draws of noise in lower precision are the float32 stream, rounded.  So are those of a
      scheduler that adds noise in its steps;
    - ``"given"``: they are among the source's own arguments.

    Raises:
        SourceError: an argument that would not arrive, one that is missing, or a call that failed
            before its latents were there.
    """

    def __init__(
        self, pipeline: DiffusionPipeline, defaults: CallDefaults, prompt: str | None = None
    ) -> None:
        """``prompt`` stands in place of that of the first case of ``defaults``."""
        first = defaults.inputs()[0]
        if prompt is not None and prompt != first.prompt:
            first = Case(prompt, defaults.seed, arguments=first.arguments)
        self.memo: dict[object, Any] = {}
        """What was found out in such calls and need not be found out again; copies share it."""
        self.defaults = defaults
        self._signature = call_signature(pipeline)
        self.case = first
        # Functions of the case are called here, so never inside a timed call.
        self.own_arguments = first.evaluated(defaults.arguments)
        check_arguments(self._signature, defaults, self.own_arguments, self._wanted("pt", None))
        self.latents: torch.Tensor | None = None
        self.latents_plan = self._planned(pipeline)
        self.latents = self.latents_plan.drawn(defaults.seed)

    def of(self, case: Case) -> PipelineCall:
        """The same call with the inputs of another case, and with the latents of its seed."""
        call = copy.copy(self)
        call.defaults = replace(self.defaults, seed=case.seed)
        call.case = case
        call.own_arguments = case.evaluated(self.defaults.arguments)
        call.latents = self.latents_plan.drawn(case.seed)
        return call

    @property
    def prompt(self) -> str | None:
        return self.case.prompt

    @property
    def latents_from(self) -> str:
        """``"drawn"``, ``"generator"`` or ``"given"``."""
        if "latents" in self.own_arguments:
            return "given"
        return "generator" if self.latents_plan.shape is None else "drawn"

    @property
    def latents_reason(self) -> str:
        """Why the generator is used; empty where it is not."""
        return self.latents_plan.reason if self.latents_from == "generator" else ""

    def varied(self, **changes: Any) -> PipelineCall:
        """The same case with other values in ``defaults``.

        At another size latents come from the generator: to see their shape the pipeline would have
        to be called, and it may be compiled by now.
        """
        call = copy.copy(self)
        call.defaults = replace(self.defaults, **changes)
        if not {"height", "width"}.isdisjoint(changes):
            call.latents_plan = LatentsPlan(None, "it has another size than the call that was seen")
            call.latents = None
        return call

    def with_prompt(self, prompt: str) -> PipelineCall:
        """The same call with another prompt, and the same latents."""
        return self.of(Case(prompt, self.defaults.seed, arguments=self.case.arguments))

    def what_was_given(self) -> str:
        """For the message of a first call that failed."""
        return what_was_given(self._signature, self._wanted("pt", None))

    def inputs(self) -> dict[str, Any]:
        """What it calls with, as plain data: for an evidence key."""
        return {
            "prompt": self.case.prompt,
            "case": self.case.name,
            **{
                name: value
                for name, value in vars(self.defaults).items()
                if name not in ("arguments", "cases")
            },
            "arguments": {
                name: value_fingerprint(value) for name, value in sorted(self.own_arguments.items())
            },
            "latents": self.latents_from,
        }

    def for_case(self, name: str, prompt: str | None, seed: int) -> Case:
        """The case ``name`` of this call's source, or one of a prompt that the source lacks.

        Raises:
            SourceError: the source has no such case, and there is no prompt to make one of.
        """
        for case in self.defaults.inputs():
            if case.name == name:
                return replace(case, seed=seed)
        if prompt is None or self.defaults.cases:
            known = ", ".join(repr(case.name) for case in self.defaults.inputs())
            raise SourceError(f"this source has no case {name!r}; it has {known}")
        return Case(prompt, seed)

    def __call__(
        self, pipeline: DiffusionPipeline, *, output: str = "pt", steps: int | None = None
    ) -> torch.Tensor:
        """Run the pipeline once; the images are ``1 × 3 × height × width`` in [0, 1].

        ``output="latent"`` leaves out the VAE; ``steps`` shortens a call that is not measured.
        """
        with self.surroundings():
            return self.run(pipeline, output=output, steps=steps)

    @staticmethod
    def surroundings() -> AbstractContextManager[None]:
        """What the process has to be in while a call runs, beside the state of its stack."""
        from ..adapters.torch_noise import rounded_noise

        return rounded_noise()

    def run(
        self, pipeline: DiffusionPipeline, *, output: str = "pt", steps: int | None = None
    ) -> torch.Tensor:
        """As a call, for who enters :meth:`surroundings` himself: those of two calls that take
        turns must not be entered in the one and left in the other.
        """
        arguments = self.arguments(pipeline, output=output, steps=steps)
        _start_afresh(pipeline)
        images: torch.Tensor = as_asked(pipeline(**arguments)[0])
        return images

    def draw(self, pipeline: DiffusionPipeline) -> Drawn:
        """Run the pipeline once to compare what it draws; not for timing.

        Process-wide random generators start from the seed too, for schedulers that draw from them
        instead of the call's generator (the Brownian tree of SDE schedulers), and are put back.

        Raises:
            MeasurementError: what it returned is not one image, video or sound.
        """
        latents: list[torch.Tensor] = []

        def keep(_: object, __: int, ___: object, given: dict[str, torch.Tensor]) -> dict[str, Any]:
            latents[:] = [given["latents"]]
            return {}

        # Some pipelines bring "np" into [0, 1] and leave "pt" as it was decoded (IF, Kandinsky).
        arguments = self.arguments(pipeline, output="np")
        if "return_dict" in arguments and "return_dict" not in self.own_arguments:
            arguments["return_dict"] = True  # its fields tell what the outputs are
        callback = "callback_on_step_end"
        if self._signature.takes(callback) and callback not in self.own_arguments:
            arguments[callback] = keep
            arguments["callback_on_step_end_tensor_inputs"] = ["latents"]
        device, _ = placement(pipeline)
        _start_afresh(pipeline)
        with accelerator_of(device).seeded(self.defaults.seed, device), self.surroundings():
            returned = pipeline(**arguments)
        final = latents[0].detach()[0] if latents else None
        return Drawn(read_output(returned, pipeline), final)

    def arguments(
        self, pipeline: DiffusionPipeline, *, output: str = "pt", steps: int | None = None
    ) -> dict[str, Any]:
        """The keyword arguments of one call; a new generator each time, so calls are alike."""
        wanted = self._wanted(output, steps)
        device, dtype = placement(pipeline)
        if self.latents is not None:
            wanted["latents"] = self.latents
        return {k: _placed(k, v, device, dtype) for k, v in wanted.items()}

    def _wanted(self, output: str, steps: int | None) -> dict[str, Any]:
        """The arguments without latents, of those that the call takes; the source's own win."""
        import torch

        ours: dict[str, Any] = {
            "prompt": self.case.prompt,
            "num_inference_steps": self.defaults.steps if steps is None else steps,
            "height": self.defaults.height,
            "width": self.defaults.width,
            "guidance_scale": self.defaults.guidance,
            "generator": torch.Generator("cpu").manual_seed(self.defaults.seed),
            "output_type": output,
            "return_dict": False,
        }
        takes = self._signature.may_take
        return {k: v for k, v in ours.items() if takes(k) and v is not None} | self.own_arguments

    def _planned(self, pipeline: DiffusionPipeline) -> LatentsPlan:
        if "latents" in self.own_arguments or not self._signature.takes("latents"):
            return LatentsPlan(None, "its call takes no `latents`")
        try:
            return plan_latents(pipeline, self.arguments(pipeline))
        except Exception as error:
            said = explain_load_error(error, self.what_was_given())
            raise SourceError(f"the first call failed: {said}") from error


def _start_afresh(pipeline: DiffusionPipeline) -> None:
    """Let no cache of features know anything of a call before, which may have been stopped."""
    from ..adapters.diffusers_internals import forget_caches_of

    forget_caches_of(pipeline)


def _placed(name: str, value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A tensor where the denoiser is.  Embeddings and latents, which go into it as they are, also
    get its dtype; images do not: the pipeline prepares them, in the dtype of its VAE.
    """
    import torch

    if isinstance(value, (list, tuple)) and any(isinstance(v, torch.Tensor) for v in value):
        placed = [_placed(name, one, device, dtype) for one in value]
        return placed if isinstance(value, list) else tuple(placed)
    if not isinstance(value, torch.Tensor):
        return value
    for_denoiser = value.is_floating_point() and ("embed" in name or name.endswith("latents"))
    return value.to(device, dtype) if for_denoiser else value.to(device)
