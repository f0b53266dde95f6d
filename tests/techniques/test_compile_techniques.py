"""Compilation: flags in force while compiling, code that ran, and what ran beside it."""

from dataclasses import dataclass

import pytest
import torch
from torch._dynamo.utils import counters

from pytest_diffspeed import apply_stack
from pytest_diffspeed.adapters.torch_internals import (
    fresh_outputs,
    inductor_options,
    marked,
    read_trace,
    trace,
)
from pytest_diffspeed.common.errors import DiffspeedError, NotEffectiveError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.apply import PROOF_STEPS, running
from pytest_diffspeed.techniques.catalog.compile import (
    GUIDE_FLAGS,
    Compile,
    require_cuda_graphs,
)
from pytest_diffspeed.techniques.observation import (
    FUSED_ATTENTION,
    CompiledPart,
    CudaGraphs,
    Observation,
)
from pytest_diffspeed.techniques.registry import techniques
from pytest_diffspeed.techniques.stacks import parse_stack


def graphs_compiled():
    """How many graphs dynamo has handed to a backend in this process so far."""
    return counters["stats"]["unique_graphs"]


def config_now():
    return {flag: getattr(torch._inductor.config, flag) for flag in GUIDE_FLAGS}


@pytest.mark.parametrize(
    ("name", "of_mode"),
    [
        ("compile", {}),
        (
            "compile(mode=max-autotune-no-cudagraphs)",
            {"max_autotune": True, "coordinate_descent_tuning": True},
        ),
        (
            "compile_max_autotune",
            {"max_autotune": True, "triton.cudagraphs": True, "coordinate_descent_tuning": True},
        ),
    ],
)
def test_flags_go_with_each_compilation_and_are_never_global(name, of_mode, tiny, compilations):
    pipeline, call = tiny("transformer of few blocks")
    before = config_now()
    applied = apply_stack(pipeline, name, call=call)
    expected = {**of_mode, **GUIDE_FLAGS}
    assert compilations == [expected, expected]
    assert config_now() == before != dict(GUIDE_FLAGS)
    assert applied.proofs[0].figures["runs"] == {"transformer": PROOF_STEPS, "vae.decode": 1}

    with third_party(), running(applied.stack), torch.no_grad():  # a latent of another size
        pipeline.vae.decode(torch.zeros(1, 16, 4, 4))
    assert compilations == [expected, expected, expected]
    assert config_now() == before


def test_a_mode_is_that_of_the_technique_of_its_own():
    written, named = (
        parse_stack(text).techniques()[0]
        for text in ("compile(mode=max-autotune)", "compile_max_autotune")
    )
    assert written.options() == named.options()
    assert written.replays_graphs and named.replays_graphs
    assert written.extra_warmup_calls == named.extra_warmup_calls > 0
    assert techniques()["compile"].options() == parse_stack("compile").techniques()[0].options()
    assert not techniques()["compile"].extra_warmup_calls  # that of the registry is as it was


def test_another_backend_has_no_modes_of_inductor(tiny):
    class Eagerly(Compile):
        backend = "eager"

    pipeline, _ = tiny("transformer of few blocks")
    configured = Eagerly().with_arguments({"mode": "reduce-overhead"})
    assert "it compiles with 'eager'" in configured.incompatible(pipeline)


def test_a_flag_that_inductor_has_not_is_one_sentence():
    with pytest.raises(DiffspeedError, match="has no option conv_2x2_as_mm; they were seen in"):
        inductor_options(None, {"conv_2x2_as_mm": True})


def test_proving_compiles_nothing(tiny, without_inductor):
    pipeline, call = tiny("transformer of few blocks")
    seen = []

    def counting_call(pipe, **changes):
        images = call(pipe, **changes)
        seen.append(graphs_compiled())
        return images

    before = graphs_compiled()
    apply_stack(pipeline, "compile", call=counting_call)
    untouched, eager_proof, first_call, compiled_proof = (graphs - before for graphs in seen)
    assert (untouched, eager_proof, first_call, compiled_proof) == (0, 0, 2, 2)


