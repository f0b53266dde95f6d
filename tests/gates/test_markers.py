"""Markers: what each accepts, and a usage error for everything that makes no sense."""

import math
import re
import sys

import pytest

from pytest_diffspeed.common.errors import UsageError
from pytest_diffspeed.gates import catalog
from pytest_diffspeed.gates.catalog.compile_time import MaxCompileTime
from pytest_diffspeed.gates.catalog.graph_breaks import NoGraphBreaks
from pytest_diffspeed.gates.catalog.memory import MaxMemory
from pytest_diffspeed.gates.catalog.recompiles import NoRecompiles
from pytest_diffspeed.gates.catalog.similarity import BY_STACK, CALIBRATED, ImageSimilarity
from pytest_diffspeed.gates.catalog.speedup import MaxSlowdown, MinSpeedup, SpeedupGates
from pytest_diffspeed.gates.catalog.syncs import SCOPES, NoGpuSyncs
from pytest_diffspeed.gates.marker import parse
from pytest_diffspeed.gates.registry import gates, marker_types
from pytest_diffspeed.gates.signatures import signatures
from pytest_diffspeed.plugin.stacks_marker import parse_diffspeed
from pytest_diffspeed.similarity import METRICS
from pytest_diffspeed.similarity import PRESETS as OF_SIMILARITY
from pytest_diffspeed.techniques.stacks import PREVIOUS, parse_stack

PRESETS = (*OF_SIMILARITY, BY_STACK, CALIBRATED)


def gate(mark):
    """Parse a ``pytest.mark.…`` decorator of a gate."""
    return parse(marker_types()[mark.name], mark.args, mark.kwargs)


def problem(mark):
    """The sentence that a marker is refused with."""
    with pytest.raises(UsageError) as caught:
        if mark.name == "diffspeed":
            parse_diffspeed(mark.args, mark.kwargs)
        else:
            gate(mark)
    return str(caught.value)


# --- what is accepted


def test_defaults_of_min_speedup():
    marker = gate(pytest.mark.min_speedup(1.8))
    assert marker == MinSpeedup(parse_stack("fp32"), 0.05, "call", "sign", None, None, 1.8)
    assert marker.min_ratio == 1.8
    assert marker.claim == "min_speedup over fp32 per call"


def test_all_arguments_of_min_speedup():
    marker = gate(
        pytest.mark.min_speedup(
            2,
            over="compile+bf16",
            alpha=0.01,
            unit="vae.decode",
            method="bet",
            stack="compile+channels_last",
            device="NVIDIA H100*",
        )
    )
    assert marker.ratio == 2.0
    assert marker.over.name == "bf16+compile"
    assert (marker.alpha, marker.unit, marker.method) == (0.01, "vae.decode", "bet")
    assert marker.only_stack == parse_stack("channels_last+compile")
    assert marker.only_device == "NVIDIA H100*"


def test_min_speedup_over_the_previous_stack():
    assert gate(pytest.mark.min_speedup(1.1, over="previous")).over == PREVIOUS


def test_max_slowdown_is_a_ratio_below_one():
    marker = gate(pytest.mark.max_slowdown(25))
    assert isinstance(marker, MaxSlowdown)
    assert marker.min_ratio == pytest.approx(0.8)
    assert gate(pytest.mark.max_slowdown(0)).min_ratio == 1.0


def test_the_other_gates():
    assert gate(pytest.mark.no_graph_breaks()) == NoGraphBreaks(None, 0, None, None)
    assert gate(pytest.mark.no_graph_breaks(components=["unet"], max_breaks=2)) == NoGraphBreaks(
        ("unet",), 2, None, None
    )
    assert gate(pytest.mark.no_recompiles()) == NoRecompiles(0, *[None] * 8)
    assert gate(
        pytest.mark.no_recompiles(sizes=[(64, 64), [64, 96]], batch_sizes=(1, 2), prompts=["a"])
    ) == NoRecompiles(0, ((64, 64), (64, 96)), (1, 2), ("a",), *[None] * 5)
    assert gate(
        pytest.mark.no_recompiles("saved", guidance=[1, 5.0], components=["unet"], loras=["a/b"])
    ) == NoRecompiles(None, None, None, None, (1.0, 5.0), ("unet",), ("a/b",), None, None)
    assert gate(pytest.mark.no_graph_breaks(max_breaks="saved")).max_breaks is None
    assert gate(pytest.mark.no_gpu_syncs()) == NoGpuSyncs(
        "scheduler.step", 0, 0, (), False, None, None
    )
    assert gate(pytest.mark.no_gpu_syncs(scope="call", allow=["step.py"], strict=True)) == (
        NoGpuSyncs("call", 0, 0, ("step.py",), True, None, None)
    )
    assert gate(pytest.mark.image_similarity()) == ImageSimilarity(BY_STACK, (), None, None)
    assert gate(pytest.mark.image_similarity("int8", psnr_worst=25)) == ImageSimilarity(
        "int8", (("psnr_worst", 25.0),), None, None
    )
    assert gate(pytest.mark.max_memory(0.6)) == MaxMemory(0.6, parse_stack("fp32"), None, None)
    assert gate(pytest.mark.max_compile_time(120)) == MaxCompileTime(120.0, None, None)


