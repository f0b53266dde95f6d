"""A look leaves dynamo as it was: shown by counts of graphs, cache entries and limits."""

import gc
import random
from collections import Counter

import planted
import pytest
import torch

from pytest_diffspeed import find_graph_breaks
from pytest_diffspeed.adapters import dynamo
from pytest_diffspeed.compilation.probe import Call, probe_breaks


@pytest.fixture
def x():
    return torch.arange(8.0).reshape(2, 4)


@pytest.fixture(autouse=True)
def fresh_dynamo():
    with torch.no_grad():
        yield
    torch.compiler.reset()


class CountingBackend:
    """Runs graphs eagerly; counts compilations and runs of what was compiled."""

    def __init__(self):
        self.compiled = 0
        self.runs = 0

    def __call__(self, graph, inputs):
        self.compiled += 1

        def run(*args):
            self.runs += 1
            return graph.forward(*args)

        return run


def test_another_compiled_module_of_the_same_class_does_not_compile_again(x):
    backend = CountingBackend()
    other = planted.Clean()
    other.compile(backend=backend)
    other(x)
    assert (backend.compiled, backend.runs) == (1, 1)
    find_graph_breaks(planted.Clean(), x)
    find_graph_breaks(other, x)
    other(x)
    assert (backend.compiled, backend.runs) == (1, 2)


def test_dynamos_explain_makes_others_compile_again(x):
    """What the test above guards against; when this fails, torch has become better."""
    backend = CountingBackend()
    other = planted.Clean()
    other.compile(backend=backend)
    other(x)
    torch._dynamo.explain(planted.Clean())(x)
    other(x)
    assert backend.compiled == 2


def test_looks_do_not_eat_into_the_recompile_limit(x):
    """As many compilations are allowed after 20 looks as without them."""

    def allowed():
        backend = CountingBackend()
        module = planted.Clean()
        module.compile(backend=backend, dynamic=False)
        for batch in range(1, 14):
            module(torch.ones(batch, 4))
        return backend.compiled

    without = allowed()
    torch.compiler.reset()
    for batch in range(2, 22):
        assert find_graph_breaks(planted.Clean(), torch.ones(batch, 4)).ok
    assert dynamo.cache_entries(planted.Clean.forward) == 0
    assert allowed() == without == torch._dynamo.config.recompile_limit


def test_looks_between_compilations_do_not_either(x):
    backend = CountingBackend()
    module = planted.Clean()
    module.compile(backend=backend, dynamic=False)
    for batch in range(1, 14):
        module(torch.ones(batch, 4))
        find_graph_breaks(module, torch.ones(batch + 20, 4))
    assert backend.compiled == torch._dynamo.config.recompile_limit
    entries = dynamo.cache_entries(planted.Clean.forward)
    assert entries == torch._dynamo.config.recompile_limit


@pytest.mark.parametrize("frozen", [False, True])
def test_a_function_that_somebody_gave_up_on_is_looked_at_all_the_same(x, frozen):
    """Dynamo runs this loop eagerly for good once it broke; that hides nothing from a look."""
    torch.compile(planted.LoopThatPrints(), backend="eager")(x)
    torch.compile(planted.TwentyTimes(), backend="eager")(x)
    if frozen:  # then the collector does not tell who runs which code
        gc.freeze()
    report = find_graph_breaks(planted.LoopThatPrints(), x)
    assert [found.line for found in report.breaks] == [planted.line_of("loop")]
    report = find_graph_breaks(planted.TwentyTimes(), x)
    assert [found.line for found in report.breaks] == [planted.line_of("block")]


def test_a_break_that_we_met_does_not_keep_others_from_compiling(x):
    class MayPrint(planted.Clean):
        def __init__(self, prints):
            super().__init__()
            self.prints = prints

        def forward(self, x):
            for _ in range(2):
                x = self.linear(x)
                if self.prints:
                    print("in the loop")
            return x

    assert len(find_graph_breaks(MayPrint(True), x).breaks) == 1
    backend = CountingBackend()
    other = MayPrint(False)
    other.compile(backend=backend)
    other(x)
    assert backend.runs == 1
    assert len(find_graph_breaks(MayPrint(True), x).breaks) == 1
    other(x)
    assert (backend.compiled, backend.runs) == (1, 2)


