"""Whole pipelines: the image is the CPU's, and every planted sync is found at its line."""

import diffusers
import pytest
import torch

from pytest_diffspeed import count_syncs
from pytest_diffspeed.common.errors import SourceError, UsageError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.pipeline_state import pipeline_state
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.simgpu import SimulatedGpu

PLANTED = "  # planted"


def image(pipeline, device, **arguments):
    generator = torch.Generator(device).manual_seed(0)
    with third_party(), torch.random.fork_rng(devices=[]):
        return pipeline(
            prompt="a fox",
            num_inference_steps=3,
            generator=generator,
            output_type="pt",
            return_dict=False,
            **arguments,
        )[0].cpu()


@pytest.mark.parametrize("source", ["demo", "random:flux-tiny"])
def test_the_image_is_that_of_the_cpu(source):
    small = {} if source == "demo" else {"height": 32, "width": 32}
    pipeline = parse_source(source).build()
    expected = image(pipeline, "cpu", **small)
    weights = {name: p for name, p in pipeline.vae.named_parameters()}
    with SimulatedGpu() as gpu:
        with third_party():
            pipeline.to(gpu.device)
        assert pipeline.device == gpu.device
        found = image(pipeline, gpu.device, **small)
        with third_party():
            pipeline.to("cpu")
        assert gpu.memory.peak_bytes > sum(p.nbytes for p in weights.values())
    assert all(p is weights[name] for name, p in pipeline.vae.named_parameters())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(image(pipeline, "cpu", **small), expected, rtol=0, atol=0)


def test_anchor_euler_in_sdxl_never_waits(sdxl):
    assert type(sdxl.scheduler) is diffusers.EulerDiscreteScheduler
    report = count_syncs(sdxl, device="simulated", steps=5)
    assert (report.first_step, report.per_step, report.sites) == (0, (0, 0, 0, 0), ())
    assert report.target == "StableDiffusionXLPipeline with EulerDiscreteScheduler"
    assert report.evidence.startswith("simulated GPU")


def test_anchor_ddim_waits_six_times_a_step_and_four_in_the_last(with_scheduler):
    pipeline = with_scheduler(diffusers.DDIMScheduler)
    report = count_syncs(pipeline, device="simulated", steps=5)
    assert (report.first_step, report.per_step) == (6, (6, 6, 6, 4))
    assert {site.kind for site in report.sites} == {"value_read"}
    assert all(site.file.endswith("scheduling_ddim.py") for site in report.sites)
    # One line with a count for each place, not one for each sync.
    assert len({(site.file, site.line) for site in report.sites}) == len(report.sites) == 4
    assert sum(site.count for site in report.sites) == report.total == 28
    assert sum(site.first_step for site in report.sites) == 6


def test_flux_waits_nowhere_in_its_steps(flux):
    report = count_syncs(flux, device="simulated", steps=2, height=32, width=32)
    assert report.total == 0


def test_the_pipeline_is_left_as_it_was(sdxl):
    before, state = pipeline_state(sdxl), torch.get_rng_state()
    scheduler = dict(vars(sdxl.scheduler))
    count_syncs(sdxl, device="simulated", steps=2, scope="call")
    assert pipeline_state(sdxl) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(vars(sdxl.scheduler)[name] is value for name, value in scheduler.items())


def line_of(report, text):
    sites = [site for site in report.sites if text in site.source]
    assert len(sites) == 1, str(report)
    assert sites[0].file == __file__
    return sites[0]


def test_a_callback(sdxl):
    def callback(pipe, index, timestep, tensors):
        if tensors["latents"].abs().max() > 1e9:  # planted
            raise AssertionError
        return tensors

    arguments = {"device": "simulated", "steps": 3, "callback_on_step_end": callback}
    inside = count_syncs(sdxl, **arguments)
    loop = count_syncs(sdxl, scope="denoising_loop", **arguments)
    only = count_syncs(sdxl, scope=callback, **arguments)
    assert inside.total == 0  # not in scheduler.step
    assert line_of(loop, PLANTED).count == 3
    assert (only.scope, only.total) == (callback.__qualname__, 3)
    assert line_of(only, PLANTED).function == "callback"
    # A callback runs after its step, so it belongs to the next one; the last has no next one.
    assert (loop.first_step, loop.per_step) == (0, (1, 2))