def test_diffspeed_parses_its_stacks_in_the_order_written():
    marker = parse_diffspeed(("compile+bf16", "fp32"), {"pipeline": "demo"})
    assert [stack.name for stack in marker.stacks] == ["bf16+compile", "fp32"]
    assert marker.pipeline == "demo"


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "NVIDIA*", "*H100*", "Tesla T4"])
def test_devices_that_a_marker_may_name(device):
    assert gate(pytest.mark.min_speedup(2, device=device)).only_device == device


@pytest.mark.parametrize("cls", list(marker_types().values()), ids=lambda cls: cls.marker)
def test_a_marker_is_frozen_and_its_signature_names_its_arguments(cls):
    # Whatever has no default comes first, and a 1 is a ratio, a percentage, seconds and a count.
    declared = re.match(r"\w+\(([^)]*)\)", cls.signature)[1].split(", ")
    marker = parse(cls, [1 for one in declared if not re.search(r"[=*]", one)], {})
    with pytest.raises(AttributeError):
        marker.stack = None
    assert cls.signature.startswith(f"{cls.marker}(")
    assert {"stack=None", "device=None"} <= set(re.findall(r"\w+=\w+", cls.signature))


# --- no marker is left unregistered

ONE_MORE = """
from dataclasses import dataclass
from typing import ClassVar

from pytest_diffspeed.gates.gate import Gate
from pytest_diffspeed.gates.marker import GateMarker
{before}

@dataclass(frozen=True)
class OneMore(GateMarker):
    {signature}


class OneMoreGate(Gate):
    markers = (OneMore,)

    def check(self, marker, context):
        raise NotImplementedError


GATES = (OneMoreGate(),)
"""


@pytest.fixture
def one_more(tmp_path, monkeypatch):
    """Put one more file beside the gates; ``signature`` is the line that says what it is."""

    def write(signature, before=""):
        text = ONE_MORE.format(signature=signature, before=before)
        (tmp_path / "one_more.py").write_text(text)
        monkeypatch.setattr(catalog, "__path__", [*catalog.__path__, str(tmp_path)])
        gates.cache_clear()
        signatures.cache_clear()

    yield write
    gates.cache_clear()
    signatures.cache_clear()
    sys.modules.pop("pytest_diffspeed.gates.catalog.one_more", None)


def test_signatures_are_those_of_the_gates():
    assert signatures() == {cls.marker: cls.signature for cls in gates()}


@pytest.mark.parametrize(
    "signature",
    [
        'signature: ClassVar[str] = "one_more(count): at most `count`"',
        "signature = ('one_more(count): '  # a comment\n        \"at most `count`\")",
        "signature: ClassVar[str] = 'one_more(count): {}'.format('at most `count`')",
        "signature = f'one_more(count): at most `{COUNT}`'",
    ],
)
def test_a_signature_is_found_however_it_is_written(one_more, signature):
    one_more(signature, before="COUNT = 'count'")
    assert signatures()["one_more"] == "one_more(count): at most `count`"
    assert marker_types()["one_more"].__name__ == "OneMore"


def test_a_gate_whose_marker_pytest_would_ignore_is_refused(one_more):
    one_more("__doc__, signature = '', 'one_more(count)'", before="signature = 'another(b)'")
    with pytest.raises(TypeError, match=r"one_more.py: the signature of OneMore was not found"):
        gates()


# --- words that are no arguments

