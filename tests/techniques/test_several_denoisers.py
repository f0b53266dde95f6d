"""Every denoiser that ran is changed and proven, by its name: two experts, a ControlNet."""

import pytest
import torch
import two_experts
from diffusers.models.attention_processor import AttnProcessor2_0

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import IncompatibleError, NotEffectiveError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.parts import parts
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.apply import undo_stack
from pytest_diffspeed.techniques.catalog import quantization
from pytest_diffspeed.techniques.catalog.compile import Compile
from pytest_diffspeed.techniques.catalog.projections import FusedQkv
from pytest_diffspeed.techniques.targets import targets_of
from pytest_diffspeed.techniques.undo import snapshot

EXPERTS = ("transformer", "transformer_2")
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.fixture
def pipeline():
    return two_experts.build()


@pytest.fixture
def experts(pipeline):
    return [pipeline.transformer, pipeline.transformer_2]


def proof_of(pipeline, stack):
    return apply_stack(pipeline, stack, call=two_experts.call).proofs[-1]


def test_compile_compiles_both(pipeline, experts, without_inductor):
    proof = proof_of(pipeline, "compile")
    assert proof.figures["runs"] == {"transformer": 1, "transformer_2": 1, "vae.decode": 1}
    assert all(expert._compiled_call_impl is not None for expert in experts)
    undo_stack(pipeline, "compile")
    assert all(expert._compiled_call_impl is None for expert in experts)


def test_a_second_expert_that_is_not_compiled_is_named(pipeline, monkeypatch, without_inductor):
    def first_only(self, pipe):
        pipe.transformer.compile(backend="eager")
        pipe.vae.decode = torch.compile(pipe.vae.decode, backend="eager")

    monkeypatch.setattr(Compile, "apply", first_only)
    with pytest.raises(NotEffectiveError, match=r"call of transformer_2, found it in 0 of 1"):
        proof_of(pipeline, "compile")


def test_fused_qkv_fuses_both(pipeline, experts):
    before = snapshot(pipeline)
    proof = proof_of(pipeline, "fused_qkv")
    assert proof.figures["fused_modules_run_in"] == {"transformer": 1, "transformer_2": 1, "vae": 0}
    assert all(expert.attention.fused_projections for expert in experts)
    undo_stack(pipeline, "fused_qkv")
    assert snapshot(pipeline) == before


def test_a_second_expert_that_is_not_fused_is_named(pipeline, monkeypatch):
    original = FusedQkv.apply

    def first_only(self, pipe):
        monkeypatch.setattr(pipe.transformer_2, "fuse_qkv_projections", lambda: None)
        original(self, pipe)
        monkeypatch.undo()

    with monkeypatch.context() as patch:
        patch.setattr(FusedQkv, "apply", first_only)
        with pytest.raises(NotEffectiveError, match="found none in the transformer_2"):
            proof_of(pipeline, "fused_qkv")


def test_channels_last_converts_both(pipeline, experts):
    proof = proof_of(pipeline, "channels_last")
    assert set(proof.figures["convolution_inputs"]) == {*EXPERTS, "vae"}
    for expert in experts:
        assert expert.conv_mid.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["no_sdpa", "sdpa_math", "sdpa_flash"])
def test_attention_is_that_of_both(pipeline, name):
    before = snapshot(pipeline)
    attention = proof_of(pipeline, name).figures["attention"]
    assert len(attention["transformer"]) == 1
    assert attention["transformer"] == attention["transformer_2"]
    undo_stack(pipeline, name)
    assert snapshot(pipeline) == before


class Deaf(two_experts.Expert):
    """Its projections are fused, and its processors read the separate ones."""

    def fuse_qkv_projections(self):
        self.attention.fuse_projections(fuse=True)

    def set_default_attn_processor(self):
        self.set_attn_processor(AttnProcessor2_0())


def test_what_is_done_to_one_expert_and_cannot_be_done_to_the_other_is_said_of_both():
    pipeline = two_experts.build(second=Deaf)
    before = snapshot(pipeline)
    proof = proof_of(pipeline, "fused_qkv")
    assert "(1 in the transformer)" in proof.found
    assert "; not in the transformer_2: the attention processors of its" in proof.found
    undo_stack(pipeline, "fused_qkv")
    assert snapshot(pipeline) == before


def test_what_one_expert_takes_and_the_other_does_not_is_refused_with_both_names():
    pipeline = two_experts.build(second=Deaf)
    expected = r"transformer_2: the oldest .* themselves \(not so the transformer\); sdpa_math is"
    with pytest.raises(IncompatibleError, match=expected):
        proof_of(pipeline, "no_sdpa")


