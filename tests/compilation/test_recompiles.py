"""Planted recompilations, each with its reason; and compiled code that silently does not run."""

import sys
import types

import planted
import pytest
import torch
from torch._dynamo import convert_frame

from pytest_diffspeed.adapters import dynamo
from pytest_diffspeed.adapters.dynamo import cache_entries, watching
from pytest_diffspeed.compilation.recompiles import find_recompiles
from pytest_diffspeed.compilation.report import CompileFailedError, NothingCompiledError


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
    return find_recompiles({"step": module}, calls, warm_up=warm_up, **options)


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
    assert report.by_component() == {"step": 1}
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


def test_the_arm_is_as_before_so_the_next_look_finds_the_same():
    """Twelve looks, more than the recompile limit; what runs in between is the first graph."""
    graphs = []

    def backend(graph, inputs):
        number = len(graphs)
        graphs.append(number)

        def run(*args):
            ran.append(number)
            return graph.forward(*args)

        return run

    ran = []
    module = Step()
    module.compile(backend=backend)
    calls = [(f"batch {n}", lambda n=n: module(torch.ones(n, 4))) for n in (3, 5)]
    for _ in range(12):
        report = look(module, calls)
        # The second size is compiled for any size, the third one then fits.
        assert [found.when for found in report.recompiles] == ["batch 3"]
        assert report.eager == report.often == ()
        ran.clear()
        module(torch.ones(2, 4))
        assert ran == [0]
    assert cache_entries(Step.forward) == 1


def test_without_that_the_newest_graph_would_run_from_then_on():
    """What the test above guards against: timed would be code for any size."""
    ran = []

    def backend(graph, inputs):
        kinds = {type(one).__name__ for one in inputs}
        return lambda *args: ran.append("SymInt" in kinds) or graph.forward(*args)

    module = Step()
    module.compile(backend=backend)
    for batch in (2, 3, 2):
        module(torch.ones(batch, 4))
    assert ran == [False, True, True]


def test_a_component_is_told_by_what_was_called():
    class Vae(planted.Clean):
        def decode(self, x):
            return self.linear(x)

    denoiser, vae = planted.TwentyTimes(planted.Clean), Vae()
    denoiser.block.compile(backend="eager")  # regional
    vae.decode = torch.compile(vae.decode, backend="eager")

    def call(batch):
        return lambda: vae.decode(denoiser(torch.ones(batch, 4)))

    call(2)()
    modules = {"unet": denoiser, "vae": vae, "text_encoder": planted.Clean()}
    report = find_recompiles(modules, [("batch 3", call(3))], warm_up=call(2))
    assert report.by_component() == {"unet": 1, "vae.decode": 1}
    other = torch.compile(planted.Clean(), backend="eager")
    report = find_recompiles(modules, [("other", lambda: other(torch.ones(4)))], warm_up=call(2))
    assert report.by_component() == {"unet": 0, "vae.decode": 0, "elsewhere": 1}


def test_a_call_that_does_not_compile_is_told_by_its_cause():
    class Guided(planted.Clean):
        def forward(self, x, guided=False):
            x = self.linear(x)
            if guided:
                print("guided")
            return x

    module = compiled(Guided(), fullgraph=True)
    call = ("guided", lambda: module(torch.ones(2, 4), guided=True))
    with pytest.raises(CompileFailedError, match=r"^guided: .* does not compile .*Failed to trace"):
        look(module, [call])
    with pytest.raises(CompileFailedError, match="for this call: because Unsupported"):
        look(module, [call], explain=lambda call, error: f"because {type(error).__name__}")
    assert look(module, []).ok


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


@pytest.mark.parametrize(
    ("action", "reason"),
    [("DEFAULT", None), ("SKIP", f"torch {torch.__version__} does not say why")],
)
def test_frames_of_a_torch_that_gives_no_reason_for_skipping_are_seen(action, reason, monkeypatch):
    """Up to torch 2.12 what dynamo answers for a frame has no `skip_reason`."""
    strategy = types.SimpleNamespace(cur_action=getattr(dynamo._FrameAction, action))
    answer = types.SimpleNamespace(guarded_code=None, frame_exec_strategy=strategy)
    converter = convert_frame.ConvertFrameAssert
    monkeypatch.setattr(converter, "__call__", lambda self, frame, *rest, **more: answer)
    with watching() as seen:
        assert converter.__call__(object(), sys._getframe()) is answer
    (attempt,) = seen.compiles
    assert (attempt.skipped, attempt.compiled) == (reason, False)
