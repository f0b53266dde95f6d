"""``gpu_cost``: limits by figure, a file of costs, and a base, of made-up kernels.

The gallery's second session counts real ones.
"""

from dataclasses import replace

import pytest

from pytest_diffspeed.arms.gpu_cost.result import CountedCalls, GpuCost
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import DiffspeedError, UsageError
from pytest_diffspeed.gates.catalog.gpu_cost import NAMED_GPUS, GpuCostMarker, judged
from pytest_diffspeed.gates.marker import parse
from pytest_diffspeed.gates.saved_gpu_costs import FOLDER, read_cost, saved_cost, write_cost
from pytest_diffspeed.gpucost import GPUS, Cost, CostLimits, Kernel
from pytest_diffspeed.records.verdict import EvidenceKind, VerdictKind
from pytest_diffspeed.techniques.stacks import parse_stack
from tests.gates.made_up_context import Context

KEY = {"torch": "2.14.1", "triton": "3.8.0"}
GEMM = Kernel("addmm", "gemm", 1000, 5000, "b16", (1, 4, 4, 4), "a.py:1")
SLOW = Kernel("addmm", "gemm", 1000, 5000, "f32", (1, 4, 4, 4), "a.py:1")
CAST = Kernel("_to_copy", "cast", 10, shape=(4,), site="a.py:2")
SILU = Kernel("silu", "pointwise", 10, shape=(4,), site="a.py:3")


def cost(*steps, key=None, outside=(), breaks=()):
    calls = [
        CountedCalls(
            *("unet", "denoiser", "eager", 1, (number,)), Cost(tuple(kernels), breaks=breaks)
        )
        for number, kernels in enumerate(steps)
    ]
    if outside:
        made = Cost(kernels=tuple(outside))
        calls.append(CountedCalls("vae.decode", "decoder", "eager", 1, (), made))
    return GpuCost("demo", "bf16", "A GPU", len(steps), tuple(calls), key or KEY)


def verdict(base, head, **limits):
    return judged(parse(GpuCostMarker, (), limits), Context(), base, head, "main", "renew it")


def recorded(base, head, **limits):
    return verdict(base, head, **limits).figures["gpu_cost"]


def test_the_same_kernels_pass():
    found = verdict(cost([GEMM, CAST]), cost([GEMM, CAST]))
    assert found.verdict is VerdictKind.PASS
    assert found.figures["found"] == "step 1: kernels 2, bytes 1.01 kB, flops 5 k; no figure moved"
    fewer = verdict(cost([GEMM, CAST]), cost([GEMM]))
    assert (
        fewer.figures["found"]
        == "step 1: kernels 2 → 1, bytes 1.01 kB → 1 kB, flops 5 k, casts 1 → 0"
    )


def test_a_fall_pays_for_no_rise():
    found = verdict(cost([GEMM, SILU, SILU]), cost([GEMM, CAST]))
    assert found.verdict is VerdictKind.FAIL
    assert "step 1: casts 0 → 1 (+1, 0 allowed)" in found.reason
    assert "step 1, +1 cast _to_copy 4 at a.py:2" in found.reason
    assert "less, which pays for nothing else: kernels 3 → 2" in found.reason
    assert found.cause.place == "a.py:2"
    assert found.cause.next_step == "undo it, or allow it: gpu_cost(casts=…)"


def test_flops_in_a_costlier_type_are_growth():
    found = verdict(cost([GEMM]), cost([SLOW]))
    assert found.verdict is VerdictKind.FAIL
    assert "flops.f32+ 0 → 5 k" in found.reason
    assert "step 1, 1 heavier gemm addmm 1×4×4×4 b16 → f32 at a.py:1" in found.reason
    assert found.cause.place == "a.py:1"
    assert found.cause.next_step == "undo it, or allow it: gpu_cost(flops=…)"


