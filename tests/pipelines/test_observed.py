"""What ran in a call, seen: every denoiser by name, whatever it is called and wherever it hangs."""

import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler

from pytest_diffspeed.adapters.attributes import replaced
from pytest_diffspeed.adapters.torch_internals import compiled_frames_run
from pytest_diffspeed.common.errors import MeasurementError, SourceError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.components import denoiser
from pytest_diffspeed.pipelines.entries import chosen_entries, default_entries
from pytest_diffspeed.pipelines.observed import Role, observe_call, observe_steps
from pytest_diffspeed.pipelines.pipeline_state import changed_aspects, pipeline_state
from tests.pipelines.several_parts import (
    call_wan,
    call_with_controlnet,
    two_experts,
    wan_2_2,
    with_controlnet,
)


@pytest.fixture(scope="module")
def controlled():
    return with_controlnet()


@pytest.fixture(scope="module")
def experts():
    return two_experts()


def observing(pipeline, call):
    with third_party():  # schedulers make numpy and torch warn
        return observe_call(pipeline, call)


def told(observed):
    return {c.name: (c.role.value, c.calls, c.steps, c.entries) for c in observed.components}


def test_a_controlnet_is_a_denoiser_beside_the_unet(controlled):
    observed = observing(controlled, lambda: call_with_controlnet(controlled))
    assert told(observed) == {
        "text_encoder": ("encoder", 1, (), {"forward": 1}),
        "controlnet": ("denoiser", 2, (0, 1), {"forward": 2}),
        "unet": ("denoiser", 2, (0, 1), {"forward": 2}),
        "vae": ("decoder", 1, (), {"decode": 1}),
    }
    assert [(s.name, s.steps) for s in observed.schedulers] == [("scheduler", 2)]
    assert observed.steps == 2
    assert observed.silent == ()


def test_a_controlnet_of_the_first_steps_only_is_still_a_denoiser(controlled):
    observed = observing(
        controlled, lambda: call_with_controlnet(controlled, steps=4, control_guidance_end=0.3)
    )
    # The pipeline runs it in all steps, scaled by 0 in the last ones.
    assert observed.component("controlnet").role is Role.DENOISER


class Checker(torch.nn.Module):
    """Called as `StableDiffusionSafetyChecker` is."""

    device, dtype = torch.device("cpu"), torch.float32

    def forward(self, clip_input, images):
        return images, [False]


def test_a_safety_checker_is_no_decoder(controlled, monkeypatch):
    """It runs after the steps as decoders do, makes nothing, and no gate looks at it unasked."""
    controlled.register_modules(safety_checker=Checker())
    monkeypatch.setattr(
        controlled, "run_safety_checker", lambda image, *_: controlled.safety_checker(None, image)
    )
    try:
        observed = observing(controlled, lambda: call_with_controlnet(controlled))
    finally:
        controlled.register_modules(safety_checker=None)
    assert [c.name for c in observed.checkers] == ["safety_checker"]
    assert [c.name for c in observed.decoders] == ["vae"]
    assert [e.name for e in default_entries(observed)] == ["controlnet", "unet", "vae.decode"]
    assert [e.ran for e in chosen_entries(observed, ["checker"], "components")] == [
        "safety_checker (ran 1 ×)"
    ]


@pytest.mark.parametrize("steps", [2, 4])
def test_both_experts_are_denoisers_with_the_steps_that_each_ran_in(experts, steps):
    observed = observing(experts, lambda: experts(num_inference_steps=steps, output_type="pt"))
    half = steps // 2
    assert told(observed) == {
        "transformer": ("denoiser", half, tuple(range(half)), {"forward": half}),
        "transformer_2": ("denoiser", half, tuple(range(half, steps)), {"forward": half}),
        "vae": ("decoder", 1, (), {"decode": 1}),
    }