UNKNOWN_WORDS = [
    (pytest.mark.diffspeed("bf16", pipelin="demo"), "pipelin", "pipeline"),
    (pytest.mark.min_speedup(2, ovr="fp32"), "ovr", "over"),
    (pytest.mark.min_speedup(2, devices="cpu"), "devices", "device"),
    (pytest.mark.max_slowdown(percnt=5), "percnt", "percent"),
    (pytest.mark.no_graph_breaks(max_break=1), "max_break", "max_breaks"),
    (pytest.mark.no_recompiles(max_recompile=1), "max_recompile", "max_recompiles"),
    (pytest.mark.no_gpu_syncs(perstep=1), "perstep", "per_step"),
    (pytest.mark.max_memory(0.5, ratios=1), "ratios", "ratio"),
    (pytest.mark.max_compile_time(second=1), "second", "seconds"),
    (pytest.mark.image_similarity(pnsr_mean=25), "pnsr_mean", "psnr_mean"),
    (pytest.mark.image_similarity(stak="bf16"), "stak", "stack"),
]


@pytest.mark.parametrize(("mark", "bad", "near"), UNKNOWN_WORDS, ids=lambda value: str(value)[:40])
def test_an_unknown_keyword(mark, bad, near):
    message = problem(mark)
    assert message.startswith(f"{mark.name}(")
    assert bad in message
    assert "is no argument of it" in message
    assert f"did you mean {near!r}?" in message
    assert re.search(rf"Valid: .*\b{near}\b", message)


def test_an_unknown_limit_lists_all_limits():
    message = problem(pytest.mark.image_similarity(ssim=0.9))
    assert "`ssim` is no argument" in message
    for metric in METRICS:
        assert f"{metric}_mean" in message
        assert f"{metric}_worst" in message


@pytest.mark.parametrize(
    ("mark", "clue"),
    [
        (pytest.mark.min_speedup(), "missing a required argument: 'ratio'"),
        (pytest.mark.max_slowdown(), "missing a required argument: 'percent'"),
        (pytest.mark.max_memory(), "missing a required argument: 'ratio'"),
        (pytest.mark.max_compile_time(), "missing a required argument: 'seconds'"),
        (pytest.mark.max_compile_time(1, "fp32", "cpu", 4), "too many positional arguments"),
        (pytest.mark.min_speedup(1, ratio=2), "multiple values for argument 'ratio'"),
    ],
)
def test_arguments_that_do_not_bind_show_the_signature(mark, clue):
    message = problem(mark)
    assert clue in message
    assert marker_types()[mark.name].signature in message


# --- values that make no sense

