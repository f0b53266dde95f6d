"""Several prompts and seeds from the same float32 latents, and the same noise in both arms."""

import pytest
import torch

from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.cases import CallDefaults, Case, image_cases
from pytest_diffspeed.pipelines.fingerprints import content_fingerprint
from pytest_diffspeed.pipelines.kernels import other_kernels
from pytest_diffspeed.pipelines.sources import parse_source

STEPS = 3


def demo(dtype=None):
    pipeline = parse_source("demo").build()
    return pipeline if dtype is None else pipeline.to(dtype=dtype)


@pytest.fixture(scope="module")
def pipeline(libraries):
    return demo()


def call_of(pipeline):
    defaults = parse_source("demo").defaults(pipeline).overridden(steps=STEPS)
    return PipelineCall(pipeline, defaults, defaults.prompts[0])


def draw(pipeline, case=None):
    call = call_of(pipeline)
    with third_party():
        return call.of(case or Case("owl", 3)).draw(pipeline)


@pytest.mark.parametrize(("prompts", "wanted"), [(1, 8), (2, 8), (3, 9), (5, 10), (8, 8), (9, 9)])
def test_cases_are_prompts_times_seeds(prompts, wanted):
    names = tuple(f"p{number}" for number in range(prompts))
    cases = image_cases(CallDefaults(names, steps=1, seed=5), at_least=8)
    assert len(cases) == len(set(cases)) == wanted
    assert cases[0] == Case("p0", 5)
    seeds = {name: [case.seed for case in cases if case.prompt == name] for name in names}
    assert all(drawn == list(range(5, 5 + wanted // prompts)) for drawn in seeds.values())


def test_a_case_has_its_own_latents_in_float32_and_leaves_the_call_as_it_is(pipeline):
    call = call_of(pipeline)
    before = call.latents.clone()
    other = call.of(Case("owl", 3))
    assert other.latents.dtype is torch.float32
    assert not torch.equal(other.latents, before)
    assert torch.equal(call.latents, before)
    assert torch.equal(call.of(Case("fox", 3)).latents, other.latents)
    assert torch.equal(call.of(Case("fox", call.defaults.seed)).latents, before)
    assert (call.prompt, other.prompt, other.defaults.seed) == ("strawberry", "owl", 3)


def test_what_is_drawn_is_one_image_and_the_latents_behind_it(pipeline):
    first, second = draw(pipeline), draw(pipeline)
    assert first.output.data.shape == (3, 64, 64)
    assert torch.equal(first.output.data, second.output.data)
    config = pipeline.vae.config
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1)
        for values in (config.latents_mean, config.latents_std)
    )
    with torch.no_grad():
        scaled = first.latents.unsqueeze(0) * std / config.scaling_factor + mean
        decoded = pipeline.vae.decode(scaled).sample[0] / 2 + 0.5
    assert torch.allclose(decoded.clamp(0, 1), first.output.data, atol=1e-5)
    assert not torch.allclose(
        draw(pipeline, Case("owl", 4)).output.data, first.output.data, atol=1e-2
    )
    assert not torch.allclose(
        draw(pipeline, Case("avocado", 3)).output.data, first.output.data, atol=1e-2
    )


def with_scheduler(pipeline, scheduler):
    with third_party():
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    return pipeline


def test_a_stochastic_scheduler_gets_the_same_noise_in_both_arms(libraries, monkeypatch):
    from diffusers import EulerAncestralDiscreteScheduler
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as module

    noise = {}
    real = module.randn_tensor

    def recorded(*args, **words):
        made = real(*args, **words)
        noise.setdefault(made.dtype, []).append(made)
        return made

    monkeypatch.setattr(module, "randn_tensor", recorded)
    arms = [
        with_scheduler(demo(dtype), EulerAncestralDiscreteScheduler)
        for dtype in (None, torch.bfloat16)
    ]
    images = [draw(arm).output.data.float() for arm in arms]
    full, half = noise[torch.float32], noise[torch.bfloat16]
    assert len(full) == len(half) == STEPS
    assert not torch.equal(full[0], full[1])
    for one, other in zip(full, half, strict=True):
        assert torch.equal(one.to(torch.bfloat16), other)
    assert (images[0] - images[1]).abs().mean() < 0.02
    assert (images[0] - draw(arms[0], Case("owl", 4)).output.data).abs().mean() > 0.02


def test_noise_from_process_wide_generators_is_the_same_too(pipeline, monkeypatch):
    """Schedulers exist that ignore the call's generator."""
    step = pipeline.scheduler.step

    def noisy(output, *args, **words):
        return step(output + 0.3 * torch.randn(output.shape), *args, **words)

    monkeypatch.setattr(pipeline.scheduler, "step", noisy)
    state = torch.get_rng_state()
    first, second = draw(pipeline), draw(pipeline)
    assert torch.equal(first.output.data, second.output.data)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert torch.equal(draw(pipeline).output.data, first.output.data)
    torch.set_rng_state(state)


def test_a_pipeline_that_gives_no_image_is_refused(pipeline, monkeypatch):
    call = call_of(pipeline)
    monkeypatch.setattr(pipeline.image_processor, "postprocess", lambda *args, **kwargs: ["text"])
    message = "as images for one case instead of one image, video or sound"
    with third_party(), pytest.raises(MeasurementError, match=message):
        call.draw(pipeline)


def test_other_kernels_round_differently_and_are_put_back(pipeline):
    before = torch.backends.cudnn.enabled, torch.backends.mkldnn.enabled
    usual = draw(pipeline).output.data
    with other_kernels():
        other = draw(pipeline).output.data
        assert not torch.backends.mkldnn.enabled
    assert (torch.backends.cudnn.enabled, torch.backends.mkldnn.enabled) == before
    assert 0 < (usual - other).abs().max() < 1e-3


def test_a_fingerprint_sees_every_value(pipeline):
    before = content_fingerprint(pipeline)
    assert before == content_fingerprint(demo())
    weight = pipeline.unet.conv_in.weight.data.view(-1)
    spot = weight.numel() // 3  # not one of the values that the short fingerprint reads
    kept = weight[spot].clone()
    weight[spot] += 1e-6
    changed = content_fingerprint(pipeline)
    weight[spot] = kept
    assert {name for name in before if before[name] != changed[name]} == {"unet"}
    assert content_fingerprint(pipeline) == before


def test_a_fingerprint_sees_what_is_no_weight(pipeline, monkeypatch):
    from diffusers import DDIMScheduler
    from diffusers.models.attention_processor import AttnProcessor

    before = content_fingerprint(pipeline)

    def differing():
        now = content_fingerprint(pipeline)
        return {name for name in before if before[name] != now[name]}

    other = content_fingerprint(with_scheduler(demo(), DDIMScheduler))
    assert {name for name in before if before[name] != other[name]} == {"pipeline", "scheduler"}
    attention = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    with monkeypatch.context() as patch:
        patch.setattr(attention, "processor", AttnProcessor())
        assert differing() == {"unet"}
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.tokenizer, "get_vocab", lambda: {"x": 1})
        assert differing() == {"tokenizer"}
    pipeline.vae.register_buffer("extra", torch.zeros(3), persistent=False)
    assert differing() == {"vae"}
    del pipeline.vae.extra
    assert differing() == set()
