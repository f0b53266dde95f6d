"""fp16 and tf32: where each runs, and what the VAE does."""

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.common.errors import MissingHardwareError, NotEffectiveError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.apply import check_compatible, running
from pytest_diffspeed.techniques.catalog.precision import Fp16, Tf32
from pytest_diffspeed.techniques.observation import Observation, PartOps
from pytest_diffspeed.techniques.precision_flags import fp32_precision, ieee_fp32
from pytest_diffspeed.techniques.stacks import parse_stack


def test_fp16_keeps_a_vae_in_float32_whose_configuration_asks_for_it(pipeline, call):
    assert pipeline.vae.config.force_upcast
    (proof,) = apply_stack(pipeline, "fp16", call=call).proofs
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.float16}
    assert {p.dtype for p in pipeline.vae.parameters()} == {torch.float32}
    assert proof.figures["vae_dtype"] == "torch.float32"
    assert proof.found.endswith("; the VAE in float32, as its configuration asks")


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
