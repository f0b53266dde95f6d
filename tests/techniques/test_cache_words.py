"""What may be written behind a cache, and beside it, and what gates make of such a stack."""

from types import SimpleNamespace

import pytest

from pytest_diffspeed.adapters.diffusers_caches import cache_arguments
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import UnknownStackError, UsageError
from pytest_diffspeed.common.extensions import Extensions, use
from pytest_diffspeed.techniques.catalog.compile import Compile
from pytest_diffspeed.techniques.catalog.first_block_cache import FirstBlockCache
from pytest_diffspeed.techniques.registry import techniques
from pytest_diffspeed.techniques.stacks import parse_stack


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("first_block_cache", "first_block_cache"),
        ("first_block_cache(0.1)", "first_block_cache(threshold=0.1)"),
        ("first_block_cache(threshold=1)", "first_block_cache(threshold=1.0)"),
        ("first_block_cache(threshold=0.05)", "first_block_cache"),  # diffusers' own default
        ("taylorseer(taylor_factors_dtype=bfloat16)", "taylorseer"),
        ("taylorseer(max_order=2, cache_interval=3)", "taylorseer(cache_interval=3,max_order=2)"),
        (
            "pyramid_attention(spatial_attention_timestep_skip_range='100:800')",
            "pyramid_attention",
        ),
        ("faster_cache(tensor_format=BCHW)+bf16", "bf16+faster_cache(tensor_format=BCHW)"),
    ],
)
def test_one_spelling(written, canonical):
    assert parse_stack(written).name == canonical
    assert parse_stack(canonical).name == canonical


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("first_block_cache(treshold=0.1)", "takes no 'treshold'; did you mean 'threshold'"),
        ("first_block_cache(0.1, 0.2)", "takes threshold, and no 2 arguments"),
        ("first_block_cache(0.1, threshold=0.2)", "given 'threshold' twice"),
        ("first_block_cache(threshold=low)", "threshold of 'first_block_cache' must be a number"),
        ("taylorseer(cache_interval=2.5)", "cache_interval of 'taylorseer' must be a whole"),
        (
            "taylorseer(taylor_factors_dtype=bfloat61)",
            "taylor_factors_dtype of 'taylorseer' cannot be 'bfloat61'; did you mean 'bfloat16'",
        ),
        ("mag_cache(num_inference_steps=20)", "takes no 'num_inference_steps': the steps of a"),
        ("mag_cache(calibrate=True)", "takes no 'calibrate': a call that calibrates skips nothing"),
        ("pyramid_attention(current_timestep_callback=x)", "takes no 'current_timestep_callback'"),
        (
            "pyramid_attention(spatial_attention_timestep_skip_range=100)",
            "spatial_attention_timestep_skip_range of 'pyramid_attention' must be a word",
        ),
        (
            "pyramid_attention(spatial_attention_timestep_skip_range=all)",
            "must be two numbers, such as '100:800', not 'all'",
        ),
        ("first_block_cache+mag_cache", "both of the family 'cache' and contradict each other"),
        ("first_block_cache+compile", r"breaks the one graph .*\(fullgraph=True\); keep one"),
        ("first_block_cache+group_offload", "both wrap the same modules"),
        ("mag_cache+compile(mode=reduce-overhead)", "contradict each other: diffusers decides"),
    ],
)
def test_what_makes_no_sense_is_told_when_tests_are_collected(written, told):
    with pytest.raises(UnknownStackError, match=told):
        parse_stack(written)


def test_a_diffusers_without_a_cache_is_told():
    with pytest.raises(UsageError, match="the installed diffusers has no NoSuchCacheConfig; this"):
        cache_arguments("NoSuchCacheConfig")


def test_no_step_stands_for_those_of_a_call_with_a_cache():
    from pytest_diffspeed.gates.catalog.speedup import MinSpeedup
    from pytest_diffspeed.gates.ratios.pending import ask

    def asked(stack, **words):
        spec = ArmSpec("demo", parse_stack(stack))
        context = SimpleNamespace(candidate=SimpleNamespace(spec=spec), previous=None)
        ask(MinSpeedup.from_arguments(1.1, **words), context)

    with pytest.raises(UsageError, match=r"unit='step': first_block_cache leaves work .*'call'"):
        asked("bf16+first_block_cache", unit="step")
    with pytest.raises(UsageError, match="unit='step': first_block_cache"):
        asked("bf16", unit="step", over="first_block_cache")
    with pytest.raises(AttributeError):  # what is asked next, of a session that is not there
        asked("first_block_cache", unit="denoiser")


@pytest.mark.parametrize("quantized", ["int8_dynamic", "fp8_dynamic", "fp8_weight_only"])
def test_nobody_is_told_to_compile_what_a_cache_keeps_eager(quantized):
    technique = techniques()[quantized]
    alone = technique.known_slow(parse_stack(f"bf16+{quantized}").by_name)
    beside = technique.known_slow(parse_stack(f"bf16+{quantized}+mag_cache").by_name)
    assert alone.endswith("add 'compile'")
    assert beside.endswith(
        "write 'compile' in place of 'mag_cache', beside which nothing is compiled"
    )


def test_what_compiles_is_known_by_its_family_and_not_by_its_name():
    class Compiling(Compile):
        name = "fused"

    class Recorded(FirstBlockCache):
        name = "compile_less"

    added = Extensions({"fused": Compiling(), "compile_less": Recorded()})
    technique = techniques()["int8_dynamic"]
    back = use(added)
    try:
        compiled, cached = (
            parse_stack(f"int8_dynamic+{name}").by_name for name in added.techniques
        )
        assert technique.known_slow(compiled) is None
        assert technique.known_slow(cached) is not None
    finally:
        back()
