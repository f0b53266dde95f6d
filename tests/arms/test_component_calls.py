"""A component alone: what it is called with, how often, and when it must not be timed so."""

from dataclasses import replace

import pytest
import torch

from pytest_diffspeed.adapters.torch_internals import around_calls
from pytest_diffspeed.arms.component_calls import NotAloneError, component_arms, spread
from pytest_diffspeed.arms.lockstep import step_arms
from pytest_diffspeed.arms.prepared_arm import PreparedArm
from pytest_diffspeed.common.errors import SourceError
from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.timing.speedup import measure_speedup
from tests.arms.small_arms import OneSecond, prepared

STEPS = 20
SDXL = "random:sdxl-tiny"


@pytest.fixture(scope="module")
def sdxl():
    return prepared(SDXL, steps=STEPS)


@pytest.fixture
def arm(sdxl):
    """Its memo is empty, so that nothing of an earlier test is known."""
    made = PreparedArm(sdxl.spec, sdxl.pipeline, sdxl.call, sdxl.applied)
    made.memo["observed"] = sdxl.observed()
    return made


@pytest.fixture
def other(sdxl, arm):
    """The same pipeline under another name."""
    spec = replace(sdxl.spec, stack=parse_stack("channels_last"))
    made = PreparedArm(spec, sdxl.pipeline, sdxl.call, sdxl.applied)
    made.memo["observed"] = sdxl.observed()
    return made


class Seen:
    """The inputs of each call of a module, in order."""

    def __init__(self, module):
        self.samples, self.timesteps = [], []
        self._context = around_calls(module, self._wrap)

    def _wrap(self, function):
        def seeing(sample, timestep, *args, **kwargs):
            self.samples.append(sample.clone())
            self.timesteps.append(float(timestep))
            return function(sample, timestep, *args, **kwargs)

        return seeing

    def __enter__(self):
        self._context.__enter__()
        return self

    def __exit__(self, *error):
        self._context.__exit__(*error)


def verdict_of(first, second, min_ratio=0.5):
    return measure_speedup(
        first, second, min_ratio=min_ratio, clock=OneSecond(), now=lambda: 0.0, seed=7
    )


def test_a_verdict_at_twenty_steps_takes_fewer_denoiser_calls_than_one_image(arm, other):
    with Seen(arm.pipeline.unet) as seen:
        alone = component_arms([arm, other], "denoiser")
        captured = len(seen.timesteps)
        result = verdict_of(*alone.arms)
    assert (result.verdict, result.pairs) == (VerdictKind.PASS, 5)
    assert alone.pairs_of == "denoiser calls of steps 1, 2, 3 (inputs of a real call of 3 steps)"
    # Of each arm: three steps of a real call, four that are run again; three to warm up, and pairs.
    assert captured == 2 * (3 + 4)
    assert len(seen.timesteps) - captured == 2 * (3 + 5)
    assert len(seen.timesteps) / 2 < STEPS
    # A second gate of the same arms captures nothing.
    with Seen(arm.pipeline.unet) as again:
        component_arms([arm, other], "denoiser")
    assert not again.timesteps


def test_both_arms_get_the_inputs_of_the_same_step_and_steps_change(arm, other):
    first, second = component_arms([arm, other], "unet").arms
    with Seen(arm.pipeline.unet) as seen:
        measure_speedup(
            first,
            second,
            min_ratio=1.0,
            budget_s=20.0,
            clock=OneSecond(),
            now=iter(range(1000)).__next__,
            seed=7,
        )
    timed = [*zip(seen.timesteps[::2], seen.timesteps[1::2], strict=True)]
    assert all(one == other_one for one, other_one in timed)
    assert len(set(timed)) == 3
    values = {}
    for sample, timestep in zip(seen.samples, seen.timesteps, strict=True):
        assert torch.equal(values.setdefault(timestep, sample), sample)