def test_a_second_pipeline_may_run_what_the_first_one_compiled(tiny, without_inductor):
    """Dynamo compiles code, not modules: no new graph appears, and that must not look broken."""
    (pipeline, call), (twin, _) = (
        tiny("transformer of few blocks"),
        tiny("transformer of few blocks"),
    )
    (first,) = apply_stack(pipeline, "compile", call=call).proofs
    graphs = graphs_compiled()
    (second,) = apply_stack(twin, "compile", call=call).proofs
    assert graphs_compiled() == graphs
    assert second == first
    assert first.found == (
        "calls that ran compiled code, in 2 steps: transformer 2 of 2, vae.decode 1 of 1; "
        "nothing ran eagerly"
    )
    assert first.figures["compiled_frames"] == 2


def test_compilation_that_was_not_applied_is_noticed(pipeline, call, monkeypatch):
    monkeypatch.setattr(Compile, "apply", lambda self, pipe: None)
    expected = "in each call of unet, found it in 0 of 2: the rest runs eagerly"
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "compile", call=call)


def test_only_the_denoiser_compiled_is_noticed(tiny, monkeypatch, without_inductor):
    pipeline, call = tiny("transformer of few blocks")
    monkeypatch.setattr(
        Compile, "apply", lambda self, pipe: pipe.transformer.compile(backend="eager")
    )
    with pytest.raises(NotEffectiveError, match=r"call of vae\.decode, found it in 0 of 1"):
        apply_stack(pipeline, "compile", call=call)


def test_only_the_decode_compiled_is_noticed(tiny, monkeypatch, without_inductor):
    def decode_only(self, pipe):
        pipe.vae.decode = torch.compile(pipe.vae.decode, backend="eager")

    pipeline, call = tiny("transformer of few blocks")
    monkeypatch.setattr(Compile, "apply", decode_only)
    with pytest.raises(NotEffectiveError, match=r"call of transformer, found it in 0 of 2"):
        apply_stack(pipeline, "compile", call=call)


def test_a_graph_break_is_noticed_without_fullgraph_too(tiny, monkeypatch, without_inductor):
    """Compiled code runs in each call all the same, so counting its runs is not enough."""

    def with_a_break(self, pipe):
        pipe.transformer.compile(backend="eager")
        pipe.vae.decode = torch.compile(pipe.vae.decode, backend="eager")

    pipeline, call = tiny("transformer of few blocks")
    layer = pipeline.transformer.x_embedder
    layer.forward = torch.compiler.disable(layer.forward)
    monkeypatch.setattr(Compile, "apply", with_a_break)
    expected = "each call of transformer, found 2 pieces resumed after a graph break in 2 calls"
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "compile", call=call)


def test_the_recompile_limit_reached_is_noticed(tiny, monkeypatch, without_inductor):
    """Past it dynamo runs the code eagerly without a word, unless it compiles with fullgraph."""

    def without_fullgraph(self, pipe):
        pipe.transformer.compile(backend="eager", dynamic=False)
        pipe.vae.decode = torch.compile(pipe.vae.decode, backend="eager", dynamic=False)

    pipeline, call = tiny("transformer of few blocks")
    monkeypatch.setattr(Compile, "apply", without_fullgraph)
    first = True

    def call_of_two_sizes(pipe, **changes):
        nonlocal first
        images = call(pipe, **changes)
        if "steps" not in changes and first:  # the first whole call: fill the cache
            first = False
            with torch.no_grad():
                pipe.vae.decode(torch.zeros(1, 16, 4, 4), return_dict=False)
            pipe.vae.post_quant_conv = torch.nn.Identity()  # a guard of the first entry fails
        return images

    limited = torch._dynamo.config.patch(recompile_limit=2)
    expected = r"each call of vae\.decode, found it in 0 of 1: the rest runs eagerly"
    with limited, pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "compile", call=call_of_two_sizes)


def test_a_recompile_limit_reached_at_once_is_told_without_a_trace(tiny, without_inductor):
    pipeline, call = tiny("transformer of few blocks")

    def call_of_two_sizes(pipe, **changes):
        with torch.no_grad():
            pipe.vae.decode(torch.zeros(1, 16, 4, 4), return_dict=False)
        return call(pipe, **changes)

    limited = torch._dynamo.config.patch(recompile_limit=1)
    expected = "compile: expected one graph per component, .* FailOnRecompileLimitHit"
    with limited, pytest.raises(NotEffectiveError, match=expected) as caught:
        apply_stack(pipeline, "compile", call=call_of_two_sizes)
    (_, why) = str(caught.value).split("\n")
    assert why.startswith("there is no graph break; the compiler itself failed with ")