def test_a_record_has_the_lines_of_what_failed_and_of_a_break_first():
    cost_of_both = recorded(cost([GEMM, SILU]), cost([SLOW, CAST]))
    assert cost_of_both["lines"] == ["a.py:1", "a.py:2"]
    assert [one["lines"] for one in cost_of_both["heavier"]] == [["a.py:1"]]
    assert recorded(cost([GEMM]), cost([GEMM]))["lines"] == []
    broken = cost([GEMM, SILU], breaks=("a print at a.py:9",))
    found = verdict(cost([GEMM]), broken)
    assert found.figures["gpu_cost"]["lines"] == ["a.py:9", "a.py:3"]
    assert "step 1, +1 graph break: a print at a.py:9" in found.reason
    assert found.cause.place == "a.py:9"


def test_a_line_that_no_kernel_of_the_base_has_comes_before_those_that_are_fused_with_it():
    base = [replace(SILU, path="old", bytes=900)]
    fused = replace(SILU, name="silu+mul", path="old", bytes=900)
    planted = replace(CAST, path="new", bytes=1)
    found = verdict(cost(base), cost([fused, planted]))
    assert found.figures["gpu_cost"]["lines"] == ["a.py:2", "a.py:3"]
    assert found.cause.place == "a.py:2"


def test_a_step_that_differs_in_breaks_only_is_compared():
    base = cost([GEMM], [GEMM])
    first, second = base.calls
    broken = replace(second, cost=replace(second.cost, breaks=("a print at a.py:9",)))
    found = verdict(base, replace(base, calls=(first, broken)))
    assert "step 2: breaks 0 → 1" in found.reason


CONV = Kernel("convolution", "conv", 1000, 5000, "b16", (2, 8, 4, 4), "a.py:4")
COPYING = replace(CONV, hidden_launches=3, hidden_bytes=600)


def test_copies_inside_of_libraries_are_growth_and_said_to_be_modelled():
    """Convolutions that lose channels last, which in eager mode no counted figure shows."""
    found = verdict(cost([GEMM, CONV, CONV]), cost([GEMM, COPYING, CONV]))
    assert found.verdict is VerdictKind.FAIL
    assert found.evidence is EvidenceKind.MODELLED
    assert "step 1: hidden launches (modelled) 0 → 3 (+3, 0 allowed)" in found.reason
    assert "step 1, +3 hidden around conv convolution 2×8×4×4 at a.py:4" in found.reason
    assert found.cause.place == "a.py:4"
    assert found.cause.next_step == "undo it, or allow it: gpu_cost(hidden=…)"
    assert verdict(cost([CONV]), cost([COPYING]), hidden=3).verdict is VerdictKind.PASS
    worse = verdict(cost([CONV]), cost([COPYING, CAST]))
    assert worse.evidence is EvidenceKind.COUNTED
    assert worse.cause.place == "a.py:2"


def test_a_step_that_differs_in_hidden_copies_only_is_compared():
    found = verdict(cost([CONV], [CONV]), cost([CONV], [COPYING]))
    assert "step 2: hidden launches (modelled) 0 → 3" in found.reason


def test_a_limit_allows_what_it_says():
    more = cost([GEMM, CAST])
    assert verdict(cost([GEMM]), more, kernels=1, casts=1).verdict is VerdictKind.PASS
    assert verdict(cost([GEMM]), more, kernels=1, casts=1, bytes="0.5%").verdict is VerdictKind.FAIL


def test_every_step_is_compared_and_the_call_with_all_around_them():
    base, head = cost([GEMM], [GEMM], outside=[GEMM]), cost([GEMM], [GEMM, CAST], outside=[GEMM])
    assert "step 2: kernels 1 → 2" in verdict(base, head).reason
    slower_decoder = cost([GEMM], [GEMM], outside=[GEMM, CAST])
    assert verdict(base, slower_decoder).verdict is VerdictKind.PASS
    assert verdict(base, slower_decoder, unit="call").verdict is VerdictKind.FAIL