def test_inputs_are_those_of_the_pipelines_own_call(arm):
    with Seen(arm.pipeline.unet) as real, arm.running():
        arm.call(arm.pipeline, steps=3)
    (alone,) = component_arms([arm], "unet").arms
    with Seen(arm.pipeline.unet) as seen:
        for turn in range(3):
            alone.turn = turn
            alone.untimed_call()
    assert seen.timesteps == real.timesteps
    pairs = zip(seen.samples, real.samples, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_component_that_writes_into_its_inputs_changes_no_later_call(arm):
    def write(module, args):
        args[0].mul_(0.5)

    hook = arm.pipeline.unet.register_forward_pre_hook(write)
    try:
        (alone,) = component_arms([arm], "unet").arms
        with Seen(arm.pipeline.unet) as seen:
            for _ in range(3):
                alone.timed_call(OneSecond())
    finally:
        hook.remove()
    assert torch.equal(seen.samples[0], seen.samples[2])


def test_calls_run_without_gradients_as_in_the_pipeline(arm):
    modes = []
    hook = arm.pipeline.unet.register_forward_pre_hook(
        lambda *_: modes.append(torch.is_grad_enabled())
    )
    try:
        (alone,) = component_arms([arm], "unet").arms
        modes.clear()
        alone.untimed_call()
    finally:
        hook.remove()
    assert modes == [False]


def counting(module, args, output):
    module.calls_so_far = getattr(module, "calls_so_far", 0) + 1


def noisy(module, args, output):
    return (output[0] + torch.randn_like(output[0]),)


def remembering(module, args, output):
    """As a cache does that skips every other call."""
    module.turn_of_cache = (getattr(module, "turn_of_cache", 0) + 1) % 2
    if module.turn_of_cache:
        module.last = output
        return output
    return module.last


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (counting, r"keeps a state between calls \(calls_so_far changed in one\)"),
        (noisy, "unet does not give again what it gave in the pipeline's call: it is random"),
        (remembering, "unet does not give again what it gave"),
    ],
)
def test_a_component_that_is_not_the_same_each_time_is_not_timed_alone(arm, hook, why):
    unet = arm.pipeline.unet
    handle = unet.register_forward_hook(hook)
    try:
        for _ in range(2):  # found out once
            with pytest.raises(NotAloneError, match=why):
                component_arms([arm], "denoiser")
    finally:
        handle.remove()
        for name in ("calls_so_far", "turn_of_cache", "last"):
            vars(unet).pop(name, None)


def test_a_cache_of_diffusers_is_told_by_its_hook():
    from diffusers import FirstBlockCacheConfig

    flux = prepared("random:flux-tiny", steps=STEPS)
    flux.pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.05))
    with pytest.raises(NotAloneError, match=r"transformer keeps a state between calls \(hook 'fbc"):
        component_arms([flux], "denoiser")


def test_weights_that_are_moved_between_calls_are_told(arm, monkeypatch):
    monkeypatch.setattr(
        "pytest_diffspeed.arms.component_calls.offload_hooks",
        lambda module: ["accelerate's CpuOffload"] if module is arm.pipeline.vae else [],
    )
    with pytest.raises(NotAloneError, match="accelerate's CpuOffload moves vae between calls"):
        component_arms([arm], "vae.decode")
    assert component_arms([arm], "unet").arms


def test_nothing_compiles_again_for_inputs_that_are_copies():
    """Strides, aliases and modes are those that the pipeline's own call had."""
    torch.compiler.reset()
    compiled = prepared("tests.compilation.small_pipeline:attending", steps=2)
    compiled.pipeline.unet.compile(backend="eager", fullgraph=True)
    try:
        with compiled.running():
            compiled.call(compiled.pipeline)
        with torch.compiler.set_stance("fail_on_recompile"):
            (alone,) = component_arms([compiled], "denoiser").arms
            for turn in range(2):
                alone.turn = turn
                alone.timed_call(OneSecond())
            with step_arms([compiled]).open() as ((step,),):
                step.timed_call(OneSecond())
    finally:
        torch.compiler.reset()


def test_all_calls_of_a_step_are_timed_where_one_arm_makes_more_of_them(arm, other):
    """Guidance in two calls, against guidance in one."""
    component_arms([arm, other], "unet")
    key = ("component calls", "unet")
    calls = other.memo[key]
    twice = {number: calls.steps[number] * 2 for number in calls.steps}
    other.memo[key] = replace(calls, steps=twice)
    alone = component_arms([arm, other], "unet")
    assert alone.pairs_of == (
        "unet calls of steps 1, 2, 3 "
        "(inputs of a real call of 3 steps; 3 in fp32, 6 in channels_last)"
    )
    counts = []
    for one in alone.arms:
        with Seen(arm.pipeline.unet) as seen:
            one.timed_call(OneSecond())
        counts.append(len(seen.timesteps))
    assert counts == [1, 2]


def test_arms_that_skip_different_steps_are_not_compared(arm, other):
    component_arms([arm, other], "unet")
    key = ("component calls", "unet")
    other.memo[key] = replace(other.memo[key], ran_in=(0, 2))
    with pytest.raises(NotAloneError, match="the arms do not run unet in the same steps"):
        component_arms([arm, other], "unet")


def test_what_is_no_denoiser_is_called_as_often_as_for_one_image(arm):
    encoders = component_arms([arm], "text_encoder")
    assert encoders.pairs_of == "the text_encoder calls of one image (inputs of a real call)"
    decoder = component_arms([arm], "vae.decode")
    assert decoder.pairs_of == "the vae.decode calls of one image (inputs of a real call)"
    decoder.arms[0].untimed_call()
    with pytest.raises(SourceError, match="the pipeline ran no 'prior'"):
        component_arms([arm], "prior")


def test_steps_are_spread_over_a_long_call():
    assert spread([0, 1, 2], 4) == [0, 1, 2]
    assert spread(range(20), 4) == [0, 6, 13, 19]
