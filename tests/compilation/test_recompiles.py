"""Planted recompilations, each with its reason; and compiled code that silently does not run."""

import planted
import pytest
import torch

from pytest_diffspeed.compilation.recompiles import find_recompiles
from pytest_diffspeed.compilation.report import NothingCompiledError


@pytest.fixture(autouse=True)
def without_gradients(fresh_dynamo):
    torch.compiler.reset()
    with torch.no_grad():
        yield


class Step(planted.Clean):
    """Takes what a denoiser takes: a batch, a Python number, a prompt of some length."""

    def forward(self, x, sigma=1.0, prompt=None, guided=False):
        x = self.linear(x) * sigma
        if prompt is not None:
            x = x + prompt.mean()
        return x * 2 if guided else x


def compiled(module=None, **options):
    module = module or Step()
    module.compile(backend="eager", **options)
    return module


def look(module, calls, **options):
    def warm_up():
        module(torch.ones(2, 4))

    warm_up()
    return find_recompiles([module], calls, warm_up=warm_up, **options)


def with_float(value):
    return lambda module: module(torch.ones(2, 4), sigma=value)


PLANTED = {
    "size": (lambda m: m(torch.ones(2, 3, 4)), "rank mismatch"),
    "batch": (lambda m: m(torch.ones(5, 4)), "size mismatch at index 0. expected 2, actual 5"),
    "dtype": (lambda m: m.double()(torch.ones(2, 4).double()), "dtype mismatch"),
    "guidance": (lambda m: m(torch.ones(2, 4), guided=True), "guided"),
    "prompt": (lambda m: m(torch.ones(2, 4), prompt=torch.ones(7)), "prompt"),
    "a Python float": (with_float(0.5), "sigma"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_compiles_again_and_why(name):
    change, why = PLANTED[name]
    module = compiled()
    report = look(module, [(name, lambda: change(module))])
    (found,) = report.recompiles
    assert (found.when, found.function.rpartition(".")[2]) == (name, "forward")
    assert (found.file, found.line) == (__file__, Step.forward.__code__.co_firstlineno)
    assert why in found.why
    assert not report.ok
    assert report.eager == ()


def test_nothing_compiles_again_where_nothing_changes():
    module = compiled()
    report = look(module, [("once more", lambda: module(torch.zeros(2, 4)))])
    assert report.ok
    assert report.calls == ("the same call again", "once more")
    assert str(report) == "0 recompilations in 2 calls"


def test_a_float_that_changes_each_step_is_seen_each_time_until_it_is_dynamic():
    module = compiled()
    steps = [(f"step {n}", lambda n=n: module(torch.ones(2, 4), sigma=n / 10)) for n in range(1, 5)]
    report = look(module, steps)
    # The second value makes dynamo treat it as an input; from then on nothing compiles.
    assert [found.when for found in report.recompiles] == ["step 1"]


def test_a_length_in_a_list_compiles_again_for_each_value():
    class Counts(planted.Clean):
        def forward(self, x, words=()):
            return self.linear(x) + len(words)

    module = compiled(Counts())
    calls = [(f"{n} words", lambda n=n: module(torch.ones(2, 4), words=["a"] * n)) for n in (1, 2)]
    report = look(module, calls)
    assert [found.when for found in report.recompiles] == ["1 words", "2 words"]
    assert "words" in report.recompiles[0].why


@pytest.mark.parametrize("fullgraph", [False, True])
def test_falling_back_to_eager_past_the_limit_is_noticed(fullgraph):
    module = compiled(dynamic=False, fullgraph=fullgraph)
    calls = [(f"batch {n}", lambda n=n: module(torch.ones(n, 4))) for n in range(3, 6)]
    with torch._dynamo.config.patch(recompile_limit=2):
        report = look(module, calls)
    assert [found.when for found in report.recompiles] == ["batch 3"]
    assert any("batch 4: " in line and "recompile limit" in line for line in report.eager)
    assert not report.ok


def test_a_fall_back_that_happened_during_warm_up_is_noticed():
    """Blocks past the limit run eagerly from the first call on, and nothing ever says so."""

    class Block(planted.Clean):
        def __init__(self, width):
            super().__init__()
            self.width = width

        def forward(self, x):
            return self.linear(x) * self.width

    class Blocks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList(Block(width) for width in range(6))

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    module = Blocks()
    for block in module.blocks:
        block.compile(backend="eager", dynamic=False)
    with torch._dynamo.config.patch(recompile_limit=4):
        report = look(module, [])
    assert report.recompiles == ()
    assert "were called 6 times and compiled code ran 4 times" in report.eager[0]
    assert "was compiled 4 times during warm-up" in report.often[0]


def test_one_compilation_for_all_blocks_is_not_told():
    module = planted.TwentyTimes(planted.Clean)
    module.block.compile(backend="eager")
    report = look(module, [])
    assert report.ok
    assert report.often == ()


def test_cuda_graphs_that_were_left_out_are_told():
    module = compiled()

    def skips():
        torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] += 1

    before = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
    try:
        assert not look(module, [("skips", skips)]).ok
        assert look(module, [("skips", skips)], cuda_graphs=False).ok
        report = look(module, [], skipped_before=["mutated inputs"])
        assert report.cudagraph_skips == ("CUDA graphs were left out: mutated inputs",)
    finally:
        torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] = before


def test_where_nothing_is_compiled_nothing_can_be_said():
    with pytest.raises(NothingCompiledError, match="nothing of the pipeline is compiled"):
        look(Step(), [])


def test_an_error_of_the_call_is_the_callers_to_see():
    module = compiled()
    with pytest.raises(RuntimeError, match=r"mat1 and mat2|reduction dim"):
        look(module, [("wrong", lambda: module(torch.ones(2, 5)))])
