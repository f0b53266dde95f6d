"""Planted cases, each with its expected answer: places, graphs, and no false alarm without them."""

import functools
import logging
import re

import planted
import pytest
import torch
from packaging.version import Version

from pytest_diffspeed import find_graph_breaks
from pytest_diffspeed.common.errors import UsageError
from pytest_diffspeed.compilation.probe import Call, probe_breaks
from pytest_diffspeed.compilation.report import CompileFailedError, NothingCompiledError


@pytest.fixture
def x():
    return torch.arange(8.0).reshape(2, 4)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(autouse=True)
def fresh_dynamo():
    yield
    torch.compiler.reset()


def places(report):
    return [(found.file, found.line) for found in report.breaks]


def at(*words):
    return [(planted.__file__, planted.line_of(word)) for word in words]


def with_hook(hook):
    module = planted.Clean()
    module.linear.register_forward_hook(hook)
    return module


def with_own_hook(hook):
    module = planted.Clean()
    module.register_forward_hook(hook)
    return module


def in_place(module):
    module.compile(backend="eager")
    return module


def regional(module):
    for child in module.children():
        child.compile(backend="eager")
    return module


def wrapped_child(module):
    module.block = torch.compile(module.block, backend="eager")
    return module


def forward_wrapped(module):
    module.forward = torch.compile(module.forward, backend="eager")
    return module


# Torch 2.11 leaves the layer with the hook to Python as a whole.
GRAPHS_OF_HOOKED = 1 if Version(torch.__version__) < Version("2.12") else 2

