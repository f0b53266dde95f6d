"""``scheduler(…)``: another scheduler of the same configuration, proven by the steps that ran."""

import json
import subprocess
import sys

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import (
    IncompatibleError,
    NotEffectiveError,
    UnknownStackError,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.apply import running, undo_stack
from pytest_diffspeed.techniques.catalog.solver import Scheduler
from pytest_diffspeed.techniques.stacks import parse_stack

KARRAS = "scheduler(DPMSolverMultistepScheduler,use_karras_sigmas=True)"


def drawn(pipeline, call, stack="fp32"):
    with third_party(), running(parse_stack(stack)):
        return call(pipeline, steps=3)


def test_it_is_proven_by_the_steps_and_undone_to_the_same_object(pipeline, call):
    own, before = pipeline.scheduler, drawn(pipeline, call)
    (proof,) = apply_stack(pipeline, KARRAS, call=call).proofs
    assert proof.found == (
        "all steps by DPMSolverMultistepScheduler with use_karras_sigmas=True in place of "
        "EulerDiscreteScheduler, 1 in a call"
    )
    assert proof.figures == {
        "steps_by": {"DPMSolverMultistepScheduler": 2},
        "steps": 1,
        "was": "EulerDiscreteScheduler",
        "asked": {"use_karras_sigmas": True},
    }
    assert json.loads(json.dumps(vars(proof))) == vars(proof)  # it goes into the record
    made = pipeline.scheduler
    assert made.config.beta_schedule == own.config.beta_schedule
    other = drawn(pipeline, call, KARRAS)
    assert torch.isfinite(other).all() and not torch.equal(other, before)

    undo_stack(pipeline, KARRAS)
    assert pipeline.scheduler is own
    assert pipeline.config["scheduler"] == ("diffusers", "EulerDiscreteScheduler")
    assert torch.equal(drawn(pipeline, call), before)


def test_the_same_class_with_another_value_counts_too(pipeline, call):
    stack = "scheduler(EulerDiscreteScheduler, timestep_spacing=trailing)"
    (proof,) = apply_stack(pipeline, stack, call=call).proofs
    assert "with timestep_spacing=trailing in place of EulerDiscreteScheduler" in proof.found


def test_cpu_sigmas_goes_on_top_of_the_new_scheduler(pipeline, call):
    """And is judged by it: this one has no sigmas to keep on the CPU."""
    own = pipeline.scheduler
    stack = parse_stack("cpu_sigmas+scheduler(DDIMScheduler)")
    assert stack.names == ("scheduler", "cpu_sigmas")
    with pytest.raises(IncompatibleError, match="cpu_sigmas is incompatible"):
        apply_stack(pipeline, stack, call=call)
    assert pipeline.scheduler is own


@pytest.mark.parametrize("what", ["the object", "a value"])
def test_one_that_is_put_back_behind_our_back_is_noticed(what, pipeline, call, monkeypatch):
    original = Scheduler.apply

    def put_back(self, pipe):
        own = pipe.scheduler
        original(self, pipe)
        if what == "the object":
            pipe.scheduler = own
        else:
            pipe.scheduler.register_to_config(use_karras_sigmas=False)

    monkeypatch.setattr(Scheduler, "apply", put_back)
    found = {
        "the object": "all steps of a call by DPM.*, found 2 by EulerDiscreteScheduler",
        "a value": "use_karras_sigmas=True in the DPM.* that stepped, found False",
    }
    own = pipeline.scheduler
    with pytest.raises(NotEffectiveError, match=found[what]):
        apply_stack(pipeline, KARRAS, call=call)
    assert pipeline.scheduler is own


@pytest.mark.parametrize(
    ("stack", "why"),
    [
        (
            "scheduler(EulerDiscreteScheduler)",
            "its scheduler is a EulerDiscreteScheduler with these values already",
        ),
        (
            "scheduler(FlowMatchEulerDiscreteScheduler)",
            "its model predicts epsilon .* takes flow predictions",
        ),
        (
            "scheduler(ScoreSdeVeScheduler)",
            "takes no beta_start, .* say how its model was trained; it can have",
        ),
        (
            "scheduler(DDIMScheduler, beta_schedule=cosine)",
            "DDIMScheduler cannot be made of the configuration .* cosine",
        ),
    ],
)
def test_what_its_model_was_not_trained_for_is_refused(stack, why, pipeline, call):
    own = pipeline.scheduler
    with pytest.raises(IncompatibleError, match=why):
        apply_stack(pipeline, stack, call=call)
    assert pipeline.scheduler is own


def test_a_flow_matching_pipeline_refuses_what_predicts_noise(tiny):
    pipeline, call = tiny("transformer")
    with pytest.raises(IncompatibleError, match=r"predicts flows .* DDIMScheduler does not take"):
        apply_stack(pipeline, "scheduler(DDIMScheduler)", call=call)
    told = r"unless it is told to: scheduler\(UniPCMultistepScheduler,use_flow_sigmas=True"
    with pytest.raises(IncompatibleError, match=told):
        apply_stack(pipeline, "scheduler(UniPCMultistepScheduler)", call=call)


def test_a_pipeline_with_two_schedulers_refuses_it(pipeline, call):
    pipeline.second = DDIMScheduler()
    with pytest.raises(IncompatibleError, match=r"several schedulers \(scheduler, second\)"):
        apply_stack(pipeline, KARRAS, call=call)


def test_what_only_the_old_scheduler_can_do_is_told(pipeline, monkeypatch):
    def only_euler(pipe, steps=2):
        if not isinstance(pipe.scheduler, EulerDiscreteScheduler):
            raise ValueError("this pipeline sets `sigmas`, which its scheduler does not take")
        return pipe("a fox", num_inference_steps=steps, height=64, width=64)[0]

    with pytest.raises(IncompatibleError, match=r"a call with DPM.* raised ValueError: .*`sigm"):
        apply_stack(pipeline, KARRAS, call=only_euler)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("scheduler", "takes the class of a scheduler first; write for example"),
        ("scheduler(use_karras_sigmas=True)", "takes the class of a scheduler first"),
        ("scheduler(3)", "takes the class of a scheduler first"),
        ("scheduler(DDIM)", "has no scheduler 'DDIM'; did you mean 'DDIMScheduler'?"),
        ("scheduler(DDIMScheduler, clip_smple=1)", "'clip_smple'; did you mean 'clip_sample'?"),
        ("scheduler(DDIMScheduler, True)", "takes the arguments of DDIMScheduler by name"),
        ("scheduler(DDIMScheduler, clip_sample=1)", "must be True or False, not 1"),
        ("scheduler(DDIMScheduler, steps_offset=1.5)", "must be a whole number, not 1.5"),
        (
            "scheduler(DDIMScheduler, timestep_spacing=traling)",
            "timestep_spacing of DDIMScheduler cannot be 'traling'; did you mean 'trailing'?",
        ),
        ("scheduler(DDIMScheduler, steps_offset=1, steps_offset=1)", "given 'steps_offset' twice"),
    ],
)
def test_words_are_checked_without_a_pipeline(text, told):
    with pytest.raises(UnknownStackError) as error:
        parse_stack(text)
    assert told in str(error.value)


