"""The comparison of syncs: what a profiler's trace says, and when two columns are the same."""

import json
import sys
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).parents[2] / "tools" / "gpu_check"
sys.path.insert(0, str(TOOL / "bench"))
sys.path.insert(0, str(TOOL))


def event(cat, name, ts, dur=1, correlation=None):
    args = {} if correlation is None else {"correlation": correlation}
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "args": args}


EVENTS = [
    {"ph": "M", "name": "process_name", "args": {"name": "python"}},
    event("user_annotation", "row:item", 100, 50),
    event("cpu_op", "aten::item", 101, 40),
    event("cuda_runtime", "cudaLaunchKernel", 105, 2, correlation=1),
    event("cuda_runtime", "cudaMemcpyAsync", 110, 2, correlation=2),
    event("cuda_runtime", "cudaStreamSynchronize", 115, 20),
    event("user_annotation", "row:compiled", 200, 50),
    event("cuda_driver", "cuLaunchKernelEx", 210, 2, correlation=3),
    event("cuda_runtime", "cudaMemsetAsync", 220, 2, correlation=4),
    # The device runs later than it was asked to, in the time of another label.
    event("kernel", "void reduce_kernel<512>", 205, 7, correlation=1),
    event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 215, 3, correlation=2),
    event("kernel", "triton_poi_fused_add_0", 300, 4, correlation=3),
    event("gpu_memset", "Memset (Device)", 310, 1, correlation=4),
    event("cuda_runtime", "cudaDeviceSynchronize", 400, 2),
]


def test_work_belongs_to_the_label_whose_call_asked_for_it(tmp_path):
    from profiler_traces import Trace

    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": EVENTS}))
    trace = Trace.read(path)
    assert trace.saw_the_device
    item, compiled = map(trace.work_of, trace.named("row:"))
    assert item.kernels == ["void reduce_kernel<512>"]
    assert item.copies == ["Memcpy DtoH (Device -> Pageable)"]
    assert item.waits == {"cudaStreamSynchronize": 1}
    assert (item.launches, item.sets, item.device_us) == (1, 0, 10.0)
    assert compiled.kernels == ["triton_poi_fused_add_0"]
    assert not compiled.waits
    assert (compiled.launches, compiled.sets, compiled.device_us) == (1, 1, 5.0)


@pytest.mark.parametrize("name", ["cudaMemcpy", "cudaEventSynchronize", "cuStreamSynchronize"])
def test_what_waits(name):
    from profiler_traces import is_wait

    assert is_wait(name)
    assert not is_wait(name.replace("Memcpy", "MemcpyAsync").replace("Synchronize", "WaitEvent"))


def test_a_profile_of_the_cpu_has_the_labels_and_no_device(tmp_path):
    from profiler_traces import profiled

    path = tmp_path / "cpu.json"
    with profiled(path, "cpu") as recording:
        for name in ("b", "a"):
            with torch.profiler.record_function(f"row:{name}"):
                torch.ones(2).sum()
    trace = recording.trace
    assert [label.name for label in trace.named("row:")] == ["row:b", "row:a"]
    assert not trace.saw_the_device
    assert trace.work_of(trace.named("row:b")[0]).kernels == []
    assert not path.exists()


def row(real, simulated, **calls):
    from profiler_traces import Work
    from sync_rows import Row

    work = Work()
    work.calls.update(calls)
    return Row("x", real, simulated, work if calls else None)


READ, SHAPE = "value_read", "data_dependent_shape"


@pytest.mark.parametrize(
    ("real", "simulated", "same"),
    [
        ([], [], True),
        ([READ], [READ], True),
        ([READ, SHAPE], [SHAPE, READ], True),
        ([READ], [], False),
        ([], [READ], False),
        ([READ], [SHAPE], False),
        (["unclassified"], [READ], True),
        (["unclassified"], [READ, READ], False),
        (["unclassified"], ["may_block"], False),
        (["may_block"], [], False),
    ],
)
def test_two_columns_are_the_same(real, simulated, same):
    assert row(real, simulated).same is same


