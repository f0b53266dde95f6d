"""The loop is known from steps and denoisers, every scheduler counts, and silence is no zero."""

import asyncio
import copy

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from pytest_diffspeed import count_syncs
from pytest_diffspeed.common.errors import SourceError, UsageError
from pytest_diffspeed.common.quiet import third_party
from tests.copying_pipeline import small_unet

LOOK_UP = "(schedule_timesteps == timestep).nonzero()"


class Own(DiffusionPipeline):
    """A loop of its own, with a progress bar or without; it reads the device in each step."""

    bar = False
    supported = ("pt", "latent")

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def __call__(self, num_inference_steps=4, output_type="pil", return_dict=True, after=None):
        device = self.unet.device
        with third_party():
            self.scheduler.set_timesteps(num_inference_steps, device=device)
        self.scheduler.set_begin_index(0)
        self.prepare()
        sample = torch.randn(1, 3, 8, 8).to(device)
        if self.bar:
            with self.progress_bar(total=num_inference_steps) as bar:
                for timestep in self.scheduler.timesteps:
                    sample = self.turn(timestep, sample)
                    bar.update()
        else:
            for timestep in self.scheduler.timesteps:
                sample = self.turn(timestep, sample)
        self.last(sample)
        if output_type not in self.supported:
            raise ValueError(f"Only the output types {self.supported} are supported")
        return (sample,)

    def prepare(self):
        pass

    def turn(self, timestep, sample):
        strength = timestep.item()  # planted
        scaled = self.scheduler.scale_model_input(sample, timestep)
        output = self.unet(scaled, timestep.reshape(1)).sample * (1 + strength * 0)
        return self.scheduler.step(output, timestep, sample, return_dict=False)[0]

    def last(self, sample):
        return sample.max().item()  # outside

    def never(self):
        """Nobody calls it."""


@pytest.fixture(scope="module")
def unet():
    return small_unet()


@pytest.fixture
def own(unet):
    return Own(unet, EulerDiscreteScheduler())


def count(target, **arguments):
    return count_syncs(target, **{"device": "simulated", "steps": 4, **arguments})


@pytest.mark.parametrize("bar", [True, False])
def test_the_loop_needs_no_progress_bar(own, bar):
    own.bar = bar
    assert count(own).total == 0
    loop = count(own, scope="denoising_loop")
    assert (loop.first_step, loop.per_step, loop.outside) == (1, (1, 1, 1), 0)
    (site,) = loop.sites
    assert site.source.endswith("# planted")
    call = count(own, scope="call")
    assert (call.first_step, call.per_step) == (1, (1, 1, 1))
    (last,) = [site for site in call.sites if site.source.endswith("# outside")]
    assert (last.outside, last.count) == (1, 1)


def test_a_scope_that_is_never_called_is_an_error(own):
    only = count(own, scope=own.turn)
    assert (only.first_step, only.per_step) == (1, (1, 1, 1))
    assert count(own, scope=own.prepare).total == 0  # called, and free of syncs
    with pytest.raises(UsageError, match=r"`Own\.never` was not called in a call of Own"):
        count(own, scope=own.never)
    with pytest.raises(UsageError, match="was not called in a call of EulerDiscreteScheduler"):
        count(EulerDiscreteScheduler(), scope=own.never)
    with pytest.raises(UsageError, match=r"was not called in a call of .*<lambda>"):
        count(lambda: own.prepare(), scope=own.never)
    with pytest.raises(UsageError, match=r"nothing ran on the device in 4 calls of .*<lambda>"):
        count(lambda: own.prepare(), scope=own.prepare)


def test_a_loop_that_was_not_seen_is_an_error(own):
    for scope in ("scheduler.step", "denoising_loop", "call"):
        with pytest.raises(SourceError, match=r"no loop was seen: a call ran no scheduler\.step"):
            count(own, scope=scope, num_inference_steps=0)
    own.scheduler = None
    type(own).__call__, kept = (lambda self, **kwargs: None), type(own).__call__
    try:
        for scope in ("scheduler.step", "denoising_loop"):
            with pytest.raises(SourceError, match="no loop was seen: no scheduler stepped"):
                count(own, scope=scope)
        assert count(own, scope="call").total == 0
    finally:
        type(own).__call__ = kept


async def coroutine():
    raise AssertionError("unreachable because nobody awaits it")


def generator():
    yield torch.ones(1)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (coroutine, "a coroutine"),
        (generator, "a generator"),
        (lambda: map(abs, [1]), "a lazy `map`"),
        (lambda: generator, "a function"),
    ],
)
def test_a_function_that_does_nothing_yet_is_refused(function, kind):
    with pytest.raises(UsageError, match=f"returned {kind}, so its work has not been done"):
        count(function)


def test_a_function_that_never_touches_the_device_is_no_zero():
    with pytest.raises(UsageError, match=r"nothing ran on the device in 2 calls .*take `device`"):
        count(lambda: torch.ones(2).sum().item(), steps=2)
    assert count(lambda device: torch.ones(2, device=device) + 1).total == 0
    asked_for = count(lambda: torch.cuda.synchronize())  # no operation, and it waits
    assert (asked_for.first_step, asked_for.per_step) == (1, (1, 1, 1))


