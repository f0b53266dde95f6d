"""What techniques work on: the denoisers that a call was seen to run, and what decodes its latents.

Which they are is observed in a short call of the untouched pipeline and noted on the pipeline, so
that applying, proving and undoing mean the same modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .undo_notes import forget, memory

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from ..pipelines.what_ran import ObservedCall

PROOF_STEPS = 2
"""Denoising steps of the untimed calls that prove something: what runs in the first step only is
seen, and so is what runs in each."""
_NOTES = "targets"


@dataclass(frozen=True)
class Targets:
    """Modules by the pipeline's own names, in the order in which they first ran.

    ``denoisers`` ran in the steps (``unet``; ``transformer`` and ``transformer_2``),
    ``decoders`` are the VAEs, by their names without ``decode``.  ``whole``: a call of
    :data:`PROOF_STEPS` steps does not run all of them, or cannot be made, so proofs take all
    ``steps``.
    """

    denoisers: Mapping[str, Any]
    decoders: Mapping[str, Any] = field(default_factory=dict)
    steps: int = PROOF_STEPS
    whole: bool = False

    @property
    def named(self) -> Targets:
        """The same without the modules, to be kept where these should not be kept alive."""
        nothing = dict.fromkeys
        return replace(self, denoisers=nothing(self.denoisers), decoders=nothing(self.decoders))

    @property
    def all(self) -> dict[str, Any]:
        return {**self.denoisers, **self.decoders}

    def split(self, name: str) -> tuple[str, str]:
        """``"unet"`` and ``"mid_block.proj"`` of ``"unet.mid_block.proj"``; of a part, ``""``."""
        part = max((p for p in self.all if f"{name}.".startswith(f"{p}.")), key=len)
        return part, name.removeprefix(part).removeprefix(".")


def targets_of(pipeline: DiffusionPipeline) -> Targets:
    """Those noted; before a call was seen, the ``unet`` or ``transformer`` and the VAE."""
    noted: Targets | None = memory(pipeline, _NOTES).get("targets")
    if noted is None:
        forget(pipeline, _NOTES)
        return _by_name(pipeline)
    return noted


def denoisers(pipeline: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """All that run in the steps, by the pipeline's own names, while a stack is applied or proven.

    Before a call was seen, the ``unet`` or ``transformer``.
    """
    return dict(targets_of(pipeline).denoisers)


def models_with(parts: Mapping[str, Any], attribute: str) -> dict[str, Any]:
    """Each of ``parts`` that has ``attribute``, or else the outermost models inside it that do.

    A wrapper of several models has none of their methods: of a ``MultiControlNetModel`` these are
    ``controlnet.nets.0`` and ``controlnet.nets.1``.  A part without any stands for itself.
    """
    found: dict[str, Any] = {}
    for part, module in parts.items():
        inner: dict[str, Any] = {}
        for path, model in module.named_modules():
            name = f"{part}.{path}" if path else part
            if not any(name.startswith(f"{outer}.") for outer in inner) and _has(model, attribute):
                inner[name] = model
        found.update(inner or {part: module})
    return found


def _has(model: Any, attribute: str) -> bool:
    return hasattr(type(model), attribute) or attribute in vars(model)


def forget_targets(pipeline: DiffusionPipeline) -> None:
    """Drop the note: nothing is applied to the pipeline any more."""
    forget(pipeline, _NOTES)


def note_targets(pipeline: DiffusionPipeline, call: Callable[..., object]) -> Targets:
    """Find them by a short call of ``pipeline``, and note them on it.

    A call that is of a :class:`~pytest_diffspeed.pipelines.call.PipelineCall` remembers their
    names, so that one call is spent for all pipelines of a source.
    """
    from ..pipelines.call import PipelineCall

    components = tuple((n, type(part)) for n, part in pipeline.components.items())
    noted: Targets | None = memory(pipeline, _NOTES).get("targets")
    if noted is not None and _resolved(pipeline, noted) == noted:
        return noted
    known: dict[Any, Targets] = {}
    if isinstance(call, PipelineCall):
        known = call.memo.setdefault(_NOTES, {})
    key = (type(pipeline), components)
    targets = _resolved(pipeline, known[key]) if key in known else None
    if targets is None:
        targets, observed = _observed(pipeline, call)
        known[key] = targets.named
        memory(pipeline, _NOTES)["observed"] = observed
    memory(pipeline, _NOTES)["targets"] = targets
    return targets


def proof_call(pipeline: DiffusionPipeline, call: Callable[..., object]) -> Callable[[], object]:
    """An untimed call that runs all targets: of few steps where that is enough."""
    if targets_of(pipeline).whole:
        return lambda: call(pipeline)
    return lambda: call(pipeline, steps=PROOF_STEPS)


def observed_untouched(pipeline: DiffusionPipeline) -> tuple[ObservedCall, Targets] | None:
    """What the call showed by which the targets were found, and these; ``None`` if that was a call
    of another pipeline of the source.
    """
    notes = memory(pipeline, _NOTES)
    if "observed" in notes:
        return notes["observed"], notes["targets"]
    if not notes:
        forget(pipeline, _NOTES)
    return None


def _observed(
    pipeline: DiffusionPipeline, call: Callable[..., object]
) -> tuple[Targets, ObservedCall]:
    from ..pipelines.observed import observe_steps

    def run(steps: int) -> object:
        return call(pipeline, steps=steps) if steps == PROOF_STEPS else call(pipeline)

    everything = 1 << 30  # more than a short call has; how many they are only the call knows
    observed, steps = observe_steps(pipeline, run, PROOF_STEPS, everything)
    denoisers, decoders = _roles(observed)
    by_name = _by_name(pipeline)
    whole = steps != PROOF_STEPS
    targets = Targets(
        denoisers or by_name.denoisers,
        {**by_name.decoders, **decoders},
        observed.steps if whole else PROOF_STEPS,
        whole,
    )
    return targets, observed


def _roles(observed: ObservedCall) -> tuple[dict[str, Any], dict[str, Any]]:
    denoisers = {c.name: c.module for c in observed.denoisers if c.module is not None}
    decoders = {
        c.name: c.module
        for c in observed.components
        if "decode" in c.entries and c.name not in denoisers and c.module is not None
    }
    return denoisers, decoders


def _by_name(pipeline: DiffusionPipeline) -> Targets:
    from ..pipelines.components import DENOISER_NAMES, vae

    denoisers = [name for name in DENOISER_NAMES if getattr(pipeline, name, None) is not None]
    decoders = {"vae": vae(pipeline)} if vae(pipeline) is not None else {}
    return Targets({name: getattr(pipeline, name) for name in denoisers[:1]}, decoders)


def _resolved(pipeline: DiffusionPipeline, known: Targets) -> Targets | None:
    """The modules of this pipeline for the names in ``known``; ``None``: it lacks one."""
    from ..pipelines.parts import parts

    modules = parts(pipeline)
    if not modules.keys() >= known.all.keys():
        return None
    return replace(
        known,
        denoisers={name: modules[name] for name in known.denoisers},
        decoders={name: modules[name] for name in known.decoders},
    )