def test_what_an_op_raised_is_the_verdict_of_its_row():
    with pytest.raises(ValueError, match="no kernel"):
        _ = row(ValueError("no kernel"), []).same
    assert row([], ValueError("no kernel")).told() == "real none; simulated raised ValueError"


def test_waits_that_only_the_profiler_sees():
    assert row([], [], cudaLaunchKernel=3).only_profiler == 0
    assert row([READ], [READ], cudaStreamSynchronize=1).only_profiler == 0
    assert row([], [], cudaStreamSynchronize=2).only_profiler == 2
    assert row(["may_block"], ["may_block"], cudaMemcpy=1).only_profiler == 1
    text = row([READ], [READ], cudaStreamSynchronize=1, cudaLaunchKernel=1).told()
    expected = "real 1 value_read; simulated 1 value_read; profiler 1 cudaStreamSynchronize"
    assert text == expected


def test_every_row_has_a_program_and_valid_indices():
    """An index out of bounds would end the process's CUDA context, and the part with it."""
    from sync_rows import MORE, load

    inputs, programs = load()
    assert len(programs) > 120
    assert set(MORE) <= set(programs)
    plain = {name: program for name, program in MORE.items() if "pinned" not in name}
    for program in plain.values():
        program(inputs(torch.device("cpu")))


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="no tensor can claim to be CUDA's")
@pytest.mark.skipif(torch.cuda.is_available(), reason="the layers run on the real GPU")
class TestSides:
    """The layers for CUDA and the simulated GPU, as in a dry run."""

    @pytest.fixture
    def part(self, tmp_path):
        from checks import Part, Writer

        def make(planted=False):
            writer = Writer(tmp_path / "results.jsonl", "a")
            kinds = {"device": "cpu", "work": tmp_path, "limit_s": 100}
            return Part("a", writer, planted=planted, **kinds)

        return make

    def compared(self, part, make, scope="scheduler.step"):
        from checks import Found
        from parts.sync_parity import _compare
        from sync_sides import sides_of

        check, told = Found(), []
        _compare(check, sides_of(part()), make, scope, told, {})
        return check, told

    def test_a_scheduler_that_waits_the_same(self, part):
        import diffusers

        check, told = self.compared(part, diffusers.DDIMScheduler)
        assert check.ok
        assert check.found.startswith("the same: ")
        assert {site.kind for site in told} <= {"value_read", "blocking_h2d"}
        assert check.figures["real"]["per_step"] == check.figures["simulated"]["per_step"]

    def test_the_planted_scheduler_differs(self, part):
        from parts.sync_parity import _reads_more

        check, _ = self.compared(part, _reads_more)
        assert not check.ok
        assert "real: 1 in the first step, 3 in steady ones (value_read)" in check.found
        assert len(check.figures["differences"]) == 1

    def test_a_planted_row_waits_once_more(self, part):
        import sync_rows
        from sync_sides import sides_of

        with sides_of(part()).real() as counter:
            assert sync_rows.real(counter.device)["kernels"] == []
            assert sync_rows.real(counter.device, "kernels")["kernels"] == [READ]

    def test_a_column_that_fails_leaves_the_others(self):
        from parts.sync_parity import _column

        def broken():
            raise RuntimeError("CUPTI gave no event")

        column = _column(("a", "b"), broken)
        assert [str(one) for one in column.values()] == ["CUPTI gave no event"] * 2


def test_kinds_that_the_layers_cannot_tell_are_those_of_lists():
    from types import SimpleNamespace

    from checks import Found
    from sync_grounds import kinds

    def site(kind, source):
        return SimpleNamespace(kind=kind, source=source)

    known = site(READ, "x.item()")
    by_list = site("unclassified", "rks = torch.tensor(rks, device=device)")
    check = Found()
    kinds([known, by_list], check)
    assert check.ok
    assert check.found == "1 of 2 lines have no kind, 1 of these by lists"
    kinds([known, site("unclassified", "x.item()")], check)
    assert not check.ok
    kinds([], check)
    assert not check.ok