# Marker, the argument that is wrong, and the end of the sentence.
BAD_VALUES = [
    (pytest.mark.min_speedup(0), "ratio", "greater than 0"),
    (pytest.mark.min_speedup(-1), "ratio", "greater than 0"),
    (pytest.mark.min_speedup("fast"), "ratio", "must be a number such as 1.5"),
    (pytest.mark.min_speedup(None), "ratio", "must be a number"),
    (pytest.mark.min_speedup(True), "ratio", "must be a number"),
    (pytest.mark.min_speedup(math.nan), "ratio", "must be finite"),
    (pytest.mark.min_speedup(math.inf), "ratio", "must be finite"),
    (pytest.mark.min_speedup(1.5, alpha=0), "alpha", "greater than 0 and less than 0.5"),
    (pytest.mark.min_speedup(1.5, alpha=1), "alpha", "greater than 0 and less than 0.5"),
    (pytest.mark.min_speedup(1.5, alpha=0.5), "alpha", "less than 0.5"),
    (pytest.mark.min_speedup(1.5, alpha="5%"), "alpha", "must be a number such as 0.05"),
    (pytest.mark.min_speedup(1.5, over="bf61"), "over", "did you mean 'bf16'?"),
    (pytest.mark.min_speedup(1.5, over=None), "over", "must be a stack such as 'bf16+compile'"),
    (pytest.mark.min_speedup(1.5, over="fp32+bf16"), "over", "contradict each other"),
    (pytest.mark.min_speedup(1.5, unit="steps"), "unit", "did you mean 'step'?"),
    (pytest.mark.min_speedup(1.5, unit=1), "unit", "must be one of call, step"),
    (pytest.mark.min_speedup(1.5, method="bets"), "method", "did you mean 'bet'?"),
    (pytest.mark.min_speedup(1.5, stack="compil"), "stack", "did you mean 'compile'?"),
    (pytest.mark.min_speedup(1.5, stack=""), "stack", "such as 'bf16+compile'"),
    (pytest.mark.min_speedup(1.5, stack=4), "stack", "must be a stack such as"),
    (pytest.mark.min_speedup(1.5, stack="previous"), "stack", "'previous'"),
    (pytest.mark.min_speedup(1.5, device=""), "device", "'cpu', 'cuda' or a pattern"),
    (pytest.mark.min_speedup(1.5, device=0), "device", "'cpu', 'cuda' or a pattern"),
    (pytest.mark.min_speedup(1.5, device="cdua"), "device", "did you mean 'cuda'?"),
    (pytest.mark.min_speedup(1.5, device="CPU"), "device", "did you mean 'cpu'?"),
    (pytest.mark.min_speedup(1.5, device="gpu"), "device", "'cpu', 'cuda' or a pattern"),
    (pytest.mark.max_slowdown(-1), "percent", "at least 0"),
    (pytest.mark.max_slowdown("5%"), "percent", "must be a number such as 5"),
    (pytest.mark.max_slowdown(math.nan), "percent", "must be finite"),
    (pytest.mark.no_graph_breaks(components="unet"), "components", "a list of strings"),
    (pytest.mark.no_graph_breaks(components=[""]), "components", "non-empty strings"),
    (pytest.mark.no_graph_breaks(components=["vae decode"]), "components", "'vae.decode'?"),
    (pytest.mark.no_graph_breaks(max_breaks="save"), "max_breaks", "whole number"),
    (pytest.mark.no_recompiles(guidance=7.5), "guidance", "a list of numbers"),
    (pytest.mark.no_recompiles(guidance=[-1]), "guidance", "at least 0"),
    (pytest.mark.no_graph_breaks(components=[]), "components", "at least one"),
    (pytest.mark.no_graph_breaks(max_breaks=-1), "max_breaks", "whole number of at least 0"),
    (pytest.mark.no_graph_breaks(max_breaks=0.5), "max_breaks", "whole number"),
    (pytest.mark.no_graph_breaks(max_breaks=False), "max_breaks", "whole number"),
    (pytest.mark.no_recompiles(-1), "max_recompiles", "whole number of at least 0"),
    (pytest.mark.no_recompiles(sizes=64), "sizes", "(height, width) pairs"),
    (pytest.mark.no_recompiles(sizes=[64, 64]), "sizes", "(height, width) pairs"),
    (pytest.mark.no_recompiles(sizes=[(64,)]), "sizes", "(height, width) pairs"),
    (pytest.mark.no_recompiles(sizes=[]), "sizes", "(height, width) pairs"),
    (pytest.mark.no_recompiles(sizes=[(0, 64)]), "sizes", "at least 1"),
    (pytest.mark.no_recompiles(batch_sizes=2), "batch_sizes", "list of whole numbers"),
    (pytest.mark.no_recompiles(batch_sizes=[]), "batch_sizes", "at least one"),
    (pytest.mark.no_recompiles(batch_sizes=[0]), "batch_sizes", "at least 1"),
    (pytest.mark.no_recompiles(prompts="a fox"), "prompts", "a list of strings"),
    (pytest.mark.no_recompiles(prompts=[]), "prompts", "at least one"),
    (pytest.mark.no_gpu_syncs(scope="schedulr.step"), "scope", "did you mean 'scheduler.step'?"),
    (pytest.mark.no_gpu_syncs(scope=("call",)), "scope", f"one of {', '.join(SCOPES)}"),
    (pytest.mark.no_gpu_syncs(first_step=-1), "first_step", "whole number of at least 0"),
    (pytest.mark.no_gpu_syncs(per_step="none"), "per_step", "whole number"),
    (pytest.mark.no_gpu_syncs(allow="step.py"), "allow", "a list of strings"),
    (pytest.mark.no_gpu_syncs(allow=[3]), "allow", "non-empty strings"),
    (pytest.mark.no_gpu_syncs(allow=["*"]), "allow", "a gate that allows all is none"),
    (pytest.mark.no_gpu_syncs(allow=["*:*  # why"]), "allow", "a gate that allows all is none"),
    (pytest.mark.no_gpu_syncs(allow=["# why"]), "allow", "allows nothing; write 'file.py:123'"),
    (pytest.mark.no_gpu_syncs(strict="yes"), "strict", "True or False"),
    (pytest.mark.image_similarity("loseless"), "preset", "did you mean 'lossless'?"),
    (pytest.mark.image_similarity(None), "preset", f"one of {', '.join(PRESETS)}"),
    (pytest.mark.image_similarity(psnr_mean="high"), "psnr_mean", "must be a number"),
    (pytest.mark.image_similarity(psnr_mean=-3), "psnr_mean", "at least 0"),
    (pytest.mark.max_memory(0), "ratio", "greater than 0"),
    (pytest.mark.max_memory(60), "ratio", "0.6 for 60 %"),
    (pytest.mark.max_memory("half"), "ratio", "must be a number such as 0.6"),
    (pytest.mark.max_memory(0.5, over="fp23"), "over", "did you mean 'fp32'?"),
    (pytest.mark.max_compile_time(0), "seconds", "greater than 0"),
    (pytest.mark.max_compile_time("2 min"), "seconds", "must be a number such as 120"),
    (pytest.mark.diffspeed(), "stacks", "names no stack"),
    (pytest.mark.diffspeed("bf61"), "stacks", "did you mean 'bf16'?"),
    (pytest.mark.diffspeed(["bf16", "compile"]), "stacks", "must be a stack such as"),
    (pytest.mark.diffspeed(16), "stacks", "must be a stack such as"),
    (pytest.mark.diffspeed("bf16", "bf16"), "stacks", "names the stack 'bf16' twice"),
    (pytest.mark.diffspeed("compile", "fp32+compile"), "stacks", "'compile' twice"),
    (pytest.mark.diffspeed("fp32+bf16"), "stacks", "contradict each other"),
    (pytest.mark.diffspeed("bf16", pipeline=""), "pipeline", "must be a pipeline source"),
    (pytest.mark.diffspeed("bf16", pipeline=3), "pipeline", "must be a pipeline source"),
]


