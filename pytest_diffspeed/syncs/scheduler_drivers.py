"""How to run a scheduler by itself: the arguments that a pipeline would give it.

Most schedulers take ``step(model_output, timestep, sample)`` on latents.  The others have a recipe
here, by class name, read from the pipelines that use them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..common.errors import SourceError

IMAGE = (1, 4, 8, 8)
"""Latents: batch, channels, height, width."""
VIDEO = (1, 4, 4, 8, 8)
TOKENS = (1, 16)
VOCABULARY = 32


@dataclass(frozen=True)
class Recipe:
    """``shape`` of the sample; ``run`` replaces the usual loop; the rest are arguments."""

    shape: tuple[int, ...] = IMAGE
    config: dict[str, Any] = field(default_factory=dict)
    timesteps: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None
    """The number of steps, where no other one is possible."""
    run: Callable[[Any, Any, int, dict[str, Any]], None] | None = None


def create(scheduler_class: type[Any]) -> Any:
    """A scheduler with its default configuration, or what its recipe needs."""
    recipe = RECIPES.get(scheduler_class.__name__, Recipe())
    return scheduler_class(**recipe.config)


def drive(
    scheduler: Any,
    device: torch.device,
    steps: int,
    *,
    on_loop: Callable[[], object] = lambda: None,
    shape: tuple[int, ...] | None = None,
    begin_index: int | None = None,
    **step_kwargs: Any,
) -> None:
    """``set_timesteps``, then all steps with random model outputs on the device.

    ``begin_index`` is set where given, as some pipelines do; others let the scheduler search for
    its first timestep.  ``on_loop`` is called between ``set_timesteps`` and the first step.
    """
    recipe = RECIPES.get(type(scheduler).__name__, Recipe())
    if hasattr(scheduler, "set_timesteps"):
        _set_timesteps(scheduler, recipe.steps or steps, device, recipe.timesteps)
    if begin_index is not None:
        if not hasattr(scheduler, "set_begin_index"):
            raise SourceError(
                f"{type(scheduler).__name__} has no set_begin_index, so begin_index="
                f"{begin_index} has no meaning for it"
            )
        scheduler.set_begin_index(begin_index)
    on_loop()
    if recipe.run is not None:
        recipe.run(scheduler, device, steps, step_kwargs)
    else:
        sample = torch.randn(shape or recipe.shape, device=device)
        sample = sample * getattr(scheduler, "init_noise_sigma", 1.0)
        _usual_loop(scheduler, sample, step_kwargs)


_OURS = frozenset({"model_output", "timestep", "sample", "return_dict"})
"""Arguments of a step that :func:`drive` gives."""


def arguments_of(scheduler: Any) -> frozenset[str]:
    """What :func:`drive` can be given for it: its own words, and those of the ``step``."""
    step = getattr(scheduler, "step", None)  # those of score-based models have `step_pred`
    parameters = () if step is None else inspect.signature(step).parameters
    return frozenset({"shape", "begin_index", *parameters} - _OURS)


def _set_timesteps(scheduler: Any, steps: int, device: torch.device, extra: dict[str, Any]) -> None:
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    arguments: dict[str, Any] = {"num_inference_steps": steps, **extra}
    if "device" in accepted:
        arguments["device"] = device
    if "mu" in accepted and _config(scheduler, "use_dynamic_shifting"):
        arguments["mu"] = 0.5
    scheduler.set_timesteps(**arguments)


def _config(scheduler: Any, name: str) -> Any:
    return getattr(getattr(scheduler, "config", None), name, None)


def _usual_loop(scheduler: Any, sample: torch.Tensor, step_kwargs: dict[str, Any]) -> None:
    accepted = inspect.signature(scheduler.step).parameters
    extra = {key: value for key, value in step_kwargs.items() if key in accepted}
    for timestep in scheduler.timesteps:
        scaled = sample
        if hasattr(scheduler, "scale_model_input"):
            scaled = scheduler.scale_model_input(sample, timestep)
        sample = scheduler.step(
            torch.randn_like(scaled), timestep, sample, return_dict=False, **extra
        )[0]


def _tokens(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    """Discrete tokens: logits over a vocabulary for each position of a block."""
    batch, length = TOKENS
    sample = torch.randint(0, VOCABULARY, (batch, length), device=device)
    for timestep in scheduler.timesteps:
        logits = torch.randn(batch, length, VOCABULARY, device=device)
        sample = scheduler.step(logits, timestep, sample, return_dict=False, **extra)[0]


def _masked_tokens(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    mask_id = scheduler.config.mask_token_id
    sample = torch.full(TOKENS, mask_id, dtype=torch.long, device=device)
    for timestep in scheduler.timesteps:
        logits = torch.randn(*TOKENS, VOCABULARY, device=device)
        sample = scheduler.step(logits, timestep, sample, return_dict=False, **extra)[0]


def _vq(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    classes = scheduler.num_embed
    sample = torch.full(TOKENS, classes - 1, dtype=torch.long, device=device)
    for timestep in scheduler.timesteps:
        logits = torch.randn(TOKENS[0], classes - 1, TOKENS[1], device=device)
        log_probabilities = torch.log_softmax(logits, dim=1)
        sample = scheduler.step(log_probabilities, timestep, sample, return_dict=False, **extra)[0]


def _two_outputs(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    """CogVideoX's DPM scheduler hands its prediction on from step to step."""
    sample = torch.randn(VIDEO, device=device)
    before = None
    timesteps = scheduler.timesteps
    for index, timestep in enumerate(timesteps):
        scaled = scheduler.scale_model_input(sample, timestep)
        back = timesteps[index - 1] if index > 0 else None
        sample, before = scheduler.step(
            torch.randn_like(scaled), before, timestep, back, sample, return_dict=False, **extra
        )