class CountingProcessor:
    """As `AttnProcessor2_0`, with a question to the device in each attention."""

    def __init__(self):
        self.inner = diffusers.models.attention_processor.AttnProcessor2_0()

    def __call__(self, attn, hidden_states, *args, **kwargs):
        scale = hidden_states.std().item()  # planted
        assert scale >= 0
        return self.inner(attn, hidden_states, *args, **kwargs)


def test_a_custom_attention_processor(with_scheduler):
    pipeline = with_scheduler(diffusers.EulerDiscreteScheduler)
    before = pipeline.unet.attn_processors
    attentions = len(before)  # `set_attn_processor` empties the dictionary that it is given
    processor = CountingProcessor()
    try:
        with third_party():
            pipeline.unet.set_attn_processor(processor)
        loop = count_syncs(pipeline, device="simulated", steps=2, scope="denoising_loop")
        only = count_syncs(pipeline, device="simulated", steps=2, scope=CountingProcessor.__call__)
        same = count_syncs(pipeline, device="simulated", steps=2, scope=processor)
        step = count_syncs(pipeline, device="simulated", steps=2)
    finally:
        pipeline.unet.set_attn_processor(before)
    assert line_of(loop, PLANTED).count == 2 * attentions
    assert only.total == same.total == loop.total
    assert step.total == 0


