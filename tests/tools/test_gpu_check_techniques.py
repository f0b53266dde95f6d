"""What the check of techniques reads from traces and numbers, and how it judges: without a GPU."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools/gpu_check/bench"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tools/gpu_check"))

from technique_evidence import OF_THE_HOST, RULES, Case
from technique_negatives import NEGATIVES, families_without
from technique_numbers import BORDER, Product, error_of, watched_products, worst
from technique_pipelines import toy
from technique_traces import Seen, is_product, precision, profiled, read_events

from pytest_diffspeed.techniques.registry import own_techniques
from pytest_diffspeed.techniques.technique import Family

# Kernels as cuBLAS, cuDNN, CUTLASS, PyTorch and Triton call theirs.
CUDNN_SDPA = (
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x64x128_kernel0_0"
)
FLASH = "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<32, 128, 128, 4>>(params)"
EFFICIENT = (
    "fmha_cutlassF_f32_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<float>)"
)
SOFTMAX = "void (anonymous namespace)::softmax_warp_forward<float, float, float, 6, false>(float*)"
KERNELS = {
    "ampere_sgemm_128x64_tn": "fp32",
    "void cutlass::Kernel2<cutlass_80_simt_sgemm_128x64_8x5_nn_align1>(Params)": "fp32",
    "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize32x32x8_stage3_cublas": "fp32",
    "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32_stage3_cublas": "tf32",
    "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x64_16x6_tn_align4>(Params)": "tf32",
    "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize64x32": "tf32",
    "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64>(Params)": "bf16",
    "nvjet_tst_128x64_64x8_2x1_v_bz_bias_TNT": "bf16",
    "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128": "bf16",
    "nvjet_hsh_64x64_64x12_1x2_h_bz_TNT": "fp16",
    "ampere_fp16_s16816gemm_fp16_64x64_ldg8_f2f_stages_64x6_tn": "fp16",
    "sm80_xmma_gemm_i8i32_i8i32_i32_tn_n_tilesize128x64x64_stage4_imma_cublas": "int8",
    "void cutlass::Kernel2<cutlass_80_tensorop_i16832gemm_s8_128x64_64x5_tn_align16>": "int8",
}


@pytest.mark.parametrize(("kernel", "expected"), KERNELS.items())
def test_the_precision_of_a_product_is_in_its_kernels_name(kernel, expected):
    assert is_product(kernel)
    assert precision(kernel) == expected


@pytest.mark.parametrize(
    "kernel",
    [
        FLASH,
        CUDNN_SDPA,
        EFFICIENT,
        SOFTMAX,
        "void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float>(params)",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>",
        "triton_poi_fused_convolution_silu_3",
        "void splitKreduce_kernel<32, 16, int, float, float, float>(params)",
    ],
)
def test_other_kernels_are_no_products(kernel):
    assert not is_product(kernel)


def test_attention_is_told_by_its_kernels():
    seen = Seen(kernels=Counter({CUDNN_SDPA: 8, FLASH: 4, EFFICIENT: 2, SOFTMAX: 1}))
    assert seen.attention() == {"cudnn": 8, "flash": 4, "efficient": 2, "softmax": 1}


def test_a_trace_is_read_by_what_its_events_say_they_are():
    events = [
        {"ph": "X", "cat": "kernel", "name": "triton_poi_fused_0"},
        {"ph": "X", "cat": "kernel", "name": "triton_poi_fused_0"},
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm"},
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch"},
        {"ph": "X", "cat": "cuda_driver", "name": "cuLaunchKernel"},
        {"ph": "X", "cat": "user_annotation", "name": "## Call CompiledFxGraph f ##"},
        {"ph": "X", "cat": "gpu_user_annotation", "name": "## Call CompiledFxGraph f ##"},
        {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoD"},
        {"ph": "s", "cat": "ac2g", "name": "ac2g"},
        {"ph": "M", "name": "process_name"},
    ]
    seen = read_events(events)
    assert (seen.triton_kernels, seen.graph_launches, seen.count("mm")) == (2, 1, 1)
    assert seen.marks == {"## Call CompiledFxGraph f ##": 1}
    assert set(seen.runtime) == {"cudaGraphLaunch", "cuLaunchKernel"}


def test_a_real_trace_of_the_cpu_holds_the_ops():
    x = torch.ones(4, 4)
    assert profiled(lambda: x @ x, cuda=False).count("mm") == 1


# --- numbers --------------------------------------------------------------------------------------


def rounded(tensor, bits):
    """``tensor`` with so many bits of mantissa."""
    mantissa, exponent = torch.frexp(tensor)
    return torch.ldexp((mantissa * 2 ** (bits + 1)).round() / 2 ** (bits + 1), exponent)


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_ieee_and_tf32_lie_on_the_two_sides_of_the_border(kind):
    torch.manual_seed(0)
    if kind == "linear":
        layer, given = torch.nn.Linear(256, 256), torch.randn(64, 256)
    else:
        layer, given = torch.nn.Conv2d(32, 32, 3, padding=1), torch.randn(2, 32, 16, 16)
    with torch.no_grad():
        exact = float(error_of(kind, layer, given, layer(given)))
        coarse = type(layer)(
            *((256, 256) if kind == "linear" else (32, 32, 3)),
            **({} if kind == "linear" else {"padding": 1}),
        )
        coarse.weight.copy_(rounded(layer.weight, 10))
        coarse.bias.copy_(layer.bias)
        tf32 = float(error_of(kind, layer, given, coarse(rounded(given, 10))))
    assert exact < BORDER / 10
    assert BORDER * 3 < tf32 < 1e-3


def test_products_of_layers_are_watched_and_the_hooks_are_gone():
    tried = toy("cpu")
    model = tried.pipeline.unet
    with watched_products({"denoiser": model}) as products:
        tried.call(tried.pipeline, steps=1)
    assert [(p.kind, p.where, p.dtype) for p in products] == [
        ("convolution", "denoiser.convolution", "torch.float32"),
        ("linear", "denoiser.blocks.0.first", "torch.float32"),
        ("linear", "denoiser.blocks.0.second", "torch.float32"),
        ("linear", "denoiser.blocks.1.first", "torch.float32"),
        ("linear", "denoiser.blocks.1.second", "torch.float32"),
        ("linear", "denoiser.last", "torch.float32"),
    ]
    assert max(worst(products).values()) < BORDER
    assert products[0].channels_last is False and products[1].channels_last is None
    assert not any(m._forward_hooks for m in model.modules())


# --- rules ----------------------------------------------------------------------------------------


def case(stack="x", cuda=True, errors=(1e-7, 1e-7), dtype="torch.float32", layout=None, **seen):
    products = [
        Product("linear", "a", dtype, errors[0], None),
        Product("convolution", "b", dtype, errors[1], layout),
    ]
    denoiser = Seen(**{name: Counter(counts) for name, counts in seen.items()})
    return Case(stack, cuda, {}, products, denoiser, denoiser)


def held(name, subject):
    return RULES[name](subject)[0]


@pytest.mark.parametrize(
    ("errors", "fp32", "tf32"),
    [
        ((1e-7, 1e-7), True, False),
        ((3e-4, 3e-4), False, True),
        ((1e-7, 3e-4), False, False),  # what torch does of itself
    ],
)
def test_precision_is_judged_by_numbers(errors, fp32, tf32):
    assert held("fp32", case(errors=errors)) is fp32
    assert held("tf32", case(errors=errors)) is tf32


@pytest.mark.parametrize(
    ("dtype", "kernels", "ok"),
    [
        ("torch.bfloat16", {"nvjet_tst_64x8_TNT": 4}, True),
        ("torch.bfloat16", {"nvjet_tst_64x8_TNT": 4, "ampere_sgemm_32x32_tn": 1}, False),
        ("torch.bfloat16", {}, False),
        ("torch.float32", {"nvjet_tst_64x8_TNT": 4}, False),
    ],
)
def test_sixteen_bits_are_judged_by_dtypes_and_kernels(dtype, kernels, ok):
    assert held("bf16", case(dtype=dtype, kernels=kernels)) is ok


OPS = {
    "sdpa_flash": "aten::_scaled_dot_product_flash_attention",
    "sdpa_efficient": "aten::_scaled_dot_product_efficient_attention",
    "sdpa_cudnn": "aten::_scaled_dot_product_cudnn_attention",
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize(
    ("kernel", "of"),
    [(FLASH, "sdpa_flash"), (EFFICIENT, "sdpa_efficient"), (CUDNN_SDPA, "sdpa_cudnn")],
)
def test_attention_is_judged_by_the_kernel_that_ran(name, kernel, of):
    right = case(ops={OPS[name]: 2}, kernels={kernel: 2})
    assert held(name, right) is (name == of)
    assert not held(name, case(ops={OPS[name]: 2}, kernels={kernel: 2, SOFTMAX: 1}))


def test_layout_and_projections_are_judged_by_the_stack_without_them():
    plain = case("bf16", layout=False, ops={"aten::addmm": 60}, kernels={"sgemm_1": 60})
    last = case("bf16+channels_last", layout=True)
    last.plain = {"bf16": plain}.__getitem__
    assert held("channels_last", last)
    plain.denoiser.kernels["cudnn::ops::nhwcToNchwKernel"] = 0
    last.denoiser.kernels["cudnn::ops::nhwcToNchwKernel"] = 1
    assert not held("channels_last", last)

    fused = case("bf16+fused_qkv", ops={"aten::addmm": 48}, kernels={"sgemm_1": 48})
    fused.plain = {"bf16": plain}.__getitem__
    assert held("fused_qkv", fused)
    fused.denoiser.ops["aten::addmm"] = 60
    assert not held("fused_qkv", fused)


def test_int8_is_judged_by_op_and_kernel():
    imma = "sm80_xmma_gemm_i8i32_i8i32_i32_tn_n_imma_cublas"
    assert held("int8_dynamic", case(ops={"aten::_int_mm": 3}, kernels={imma: 3}))
    assert not held("int8_dynamic", case(ops={"aten::_int_mm": 3}, kernels={"ampere_sgemm_1": 3}))
    assert not held("int8_dynamic", case(ops={"aten::mm": 3}, kernels={imma: 3}))


def test_float8_is_judged_by_op_and_kernel():
    hopper = "nvjet_qqtst_128x128_128x6_2x1_v_bz_TNT"
    assert precision(hopper) == "float8" and is_product(hopper)
    assert held("fp8_dynamic", case(ops={"aten::_scaled_mm": 3}, kernels={hopper: 3}))
    assert not held("fp8_dynamic", case(ops={"aten::_scaled_mm": 3}, kernels={"sgemm_1": 3}))
    assert not held("fp8_dynamic", case(ops={"aten::mm": 3}, kernels={hopper: 3}))


@pytest.mark.parametrize("name", ["int8_weight_only", "fp8_weight_only", "layerwise_casting"])
def test_weights_in_8_bits_are_judged_by_conversions(name):
    plain = case("bf16", ops={"aten::addmm": 9, "aten::_to_copy": 2}, kernels={"sgemm_1": 9})
    widened = case(f"bf16+{name}", ops={"aten::addmm": 9, "aten::_to_copy": 11}, kernels={})
    widened.plain = {"bf16": plain}.__getitem__
    assert held(name, widened)
    widened.denoiser.ops["aten::_to_copy"] = 2
    assert not held(name, widened)


def test_every_technique_of_this_package_has_a_rule_and_every_family_a_negative():
    tried = [t for t in own_techniques().values() if t.family.name not in OF_THE_HOST]
    eager = {t.name for t in tried if t.family is not Family.COMPILE}
    assert eager == set(RULES)
    assert not families_without()
    assert len({negative.title for negative in NEGATIVES}) == len(NEGATIVES)