def test_dynamo_switched_off_from_outside_is_noticed(pipeline, call, fresh_dynamo):
    """As ``TORCHDYNAMO_DISABLE=1`` in the environment does."""
    expected = (
        "compile: expected one graph per component, .* RuntimeError: .*no compiled frames"
        # Torch 2.11 runs eagerly, also with fullgraph.
        "|compile: expected compiled code to run in each call of unet, found it in 0 of 2"
    )
    switched_off = torch._dynamo.config.patch(disable=True)
    with switched_off, pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "compile", call=call)


def test_a_graph_break_in_the_denoiser_is_told_with_its_place(pipeline, call, fresh_dynamo):
    forward = pipeline.unet.conv_in.forward

    def breaks(sample):
        torch._dynamo.graph_break()
        return forward(sample)

    pipeline.unet.conv_in.forward = breaks
    with pytest.raises(NotEffectiveError, match="the first compiled call raised") as caught:
        apply_stack(pipeline, "compile", call=call)
    assert "test_compile_techniques.py:" in str(caught.value)
    assert "torch._dynamo.graph_break()" in str(caught.value)  # the line of code


def test_a_vae_that_is_never_called_cannot_be_compiled_to_effect(tiny, without_inductor):
    pipeline, call = tiny("transformer of few blocks")

    def latents_only(pipe, **changes):
        return call(pipe, output="latent", **changes)

    expected = r"expected vae\.decode to be called in a call of 2 steps, found no call"
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "compile", call=latents_only)


class TwoLayers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize("broken", [False, True])
def test_a_trace_tells_graphs_from_what_runs_between_them(broken, fresh_dynamo):
    """Two products by inductor need no kernel of its own: this compiles in about a second."""
    module = TwoLayers()
    if broken:
        module.first.forward = torch.compiler.disable(module.first.forward)

    def call():
        x = torch.ones(2, 8)
        with marked("toy"):
            module(x)

    with third_party(), torch.no_grad():
        module.compile()
        call()
        seen = trace(call)
    assert seen.calls == {"toy": 1}
    assert sum(seen.frames["toy"].values()) == 1
    assert seen.graph_calls["toy"] == 1
    assert seen.resumed["toy"] == broken
    assert seen.between.get("toy", {}).get("addmm", 0) == broken
    assert not seen.outside


@dataclass
class Event:
    """As torch's profiler gives them, in what is read of them."""

    name: str
    cpu_parent: "Event | None" = None
    device_type: torch.autograd.DeviceType = torch.autograd.DeviceType.CPU


def events_of_a_call(*ops):
    """One call of the denoiser with one graph of inductor's, in which ``ops`` run, each in the one
    before it; marked regions once more on the time line of the GPU."""
    names = [
        "diffspeed part: denoiser",
        "Torch-Compiled Region: 0/0",
        "## Call CompiledFxGraph f ##",
    ]
    events = []
    for name in [*names, *ops]:
        events.append(Event(name, events[-1] if events else None))
    on_gpu = [Event(name, None, torch.autograd.DeviceType.CUDA) for name in names]
    return [*events, *on_gpu]


def test_the_copies_of_marked_regions_on_the_gpu_are_not_counted():
    seen = read_trace(events_of_a_call("aten::addmm"))
    assert seen.calls == {"denoiser": 1}
    assert seen.frames == {"denoiser": {0: 1}}
    assert seen.graph_calls == {"denoiser": 1}
    assert seen.all_ops == {"denoiser": {"addmm": 1}}


def test_an_op_inside_of_another_that_is_sought_is_how_that_one_works():
    flash = "_scaled_dot_product_flash_attention"
    events = events_of_a_call(f"aten::{flash}", "aten::_flash_attention_forward", "aten::empty")
    assert read_trace(events, FUSED_ATTENTION).all_ops == {"denoiser": {flash: 1, "empty": 1}}
    assert len(read_trace(events).all_ops["denoiser"]) == 3
    alone = events_of_a_call("aten::_flash_attention_forward")
    found = read_trace(alone, FUSED_ATTENTION).all_ops
    assert found == {"denoiser": {"_flash_attention_forward": 1}}


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (CompiledPart(2, {0: 2}, graph_calls=2, eager_ops={"addmm": 3}), "outside of it 3 addmm"),
        (CompiledPart(2, {0: 2}, graph_calls=1), "a graph of inductor's to run .* found 1 in 2"),
    ],
)
def test_what_runs_beside_inductors_graphs_is_noticed(part, found, pipeline):
    with pytest.raises(NotEffectiveError, match=found):
        Compile().prove(pipeline, Observation(compiled={"unet": part}, steps=2))