def test_one_step_is_enough_to_tell_denoiser_and_decoder(experts):
    observed = observing(experts, lambda: experts(num_inference_steps=1, output_type="pt"))
    assert [c.name for c in observed.denoisers] == ["transformer_2"]
    assert [c.name for c in observed.decoders] == ["vae"]
    assert observed.silent == ("transformer",)
    with pytest.raises(MeasurementError, match=r"transformer did not run in the call; what ran: "):
        observed.component("transformer")
    with pytest.raises(MeasurementError, match=r"no component is called 'transfomer_2'; .*transf"):
        observed.component("transfomer_2")


def test_wan_with_flow_matching_scales_no_input_and_is_told_all_the_same():
    pipeline = wan_2_2()
    observed = observing(pipeline, lambda: call_wan(pipeline, steps=2))
    assert [(c.name, c.steps) for c in observed.denoisers] == [
        ("transformer", (0,)),
        ("transformer_2", (1,)),
    ]
    assert [c.name for c in observed.decoders] == ["vae"]


def test_a_call_is_lengthened_until_the_late_expert_runs():
    pipeline = two_experts(early_steps=3)

    def call(steps):
        with third_party():
            return pipeline(num_inference_steps=steps, output_type="pt")

    observed, steps = observe_steps(pipeline, call, 2, 5)
    assert steps == 5
    assert [(c.name, c.steps) for c in observed.denoisers] == [
        ("transformer", (0, 1, 2)),
        ("transformer_2", (3, 4)),
    ]
    observed, steps = observe_steps(pipeline, call, 4, 5)
    assert steps == 4
    pipeline.early_steps = 9
    observed, _ = observe_steps(pipeline, call, 2, 5)
    assert observed.silent == ("transformer_2",)


def test_the_denoiser_is_one_or_an_error_that_names_them(controlled, experts):
    with pytest.raises(SourceError, match=r"several denoisers, unet, controlnet, so .*`denoisers`"):
        denoiser(controlled)
    with pytest.raises(SourceError, match="several denoisers, transformer, transformer_2, so"):
        denoiser(experts)
    with (
        replaced(experts, "transformer", None),
        replaced(experts, "transformer_2", None),
        pytest.raises(SourceError, match="TwoExperts has no denoiser"),
    ):
        denoiser(experts)
    with replaced(experts, "transformer", None):
        assert denoiser(experts) is experts.transformer_2


def test_what_hangs_on_a_pipeline_otherwise_is_part_of_its_state():
    pipeline = odd()
    before = pipeline_state(pipeline)
    pipeline.guide.networks[0].register_forward_hook(lambda *_: None)
    changed = changed_aspects(before, pipeline_state(pipeline), frozenset())
    assert changed == ["guide.networks.0's hooks"]


class Tower(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 4)
        self.head = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.inner(x))

    def features(self, x):
        return self.head(self.inner(x)) + self.head(x)


class Guide:
    """An object that is no module, with a network in a list."""

    def __init__(self):
        self.networks = [torch.nn.Linear(4, 4)]


class Odd(DiffusionPipeline):
    """Networks in all the places where pipelines keep some."""

    def __init__(self, prior, scheduler):
        super().__init__()
        self.register_modules(prior=prior, scheduler=scheduler)
        self.tower = Tower()
        self.guide = Guide()
        self.adapters = {"pose": torch.nn.Linear(4, 4)}
        self.inner_pipe = None
        self.elsewhere = lambda: None

    @torch.no_grad()
    def __call__(self, num_inference_steps=2, body=None):
        x = torch.ones(1, 4)
        x = self.adapters["pose"](self.tower.features(x))
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            noise = self.guide.networks[0](self.prior(x)) + self.tower.inner(x)
            x = self.scheduler.step(noise, t, x, return_dict=False)[0]
        return x if self.inner_pipe is None else self.inner_pipe(num_inference_steps)


def odd():
    with third_party():
        return Odd(torch.nn.Linear(4, 4), EulerDiscreteScheduler())


