"""What the check makes of kernels, attention and bytes, on made-up events."""

import json
import sys
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).parents[2] / "tools" / "gpu_check"
sys.path.insert(0, str(TOOL / "bench"))
sys.path.insert(0, str(TOOL))


# Names as they stand in public traces of A100 and H100 runs.
NAMES = {
    "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT": "gemm",
    "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn": "gemm",
    "void cublasLt::splitKreduce_kernel<32, 16, int, __nv_bfloat16>": "gemm",
    "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm>": "gemm",
    "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc": "conv",
    "void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3>": "conv",
    "void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16, float>": "layout",
    "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128>>": "attention",
    "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention)": "attention",
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3": "attention",
    "triton_poi_fused_silu_0": "triton pointwise",
    "triton_red_fused_native_group_norm_3": "triton reduction",
    "triton_per_fused_native_layer_norm_1": "triton reduction",
    "triton_tem_fused_addmm_2": "triton product",
    "void at::native::(anonymous namespace)::RowwiseMomentsCUDAKernel<float>": "normalization",
    "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float>": "normalization",
    "void (anonymous namespace)::softmax_warp_forward<float, float>": "softmax",
    "void at::native::unrolled_elementwise_kernel<direct_copy_kernel_cuda>": "copy",
    "void at::native::(anonymous namespace)::CatArrayBatchedCopy<float>": "copy",
    "void at::native::reduce_kernel<512, 1, ReduceOp<float>>": "reduction",
    "void at::native::vectorized_elementwise_kernel<4, AddFunctor>": "pointwise",
    "something_new": "other",
}


@pytest.mark.parametrize("name", NAMES)
def test_kinds_of_kernels(name):
    from kernel_kinds import by_kind, kind_of

    assert kind_of(name) == NAMES[name]
    assert by_kind([name, name]) == {NAMES[name]: 2}


def test_the_backend_of_attention_by_its_kernel():
    from kernel_kinds import attention_of_kernels

    found = [attention_of_kernels(["copy", name]) for name in NAMES if NAMES[name] == "attention"]
    assert found == ["flash", "efficient", "cudnn"]
    assert attention_of_kernels(["ampere_sgemm", "softmax_warp_forward"]) == "math"


H100 = {"device": "cuda", "capability": (9, 0), "cudnn": 91900, "environment": {}}


@pytest.mark.parametrize(
    ("changed", "backends"),
    [
        ({}, "cudnn cudnn cudnn cudnn cudnn flash cudnn cudnn flash efficient efficient efficient"),
        ({"cudnn": 91500}, "flash flash flash flash flash flash flash flash flash efficient"),
        ({"capability": (8, 0)}, "flash flash flash flash flash flash flash flash flash efficient"),
        ({"environment": {"TORCH_CUDNN_SDPA_DEPRIORITIZED": "1"}}, "flash flash flash"),
        ({"device": "cpu"}, "flash " * 12),
    ],
)
def test_the_rule_of_attention(changed, backends):
    from attention_choice import SHAPES, rule

    expected = backends.split()
    assert [rule(shape, **{**H100, **changed}) for shape in SHAPES[: len(expected)]] == expected


def test_the_rule_with_masks_and_odd_shapes():
    from attention_choice import SHAPES, rule

    found = {shape.name: rule(shape, **H100) for shape in SHAPES}
    assert found["masked, 64"] == found["masked, 128"] == "cudnn"
    assert found["masked, 160"] == found["masked fp32, 64"] == "efficient"
    assert found["odd head, 36"] == found["one key, 64"] == "flash"
    assert found["odd head, masked, 36"] == "math"


@pytest.mark.parametrize("name", ["fp32, 64", "masked, 64", "VAE, 512", "one key, 64"])
def test_what_a_cpu_takes_is_what_the_rule_says(name):
    from attention_choice import CHOICES, SHAPES, inputs, rule

    shape = next(shape for shape in SHAPES if shape.name == name).small
    given, mask = inputs(shape, "cpu")
    assert CHOICES[torch._fused_sdp_choice(*given, mask, 0.0, False)] == rule(shape, device="cpu")