def call_of(mark):
    words = [repr(value) for value in mark.args]
    words += [f"{name}={value!r}" for name, value in mark.kwargs.items()]
    return f"{mark.name}({', '.join(words)})"


@pytest.mark.parametrize(
    ("mark", "argument", "clue"), BAD_VALUES, ids=[call_of(mark) for mark, _, _ in BAD_VALUES]
)
def test_a_value_that_cannot_be_meant(mark, argument, clue):
    message = problem(mark)
    assert message.startswith(f"{call_of(mark)}: `{argument}` ")
    assert clue in message


# --- as a user sees it


@pytest.fixture(params=["plain", "diffspeed"])
def run(request, pytester, run_diffspeed):
    """Run pytest without and with ``--diffspeed``: markers are checked in both."""
    return run_diffspeed if request.param == "diffspeed" else pytester.runpytest_inprocess


def test_a_usage_error_names_marker_test_file_and_line(pytester, run):
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.min_speedup(0)
        def test_fast(optimized_pipeline):
            pass
        """
    )
    result = run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    (line,) = [line for line in result.outlines if "min_speedup(0)" in line]
    # The line of the decorated function, as in pytest's own reports.
    assert re.match(
        r"test_mine\.py:[345]: test_fast: min_speedup\(0\): `ratio` must be finite and greater "
        r"than 0 \(such as 1\.5 for one and a half times as fast\), not 0$",
        line,
    )
    assert "INTERNALERROR" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_all_bad_tests_of_a_module_are_reported_at_once(pytester, run):
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("bf61")
        def test_first(optimized_pipeline): ...

        @pytest.mark.diffspeed("bf16")
        def test_good(optimized_pipeline): ...

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.min_speedup("fast")
        def test_second(optimized_pipeline): ...

        class TestInClass:
            @pytest.mark.min_speedup(2)
            def test_third(self): ...

            class TestNested:
                def test_fourth(self, technique): ...
        """,
        test_other="""
        import pytest

        class TestOther:
            @pytest.mark.diffspeed("bf16")
            @pytest.mark.max_slowdown(-5)
            def test_fifth(self, optimized_pipeline): ...
        """,
    )
    result = run()
    text = result.stdout.str()
    assert result.ret != 0
    for name, clue in [
        ("test_first", "no technique is called 'bf61'"),
        ("test_second", "must be a number"),
        ("test_third", "takes no diffspeed fixture"),
        ("test_fourth", "names no stack"),
        ("test_fifth", "at least 0, such as"),
    ]:
        assert re.search(rf"^test_\w+\.py:\d+: {name}: .*", text, re.MULTILINE), (name, text)
        assert clue.partition(",")[0] in text
    assert "test_good:" not in text