KINDS = {
    "value_read": lambda x: bool(x.sum() > 0),
    "data_dependent_shape": lambda x: x[x > 0],
    "blocking_h2d": lambda x: x + torch.tensor([1.0], device=x.device),
    "blocking_d2h": lambda x: x.cpu(),
    "synchronize": lambda x: torch.cuda.synchronize(),
    "empty_cache": lambda x: torch.cuda.empty_cache(),
    "may_block": lambda x: torch.ones(8).to(x.device, non_blocking=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_in_user_code(sdxl, kind):
    def callback(pipe, index, timestep, tensors):
        KINDS[kind](tensors["latents"])
        return tensors

    report = count_syncs(
        sdxl,
        device="simulated",
        steps=2,
        scope="denoising_loop",
        callback_on_step_end=callback,
    )
    (site,) = report.sites
    assert (site.kind, site.count, site.file) == (kind, 2, __file__)
    assert site.source.startswith(f'"{kind}": lambda')
    expected = (0, 2) if kind == "may_block" else (2, 0)
    assert (report.total, report.may_block) == expected


def plant(kind, latents):
    KINDS[kind](latents)


class Asks(diffusers.EulerDiscreteScheduler):
    planted = ""

    def step(self, model_output, timestep, sample, **kwargs):
        plant(self.planted, sample)
        return super().step(model_output, timestep, sample, **kwargs)


class PlantedProcessor(CountingProcessor):
    planted = ""

    def __call__(self, attn, hidden_states, *args, **kwargs):
        plant(self.planted, hidden_states)
        return self.inner(attn, hidden_states, *args, **kwargs)


def in_scheduler(pipeline, kind):
    pipeline.scheduler.planted = kind
    return {}, "step", 2


def in_callback(pipeline, kind):
    def callback(pipe, index, timestep, tensors):
        plant(kind, tensors["latents"])
        return tensors

    return {"callback_on_step_end": callback}, "callback", 2


def in_attention(pipeline, kind):
    processor = PlantedProcessor()
    processor.planted = kind
    count = 2 * len(pipeline.unet.attn_processors)
    pipeline.unet.set_attn_processor(processor)
    return {}, "__call__", count


def in_user_code(pipeline, kind):
    """A model that the user changed: its `forward` asks."""
    forward = pipeline.unet.forward

    def asks(sample, *args, **kwargs):
        plant(kind, sample)
        return forward(sample, *args, **kwargs)

    pipeline.unet.forward = asks
    return {}, "asks", 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [in_scheduler, in_callback, in_attention, in_user_code])
def test_every_kind_in_every_place(place, kind):
    pipeline = parse_source("random:sdxl-tiny").build()
    with third_party():
        config = pipeline.scheduler.config
        pipeline.scheduler = (
            Asks if place is in_scheduler else diffusers.EulerDiscreteScheduler
        ).from_config(config)
        arguments, function, count = place(pipeline, kind)
    scope = "scheduler.step" if place is in_scheduler else "denoising_loop"
    report = count_syncs(pipeline, device="simulated", steps=2, scope=scope, **arguments)
    (site,) = report.sites
    assert (site.kind, site.count, site.file) == (kind, count, __file__)
    assert site.source.startswith(f'"{kind}": lambda')
    assert (report.total, report.may_block) == ((0, count) if kind == "may_block" else (count, 0))
    # Asked of the function that it was planted in, all of it is inside.
    owner = {"step": Asks.step, "__call__": PlantedProcessor.__call__}.get(function)
    inner = owner or arguments.get("callback_on_step_end") or pipeline.unet.forward
    only = count_syncs(pipeline, device="simulated", steps=2, scope=inner, **arguments)
    assert sum(site.count for site in only.sites) == count


def test_a_whole_call_counts_what_is_outside_the_steps(sdxl):
    report = count_syncs(sdxl, device="simulated", steps=2, scope="call")
    assert (report.first_step, report.per_step) == (0, (0,))
    assert report.outside == report.total > 0
    assert any(site.file.endswith("scheduling_euler_discrete.py") for site in report.sites)
    assert f"{report.outside} outside the steps" in str(report)


def test_allowances(with_scheduler):
    pipeline = with_scheduler(diffusers.DDIMScheduler)
    plain = count_syncs(pipeline, device="simulated", steps=2)
    first = plain.sites[0]
    report = count_syncs(
        pipeline,
        device="simulated",
        steps=2,
        allow=(
            f"scheduling_ddim.py:{first.line}  # tables are small",
            "*self.alphas_cumprod[timestep]*",
            "gone.py:7  # fixed long ago",
        ),
    )
    assert report.total < plain.total
    assert report.sites[-1].allowed is not None
    assert {site.allowed for site in report.sites} >= {"tables are small"}
    assert report.unused_allowances == ("gone.py:7 (fixed long ago)",)
    assert "allowed, but not seen any more: gone.py:7" in str(report)
    everything = count_syncs(pipeline, device="simulated", steps=2, allow=("scheduling_ddim.py",))
    assert everything.total == 0
    assert len(everything.sites) == len(plain.sites)
    other = count_syncs(pipeline, device="simulated", steps=2, allow=("ng_ddim.py",))
    assert other.total == plain.total
    with pytest.raises(UsageError, match="allows nothing"):
        count_syncs(pipeline, device="simulated", steps=2, allow=("# because",))


def test_functions_as_targets():
    def reads(x, device):
        return (x.to(device) + 1).sum().item()

    report = count_syncs(reads, device="simulated", steps=3, x=torch.ones(2))
    assert (report.first_step, report.per_step) == (2, (2, 2))
    assert {site.kind for site in report.sites} == {"blocking_h2d", "value_read"}
    with pytest.raises(UsageError, match="needs a pipeline"):
        count_syncs(reads, device="simulated", scope="denoising_loop", x=torch.ones(2))


def test_compiled_and_moved_modules_are_refused(sdxl):
    sdxl.unet.compile(backend="eager")
    try:
        with pytest.raises(SourceError, match="unet is compiled"):
            count_syncs(sdxl, device="simulated")
    finally:
        sdxl.unet._compiled_call_impl = None
    with SimulatedGpu() as gpu:
        sdxl.vae.to(gpu.device)
        try:
            with pytest.raises(SourceError, match="takes plain tensors on the CPU"):
                count_syncs(sdxl, device="simulated")
        finally:
            sdxl.vae.to("cpu")


def test_a_pipeline_without_steps_is_refused(with_scheduler, monkeypatch):
    pipeline = with_scheduler(diffusers.EulerDiscreteScheduler)
    monkeypatch.setattr(type(pipeline), "__call__", lambda self, **kwargs: None)
    with pytest.raises(SourceError, match=r"ran no scheduler\.step"):
        count_syncs(pipeline, device="simulated")