@pytest.mark.parametrize("kind", ["h2d", "d2h"])
def test_copies_between_host_and_device_are_growth_that_can_be_allowed(kind):
    more = [GEMM, Kernel("_to_copy", kind, 64, shape=(16,), site="a.py:4")]
    found = verdict(cost([GEMM]), cost(more))
    assert found.verdict is VerdictKind.FAIL
    assert found.cause.next_step == f"undo it, or allow it: gpu_cost({kind}=…)"
    assert verdict(cost([GEMM]), cost(more), **{kind: 1}).verdict is VerdictKind.PASS


def test_every_limit_that_holds_is_a_word_of_the_marker():
    """Or it could be broken, and not be allowed."""
    held = {name for name, limit in vars(CostLimits()).items() if limit is not None}
    assert held == {name for name, _ in parse(GpuCostMarker, (), {}).limits}


def test_another_key_is_no_verdict():
    found = verdict(cost([GEMM], key={**KEY, "torch": "2.11.0"}), cost([GEMM, CAST]))
    assert found.verdict is VerdictKind.INCONCLUSIVE
    assert "torch 2.11.0, now 2.14.1; renew it" in found.reason


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"kernels": -1}, "`kernels` must be the growth that is allowed: a whole number such as 0"),
        ({"bytes": "much%"}, "`bytes` must be the growth"),
        ({"flops": True}, "`flops` must be the growth"),
        ({"gpu": "a10"}, "`gpu` does not know 'a10'; did you mean 'a100'?"),
        ({"unit": "image"}, "`unit` does not know 'image'"),
        ({"over": "fp32"}, "`over` does not know 'fp32'"),
        ({"launches": 0}, "'launches' is no argument of it"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits, sentence):
    with pytest.raises(UsageError) as error:
        parse(GpuCostMarker, (), limits)
    assert sentence in str(error.value)


def test_a_saved_cost_is_read_back_and_a_broken_one_is_said(tmp_path):
    file = tmp_path / FOLDER / "a.json"
    made = cost([GEMM, GEMM, CAST], [GEMM], outside=[SILU])
    with pytest.raises(UsageError, match=r"there is no diffspeed-gpu-costs/a\.json in"):
        read_cost(file)
    write_cost(file, made)
    assert read_cost(file) == made
    lines = file.read_text().splitlines()
    assert sum('"addmm"' in line for line in lines) == 2  # once for each call that has it
    file.write_text(file.read_text().replace('"kernels": [', "<<<<<<<", 1))
    with pytest.raises(DiffspeedError, match="where a merge left a conflict in it"):
        read_cost(file)


def test_a_saved_cost_of_another_arm_is_no_base(tmp_path):
    file = tmp_path / FOLDER / "a.json"
    write_cost(file, cost([GEMM]))
    assert saved_cost(file, ArmSpec("demo", parse_stack("bf16"))).stack == "bf16"
    sentence = r"a\.json has the GPU cost of demo with bf16, not of demo with fp16; write it anew"
    with pytest.raises(UsageError, match=sentence):
        saved_cost(file, ArmSpec("demo", parse_stack("fp16")))


def test_the_marker_knows_each_gpu_by_name():
    """It must not import them: that would load torch when tests are collected."""
    assert set(NAMED_GPUS) == set(GPUS)


def test_a_record_has_each_component_by_kind_and_what_is_in_no_step_beside_it():
    both = cost([GEMM, SILU, SILU], outside=[CAST]), cost([GEMM, CAST], outside=[CAST])
    unet, decoder = recorded(*both)["components"]
    assert unet == {
        "component": "unet",
        "in": "step 1",
        "judged": True,
        "how": "eager",
        "base": {
            "kernels": {"gemm": 1, "pointwise": 2},
            "bytes": {"gemm": 1000, "pointwise": 20},
            "flops": {"b16": 5000},
        },
        "head": {
            "kernels": {"gemm": 1, "cast": 1},
            "bytes": {"gemm": 1000, "cast": 10},
            "flops": {"b16": 5000},
        },
    }
    assert (decoder["component"], decoder["in"], decoder["judged"]) == (
        "vae.decode",
        "the call",
        False,
    )
    assert (
        decoder["base"]
        == decoder["head"]
        == {"kernels": {"cast": 1}, "bytes": {"cast": 10}, "flops": {}}
    )
    whole = recorded(*both, unit="call")
    assert whole["unit"] == "the call"
    assert [(one["in"], one["judged"]) for one in whole["components"]] == [("the call", True)] * 2