def test_a_parametrized_test_is_reported_once(pytester, run):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        @pytest.mark.diffspeed("bf16", "channels_last")
        @pytest.mark.min_speedup(-2)
        def test_many(optimized_pipeline, number): ...
        """
    )
    result = run()
    assert result.ret != 0
    assert result.stdout.str().count("min_speedup(-2)") == 1


# Body of a module, and what its usage error must say.
USAGE_ERRORS = {
    "gate without a fixture": (
        """
        @pytest.mark.min_speedup(2)
        def test_it(): ...
        """,
        "test_it: it is marked min_speedup but takes no diffspeed fixture, so nothing could ever "
        "be checked; let the test take `optimized_pipeline`",
    ),
    "stacks without a fixture": (
        """
        @pytest.mark.diffspeed("bf16")
        def test_it(): ...
        """,
        "test_it: it is marked diffspeed but takes no diffspeed fixture",
    ),
    "gate with the baseline only": (
        """
        @pytest.mark.min_speedup(2)
        def test_it(baseline_pipeline): ...
        """,
        "test_it: it is marked min_speedup but takes only baseline_pipeline, so nothing could",
    ),
    "gate with technique and handle only": (
        """
        @pytest.mark.diffspeed("bf16")
        @pytest.mark.min_speedup(2)
        def test_it(technique, diffspeed): ...
        """,
        "test_it: it is marked diffspeed, min_speedup but takes only technique, diffspeed, so",
    ),
    "fixture without a stack": (
        "def test_it(optimized_pipeline): ...",
        "test_it: it uses `optimized_pipeline` or `technique` but names no stack; add for example "
        "@pytest.mark.diffspeed('compile')",
    ),
    "technique without a stack": (
        "def test_it(technique): ...",
        "test_it: it uses `optimized_pipeline` or `technique` but names no stack",
    ),
    "gate and fixture without a stack": (
        """
        @pytest.mark.min_speedup(2)
        def test_it(optimized_pipeline): ...
        """,
        "test_it: it uses `optimized_pipeline` or `technique` but names no stack",
    ),
    "the same stack twice": (
        """
        @pytest.mark.diffspeed("compile", "fp32+compile")
        def test_it(optimized_pipeline): ...
        """,
        "test_it: diffspeed('compile', 'fp32+compile'): `stacks` names the stack 'compile' twice",
    ),
    "a contradiction": (
        """
        @pytest.mark.diffspeed("fp32+bf16")
        def test_it(optimized_pipeline): ...
        """,
        "test_it: diffspeed('fp32+bf16'): `stacks` is 'fp32+bf16': 'bf16' and 'fp32' are both of "
        "the family 'precision' and contradict each other; keep one",
    ),
    "a gate for a stack that the test does not run with": (
        """
        @pytest.mark.diffspeed("bf16", "channels_last")
        @pytest.mark.min_speedup(2, stack="compile")
        def test_it(optimized_pipeline): ...
        """,
        "test_it: min_speedup(stack='compile'): the test does not run with that stack, so the "
        "gate could never fire; Valid: bf16, channels_last.",
    ),
    "an unknown source": (
        """
        @pytest.mark.diffspeed("bf16", pipeline="random:sdxl-tyni")
        def test_it(optimized_pipeline): ...
        """,
        "test_it: diffspeed(pipeline='random:sdxl-tyni'): pipeline source 'random:sdxl-tyni': "
        "there is no random-weight pipeline 'sdxl-tyni'; did you mean 'sdxl-tiny'?",
    ),
    "a gate of the whole module": (
        """
        pytestmark = pytest.mark.min_speedup(2)
        def test_it(): ...
        """,
        "test_it: it is marked min_speedup but takes no diffspeed fixture",
    ),
    "stacks of a class": (
        """
        @pytest.mark.diffspeed("bf16")
        class TestClass:
            def test_it(self): ...
        """,
        "test_it: it is marked diffspeed but takes no diffspeed fixture",
    ),
    "a unittest": (
        """
        import unittest
        class TestCase(unittest.TestCase):
            @pytest.mark.diffspeed("bf16")
            @pytest.mark.min_speedup(2)
            def test_it(self): ...
        """,
        "test_it: it is marked diffspeed, min_speedup but takes no diffspeed fixture",
    ),
}


@pytest.mark.parametrize("name", USAGE_ERRORS)
def test_usage_error(pytester, run, name):
    body, sentence = USAGE_ERRORS[name]
    pytester.makepyfile(test_mine=f"        import pytest\n{body}")
    result = run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    assert sentence in result.stdout.str()
    assert "no diffspeed test was collected" not in result.stdout.str()


def test_what_a_gate_cannot_check_is_a_usage_error(pytester, run, monkeypatch):
    monkeypatch.setattr(
        SpeedupGates, "unavailable", lambda self, marker: f"this version times no {marker.unit}"
    )
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.min_speedup(2, unit="step")
        def test_it(optimized_pipeline): ...
        """
    )
    result = run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*test_it: min_speedup: this version times no step"])


