"""Steps in lockstep: both arms at the same step, one at a time, and nothing is left running."""

import signal
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, FirstBlockCacheConfig

from pytest_diffspeed.adapters.torch_internals import around_calls
from pytest_diffspeed.arms.component_calls import NotAloneError
from pytest_diffspeed.arms.held_call import HeldCall
from pytest_diffspeed.arms.lockstep import StepArms, step_arms
from pytest_diffspeed.arms.prepared_arm import PreparedArm
from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.timing.speedup import measure_speedup
from tests.arms.small_arms import OneSecond, prepared

STEPS = 4


@pytest.fixture(scope="module")
def sdxl():
    return prepared("random:sdxl-tiny", steps=STEPS)


@pytest.fixture(scope="module")
def second_sdxl():
    """Another pipeline: a scheduler is in one call at a time."""
    return named(prepared("random:sdxl-tiny", steps=STEPS), "channels_last")


def named(arm, stack, call=None):
    """The same pipeline under another name, and with another call."""
    spec = replace(arm.spec, stack=parse_stack(stack))
    made = PreparedArm(spec, arm.pipeline, call or arm.call, arm.applied)
    made.memo["observed"] = arm.observed()
    return made


@pytest.fixture
def arms(sdxl, second_sdxl):
    return step_arms([sdxl, second_sdxl])


def held_threads():
    return [one.name for one in threading.enumerate() if one.name.startswith("diffspeed-")]


def test_arms_say_which_steps_they_have_so_that_other_processes_can_be_held_against_them(sdxl):
    fewer = named(sdxl, "bf16", sdxl.call.varied(steps=STEPS - 1))
    assert [step_arms([arm]).ran_in for arm in (sdxl, fewer)] == [(0, 1, 2, 3), (0, 1, 2)]


class Timesteps:
    """The denoiser calls while the clock runs: the thread that made them, and the timestep."""

    def __init__(self, *arms):
        self.timed, self._is_timing = [], False
        self._arms, self._context = arms, ExitStack()

    def _wrap(self, function):
        def seeing(sample, timestep, *args, **kwargs):
            if self._is_timing:
                self.timed.append((threading.current_thread().name, float(timestep)))
            return function(sample, timestep, *args, **kwargs)

        return seeing

    def time(self, call):
        self._is_timing = True
        try:
            return 1.0, call()
        finally:
            self._is_timing = False

    def __enter__(self):
        for arm in self._arms:
            self._context.enter_context(around_calls(arm.pipeline.unet, self._wrap))
        return self

    def __exit__(self, *error):
        self._context.__exit__(*error)


def test_a_pair_is_the_same_step_of_both_arms_and_never_the_first(sdxl, second_sdxl, arms):
    with Timesteps(sdxl, second_sdxl) as clock, arms.open() as ((first, second),), third_party():
        result = measure_speedup(
            first, second, min_ratio=0.5, clock=clock, now=lambda: 0.0, seed=11
        )
        assert sorted(held_threads()) == ["diffspeed-channels_last", "diffspeed-fp32"]
    assert not held_threads()
    assert (result.verdict, result.pairs) == (VerdictKind.PASS, 5)
    pairs = [*zip(clock.timed[::2], clock.timed[1::2], strict=True)]
    assert (
        len(pairs) == 3 + 5
    )  # one denoiser call each: what a call does beside its steps is not timed
    for one, other in pairs:
        assert {one[0], other[0]} == {"diffspeed-fp32", "diffspeed-channels_last"}
        assert one[1] == other[1]
    timesteps = sorted({one[1] for one, _ in pairs}, reverse=True)
    assert len(timesteps) == STEPS - 1
    with Timesteps(sdxl) as whole, sdxl.running():
        whole.time(lambda: sdxl.call(sdxl.pipeline))
    assert [timestep for _, timestep in whole.timed][1:] == timesteps


def test_a_held_call_draws_what_it_draws_in_one_go_with_a_stochastic_scheduler(sdxl):
    """Each call has its own generator and its own scheduler state; a pause changes neither."""
    with third_party():
        noisy = EulerAncestralDiscreteScheduler.from_config(sdxl.pipeline.scheduler.config)
    calm, sdxl.pipeline.scheduler = sdxl.pipeline.scheduler, noisy
    try:
        with sdxl.running():
            expected = sdxl.call(sdxl.pipeline)
        found = []
        arms = StepArms([sdxl])
        (arm,) = arms.arms
        arm.held = HeldCall(lambda: found.append(sdxl.call(sdxl.pipeline)), "fp32")
        with arms.open(), third_party():
            for _ in range(STEPS):
                arm.untimed_call()
    finally:
        sdxl.pipeline.scheduler = calm
    assert len(found) == 1  # STEPS - 1 steady steps, and the first of the next call
    assert torch.equal(found[0], expected)


def test_calls_of_one_step_and_of_other_lengths_are_refused(sdxl, second_sdxl):
    short = named(sdxl, "fp32", sdxl.call.varied(steps=1))
    why = "no steady step; use --diffspeed-steps=2"
    with StepArms([short]).open() as ((arm,),), pytest.raises(MeasurementError, match=why):
        arm.timed_call(OneSecond())
    other = named(second_sdxl, "channels_last", second_sdxl.call.varied(steps=2))
    why = r"\(2 in channels_last, 4 in fp32\)"
    with (
        StepArms([sdxl, other]).open() as ((first, second),),
        pytest.raises(MeasurementError, match=why),
    ):
        for _ in range(STEPS):
            second.timed_call(OneSecond())
            first.timed_call(OneSecond())
    assert not held_threads()