def test_sizes_seen_in_a_look_do_not_make_others_dynamic():
    """Dynamo compiles with dynamic sizes once it has seen two; ours do not count."""
    backend = CountingBackend()
    torch.compile(planted.Clean(), backend=backend)(torch.ones(3, 4))
    for batch in (5, 6, 7):
        find_graph_breaks(planted.Clean(), torch.ones(batch, 4))
    torch.compiler.reset()
    for batch in (5, 6, 7):
        find_graph_breaks(planted.Clean(), torch.ones(batch, 4))
    compiled = torch.compile(planted.Clean(), backend=backend)
    before = backend.compiled
    for batch in (5, 6, 7):
        compiled(torch.ones(batch, 4))
    # Static first, dynamic from the second size on: as if nobody had looked.
    assert backend.compiled - before == 2


def test_counters_and_records_of_dynamo_are_put_back(x):
    torch.compile(planted.InTheMiddle(), backend="eager")(x)
    counters = {name: Counter(counts) for name, counts in torch._dynamo.utils.counters.items()}
    metrics = torch._dynamo.utils.get_compilation_metrics()
    reasons = len(torch._dynamo.utils.graph_break_reasons)
    backends = len(torch._dynamo.eval_frame.cached_backends)
    assert len(find_graph_breaks(planted.Unrolled(), x).breaks) == 2
    assert dict(torch._dynamo.utils.counters) == counters
    assert torch._dynamo.utils.get_compilation_metrics() == metrics
    assert len(torch._dynamo.utils.graph_break_reasons) == reasons
    assert len(torch._dynamo.eval_frame.cached_backends) == backends


@pytest.mark.parametrize("make", [planted.Clean, planted.TwoOnOneLine, planted.CannotBeCompiled])
def test_the_module_and_dynamo_are_as_before_whatever_came_out(make, x):
    module = make()
    module.linear.compile(backend="eager")
    module.compile(backend="eager")
    before = {key: dict(vars(part)) for key, part in module.named_modules()}
    code = planted.Clean.forward.__code__
    patched = torch._dynamo.convert_frame.ConvertFrameAssert.__call__
    try:
        find_graph_breaks(module, x)
    except Exception as error:
        assert make is planted.CannotBeCompiled, error
    assert {key: dict(vars(part)) for key, part in module.named_modules()} == before
    assert planted.Clean.forward.__code__ is code
    assert torch._dynamo.convert_frame.ConvertFrameAssert.__call__ is patched


def test_code_of_known_functions_is_the_same_object_afterwards(x):
    torch.compile(planted.Clean(), backend="eager")(x)
    code = planted.Clean.forward.__code__
    find_graph_breaks(planted.Clean(), x)
    assert planted.Clean.forward.__code__ is code
    assert dynamo.cache_entries(code) == 1


def test_nothing_of_the_model_is_kept_alive(x):
    import weakref

    module = planted.TwoOnOneLine()
    alive = weakref.ref(module)
    find_graph_breaks(module, x)
    del module
    gc.collect()
    assert alive() is None


def test_random_numbers_go_on_where_they_were(x):
    class Draws(planted.Clean):
        def forward(self, x):
            return self.linear(x) + torch.rand(())

    module = Draws()
    state, python = torch.random.get_rng_state(), random.getstate()
    find_graph_breaks(module, x)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert random.getstate() == python


def test_what_was_captured_is_not_captured_twice(x):
    """Two calls alike: the second one runs the graphs of the first."""
    report = probe_breaks(planted.InTheMiddle(), [Call((x,), grad=False)] * 4)
    assert report.graphs_by_call == (2, 0, 0, 0)
    assert len(report.breaks) == 1


@pytest.mark.parametrize("is_broken", [False, True])
def test_what_a_call_takes_out_of_a_list_is_there_for_the_next(is_broken):
    """HunyuanDiT's transformer pops the residuals of its ControlNet from the list it is given."""

    def add(x, *, residuals):
        if is_broken:
            torch._dynamo.graph_break()
        while residuals["down"]:
            x = x + residuals["down"].pop()
        return x

    residuals = {"down": [torch.ones(2), torch.ones(2)]}
    report = find_graph_breaks(add, torch.zeros(2), residuals=residuals)
    assert len(report.breaks) == is_broken
    assert report.ops == 2
    assert len(residuals["down"]) == 2
