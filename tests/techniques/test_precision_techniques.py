"""fp16 and tf32: where each runs, and what the VAE does."""

from typing import ClassVar

import pytest
import torch
import two_experts

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.common.errors import MissingHardwareError, NotEffectiveError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.apply import check_compatible, running
from pytest_diffspeed.techniques.catalog.precision import Fp16, Tf32
from pytest_diffspeed.techniques.observation import Observation, PartOps
from pytest_diffspeed.techniques.precision_flags import fp32_precision, ieee_fp32
from pytest_diffspeed.techniques.stacks import parse_stack


def test_fp16_keeps_a_vae_in_float32_where_the_pipeline_would(pipeline, call):
    assert pipeline.vae.config.force_upcast
    (proof,) = apply_stack(pipeline, "fp16", call=call).proofs
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.float16}
    assert {p.dtype for p in pipeline.vae.parameters()} == {torch.float32}
    assert proof.figures["vae_dtype"] == "torch.float32"
    assert proof.found.endswith(
        "; the VAE in torch.float32, since StableDiffusionXLPipeline reads its force_upcast"
    )


def test_fp16_weights_stay_where_they_are_from_call_to_call(pipeline, call):
    """The pipeline's own way casts the VAE to float32 and back in each call."""
    applied = apply_stack(pipeline, "fp16", call=call)
    places = [p.data_ptr() for p in pipeline.vae.parameters()]
    with third_party(), running(applied.stack):
        assert torch.isfinite(call(pipeline)).all()
    assert [p.data_ptr() for p in pipeline.vae.parameters()] == places


def test_fp16_takes_a_vae_that_does_not_ask(pipeline, call):
    pipeline.vae.register_to_config(force_upcast=False)
    (proof,) = apply_stack(pipeline, "fp16", call=call).proofs
    assert {p.dtype for p in pipeline.vae.parameters()} == {torch.float16}
    assert "vae_dtype" not in proof.figures


def test_fp16_takes_a_vae_that_the_pipeline_would_not_cast():
    """`force_upcast` is AutoencoderKL's default; pipelines such as SD 1.5's do not read it."""
    pipeline = two_experts.build()
    assert pipeline.vae.config.force_upcast
    (proof,) = apply_stack(pipeline, "fp16", call=two_experts.call).proofs
    assert {p.dtype for p in pipeline.vae.parameters()} == {torch.float16}
    assert "force_upcast, which TwoExperts does not read, so it would decode in" in proof.found


class WithIsland(two_experts.Expert):
    """Keeps a layer in float32, as Wan's transformer does its time embedding."""

    _keep_in_fp32_modules: ClassVar = ["conv_out"]

    def forward(self, sample, timestep):
        out = self.conv_out.forward
        self.conv_out.forward = lambda x: out(x.float()).to(sample.dtype)
        try:
            return super().forward(sample, timestep)
        finally:
            del self.conv_out.forward


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_what_a_model_keeps_in_float32_stays_and_is_listed(name):
    pipeline = two_experts.build(first=WithIsland)
    before = pipeline.transformer.conv_out.weight.clone()
    (proof,) = apply_stack(pipeline, name, call=two_experts.call).proofs
    assert torch.equal(pipeline.transformer.conv_out.weight, before)  # never rounded
    assert proof.figures["float32_parameters"] == {
        "transformer": ["conv_out.bias", "conv_out.weight"]
    }
    assert list(proof.figures["float32_ops"].values()) == [1]
    assert (
        "2 of the tensors stay in float32 by the models' own word (2 of the transf" in proof.found
    )


def test_bf16_leaves_a_pipeline_to_encode_in_float32(pipeline, call):
    """As SDXL's image-to-image pipelines do where the VAE has `force_upcast`."""

    def encodes_first(pipe, **kwargs):
        image = torch.zeros(1, 3, 32, 32)
        dtype = pipe.vae.dtype
        pipe.vae.to(torch.float32)
        pipe.vae.encode(image)
        pipe.vae.to(dtype)
        return call(pipe, **kwargs)

    (proof,) = apply_stack(pipeline, "bf16", call=encodes_first).proofs
    assert {place.split(".")[1] for place in proof.figures["float32_ops"]} == {
        "encoder",
        "quant_conv",
    }


class OtherWords(two_experts.Expert):
    """With a `to` of its own, as StableUnCLIPImageNormalizer has it."""

    def to(self, torch_device=None, torch_dtype=None):
        raise AssertionError("it is cast without it")