def _inpainting(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    sample = torch.randn(IMAGE, device=device)
    original, mask = torch.randn_like(sample), torch.ones_like(sample)
    last = scheduler.timesteps[0] + 1
    for timestep in scheduler.timesteps:
        if timestep < last:
            sample = scheduler.step(
                torch.randn_like(sample),
                timestep,
                sample,
                original,
                mask,
                return_dict=False,
                **extra,
            )[0]
        else:  # RePaintPipeline goes back in time here
            sample = scheduler.undo_step(sample, last)
        last = timestep


def _ratios(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    """``WuerstchenDecoderPipeline``: timesteps are ratios, one for each sample of a batch."""
    sample = torch.randn(IMAGE, device=device)
    for timestep in scheduler.timesteps[:-1]:
        ratio = timestep.expand(sample.size(0))
        output = torch.randn_like(sample)
        sample = scheduler.step(output, ratio, sample, return_dict=False, **extra)[0]


def _distilled_video(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    """``HeliosPyramidPipeline``: each step adds the noise of the first sample again."""
    sample = noise = torch.randn(VIDEO, device=device)
    timesteps = scheduler.timesteps
    for index, timestep in enumerate(timesteps):
        sample = scheduler.step(
            torch.randn_like(sample),
            timestep,
            sample,
            return_dict=False,
            cur_sampling_step=index,
            dmd_noisy_tensor=noise,
            dmd_sigmas=scheduler.sigmas,
            dmd_timesteps=timesteps,
            all_timesteps=timesteps,
            **extra,
        )[0]


def _all_but_the_last(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    """``SanaSprintPipeline``: the last timestep is where the others lead to."""
    sample = torch.randn(IMAGE, device=device)
    for timestep in scheduler.timesteps[:-1]:
        output = torch.randn_like(sample)
        sample = scheduler.step(output, timestep, sample, return_dict=False, **extra)[0]


def _score_sde_ve(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    """``ScoreSdeVePipeline``: a correction and a prediction make a step."""
    scheduler.set_sigmas(steps)
    sample = torch.randn(IMAGE, device=device) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        sample = scheduler.step_correct(torch.randn_like(sample), sample, **extra).prev_sample
        sample = scheduler.step_pred(
            torch.randn_like(sample), timestep, sample, **extra
        ).prev_sample


def _sde_vp(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    sample = torch.randn(IMAGE, device=device)
    for timestep in scheduler.timesteps:
        times = timestep * torch.ones(IMAGE[0], device=device)
        sample, _ = scheduler.step_pred(torch.randn_like(sample), sample, times, **extra)


def _karras_ve(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    """``KarrasVePipeline``: without its second-order correction at the last step."""
    sample = torch.randn(IMAGE, device=device) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        sigma = scheduler.schedule[timestep]
        before = scheduler.schedule[timestep - 1] if timestep > 0 else 0
        sample_hat, sigma_hat = scheduler.add_noise_to_input(sample, sigma)
        output = scheduler.step(torch.randn_like(sample), sigma_hat, before, sample_hat)
        sample = output.prev_sample


def _proteins(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    sample = torch.randn(1, 16, 3, device=device)
    emit = torch.ones(1, 16, dtype=torch.bool, device=device)
    for timestep in scheduler.timesteps:
        output = torch.randn_like(sample)
        sample = scheduler.step(output, timestep, sample, emit, return_dict=False, **extra)[0]


def _widened(scheduler: Any, device: Any, steps: int, extra: dict[str, Any]) -> None:
    """``PiflowScheduler`` takes several predictions for each channel of packed latents."""
    sample = torch.randn(1, 16, 4, device=device)
    for timestep in scheduler.timesteps:
        output = torch.randn(1, 16, 4 * scheduler.config.n_grid, device=device)
        sample = scheduler.step(output, timestep, sample, return_dict=False, **extra)[0]


RECIPES: dict[str, Recipe] = {
    "AmusedScheduler": Recipe(
        config={"mask_token_id": VOCABULARY - 1},
        timesteps={"temperature": (2, 0)},
        run=_masked_tokens,
    ),
    "BlockRefinementScheduler": Recipe(run=_tokens),
    "DiscreteDDIMScheduler": Recipe(run=_tokens),
    "EntropyBoundScheduler": Recipe(run=_tokens),
    "VQDiffusionScheduler": Recipe(config={"num_vec_classes": VOCABULARY}, run=_vq),
    "CogVideoXDDIMScheduler": Recipe(shape=VIDEO),
    "CogVideoXDPMScheduler": Recipe(run=_two_outputs),
    "RePaintScheduler": Recipe(timesteps={"jump_length": 2, "jump_n_sample": 2}, run=_inpainting),
    "ScoreSdeVeScheduler": Recipe(run=_score_sde_ve),
    "ScoreSdeVpScheduler": Recipe(run=_sde_vp),
    "KarrasVeScheduler": Recipe(run=_karras_ve),
    "RFD4ProteinaScheduler": Recipe(
        config={
            "schedule_mode": "log",
            "noise_mode": "1/t",
            "tsr_k": 1.0,
            "tsr_sigma": 1.0,
            "tail_steps": 1,
        },
        run=_proteins,
    ),
    "PiflowScheduler": Recipe(run=_widened),
    "ConsistencyDecoderScheduler": Recipe(steps=2),
    "SCMScheduler": Recipe(steps=2, run=_all_but_the_last),
    "DDPMWuerstchenScheduler": Recipe(run=_ratios),
    "HeliosScheduler": Recipe(shape=VIDEO, timesteps={"stage_index": 0}),
    "HeliosDMDScheduler": Recipe(timesteps={"stage_index": 0}, run=_distilled_video),
    "LTXEulerAncestralRFScheduler": Recipe(shape=VIDEO),
}