class Idle(two_experts.Expert):
    """Without attention and convolutions with spatial extent."""

    def forward(self, sample, timestep):
        return sample * 0.5


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ("no_sdpa", "SDPA is not called in the transformer_2"),
        ("channels_last", "the transformer_2 ran none"),
    ],
)
def test_an_expert_in_which_there_is_nothing_to_do_is_named(stack, said):
    assert said in proof_of(two_experts.build(second=Idle), stack).found


@pytest.mark.filterwarnings("ignore::pytest_diffspeed.techniques.technique.KnownSlowWarning")
def test_int8_takes_layers_of_both(pipeline, monkeypatch):
    monkeypatch.setattr(quantization.Int8Dynamic, "leaves", lambda self, linear: None)
    figures = proof_of(pipeline, "int8_dynamic").figures
    assert figures["layers_taken_in"] == {"transformer": 4, "transformer_2": 4, "vae": 0}


class Late(two_experts.TwoExperts):
    """Its second expert has the last of many steps, and none of a short call's."""

    def __call__(
        self,
        prompt="",
        num_inference_steps=4,
        height=16,
        width=16,
        generator=None,
        output_type="pil",
        return_dict=True,
    ):
        if num_inference_steps < 4:
            self.transformer, second = self.transformer, self.transformer_2
            self.transformer_2 = self.transformer
            try:
                return super().__call__(prompt, num_inference_steps, height, width, generator)
            finally:
                self.transformer_2 = second
        return super().__call__(
            prompt, num_inference_steps, height, width, generator, output_type, return_dict
        )


def test_an_expert_for_late_steps_only_is_seen_by_a_call_of_all_steps(pipeline, without_inductor):
    late = Late(**pipeline.components)
    late.set_progress_bar_config(disable=True)
    proof = proof_of(late, "compile")
    assert proof.figures["calls"] == {"transformer": 2, "transformer_2": 2, "vae.decode": 1}
    assert "in 4 steps" in proof.found


def controlnet():
    from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline

    with third_party():
        base = parse_source("random:sdxl-tiny").build()
        components = {
            k: v
            for k, v in base.components.items()
            if k not in ("image_encoder", "feature_extractor")
        }
        model = ControlNetModel.from_unet(
            base.unet, conditioning_embedding_out_channels=(8, 8, 8), conditioning_channels=3
        )
        pipe = StableDiffusionXLControlNetPipeline(controlnet=model.eval(), **components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, steps=2):
    generator = torch.Generator("cpu").manual_seed(0)
    image = torch.full((1, 3, 32, 32), 0.5)
    return pipe(
        "a fox",
        image=image,
        height=32,
        width=32,
        num_inference_steps=steps,
        generator=generator,
        output_type="pt",
        return_dict=False,
    )[0]


def test_a_controlnet_is_a_denoiser():
    pipe = controlnet()
    applied = apply_stack(pipe, "channels_last+fused_qkv+sdpa_math", call=draw)
    layout, fused, attention = (proof.figures for proof in applied.proofs)
    assert set(targets_of(pipe).denoisers) == {"controlnet", "unet"}
    assert not any("diffspeed" in name for name in parts(pipe))  # notes are no components
    assert layout["convolution_inputs"]["controlnet"]["channels_last"] > 0
    assert fused["fused_modules_run_in"]["unet"] > 0
    assert "a ControlNetModel, has no separate projections that" in fused["left"]["controlnet"]
    assert set(attention["attention"]["controlnet"]) == {"_safe_softmax"}


def test_models_inside_a_component_are_changed_and_proven(small):
    """Two ControlNets in a `MultiControlNetModel`, which has no methods of theirs."""
    pipeline, call = small("StableDiffusionControlNetPipeline-two-controlnets")
    before = snapshot(pipeline)
    fused = apply_stack(pipeline, "fused_qkv", call=call).proofs[0].figures
    assert set(fused["left"]) == {"controlnet.nets.0", "controlnet.nets.1"}
    undo_stack(pipeline, "fused_qkv")
    attention = apply_stack(pipeline, "no_sdpa", call=call).proofs[0].figures["attention"]
    assert set(attention["controlnet"]) == {"_softmax"}
    undo_stack(pipeline, "no_sdpa")
    assert snapshot(pipeline) == before


def test_a_stack_that_fails_leaves_the_pipeline_as_it_was(pipeline, monkeypatch, without_inductor):
    before, attributes = snapshot(pipeline), set(vars(pipeline))
    layer = pipeline.transformer_2.conv_mid
    layer.forward = torch.compiler.disable(layer.forward)  # with fullgraph an error
    own = layer.forward
    with pytest.raises(NotEffectiveError, match="expected one graph per component"):
        proof_of(pipeline, "channels_last+fused_qkv+sdpa_math+compile")
    assert layer.forward is own
    del layer.forward
    assert snapshot(pipeline) == before
    assert set(vars(pipeline)) == attributes