def test_a_model_with_a_cast_of_its_own_is_cast():
    pipeline = two_experts.build(second=OtherWords)
    apply_stack(pipeline, "bf16", call=two_experts.call)
    assert {p.dtype for p in pipeline.transformer_2.parameters()} == {torch.bfloat16}


def test_a_rotary_embedding_in_float32_is_the_models_own_code(pipeline, call, monkeypatch):
    """Mochi's, which multiplies positions and frequencies in float32."""
    from diffusers.models.transformers.transformer_mochi import MochiRoPE

    pipeline.unet.rope = MochiRoPE()
    frequencies = torch.ones(3, 2, 4, dtype=torch.bfloat16)
    unet_forward = pipeline.unet.forward

    def with_rope(*args, **kwargs):
        pipeline.unet.rope(frequencies, 1, 2, 2, device="cpu", dtype=torch.float32)
        return unet_forward(*args, **kwargs)

    pipeline.unet.forward = with_rope
    (proof,) = apply_stack(pipeline, "bf16", call=call).proofs
    assert proof.figures["float32_ops"] == {"unet.rope": 2}
    assert (
        "products in float32 by the models' or the pipeline's own code: 2 in unet.rope"
        in proof.found
    )


def test_fp16_undone_in_one_layer_is_noticed(pipeline, call, monkeypatch):
    original = Fp16.apply

    def forgets_a_layer(self, pipe):
        original(self, pipe)
        pipe.text_encoder.to(torch.float32)

    monkeypatch.setattr(Fp16, "apply", forgets_a_layer)
    with pytest.raises(NotEffectiveError, match=r"\{'text_encoder': \['torch\.float32'\]\}"):
        apply_stack(pipeline, "fp16", call=call)


def test_tf32_is_in_force_while_calls_run_and_not_afterwards():
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, convolution.fp32_precision
    with running(parse_stack("tf32")):
        assert (matmul.fp32_precision, convolution.fp32_precision) == ("tf32", "tf32")
    assert (matmul.fp32_precision, convolution.fp32_precision) == before


@pytest.mark.parametrize(("stack", "legacy"), [("tf32", "high"), ("fp32", "highest")])
@pytest.mark.parametrize("own", ["highest", "high"])
def test_the_legacy_precision_says_the_same(stack, legacy, own):
    """Inductor reads it when it chooses kernels, and torch raises where the two contradict."""
    matmul, outside = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(own)
        before = matmul.fp32_precision
        with running(parse_stack(stack)):
            assert torch.get_float32_matmul_precision() == legacy
            assert matmul.allow_tf32 is (stack == "tf32")
        assert torch.get_float32_matmul_precision() == own
        assert matmul.fp32_precision == before
    finally:
        torch.set_float32_matmul_precision(outside)


class Doubles(two_experts.Expert):
    """A product in float64, as of rotary tables and embeddings of timesteps."""

    def forward(self, sample, timestep):
        eye = torch.eye(sample.shape[-1], dtype=torch.float64)
        return super().forward((sample.double() @ eye).to(sample.dtype), timestep)


@pytest.mark.parametrize("stack", ["fp32", "bf16"])
def test_products_in_float64_are_in_no_stack_s_precision(stack):
    pipeline = two_experts.build(second=Doubles)
    with pytest.raises(NotEffectiveError, match=r"'transformer_2': \{'torch.float64': "):
        apply_stack(pipeline, stack, call=two_experts.call)


def float32_ops():
    return Observation({"denoiser": PartOps({"torch.float32": 5})})


def test_tf32_reads_the_flags_back(pipeline):
    with fp32_precision("tf32"):
        proof = Tf32().prove(pipeline, float32_ops())
    assert proof.figures["cuda.matmul"] == proof.figures["cudnn.conv"] == "tf32"


def test_tf32_switched_off_is_noticed(pipeline):
    with fp32_precision("tf32"):
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        with pytest.raises(NotEffectiveError, match=r"TF32 flags, found \{'cuda\.matmul': 'ieee'"):
            Tf32().prove(pipeline, float32_ops())
    with ieee_fp32(), pytest.raises(NotEffectiveError, match=r"cudnn\.conv"):
        Tf32().prove(pipeline, float32_ops())


@pytest.mark.parametrize("name", ["bf16", "tf32"])
def test_an_old_gpu_lacks_it(name, pipeline, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    turing = Device("cuda", 0, "Tesla T4", "cuda-test")
    expected = f"{name} on Tesla T4: it needs compute capability 8.0, and this GPU has 7.5"
    with pytest.raises(MissingHardwareError, match=expected):
        check_compatible(parse_stack(name), pipeline, turing)
