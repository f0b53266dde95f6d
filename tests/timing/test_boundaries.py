"""Stages of real pipelines: each part is seen, nothing is changed, nothing compiles again."""

import inspect
import time
from collections import Counter

import pytest
import torch

from pytest_diffspeed.adapters.attributes import replaced
from pytest_diffspeed.adapters.torch_internals import around_calls, compiled_frames_run
from pytest_diffspeed.common.errors import DiffspeedError, SourceError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.boundaries import require_unit, stage_boundaries
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.components import modules
from pytest_diffspeed.pipelines.observed import observe_call
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.timing.stages import Stage, time_stages
from tests.clocks import StampingClock
from tests.pipelines.several_parts import call_with_controlnet, with_controlnet

SOURCE = "random:sdxl-tiny"
STEPS = 3


@pytest.fixture
def pipeline():
    with third_party():
        return parse_source(SOURCE).build()


@pytest.fixture
def call(pipeline):
    defaults = parse_source(SOURCE).defaults(pipeline).overridden(steps=STEPS)
    made = PipelineCall(pipeline, defaults, "a red apple")

    def once():
        with third_party():
            return made(pipeline)

    return once


@pytest.fixture
def fresh_dynamo():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def stages_of(pipeline, call):
    return time_stages(call, stage_boundaries(pipeline, observed(pipeline, call)), StampingClock())


def observed(pipeline, call):
    with third_party():
        return observe_call(pipeline, call)


def counted_parts(pipeline, call):
    """How often each part ran in one call."""
    counts = Counter()

    def around(part, function):
        def counting(*args, **kwargs):
            counts[part.stage] += 1
            return function(*args, **kwargs)

        return counting

    # The pipeline reads the signature of scheduler.step.
    def keeping(part, function):
        wrapped = around(part, function)
        wrapped.__signature__ = inspect.signature(function)
        return wrapped

    with stage_boundaries(pipeline, observed(pipeline, call))(keeping):
        call()
    return counts


def instances(pipeline):
    """What is set on the instances that are touched, by identity."""
    owners = {**modules(pipeline), "scheduler": pipeline.scheduler}
    return {
        name: {key: id(value) for key, value in vars(owner).items()}
        for name, owner in owners.items()
        if name != "scheduler"
    } | {"scheduler": set(vars(pipeline.scheduler))}


def test_each_part_of_an_sdxl_call_is_seen(pipeline, call):
    counts = counted_parts(pipeline, call)
    assert counts[Stage.DENOISER] == STEPS
    assert counts[Stage.SCHEDULER_STEP] == STEPS
    assert counts[Stage.VAE_DECODE] == 1
    # Two encoders; with guidance, the prompt and the negative prompt.
    assert counts[Stage.TEXT_ENCODER] in (2, 4)


def test_the_stages_of_an_sdxl_call(pipeline, call):
    stages, _ = stages_of(pipeline, call)
    # Boundaries in a step: denoiser, denoiser's end, scheduler.step, its end.
    assert stages.first_step_s == 3.0
    assert stages.steady_steps_s == (4.0,) * (STEPS - 1)
    assert stages.denoiser_s == STEPS
    assert stages.vae_decode_s == 1.0
    assert stages.text_encoder_s in (2.0, 4.0)
    assert stages.rest_s > 0.0
    assert stages.components_s == {
        "text_encoder": 1.0,
        "text_encoder_2": 1.0,
        "unet": STEPS,
        "vae.decode": 1.0,
    }


def test_watching_changes_neither_the_image_nor_the_pipeline(pipeline, call):
    call()  # the first call sets what later ones find
    unwatched = call()
    before = instances(pipeline)
    _, watched = stages_of(pipeline, call)
    assert torch.equal(watched, unwatched)
    assert instances(pipeline) == before


def test_a_call_that_raises_leaves_the_pipeline_as_it_was(pipeline):
    before = instances(pipeline)

    def broken():
        raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="device lost"):
        stages_of(pipeline, broken)
    assert instances(pipeline) == before


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x).sin()


class Toy(torch.nn.Module):
    """A denoiser and a VAE in one, small enough for dynamo to take no time."""

    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        return self.block(x).relu()

    def decode(self, x):
        return self.block(x).cos()


# Dynamo does all of its work with this backend, inductor none.
OPTIONS = {"backend": "eager", "fullgraph": True}


def compiled_in_place(toy):
    """What our technique does."""
    toy.compile(**OPTIONS)
    toy.decode = torch.compile(toy.decode, **OPTIONS)
    return toy


def compiled_by_replacing(toy):
    """What most guides do."""
    toy.decode = torch.compile(toy.decode, **OPTIONS)
    return torch.compile(toy, **OPTIONS)


def compiled_forward(toy):
    toy.forward = torch.compile(toy.forward, **OPTIONS)
    toy.decode = torch.compile(toy.decode, **OPTIONS)
    return toy


def compiled_inside(toy):
    """Regional compilation: the denoiser itself stays eager."""
    toy.block.compile(**OPTIONS)
    return toy