# --- CUDA graphs ----------------------------------------------------------------------------------


def overwriting():
    """What a CUDA graph does: each replay writes to the memory of the last output."""
    memory = torch.zeros(2)

    def replay(value):
        memory.fill_(value)
        return (memory,)

    return replay


def test_outputs_of_a_cuda_graph_survive_the_next_call():
    replay = overwriting()
    first = replay(1.0)[0]
    replay(2.0)
    assert first.tolist() == [2.0, 2.0]  # the trap

    fresh = fresh_outputs(overwriting())
    first, second = fresh(1.0)[0], fresh(2.0)[0]
    assert (first.tolist(), second.tolist()) == ([1.0, 1.0], [2.0, 2.0])


def test_outputs_in_classes_of_diffusers_are_copied_too():
    from diffusers.models.autoencoders.vae import DecoderOutput

    memory = torch.zeros(2)
    output = fresh_outputs(lambda: DecoderOutput(sample=memory))()
    assert isinstance(output, DecoderOutput)
    assert output.sample.data_ptr() != memory.data_ptr()


def test_max_autotune_hands_out_copies_of_denoiser_and_decode(tiny, without_inductor):
    pipeline, call = tiny("transformer of few blocks")
    applied = apply_stack(pipeline, "compile_max_autotune", call=call)
    assert applied.proofs[0].figures["cuda_graphs"] == "not applicable"
    assert pipeline.transformer._compiled_call_impl.__code__ is fresh_outputs(print).__code__
    assert pipeline.vae.decode.__code__ is fresh_outputs(print).__code__


@pytest.mark.parametrize(
    ("graphs", "found"),
    [
        (CudaGraphs(1, ("skipping cudagraphs due to mutated inputs",), 5), "1 skipped .*mutated"),
        (CudaGraphs(0, (), 0), "0 launches and 0 skipped"),
    ],
)
def test_cuda_graphs_skipped_or_never_launched_are_noticed(graphs, found):
    with pytest.raises(NotEffectiveError, match=f"compile_max_autotune: .*{found}"):
        require_cuda_graphs("compile_max_autotune", graphs)


def test_cuda_graphs_that_ran_are_proof():
    assert require_cuda_graphs("compile_max_autotune", CudaGraphs(0, (), 3), calls=3) is None


def test_a_part_without_cuda_graphs_is_noticed_although_none_counts_as_skipped():
    """Inductor counts no skip where it finds nothing in a function that a graph can hold."""
    expected = "in each of 3 compiled calls .* found 2 launches and 0 skipped"
    with pytest.raises(NotEffectiveError, match=expected):
        require_cuda_graphs("compile_max_autotune", CudaGraphs(0, (), 2), calls=3)


def test_a_cuda_graph_given_up_in_a_call_is_told_with_its_reason(tiny, without_inductor):
    """Inductor's metrics know only those that it gives up while it compiles."""
    from torch._inductor.cudagraph_utils import log_cudagraph_skip_and_bump_counter

    pipeline, call = tiny("transformer of few blocks")

    def gives_up(pipe, **changes):
        if "steps" not in changes:  # the first whole call
            log_cudagraph_skip_and_bump_counter("skipping cudagraphs due to mutated\n inputs")
        return call(pipe, **changes)

    seen = []
    original = Compile.prove
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Compile, "prove", lambda self, pipe, one: seen.append(one) or original(self, pipe, one)
        )
        apply_stack(pipeline, "compile", call=gives_up)
    (one,) = seen
    assert one.cuda_graphs == CudaGraphs(1, ("skipping cudagraphs due to mutated inputs",), 0)


def test_launches_of_cuda_graphs_are_counted_whatever_version_cuda_adds_to_the_name():
    names = ("cudaGraphLaunch", "cudaGraphLaunch_v10000", "cudaLaunchKernel")
    assert read_trace(Event(name) for name in names).cuda_graph_launches == 2


def test_all_of_the_compile_family_compile_with_fullgraph():
    for name in ("compile", "compile_max_autotune"):
        assert techniques()[name].options()["fullgraph"] is True
