"""``steps(n)``: the call has other steps, and those that ran are counted."""

import json
from types import SimpleNamespace

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.registry import resolve_device
from pytest_diffspeed.arms.builder import Builder
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import (
    IncompatibleError,
    NotEffectiveError,
    UnknownStackError,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.cases import CallDefaults
from pytest_diffspeed.techniques.apply import undo_stack
from pytest_diffspeed.techniques.stacks import parse_stack
from tests.copying_pipeline import build


class Img2Img(type(build())):
    """Runs the last part of its steps, as image to image does."""

    @torch.no_grad()
    def __call__(self, num_inference_steps=3, strength=0.5, output_type="pt", return_dict=False):
        self.scheduler.set_timesteps(num_inference_steps, device=self.unet.device)
        left = int(num_inference_steps * strength)
        sample = torch.zeros(1, 3, 8, 8)
        for timestep in self.scheduler.timesteps[len(self.scheduler.timesteps) - left :]:
            predicted = self.unet(sample, timestep * 0 + 1).sample
            sample = self.scheduler.step(predicted, timestep, sample, return_dict=False)[0]
        return (sample.clamp(0, 1),)


class Stubborn(type(build())):
    """Takes the number, tells its scheduler, and makes nine steps all the same."""

    tells = True

    @torch.no_grad()
    def __call__(self, num_inference_steps=3, output_type="pt", return_dict=False):
        sample = torch.zeros(1, 3, 8, 8)
        self.scheduler.set_timesteps(9)
        steps = self.scheduler.timesteps
        if self.tells:
            self.scheduler.set_timesteps(num_inference_steps)
        for timestep in (*steps, *steps[: 2 * (num_inference_steps == 5)]):
            predicted = self.unet(sample, timestep * 0 + 1).sample
            self.scheduler.set_timesteps(9)
            sample = self.scheduler.step(predicted, timestep, sample, return_dict=False)[0]
        return (sample.clamp(0, 1),)


def made(kind, steps=6, **arguments):
    """A pipeline of that class, and its call."""
    with third_party():
        plain = build()
        pipeline = plain if kind is None else kind(plain.unet, plain.scheduler)
        return pipeline, PipelineCall(pipeline, CallDefaults((), steps, arguments=arguments))


def test_the_steps_that_ran_are_counted_in_both():
    pipeline, call = made(None)
    applied = apply_stack(pipeline, "steps(4)", call=call)
    (proof,) = applied.proofs
    assert proof.found == "4 steps ran in a call, 6 in the baseline's"
    assert proof.figures == {"steps": 4, "steps_before": 6, "asked": 4}
    assert json.loads(json.dumps(vars(proof))) == vars(proof)
    assert applied.call_steps == 4
    assert call.defaults.steps == 6  # the baseline's call is its own
    undo_stack(pipeline, "steps(4)")


def test_more_steps_are_another_number_too():
    pipeline, call = made(None, steps=3)
    assert apply_stack(pipeline, "steps(5)", call=call).call_steps == 5


def test_any_function_is_asked_for_its_steps():
    pipeline, _ = made(None)
    asked = []

    def call(pipe, steps=6):
        asked.append(steps)
        return pipe(num_inference_steps=steps)[0]

    apply_stack(pipeline, "steps(4)", call=call)
    assert asked == [2, 6, 2, 4, 4]  # targets, the baseline's, the proofs', counted, the first one


def test_an_arm_makes_the_call_that_was_proven():
    pipeline, call = made(None)
    builder = Builder(resolve_device("cpu"))
    arm = builder.prepare(ArmSpec("here", parse_stack("steps(4)")), pipeline, call)
    assert (arm.call.defaults.steps, arm.steps_of_call()) == (4, 4)
    arm.arm_of("call").untimed_call()
    assert len(pipeline.used) == 4
    baseline = builder.prepare(ArmSpec("here", parse_stack("fp32")), made(None)[0], call)
    assert (baseline.call.defaults.steps, baseline.steps_of_call()) == (6, 6)


def test_steps_on_top_of_another_scheduler(tiny):
    """Heun evaluates twice for each but the last: what ran is said, not what was asked."""
    pipeline, call = tiny("unet", steps=4)
    applied = apply_stack(pipeline, "steps(3)+scheduler(HeunDiscreteScheduler)", call=call)
    assert applied.stack.name == "scheduler(HeunDiscreteScheduler)+steps(3)"
    found = [proof.found for proof in applied.proofs]
    assert found == [
        "all steps by HeunDiscreteScheduler in place of EulerDiscreteScheduler, 5 in a call",
        "5 steps ran in a call, 4 in the baseline's",
    ]


def test_a_part_of_the_steps_is_what_ran():
    pipeline, call = made(Img2Img, steps=8, strength=0.5)
    (proof,) = apply_stack(pipeline, "steps(4)", call=call).proofs
    assert proof.found == "2 steps ran in a call, 4 in the baseline's"


@pytest.mark.parametrize(
    ("tells", "steps", "told"),
    [
        (False, 4, "where the baseline's has 9, found as many: the pipeline does not heed"),
        (True, 4, "where the baseline's has 9, found as many: the pipeline does not heed"),
        (False, 5, "expected a call of 5 where the baseline's has 9, found 11"),
        (False, 9, "the baseline's calls have 9 steps already; name another number"),
    ],
)
def test_a_pipeline_that_does_what_it_likes_is_noticed(tells, steps, told):
    pipeline, call = made(Stubborn)
    pipeline.tells = tells
    with pytest.raises(NotEffectiveError, match=told):
        apply_stack(pipeline, f"steps({steps})", call=call)


@pytest.mark.parametrize(
    ("kind", "arguments", "steps", "why"),
    [
        (None, {"no argument": True}, 4, "its call takes no `num_inference_steps`"),
        (Img2Img, {"strength": 0.2}, 4, "with its strength of 0.2 none of 4 is left; ask for more"),
        (Img2Img, {}, 1, "with its strength of 0.5 none of 1 is left"),
    ],
)
def test_what_its_call_cannot_have_is_refused(kind, arguments, steps, why):
    if "no argument" in arguments:

        class Unasked(type(build())):
            def __call__(self, output_type="pt", return_dict=False):
                return super().__call__()

        kind, arguments = Unasked, {}
    pipeline, call = made(kind, steps=8, **arguments)
    with pytest.raises(IncompatibleError, match=why):
        apply_stack(pipeline, f"steps({steps})", call=call)


@pytest.mark.parametrize("name", ["timesteps", "sigmas"])
def test_a_source_that_gives_a_schedule_refuses_it(tiny, name):
    pipeline, call = tiny("unet", steps=4)
    call.own_arguments = {name: [999, 500]}
    with pytest.raises(IncompatibleError, match=f"its source gives `{name}`, which says how many"):
        apply_stack(pipeline, "steps(3)", call=call)


def test_more_than_the_scheduler_can_do_is_refused():
    pipeline, _ = made(None)

    def call(pipe, steps=6):
        if steps > 6:
            raise ValueError("this model was distilled for 6 steps")
        return pipe(num_inference_steps=steps)[0]

    with pytest.raises(IncompatibleError, match=r"a call of 8 steps raised .* distilled for 6"):
        apply_stack(pipeline, "steps(8)", call=call)


@pytest.mark.parametrize("text", ["steps", "steps()", "steps(0)", "steps(-3)"])
def test_it_needs_a_number(text):
    with pytest.raises(UnknownStackError, match=r"at least 1; write for example 'steps\(10\)'"):
        parse_stack(text)


def test_one_way_of_writing():
    assert parse_stack("compile + steps( n = 10 )+bf16").name == "bf16+steps(10)+compile"
    assert parse_stack("steps(10)") == parse_stack("steps(n=10)")
    with pytest.raises(UnknownStackError, match="n of 'steps' must be a whole number, not"):
        parse_stack("steps(2.5)")


def test_pairs_of_less_than_a_call_are_refused():
    from pytest_diffspeed.common.errors import UsageError
    from pytest_diffspeed.gates.catalog.speedup import MinSpeedup
    from pytest_diffspeed.gates.ratios.pending import ask

    stack = parse_stack("bf16+steps(4)")
    context = SimpleNamespace(candidate=SimpleNamespace(spec=ArmSpec("demo", stack)), previous=None)
    marker = MinSpeedup.from_arguments(2.0, unit="step")
    with pytest.raises(UsageError, match=r"bf16\+steps\(4\) and fp32 differ in how many steps"):
        ask(marker, context)