@pytest.mark.parametrize(
    "compiled", [compiled_in_place, compiled_by_replacing, compiled_forward, compiled_inside]
)
def test_watching_leaves_compiled_code_alone(compiled, fresh_dynamo):
    from torch._dynamo.utils import counters

    toy = compiled(Toy())
    x, marks = torch.ones(2, 4), []

    def wrap(function):
        def marked(*args):
            marks.append("begin")
            result = function(*args)
            marks.append("end")
            return result

        return marked

    def call():
        toy(x)
        toy.decode(x)

    def watched_call():
        with around_calls(toy, wrap), replaced(toy, "decode", wrap(toy.decode)):
            call()

    with torch.no_grad():
        call()
        counters.clear()
        frames = compiled_frames_run(call)
        with torch.compiler.set_stance("fail_on_recompile"):
            assert compiled_frames_run(watched_call) == frames
            watched_call()
            assert compiled_frames_run(call) == frames  # it does not go stale afterwards either
    assert sum(frames.values()) == 2
    assert marks == ["begin", "end"] * 4
    assert counters["stats"]["unique_graphs"] == 0
    assert not counters["graph_break"]


def test_a_hook_that_reads_the_clock_would_be_compiled_itself(fresh_dynamo):
    """Why there are no hooks."""
    toy = compiled_in_place(Toy())
    x = torch.ones(2, 4)
    toy(x)
    toy.register_forward_pre_hook(lambda *_: time.perf_counter())
    with pytest.raises(torch._dynamo.exc.Unsupported, match="perf_counter"), third_party():
        toy(x)


def test_what_was_not_there_is_not_there_afterwards():
    toy = Toy()
    before = dict(vars(toy))
    with around_calls(toy, lambda f: f), replaced(toy, "decode", print):
        assert toy.decode is print
    assert vars(toy) == before


def test_a_module_that_torch_calls_in_another_way_is_refused():
    class Odd:
        pass

    with pytest.raises(DiffspeedError, match="calls of Odd cannot be watched: this version of"):
        around_calls(Odd(), lambda f: f).__enter__()


@pytest.mark.slow
def test_watching_a_compiled_pipeline_compiles_nothing_again(pipeline, call, fresh_dynamo):
    from torch._dynamo.utils import counters

    pipeline.unet.compile(**OPTIONS)
    pipeline.vae.decode = torch.compile(pipeline.vae.decode, **OPTIONS)
    unwatched = call()
    frames = compiled_frames_run(call)
    before = instances(pipeline)
    counters.clear()
    with torch.compiler.set_stance("fail_on_recompile"):
        stages, watched = stages_of(pipeline, call)
        assert compiled_frames_run(lambda: stages_of(pipeline, call)) == frames
        assert compiled_frames_run(call) == frames
    assert sorted(frames.values()) == [1, STEPS]
    assert counters["stats"]["unique_graphs"] == 0
    assert not counters["graph_break"]
    assert torch.equal(watched, unwatched)
    assert instances(pipeline) == before
    assert (stages.denoiser_s, stages.vae_decode_s) == (STEPS, 1.0)


@pytest.fixture(scope="module")
def unconditional():
    """A pipeline without text encoder and VAE."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    with third_party():
        unet = UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        )
        pipeline = DDPMPipeline(unet, DDPMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_another_family_of_pipelines_has_its_steps(unconditional):
    def call():
        with third_party():
            return unconditional(num_inference_steps=4, output_type="np")

    stages, _ = stages_of(unconditional, call)
    assert (stages.first_step_s, stages.steady_steps_s) == (3.0, (4.0, 4.0, 4.0))
    assert (stages.text_encoder_s, stages.vae_decode_s) == (None, None)
    ran = observed(unconditional, call)
    assert [require_unit(unconditional, ran, unit) for unit in ("step", "denoiser", "unet")] == [
        "step",
        "denoiser",
        "unet",
    ]


def test_a_copied_scheduler_steps_itself_and_ends_the_same_step(copying_pipeline):
    """As LTX-2 has one for its audio."""
    stages, _ = stages_of(copying_pipeline, lambda: copying_pipeline(num_inference_steps=3))
    assert copying_pipeline.used == [(1, 1), (2, 2), (3, 3)]
    # Boundaries in a step: begin and end of the denoiser and of both schedulers' steps.
    assert (stages.first_step_s, stages.steady_steps_s) == (5.0, (6.0, 6.0))


@pytest.mark.parametrize("unit", ["text_encoder", "vae.decode", "unett"])
def test_a_unit_of_which_nothing_ran_is_named_with_what_ran(unconditional, unit):
    ran = observed(unconditional, lambda: unconditional(num_inference_steps=1, output_type="np"))
    with pytest.raises(
        SourceError,
        match=rf"unit='{unit}' cannot be timed for DDPMPipeline: the pipeline ran no '{unit}'; "
        r".*Valid: denoiser, unet.; what ran: unet \(1 ×\)",
    ):
        require_unit(unconditional, ran, unit)


@pytest.mark.parametrize("unit", ["step", "denoiser"])
def test_a_call_without_steps_has_none_to_time(unconditional, unit):
    nothing = observed(unconditional, lambda: None)
    with pytest.raises(SourceError, match=f"unit='{unit}' cannot be timed"):
        require_unit(unconditional, nothing, unit)


def test_each_network_in_the_steps_has_its_own_seconds():
    pipeline = with_controlnet()
    stages, _ = stages_of(pipeline, lambda: call_with_controlnet(pipeline))
    assert stages.components_s == {
        "text_encoder": 1.0,
        "controlnet": 2.0,
        "unet": 2.0,
        "vae.decode": 1.0,
    }
    assert stages.denoiser_s == 4.0
    ran = observed(pipeline, lambda: call_with_controlnet(pipeline))
    assert stages.of(require_unit(pipeline, ran, "controlnet")) == 2.0
    assert stages.of(require_unit(pipeline, ran, "vae")) == 1.0