# case: what is looked at, the marked lines that break, graphs, words of the first reason
CASES = {
    "before the first op": (planted.BeforeTheFirstOp, ["first"], 1, "print"),
    "in the middle": (planted.InTheMiddle, ["middle"], 2, "print"),
    "at the very end": (planted.AtTheEnd, ["end"], 1, "print"),
    "two of a kind on one line": (
        lambda: in_place(planted.TwoOnOneLine()),
        ["two", "two"],
        3,
        r"Tensor\.item",
    ),
    "a data-dependent if": (planted.Branches, ["branch"], 2, "Data-dependent branching"),
    "in a submodule called 20 times": (planted.TwentyTimes, ["block"], 2, "print"),
    "in two submodules in a row": (planted.Unrolled, ["block", "branch"], 5, "print"),
    "only with guidance on": (planted.OnlyWithGuidance, ["guided"], 1, "print"),
    "only on the second call": (planted.OnlyOnTheSecondCall, ["second"], 2, "print"),
    "in a generator": (planted.InAGenerator, ["generator"], 0, "print"),
    "before a generator": (planted.EagerRestCallsAGenerator, ["rest"], 0, "print"),
    "an unsupported builtin": (planted.ReadsTheClock, ["builtin"], 3, "perf_counter_ns"),
    "a shape that depends on values": (
        lambda: in_place(planted.DynamicShape()),
        ["dynamic"],
        2,
        "[Dd]ynamic shape",
    ),
    "by a forward hook of a child": (
        lambda: with_hook(planted.printing_hook),
        ["hook"],
        GRAPHS_OF_HOOKED,
        "print",
    ),
    "by its own forward hook": (lambda: with_own_hook(planted.printing_hook), ["hook"], 1, "print"),
    "in a module compiled in place": (
        lambda: in_place(planted.InTheMiddle()),
        ["middle"],
        2,
        "print",
    ),
    "under torch.compile": (
        lambda: torch.compile(planted.InTheMiddle(), backend="eager"),
        ["middle"],
        2,
        "print",
    ),
    "its forward under torch.compile": (
        lambda: forward_wrapped(planted.InTheMiddle()),
        ["middle"],
        2,
        "print",
    ),
    "regionally compiled": (lambda: regional(planted.TwentyTimes()), ["block"], 2, "print"),
    "a child under torch.compile": (
        lambda: wrapped_child(planted.TwentyTimes()),
        ["block"],
        2,
        "print",
    ),
    "a call under torch.compiler.disable": (
        planted.HasDisabledPart,
        ["disabled"],
        2,
        r"torch\.compiler\.disable",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_planted_break_is_found_where_it_is(case, x):
    make, words, graphs, reason = CASES[case]
    report = find_graph_breaks(make(), x)
    assert places(report) == at(*words)
    assert re.search(reason, report.breaks[0].reason)
    assert report.graphs == graphs
    assert not report.ok
    assert all(found.remedy for found in report.breaks)
    assert all("# BREAK" in found.source for found in report.breaks)


CLEAN = {
    "plain": planted.Clean,
    "a submodule called 20 times": lambda: planted.TwentyTimes(planted.Clean),
    "a generator": planted.GeneratorWithoutBreak,
    "a forward hook of a child": lambda: with_hook(planted.quiet_hook),
    "compiled in place": lambda: in_place(planted.Clean()),
    "under torch.compile": lambda: torch.compile(planted.Clean(), backend="eager"),
    "its forward under torch.compile": lambda: forward_wrapped(planted.Clean()),
    "regionally compiled": lambda: regional(planted.TwentyTimes(planted.Clean)),
    "a child under torch.compile": lambda: wrapped_child(planted.TwentyTimes(planted.Clean)),
    "a module of torch itself": lambda: torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()),
    "a method": lambda: planted.Clean().forward,
    "a function": lambda: torch.sin,
}


@pytest.mark.parametrize("case", CLEAN)
def test_without_a_break_there_is_no_false_alarm(case, x):
    report = find_graph_breaks(CLEAN[case](), x)
    assert report.breaks == ()
    assert report.counted == {}
    assert report.graphs == 1
    assert report.ok


def test_the_guided_call_alone_breaks(x):
    module = planted.OnlyWithGuidance()
    assert find_graph_breaks(module, x[:1]).ok
    report = probe_breaks(module, [Call((x[:1],)), Call((x,))])
    assert places(report) == at("guided")


def test_a_regionally_compiled_module_may_break_between_its_regions(x):
    """What is not compiled cannot break; compiled as a whole, the same module does."""

    class Outer(planted.Clean):
        def forward(self, x):
            print("between")
            return self.block(x)

    module = Outer()
    module.block = planted.Clean()
    assert not find_graph_breaks(module, x).ok
    module.block.compile(backend="eager")
    report = find_graph_breaks(module, x)
    assert report.ok
    assert report.how == "regional: 1 part compiled by themselves (Clean)"
    module.compile(backend="eager")
    report = find_graph_breaks(module, x)
    assert len(report.breaks) == 1
    assert report.how == "whole, compiled in place"


def test_how_often_a_breaking_line_runs_and_what_it_hides(x):
    (found,) = find_graph_breaks(planted.TwentyTimes(), x).breaks
    assert found.runs == 20
    assert found.skipped.startswith("`forward` (")  # the loop around the calls
    assert "this line runs 20 times in one call" in str(found)
    (found,) = find_graph_breaks(planted.InTheMiddle(), x).breaks
    assert found.runs == 1
    assert found.skipped is None


def test_a_break_before_the_first_op_is_missed_by_explain_and_not_by_us(x):
    """Why dynamo's explain is not enough; when this fails, it has become better."""
    output = torch._dynamo.explain(planted.BeforeTheFirstOp())(x)
    assert (output.graph_break_count, output.break_reasons) == (0, [])


def test_a_failing_compilation_is_told_from_a_break(x):
    with pytest.raises(CompileFailedError) as caught:
        find_graph_breaks(planted.CannotBeCompiled(), x)
    assert "which is not a graph break" in str(caught.value)
    assert "the planted shape function fails" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.next_step.startswith("compile it by itself")  # and no note on its hooks


def test_a_call_that_fails_anyway_raises_what_it_raises(x):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        find_graph_breaks(planted.RunsNowhere(), x)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (planted.Nothing, "dynamo left out"),
        (lambda: planted.aside, "it is under torch.compiler.disable"),
        (lambda: torch.compiler.disable(planted.Clean()), "it is under torch.compiler.disable"),
    ],
)
def test_where_nothing_is_captured_there_is_no_answer(make, why, x):
    with pytest.raises(NothingCompiledError, match=re.escape(why)):
        find_graph_breaks(make(), x)


async def coroutine(x):
    return x + 1


def generator(x):
    yield x + 1


@pytest.mark.parametrize(
    ("function", "kind"), [(coroutine, "a coroutine"), (generator, "a generator")]
)
def test_a_function_that_does_nothing_yet_is_refused(function, kind, x):
    with pytest.raises(UsageError, match=rf"a call of {function.__name__} returned {kind}, so its"):
        find_graph_breaks(function, x)


def test_what_cannot_be_called_is_refused(x):
    with pytest.raises(UsageError, match="takes a module or a function and its inputs, not 3"):
        find_graph_breaks(3, x)