def test_a_coroutine_that_is_run_is_counted():
    async def reads(device):
        return torch.ones(1, device=device).item()

    report = count(lambda device: asyncio.run(reads(device)))
    assert (report.first_step, report.per_step) == (1, (1, 1, 1))


def test_a_pipeline_that_copies_its_scheduler(copying_pipeline):
    """As LTX-2 does: both look their first timestep up, in the same step."""
    before = dict(vars(copying_pipeline.scheduler))
    report = count(copying_pipeline, steps=3)
    assert copying_pipeline.used == [(1, 1), (2, 2), (3, 3)]
    assert (report.first_step, report.per_step) == (4, (0, 0))
    assert {site.source for site in report.sites} >= {f"indices = {LOOK_UP}"}
    kind = "FlowMatchEulerDiscreteScheduler"
    assert [str(one) for one in report.schedulers] == [
        f"scheduler ({kind}, 3 steps)",
        f"<{kind}> ({kind}, 3 steps)",
    ]
    assert report.target == f"TwoModalities with {kind}"
    assert f"schedulers that stepped: scheduler ({kind}, 3 steps), <{kind}>" in str(report)
    assert vars(copying_pipeline.scheduler) == before


class SecondScheduler(Own):
    """A refiner made in the call steps too, and asks the device in its own step."""

    def last(self, sample):
        refiner = AsksTheDevice()
        with third_party():
            refiner.set_timesteps(2, device=sample.device)
        for timestep in refiner.timesteps:
            output = self.unet(sample, timestep.reshape(1)).sample
            sample = refiner.step(output, timestep, sample, return_dict=False)[0]


class AsksTheDevice(FlowMatchEulerDiscreteScheduler):
    def step(self, model_output, timestep, sample, **kwargs):
        assert sample.isfinite().all()  # asked
        return super().step(model_output, timestep, sample, **kwargs)


def test_a_second_scheduler_is_counted_and_named(unet):
    report = count(SecondScheduler(unet, EulerDiscreteScheduler()))
    assert [(one.name, one.steps) for one in report.schedulers] == [
        ("scheduler", 4),
        ("<AsksTheDevice>", 2),
    ]
    # Its first step looks the timestep up as well.
    assert (report.first_step, report.per_step) == (0, (0, 0, 0, 3, 1))


class Outer(DiffusionPipeline):
    """Stable Cascade and Kandinsky step the schedulers of the pipelines in them."""

    def __init__(self, unet):
        super().__init__()
        self.register_modules(unet=unet)
        self.prior_pipe = Own(unet, EulerDiscreteScheduler())

    def __call__(self, num_inference_steps=4, output_type="pil"):
        return self.prior_pipe(num_inference_steps=num_inference_steps, output_type=output_type)


def test_schedulers_of_pipelines_inside_are_counted(unet):
    loop = count(Outer(unet), scope="denoising_loop")
    assert (loop.first_step, loop.per_step) == (1, (1, 1, 1))
    assert [one.name for one in loop.schedulers] == ["prior_pipe.scheduler"]


@pytest.mark.parametrize(
    ("supported", "scope", "said"),
    [
        (("pt", "pil"), "scheduler.step", "output_type='pt', since the pipeline takes no 'latent'"),
        (("np", "pil"), "denoising_loop", "output_type='np', since the pipeline takes no 'pt'"),
        (("pil", "mesh"), "denoising_loop", "output_type='pil', since the pipeline takes no 'pt'"),
        (("latent",), "scheduler.step", ""),
    ],
)
def test_an_output_type_is_found_that_the_pipeline_takes(own, supported, scope, said):
    own.supported = supported
    report = count(own, scope=scope)
    assert report.steps == 4
    assert report.remark.endswith(said)
    assert said in str(report)


def test_an_output_type_of_the_users_is_not_replaced(own):
    with pytest.raises(ValueError, match="Only the output types"):
        count(own, output_type="mesh")


class NeedsAnImage(Own):
    def __call__(self, image, num_inference_steps=4, output_type="pt"):
        return super().__call__(num_inference_steps, output_type)


def test_an_argument_that_is_missing_is_named(unet):
    pipeline = NeedsAnImage(unet, EulerDiscreteScheduler())
    with pytest.raises(SourceError, match=r"needs 'image'; give it: count_syncs\(pipeline, image="):
        count(pipeline)
    assert count(pipeline, image=None).steps == 4


def test_a_modular_pipeline_is_refused():
    class Blocks(diffusers.ModularPipeline):
        def __init__(self):
            pass

    with pytest.raises(UsageError, match="cannot tell the steps of a Blocks, a ModularPipeline"):
        count(Blocks())


def test_cpu_sigmas_beside_the_count(copying_pipeline):
    """What a technique put on the scheduler acts on the scheduler that is counted."""
    from pytest_diffspeed.techniques.catalog.scheduler import CpuSigmas

    CpuSigmas().apply(copying_pipeline)
    report = count(copying_pipeline, steps=3)
    assert (report.total, copying_pipeline.used) == (0, [(1, 1), (2, 2), (3, 3)])
    again = copy.deepcopy(copying_pipeline.scheduler)
    assert again.set_timesteps.__self__ is again