def test_ops_by_what_they_launched():
    from profiled_block import per_op
    from profiler_traces import Trace

    def event(cat, name, ts, dur, correlation=None):
        args = {"correlation": correlation}
        return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "args": args}

    events = []
    for start, shape, launches in ((0, "float32[2]", 1), (10, "float32[3]", 3), (20, "", 1)):
        events.append(event("user_annotation", f"op:native_group_norm|{shape}", start, 9))
        for number in range(launches):
            key = start + number
            events.append(event("cuda_runtime", "cudaLaunchKernel", start + 1 + number, 1, key))
            events.append(event("kernel", f"k{number}", start + 100, 2, key))
    events.append(event("user_annotation", "op:view|", 30, 9))
    found = per_op(Trace(events))
    assert found["native_group_norm"] == {
        "calls": 3,
        "per_call": {"1": 2, "3": 1},
        "kernels": {"k0": 3, "k1": 1, "k2": 1},
        "us": 10.0,
        "shapes": {"1": ["", "float32[2]"], "3": ["float32[3]"]},
    }
    assert found["view"]["per_call"] == {"0": 1}
    assert json.loads(json.dumps(found)) == found


def test_every_op_of_a_call_has_a_label(tmp_path):
    from profiled_block import OpLabels
    from profiler_traces import profiled

    with profiled(tmp_path / "trace.json", "cpu") as recording, torch.no_grad(), OpLabels():
        torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).relu()
    names = [label.name for label in recording.trace.named("op:")]
    assert "op:mm|float32[2, 3] float32[3, 4]" in names
    assert "op:relu|float32[2, 4]" in names


def test_what_is_told_of_a_block():
    from parts.kernels import kernels_told, launches_told

    found = {"kernels": 3, "by_kind": {"gemm": 2, "copy": 1}, "launches": 3, "device_us": 12.4}
    assert kernels_told(found, None) == "3 kernels: 2 gemm, 1 copy; 3 launches, 12 us"
    compiled = {**found, "first_call_s": 20.5}
    assert kernels_told(compiled, 47).startswith("3 kernels (47 counted without a GPU): 2 gemm")
    ops = {"native_group_norm": {"per_call": {"3": 5}}, "view": {"per_call": {"0": 9}}}
    found = {"ops": ops, "attributed": 15, "total": 15}
    assert launches_told(found).endswith("by op; as many an op as was thought")
    ops["convolution"] = {"per_call": {"1": 2, "2": 3}}
    assert launches_told(found).endswith("another number than thought: convolution 1/2")


@pytest.fixture
def running(tmp_path, monkeypatch):
    """What a process of blocks would be, with a script of the test's own."""
    import parts.kernels as kernels
    from checks import Part, Writer

    def make(script):
        (tmp_path / "profiled_block.py").write_text(script)
        monkeypatch.setattr(kernels, "HERE", tmp_path)
        writer = Writer(tmp_path / "results.jsonl", "f")
        part = Part("f", writer, device="cpu", work=tmp_path, planted=False, limit_s=100)
        return kernels._Running(part, ["sdxl"])

    return make


def test_lines_of_a_block_are_waited_for(running):
    line = {"block": "sdxl", "stage": "eager", "kernels": 3}
    failed = {"block": "sdxl", "stage": "ops", "error": "RuntimeError: no"}
    one = running(
        f"import sys\nopen(sys.argv[-1], 'w').write({json.dumps(line)!r} + '\\n' + "
        f"{json.dumps(failed)!r} + '\\n' + '{{\"block\"')\nsys.exit(3)"
    )
    assert one.line("sdxl", "eager", 60)["kernels"] == 3
    with pytest.raises(RuntimeError, match="RuntimeError: no"):
        one.line("sdxl", "ops", 60)
    with pytest.raises(RuntimeError, match="ended with exit status 3"):
        one.line("sdxl", "compiled", 60)


def test_a_block_that_hangs_is_given_up(running):
    one = running("import time\ntime.sleep(600)")
    with pytest.raises(RuntimeError, match="did not end within"):
        one.line("sdxl", "eager", 0.1)
    one.end()
    assert one._process.returncode is not None