def test_a_component_that_one_side_has_not_is_there_with_the_other_only():
    (_, decoder) = recorded(cost([GEMM], outside=[CAST]), cost([GEMM]))["components"]
    assert decoder["component"] == "vae.decode"
    assert "base" in decoder and "head" not in decoder


def test_a_record_has_what_is_new_and_gone_with_lines_of_the_step_that_is_worse():
    base, head = cost([GEMM], [GEMM, SILU]), cost([GEMM], [GEMM, CAST])
    found = recorded(base, head)
    assert found["unit"] == "step 2"
    assert found["figures"]["casts"] == {"base": 0, "head": 1, "allowed": 0.0}
    assert found["figures"]["graphs"]["allowed"] is None
    (new,), (gone,) = found["new"], found["gone"]
    assert new == {
        "kind": "cast",
        "name": "_to_copy",
        "shape": [4],
        "number": 1,
        "bytes": 10,
        "lines": ["a.py:2"],
        "lines_left_out": 0,
    }
    assert (gone["name"], gone["lines"]) == ("silu", ["a.py:3"])
    assert found["new_left_out"] == 0 and "whole" not in found
    # Nothing is worse: the step that differs is told.
    assert recorded(head, base, kernels=1, bytes=99)["unit"] == "step 2"


def test_more_than_a_record_holds_is_counted_and_stands_in_a_file(tmp_path):
    many = [Kernel(f"op{n}", "pointwise", 10, shape=(n,), site=f"a.py:{n}") for n in range(50)]
    twelve = [Kernel("silu", "pointwise", 99, site=f"b.py:{n}") for n in range(12)]
    marker = parse(GpuCostMarker, (), {})
    context = Context(rootdir=tmp_path)
    found = judged(marker, context, cost([]), cost([*many, *twelve]), "main", "renew it")
    told = found.figures["gpu_cost"]
    assert len(told["new"]) == 40
    assert told["new_left_out"] == 11
    assert len(told["new"][0]["lines"]) == 4
    assert told["new"][0]["lines_left_out"] == 8
    assert f"step 1, + 46 more kinds of kernels; all are in {told['whole']}" in found.reason
    lines = (tmp_path / told["whole"]).read_text("utf-8").splitlines()
    assert lines[1] == "step 1:"
    assert len(lines) == 2 + 51
    assert "new\t1\tpointwise\top49\t49\t10\ta.py:49" in lines
    steps = judged(marker, context, cost([], [GEMM]), cost([CAST], [GEMM, CAST]), "main", "renew")
    lines = (tmp_path / steps.figures["gpu_cost"]["whole"]).read_text("utf-8").splitlines()
    assert [line for line in lines if line.endswith(":")] == ["step 1:", "step 2:"]


def test_what_figures_depend_on_is_on_record_whatever_the_verdict():
    new = {**KEY, "torch": "2.15.0", "gpu": "A GPU"}
    for found in (
        verdict(cost([GEMM], key=new), cost([GEMM], key=new)),
        verdict(cost([GEMM]), cost([GEMM], key=new)),
    ):
        assert found.figures["counted_under"] == {
            "torch": "2.15.0",
            "triton": "3.8.0",
            "device": "A GPU",
        }
        assert {m.name: m.value for m in found.metrics}["gpu_kernels"] == 1
