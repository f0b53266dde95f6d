"""The fake GPU: what small programs on it cost, what it refuses, and what it leaves behind."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from pytest_diffspeed.gpucost import GPUS, UNITS, FakeGpu, Gpu, GpuCostError, launches, named_gpu
from pytest_diffspeed.gpucost import torch_private as private
from pytest_diffspeed.gpucost.cost import FUSED_ATTENTION
from pytest_diffspeed.gpucost.counting import refusals


@pytest.fixture(scope="module")
def small(count_rows):
    """The programs of planted/small.py, in one worker."""
    return {
        row.partition(":")[2]: value for row, value in count_rows("small", seed=3).found.items()
    }


def test_what_only_a_gpu_can_tune_is_counted_as_off_and_said(small):
    (tuning, graphs), same = small["max_autotune"]
    assert tuning == ("max_autotune was counted as off: its candidates can be timed on a GPU only")
    assert graphs.startswith("triton.cudagraphs was counted as off: CUDA graphs change no kernel")
    assert same


def test_a_few_rows_of_a_table_are_not_the_table(small):
    eager, compiled, whole = small["rows_of_a_table"]
    assert eager == 16 * (64 * 2 * 2 + 8)  # rows read and written in bfloat16, and their numbers
    assert compiled < whole / 100


def test_what_runs_between_graphs_is_counted(small):
    kernels, graphs, launches = small["eager_between_graphs"]
    assert kernels == [
        ["mul", "triton_pointwise"],
        ["cumsum", "reduction"],
        ["add", "triton_pointwise"],
    ]
    assert (graphs, launches) == (2, 2)


def test_copies_from_and_to_the_host_are_no_kernels(small):
    assert small["copied_from_the_host"] == [[1, 1], [1, 1]]
    assert small["to_the_host"] == [[["add", "pointwise"], ["_to_copy", "d2h"]], "cpu"]


def test_views_of_complex_numbers_launch_nothing(small):
    names, launches = small["views_of_complex_numbers"]
    assert not [name for name in names if "view" in name]
    assert len(names) == launches


def test_an_index_on_the_cpu_is_copied(small):
    assert small["indexed_from_the_host"] == [["index", "h2d"], ["index", "pointwise"]]


def test_a_value_that_dynamo_captures_is_a_copy_to_the_host(small):
    kernels, breaks = small["value_in_one_graph"]
    assert ["_local_scalar_dense", "d2h"] in kernels
    assert breaks == 0


def test_a_triton_kernel_of_the_users_is_opaque_by_its_name(small):
    assert small["triton_of_the_users"][0] == ["triton::doubled", "opaque"]


def test_what_is_written_is_not_read_first(small):
    assert small["in_place"] == [
        ["add_", "pointwise", 1200],
        ["copy_", "copy", 800],
        ["zero_", "pointwise", 400],
        ["add", "pointwise", 800],
    ]


def test_ops_that_return_nothing_are_counted(small):
    assert small["returning_nothing"] == [
        ["planted::fills", "opaque", 1200],
        ["_foreach_add_", "pointwise", 1600],
    ]


def test_launches_of_a_group_norm_are_modelled_and_so_is_its_copy(small):
    usual, copy, last = small["groups"]
    assert usual == last == ["reduction", usual[1], 2]
    assert copy == ["layout", 2 * 256 * 4, 0]  # 256 values of float32 read and written


def test_products_follow_the_precision_of_float32(small):
    found = small["precision_of_float32"]
    assert found["ieee"] == [{"gemm": "f32", "conv": "f32"}] * 2
    assert found["tf32"] == [{"gemm": "tf32", "conv": "tf32"}] * 2


def test_flops_of_a_transposed_convolution(small):
    # Each of 8×4×4 inputs meets 6×3×3 weights.
    assert small["transposed_convolution"] == [[[2 * 128 * 54, [1, 6, 6, 6]]]] * 2


def test_bfloat16_convolutions_answer_channels_last(small):
    assert small["convolutions_keep_channels_last"] == [[784, 1, 112, 16]] * 2


def test_what_a_triton_kernel_needs_is_a_range(small):
    (found,) = small["resources_of_a_kernel"]
    assert "softmax" in found["name"]
    assert found["configurations"] >= 1
    assert 8 <= found["registers"][0] <= found["registers"][1] <= 255
    assert found["stack_bytes"] == [0, 0]
    assert found["shared_bytes"][1] <= named_gpu("a100").shared_per_block


def test_inference_mode_costs_what_no_gradients_cost(small):
    without_gradients, inference = small["in_inference_mode"]
    assert inference == without_gradients
    assert [kind for _, kind, _, flops in inference if flops] == ["gemm", "attention", "gemm"]


def test_an_rms_norm_is_one_kernel_as_on_a_gpu(small):
    assert small["rms_norms"] == [["_fused_rms_norm"]] * 3


def test_products_of_vectors_and_of_complex_numbers(small):
    assert small["products_of_vectors_and_complex_numbers"] == [
        ["mv", "gemm", 2 * 4 * 8, [1, 4, 1, 8]],
        ["dot", "gemm", 2 * 8, [1, 1, 1, 8]],
        ["addmv", "gemm", 2 * 4 * 8, [1, 4, 1, 8]],
        ["mm", "gemm", 8 * 4**3, [1, 4, 4, 4]],
    ]


def test_products_that_no_rule_knows_are_opaque(small):
    encoder, inverse = small["products_that_no_rule_knows"]
    assert inverse[:1] == [["aten::linalg_inv_ex", "opaque"]]
    if private.VERSION < (2, 14):  # it does not say there what it returns
        assert "calls an op that does not say what it returns" in encoder
    else:
        assert encoder == [["aten::_transformer_encoder_layer_fwd", "opaque"]]


def test_every_op_of_which_torch_knows_flops_has_them_here_or_is_opaque():
    from torch.utils.flop_counter import flop_registry

    known = launches.GEMM | launches.CONV | launches.UNSEEN | set(FUSED_ATTENTION)
    names = {str(op).partition(".")[2] for op in flop_registry if str(op).startswith("aten.")}
    # Backward ones need gradients, which are refused.
    assert {n for n in names - known if "backward" not in n} == set()


def test_copies_that_keep_their_order_are_no_change_of_layout(small):
    kinds = {
        "rows": "copy",
        "columns": "layout",
        "transposed": "layout",
        "spread": "layout",
        "turned around": "copy",
        "in place": "copy",
        "converted": "cast",
    }
    assert small["copies_by_what_they_keep"] == {
        name: [[kind], [kind]] for name, kind in kinds.items()
    }


def test_a_fourier_transform_of_real_numbers_makes_them_complex_first(small):
    (eager, compiled), launches, notes = small["transforms_of_real_input"]
    # 256 values of float32 become complex64 and are transformed.
    assert eager[:2] == compiled[:2] == [["cast", 3072, [256]], ["opaque", 4096, [256]]]
    assert launches == len(compiled) == 3
    assert notes == []


def test_what_a_long_scan_clears_first_is_a_launch(small):
    kernels, launches, notes = small["scan_in_two_launches"]
    assert kernels == [["zero_", True, True], ["cumsum", True, True]]
    assert launches == 2
    assert notes == []


def test_a_line_of_a_package_comes_with_the_line_that_called_it(small):
    source = Path(__file__).with_name("planted").joinpath("small.py").read_text("utf-8")
    lines = source.splitlines()
    first, second = (
        next(n for n, line in enumerate(lines, 1) if f"# the {word} call" in line)
        for word in ("first", "second")
    )
    ways = []
    for kernels in small["called_by_the_user"]:
        *of_diffusers, (own, called_from, *_) = kernels
        assert {site.partition("/")[0] for site, *_ in of_diffusers} == {"diffusers"}
        half = len(of_diffusers) // 2
        callers = [first] * half + [second] * half
        for (_, caller, *_), line in zip(of_diffusers, callers, strict=True):
            assert caller.endswith(f"planted/small.py:{line}")
        assert own.endswith(f"planted/small.py:{second}")
        assert called_from == ""
        routes, paths = ([kernel[at] for kernel in of_diffusers] for at in (2, 3))
        assert routes[:half] == routes[half:]
        assert not set(paths[:half]) & set(paths[half:])
        ways.append({(site, *way) for site, _, *way in kernels})
    eager, compiled = ways
    assert compiled < eager  # the GELU is fused


def test_a_call_is_found_again_where_lines_have_moved(small):
    changes = small["called_in_another_tree"]
    assert len(changes) > 2
    assert {Path(lines[0]).name for lines in changes} == {"model.py:2"}


def test_bytes_of_what_is_overwritten_are_written_and_the_whole_of_it_is_read(small):
    (eager_whole, compiled_whole), (eager_rows, compiled_rows) = small["overwritten_in_part"]
    assert eager_whole == compiled_whole == [["copy", 2 * 64 * 64 * 4]]
    assert [nbytes for _, nbytes in eager_rows] == [nbytes for _, nbytes in compiled_rows]
    assert ["copy", 2 * 2 * 64 * 4] in compiled_rows


def test_settings_of_inductor_from_elsewhere_are_counted_as_off_or_in_the_key(small):
    found = small["switched_on_elsewhere"]
    assert [note.partition(" ")[0] for note in found["notes"]] == ["max_autotune"]
    assert found["usual"] == found["eager"] == ""
    assert found["key"] == "epilogue_fusion=False, max_autotune=True"


def test_a_module_on_the_gpu(small):
    found = small["module_on_the_gpu"]
    assert found["same"]
    assert found["devices"] == ["cuda:0"]
    assert found["dtypes"] == ["torch.float16"]
    assert found["state"] == ["kept", "one.bias", "one.weight", "two.bias", "two.weight"]
    assert small["shared_parameters"]


def test_copies_keep_strides_and_scalars(small):
    assert small["copies"] == [True, "cuda:0", 7, "cpu", "cuda:0"]


@pytest.mark.parametrize(
    ("case", "kind", "says"),
    [
        ("option", "GpuCostError", "no option no_such_option"),
        ("break", "GpuCostError", "planted/small.py:LINE does not compile into one graph"),
        ("item", "ValueDependentError", "planted/small.py:LINE asks for a value that only a GPU"),
        ("branch", "ValueDependentError", "planted/small.py:LINE asks for a value that only a GPU"),
        ("nonzero", "ValueDependentError", "aten.nonzero"),
        ("no_fake", "GpuCostError", "planted/small.py:LINE calls an op that does not say what"),
        ("no_fake_compiled", "GpuCostError", "torch.library.register_fake"),
        ("numpy", "ValueDependentError", "planted/small.py:LINE asks for a value that only a GPU"),
        ("another_gpu", "GpuCostError", "already believes in NVIDIA A100"),
        ("not_installed", "GpuCostError", "call `install()`"),
        # torchao has another class from version to version
        ("quantized", "GpuCostError", "layer.weight is a "),
        ("caught", "ValueDependentError", "planted/small.py:LINE asks for a value that only a GPU"),
        ("caught_between_graphs", "ValueDependentError", "planted/small.py:LINE asks for a value"),
        ("thread", "GpuCostError", "planted/small.py:LINE computes in a thread of its own"),
        ("gradients", "GpuCostError", "planted/small.py:LINE asks the CUDA driver itself"),
        ("compiled_inside", "GpuCostError", "planted/small.py:LINE asks the CUDA driver itself"),
        ("launched", "GpuCostError", "planted/small.py:LINE launches a Triton kernel of its own"),
        ("left_as_it_is", "GpuCostError", "torch.compile left all of the code as it is"),
        ("suppressed", "GpuCostError", "torch.library.register_fake"),
    ],
)
def test_refusals(small, case, kind, says):
    found, said = small["refusals"][case]
    assert found == kind
    assert re.search(re.escape(says).replace("LINE", r"\d+"), said), said


def test_errors_of_the_users_stay_what_they_are(small):
    assert small["refusals"]["error_of_the_users"] == "TypeError"
    assert small["refusals"]["is_one"]


def test_the_same_gpu_may_be_installed_twice(small):
    assert small["same_gpu_again"] == 1


def test_the_key_says_what_counts_depend_on(small):
    key = small["key"]
    assert key["torch"] == torch.__version__
    assert (key["capability"], key["attention"]) == ("8.0", "flash first")
    assert key["rules"] == launches.RULES
    assert key["inductor_options"] == "[('epilogue_fusion', False)]"


# --- GPUs, and builds of torch that cannot count


@pytest.mark.parametrize("name", GPUS)
def test_data_sheets(name):
    gpu = named_gpu(name.upper())
    assert gpu is GPUS[name]
    rates = [gpu.flops_per_s[unit] for unit in UNITS if gpu.flops_per_s[unit]]
    assert gpu.source
    # A type that is listed as costlier is never faster.
    tiers = [gpu.flops_per_s[unit] for unit in ("f64", "f32", "tf32", "b16", "i8")]
    assert tiers == sorted(tiers)
    assert all(1e12 <= rate <= 2e15 for rate in rates)
    assert gpu.shared_per_block < gpu.shared_per_multiprocessor


def test_a_gpu_of_ones_own(tmp_path):
    gpu = dataclasses.replace(named_gpu("l40s"), name="mine", flops_per_s={"b16": 1e12})
    fields = {field.name: getattr(gpu, field.name) for field in dataclasses.fields(gpu)}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(fields))
    assert named_gpu(str(path)) == gpu


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "missing: bytes_per_s"),
        ("{", "is a JSON object"),
        ('{"name": "x", "speed": 1}', "unknown: speed"),
    ],
)
def test_a_gpu_of_ones_own_that_is_incomplete(text, says):
    with pytest.raises(GpuCostError, match=says):
        Gpu.from_json(text)


def test_a_gpu_with_a_unit_that_is_none():
    with pytest.raises(GpuCostError, match="not b17"):
        dataclasses.replace(named_gpu("a100"), flops_per_s={"b17": 1.0})


@pytest.mark.parametrize(
    ("name", "says"), [("tpu", "a100, h100, l40s, rtx4090"), ("none.json", "there is no file")]
)
def test_an_unknown_gpu(name, says):
    with pytest.raises(GpuCostError, match=says):
        named_gpu(name)


def test_a_build_without_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(GpuCostError, match=r"build without CUDA.*; install a CUDA build"):
        FakeGpu(named_gpu("a100")).install()


def test_a_torch_that_was_never_tried_is_refused(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(private, "VERSION", (2, 99))
    with pytest.raises(GpuCostError, match=r"never counted .* private; use torch 2\.11 or 2\.14"):
        FakeGpu(named_gpu("a100")).install()


def test_an_op_that_does_not_say_what_it_returns_is_refused_with_what_to_do():
    """After a semicolon, where a red session looks for its next step."""
    with pytest.raises(GpuCostError, match=r"; register a fake for it with"), refusals():
        raise RuntimeError("mine.double: no fake impl registered. A longer story")


def test_what_a_version_lacks_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(private, "VERSION", private.TRIED[0])
    monkeypatch.setattr(private, "_NEEDED", ("_C._no_such_function",))
    with pytest.raises(GpuCostError, match=r"needs torch\._C\._no_such_function, which torch"):
        FakeGpu(named_gpu("a100")).install()


def test_a_process_that_uses_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(private, "VERSION", private.TRIED[0])
    monkeypatch.setattr(private, "_NEEDED", ())
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(GpuCostError, match="already uses a CUDA device"):
        FakeGpu(named_gpu("a100")).install()