def test_calls_that_take_turns_leave_the_process_as_it_was(arms):
    """Each was given up, and ended, while the other had changed what torch draws noise with."""
    before = torch.randn, torch.randn_like
    with arms.open() as ((first, second),), third_party():
        for _ in range(STEPS + 1):
            first.timed_call(OneSecond())
            second.timed_call(OneSecond())
    assert (torch.randn, torch.randn_like) == before


def test_a_held_call_is_made_in_the_modes_of_whoever_asks_for_it():
    """Torch keeps them by thread: without autocast the steps would be those of another stack."""

    def modes():
        cast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        return cast, torch.is_grad_enabled(), torch.get_default_device().type

    found = []
    held = HeldCall(lambda: found.append(modes()), "modes")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        assert not held.advance()
        assert found == [modes()] == [((True, torch.bfloat16), False, "meta")]


def test_steps_of_a_call_that_changes_the_process_for_them_are_not_timed_alone(sdxl):
    def call(pipeline):
        torch.set_float32_matmul_precision("medium")
        return sdxl.call.run(pipeline)

    arms = StepArms([sdxl])
    (arm,) = arms.arms
    arm.held = HeldCall(lambda: call(sdxl.pipeline), "fp32")
    why = "fp32 changes the process .*matmul_precision was 'highest' and is 'medium'.*unit='call'"
    with arms.open(), pytest.raises(NotAloneError, match=why):
        arm.timed_call(OneSecond())
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_call_that_lets_nothing_end_it_is_given_up_all_the_same():
    scheduler = object()

    def stubborn():
        for _ in range(3):
            with suppress(BaseException):
                held.scheduler_stepped(scheduler)

    held = HeldCall(stubborn, "stubborn")
    assert held.advance()
    ending = threading.Thread(target=held.end, daemon=True)
    ending.start()
    ending.join(10)
    assert not ending.is_alive()


@pytest.fixture
def interruptible():
    """A process that was started in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_call_that_was_interrupted_in_a_step_is_followed_by_one_from_the_start():
    scheduler, interrupted = object(), threading.Event()
    main = threading.main_thread().ident

    def call():
        if not interrupted.is_set():
            interrupted.set()
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.2)  # so that whoever waits for the step notices before it ends
        for _ in range(3):
            held.scheduler_stepped(scheduler)

    held = HeldCall(call, "interrupted")
    with pytest.raises(KeyboardInterrupt):
        held.advance()
    held.end()
    for step in (1, 2, 3):
        assert held.advance()
        assert held.steps_ended == step
    assert not held.advance()


def test_a_call_that_was_given_up_is_followed_by_a_whole_one(sdxl):
    with Timesteps(sdxl) as clock, StepArms([sdxl]).open() as ((arm,),), third_party():
        for _ in range(2):
            arm.timed_call(clock)
            arm.held.end()
    first, second = clock.timed
    assert first == second  # the second step of a call, twice


def test_what_a_call_raises_is_told_of_its_arm(sdxl, arms):
    def broken(*args, **kwargs):
        raise RuntimeError("device lost")

    with arms.open() as ((first, _),), third_party():
        first.timed_call(OneSecond())
        with (
            around_calls(sdxl.pipeline.unet, lambda function: broken),
            pytest.raises(MeasurementError, match=r"'fp32' raised .*RuntimeError: device lost"),
        ):
            first.timed_call(OneSecond())
    assert not held_threads()


def test_arms_that_share_a_scheduler_are_not_interleaved(sdxl):
    with pytest.raises(NotAloneError, match="the arms share scheduler, whose state belongs to one"):
        step_arms([sdxl, named(sdxl, "channels_last")])


def test_steps_that_differ_are_timed_in_whole_calls():
    """A verdict after five pairs would be one on the first steps, and said of all of them."""
    experts = prepared("tests.pipelines.several_parts:two_experts", steps=4)
    with pytest.raises(NotAloneError, match="transformer runs in some steps only, so the first"):
        step_arms([experts])
    flux = prepared("random:flux-tiny", steps=2)
    assert step_arms([flux])
    flux.pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.05))
    with pytest.raises(NotAloneError, match=r"keeps a state between steps \(hook 'fbc"):
        step_arms([flux])


def test_a_denoiser_that_is_shared_must_keep_no_state(sdxl, second_sdxl, monkeypatch):
    monkeypatch.setattr(second_sdxl.pipeline, "unet", sdxl.pipeline.unet)
    sharing = named(second_sdxl, "no_sdpa")
    sharing.memo["observed"] = sdxl.observed()
    assert step_arms([sdxl, sharing]).arms
    sharing.memo.clear()
    sharing.memo["observed"] = sdxl.observed()
    count = sdxl.pipeline.unet.register_forward_hook(
        lambda module, *_: setattr(module, "calls_so_far", getattr(module, "calls_so_far", 0) + 1)
    )
    try:
        with pytest.raises(NotAloneError, match="the arms share unet, and unet keeps a state"):
            step_arms([sdxl, sharing])
    finally:
        count.remove()
        del sdxl.pipeline.unet.calls_so_far


def test_cuda_graphs_are_replayed_in_whole_calls_only(sdxl):
    graphs = PreparedArm(
        sdxl.spec, sdxl.pipeline, sdxl.call, replace(sdxl.applied, cuda_graph_launches=3)
    )
    graphs.memo["observed"] = sdxl.observed()
    with pytest.raises(NotAloneError, match="fp32 replays CUDA graphs, which belong to the thread"):
        step_arms([graphs])