GATE_CALLS = {
    MinSpeedup: "min_speedup(2)",
    NoGraphBreaks: "no_graph_breaks()",
    NoRecompiles: "no_recompiles()",
    NoGpuSyncs: "no_gpu_syncs()",
    ImageSimilarity: "image_similarity()",
    MaxMemory: "max_memory(0.5)",
    MaxCompileTime: "max_compile_time(60)",
}


def test_a_sync_scope_may_be_a_function():
    marker = gate(pytest.mark.no_gpu_syncs(scope=asked_scope))
    assert (marker.scope, marker.claim) == (asked_scope, "no_gpu_syncs in asked_scope")


def asked_scope():
    """A function of the user's."""


@pytest.mark.parametrize("cls", GATE_CALLS)
def test_a_gate_that_a_version_does_not_have(pytester, run, cls, monkeypatch):
    others = {name: marker for name, marker in marker_types().items() if marker is not cls}
    monkeypatch.setattr("pytest_diffspeed.plugin.collection.marker_types", lambda: others)
    name = cls.marker
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.{GATE_CALLS[cls]}
        def test_it(optimized_pipeline): ...
        """
    )
    result = run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    there = ", ".join(sorted(others))
    result.stdout.fnmatch_lines(
        [
            f"*test_it: {name}: this version has no such gate yet, and a gate that cannot fire must"
            f" not look like one; remove the marker. It has: {there}*"
        ]
    )


def test_the_closest_diffspeed_marker_wins(pytester, run):
    pytester.makepyfile(
        test_mine="""
        import pytest

        pytestmark = pytest.mark.diffspeed("bf16")

        def test_of_module(optimized_pipeline): ...

        @pytest.mark.diffspeed("channels_last")
        class TestClass:
            def test_of_class(self, optimized_pipeline): ...

            @pytest.mark.diffspeed("compile+bf16", "fp32")
            def test_of_its_own(self, optimized_pipeline): ...
        """
    )
    result = run("--collect-only", "-q")
    assert result.ret == 0
    assert sorted(line for line in result.outlines if "::" in line) == [
        "test_mine.py::TestClass::test_of_class[channels_last]",
        "test_mine.py::TestClass::test_of_its_own[bf16+compile]",
        "test_mine.py::TestClass::test_of_its_own[fp32]",
        "test_mine.py::test_of_module[bf16]",
    ]


def test_fixtures_may_come_through_usefixtures_and_other_fixtures(pytester, run):
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.fixture
        def mine(optimized_pipeline):
            return optimized_pipeline

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.min_speedup(2)
        def test_through_a_fixture(mine): ...

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.usefixtures("optimized_pipeline")
        @pytest.mark.min_speedup(2)
        def test_through_usefixtures(): ...
        """
    )
    result = run("--collect-only", "-q")
    assert result.ret == 0
    assert sorted(line for line in result.outlines if "::" in line) == [
        "test_mine.py::test_through_a_fixture[bf16]",
        "test_mine.py::test_through_usefixtures[bf16]",
    ]


def test_good_tests_of_other_modules_run_beside_a_bad_one(pytester, run):
    pytester.makepyfile(
        test_bad="""
        import pytest

        @pytest.mark.min_speedup(2)
        def test_bad(): ...
        """,
        test_good="def test_good(): ...",
    )
    result = run("--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_strict_markers_know_ours(pytester, run):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.min_speedup(2)
        def test_it(optimized_pipeline): ...
        """
    )
    assert run("--strict-markers", "--collect-only").ret == 0