def test_dynamo_switched_off_from_outside_is_no_success(x):
    with torch._dynamo.config.patch(disable=True), pytest.raises(NothingCompiledError):
        find_graph_breaks(planted.Clean(), x)


@pytest.mark.parametrize("stance", ["fail_on_recompile", "eager_on_recompile"])
def test_who_forbids_recompilation_forbids_it_for_other_code(x, stance):
    with torch.compiler.set_stance(stance):
        report = find_graph_breaks(planted.OnlyOnTheSecondCall(), x)
    assert places(report) == at("second")
    with torch._dynamo.config.patch(error_on_recompile=True):
        report = find_graph_breaks(planted.OnlyOnTheSecondCall(), x)
    assert places(report) == at("second")


def test_compilation_switched_off_by_its_stance_is_no_success(x):
    with torch.compiler.set_stance("force_eager"), pytest.raises(NothingCompiledError) as caught:
        find_graph_breaks(planted.Clean(), x)
    assert "set_stance('force_eager') switches compilation off" in str(caught.value)


def test_compiled_parts_that_do_not_run_are_no_success(x):
    class Vae(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = planted.Clean(), planted.InTheMiddle()

        def decode(self, x):
            return self.decoder(x)

    vae = Vae()
    vae.encoder.compile(backend="eager")
    with pytest.raises(NothingCompiledError, match=r"only parts .* \(Clean\), .* ran none of them"):
        find_graph_breaks(vae.decode, x)


@pytest.mark.parametrize("second", ["guided", "plain"])
def test_guidance_by_two_calls_breaks_in_one_of_them(x, second):
    """Sequential guidance: the denoiser is called once with and once without the prompt."""

    class Sequential(planted.Clean):
        def forward(self, x, prompt=None):
            x = self.linear(x)
            if prompt is not None:
                print("with prompt")
            return x

    calls = [Call((x,), {"prompt": x}), Call((x,))]
    report = probe_breaks(Sequential(), calls if second == "plain" else calls[::-1])
    assert [found.source for found in report.breaks] == ['print("with prompt")']


def wrapped_forward():
    """As accelerate and many a patch do: the instance has another `forward`."""
    module = planted.Clean()
    original = module.forward

    @functools.wraps(original)
    def forward(*args):
        print("wrapper")
        return original(*args)

    module.forward = forward
    return module


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (wrapped_forward, "print"),
        (lambda: functools.partial(planted.InTheMiddle().forward), "print"),
    ],
)
def test_more_ways_to_hide_a_break(make, reason, x):
    report = find_graph_breaks(make(), x)
    assert not report.ok
    assert reason in report.breaks[0].reason


def test_offload_hooks_on_the_module_are_told(x):
    from accelerate.hooks import ModelHook, add_hook_to_module

    module = planted.Clean()
    add_hook_to_module(module, ModelHook())
    report = find_graph_breaks(module, x)
    assert any("accelerate's ModelHook on 1 of its modules" in note for note in report.notes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: in_place(planted.TwoOnOneLine()), "keep the value a tensor"),
        (planted.InTheMiddle, "take the output out of the compiled part"),
        (planted.Branches, "decide outside the compiled part"),
        (planted.HasDisabledPart, "somebody asked for this break"),
        # Torch 2.15 has a hint of its own, which comes first.
        (planted.ReadsTheClock, r"dynamo cannot look into this function|Move the `time\."),
        (lambda: in_place(planted.DynamicShape()), "its output's size depends on values"),
        (lambda: with_hook(planted.printing_hook), "a hook does this"),
    ],
)
def test_a_known_cause_comes_with_its_remedy(make, words, x):
    assert re.search(words, find_graph_breaks(make(), x).breaks[0].remedy)


def test_the_report_in_words(x):
    text = str(find_graph_breaks(planted.InTheMiddle(), x))
    line = planted.line_of("middle")
    assert text.splitlines()[0] == "InTheMiddle: 2 graphs, 1 break, 2 operations (whole)"
    assert re.search(rf"planted\.py:{line} in forward: Failed to trace builtin", text)
    assert '    print("middle")  # BREAK middle' in text
    assert "    remedy: take the output out" in text


def test_dynamos_own_log_lines_are_kept_away(x, caplog, capfd):
    with caplog.at_level(logging.INFO, "torch._dynamo"):
        find_graph_breaks(planted.TwoOnOneLine(), x)
    assert caplog.records == []
    assert "Graph break" not in capfd.readouterr().err