def test_words_are_checked_without_torch():
    """Markers are read in sessions without --diffspeed too."""
    words = "scheduler(DPMSolverMultistepScheduler,use_karras_sigmas=True)+steps(10)"
    program = (
        "import sys\nfrom pytest_diffspeed.techniques.stacks import parse_stack\n"
        f"print(parse_stack({words!r}), *({{'torch', 'diffusers'}} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert printed.stdout.split() == [words]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("scheduler( DDIMScheduler )", "scheduler(DDIMScheduler)"),
        (
            "compile+scheduler(DDIMScheduler, steps_offset = 2, clip_sample=False)+bf16",
            "bf16+scheduler(DDIMScheduler,clip_sample=False,steps_offset=2)+compile",
        ),
        (  # a default stays: what is left out is that of the pipeline's own scheduler
            "scheduler(DDIMScheduler, steps_offset=0)",
            "scheduler(DDIMScheduler,steps_offset=0)",
        ),
        (
            "scheduler(DPMSolverMultistepScheduler, algorithm_type='sde-dpmsolver++')",
            "scheduler(DPMSolverMultistepScheduler,algorithm_type='sde-dpmsolver++')",
        ),
        (
            "scheduler(DDIMScheduler, clip_sample_range=2)",
            "scheduler(DDIMScheduler,clip_sample_range=2.0)",
        ),
    ],
)
def test_one_way_of_writing(text, name):
    assert parse_stack(text).name == name
    assert parse_stack(name) == parse_stack(text)
