"""Tries techniques of compilation: on a toy, on a pipeline, and where a CUDA graph is skipped."""

from __future__ import annotations

import re

import technique_pipelines as pipelines
from checks import Found, NoMeaning
from quick_compile import without_search
from technique_bench import Bench
from technique_pipelines import Tried
from technique_traces import profiled
from time_limit import at_most

DEMO_NEEDS_S = {"compile": 50.0, "compile_max_autotune": 90.0}
"""Guesses, not measured: with less time left a smaller pipeline is compiled."""
LEAST_S = 15.0


def compile_toy(bench: Bench, name: str, title: str) -> None:
    """In seconds, since choosing kernels by measuring them may take long."""
    with bench.part.check(title, "proven, and its compiled code ran") as check:
        if bench.part.small and name != "compile":
            raise NoMeaning("the dry run compiles once")
        tried = pipelines.toy(bench.part.device)
        # It must not take the time of what comes after it.
        with at_most(bench.part.time_left_s / 2):
            compiled(bench, check, name, name, tried)


def compile_pipeline(bench: Bench, name: str, title: str) -> None:
    """In bf16 and without the search; on the demo pipeline or, with less time, a smaller one."""
    with bench.part.check(title, "proven, and its compiled code ran") as check:
        if bench.part.small:
            raise NoMeaning("the dry run compiles once, and that is a toy")
        left = bench.part.time_left_s
        if left < LEAST_S:
            raise NoMeaning(f"not begun: {left:.0f} s were left")
        source = "demo" if left > DEMO_NEEDS_S.get(name, 50.0) else "random:flux-tiny"
        tried = pipelines.from_source(source, bench.part.device)
        with without_search(name), at_most(bench.part.time_left_s - 3):
            compiled(bench, check, name, f"bf16+{name}", tried)
        check.found = f"{source}, no search of block sizes: {check.found}"


def graph_skipped(bench: Bench, title: str) -> None:
    """A denoiser that writes to its input: inductor gives CUDA graphs up, and must be caught."""
    from pytest_diffspeed import apply_stack
    from pytest_diffspeed.common.errors import NotEffectiveError

    with bench.part.check(title, "NotEffectiveError that says so") as check:
        if not bench.cuda:
            raise NoMeaning("CUDA graphs do not exist on a CPU")
        tried = pipelines.toy(bench.part.device, mutates=True)
        stack = "compile_max_autotune"
        try:
            with at_most(bench.part.time_left_s / 2), without_search(stack):
                applied = apply_stack(tried.pipeline, stack, call=tried.call, device=bench.device)
        except NotEffectiveError as error:
            told = re.search(r"[1-9]\d* skipped \(skipping .*mutat", str(error))
            check.expect(told is not None, error)
        else:
            check.expect(False, f"proven: {applied.proofs[0].found}")


def compiled(bench: Bench, check: Found, name: str, stack: str, tried: Tried) -> None:
    """Apply ``stack``, and look at one more call of it."""
    from pytest_diffspeed import apply_stack
    from pytest_diffspeed.common.quiet import third_party
    from pytest_diffspeed.techniques.apply import running

    applied = apply_stack(tried.pipeline, stack, call=tried.call, device=bench.device)
    (proof,) = (proof for proof in applied.proofs if proof.technique == name)
    check.figures |= {
        "first_call_s": applied.first_call_s,
        "proofs": [vars(proof) for proof in applied.proofs],
    }
    with third_party(), running(applied.stack):
        seen = profiled(lambda: tried.call(tried.pipeline, steps=3), cuda=bench.cuda)
    graphs = sum(n for mark, n in (seen.marks + seen.ops).items() if "CompiledFxGraph" in mark)
    ok = seen.triton_kernels > 0 if bench.cuda else graphs > 0
    if bench.cuda and name == "compile_max_autotune":
        ok = ok and seen.graph_launches > 0
    check.expect(
        ok,
        f"{proof.found}; in a steady call {graphs} graphs of inductor, {seen.triton_kernels} "
        f"triton kernels, {seen.graph_launches} CUDA graphs launched",
        **seen.figures(),
    )