def test_networks_outside_of_the_components_are_seen_by_their_place():
    pipeline = odd()
    observed = observing(pipeline, pipeline)
    assert told(observed) == {
        "tower": ("denoiser", 3, (0, 1), {"features": 1, "inner": 2}),
        "adapters.pose": ("encoder", 1, (), {"forward": 1}),
        "prior": ("denoiser", 2, (0, 1), {"forward": 2}),
        "guide.networks.0": ("denoiser", 2, (0, 1), {"forward": 2}),
    }


def test_a_pipeline_in_a_pipeline_has_its_own_loop_and_its_names():
    pipeline, inner = odd(), odd()
    pipeline.inner_pipe = inner
    observed = observing(pipeline, lambda: pipeline(3))
    assert observed.steps == 6
    assert observed.component("prior").steps == (0, 1, 2)
    assert observed.component("inner_pipe.prior").steps == (3, 4, 5)
    # It runs between two loops, after the steps of one and before those of the other.
    assert observed.component("inner_pipe.adapters.pose").role is Role.ENCODER
    assert [s.name for s in observed.schedulers] == ["scheduler", "inner_pipe.scheduler"]


def test_one_module_with_two_names_is_one_component():
    pipeline = odd()
    pipeline.same = pipeline.prior
    observed = observing(pipeline, pipeline)
    assert observed.component("same") is observed.component("prior")
    assert observed.component("prior").aliases == ("same",)
    assert observed.component("prior").calls == 2


def test_a_network_that_does_not_hang_on_the_pipeline_is_not_left_out():
    class Hidden(Odd):
        def __call__(self, num_inference_steps=2):
            return network(super().__call__(num_inference_steps))

    network = Tower()
    with third_party():
        pipeline = Hidden(torch.nn.Linear(4, 4), EulerDiscreteScheduler())
    observed = observing(pipeline, pipeline)
    assert observed.component("<Tower>").role is Role.DECODER


def test_watching_changes_neither_the_result_nor_the_pipeline(experts):
    def call():
        generator = torch.Generator().manual_seed(1)
        return experts(num_inference_steps=2, output_type="pt", generator=generator)[0]

    with third_party():
        unwatched = call()
    before = {name: set(vars(part)) for name, part in experts.components.items()}
    called = torch.nn.Module.__call__
    watched = []
    observing(experts, lambda: watched.append(call()))
    assert torch.equal(watched[0], unwatched)
    assert {name: set(vars(part)) for name, part in experts.components.items()} == before
    assert torch.nn.Module.__call__ is called


def test_a_call_that_raises_leaves_everything_as_it_was(experts):
    called = torch.nn.Module.__call__

    def broken():
        raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="device lost"):
        observing(experts, broken)
    assert torch.nn.Module.__call__ is called


COMPILED = {"backend": "eager", "fullgraph": True}


def in_place(pipeline):
    pipeline.transformer.compile(**COMPILED)


def replaced_by_the_compiled(pipeline):
    pipeline.transformer = torch.compile(pipeline.transformer, **COMPILED)


def its_forward(pipeline):
    pipeline.transformer.forward = torch.compile(pipeline.transformer.forward, **COMPILED)


@pytest.mark.parametrize("compiled", [in_place, replaced_by_the_compiled, its_forward])
def test_compiled_code_is_seen_and_left_alone(compiled):
    torch.compiler.reset()
    pipeline = two_experts()
    compiled(pipeline)
    pipeline.vae.decode = torch.compile(pipeline.vae.decode, **COMPILED)

    def call():
        return pipeline(num_inference_steps=2, output_type="pt")

    with third_party():
        first = observe_call(pipeline, call)  # nothing is compiled yet, and nothing is then
        call()
        frames = compiled_frames_run(call)
        with torch.compiler.set_stance("fail_on_recompile"):
            observed = observe_call(pipeline, call)
            assert compiled_frames_run(call) == frames
    assert len(frames) == 2
    torch.compiler.reset()
    assert told(first) == told(observed)
    assert told(observed) == {
        "transformer": ("denoiser", 1, (0,), {"forward": 1}),
        "transformer_2": ("denoiser", 1, (1,), {"forward": 1}),
        "vae": ("decoder", 1, (), {"decode": 1}),
    }
