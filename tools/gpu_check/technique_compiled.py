"""Tries techniques of compilation: on a toy, on a pipeline, and where a CUDA graph is skipped."""

from __future__ import annotations

import re

import technique_pipelines as pipelines
from checks import Found, NoMeaning
from technique_bench import Bench
from technique_pipelines import Tried
from technique_traces import profiled

NEEDS_S = {"compile": 45.0, "compile_max_autotune": 75.0}
"""Guesses, not measured: with less time left, compilation of a real pipeline is not begun."""


def compile_toy(bench: Bench, name: str, title: str) -> None:
    """In seconds, since choosing kernels by measuring them may take long."""
    with bench.part.check(title, "proven, and its compiled code ran") as check:
        if bench.part.small and name != "compile":
            raise NoMeaning("the dry run compiles once")
        compiled(bench, check, name, name, pipelines.toy(bench.part.device))


def compile_pipeline(bench: Bench, name: str, title: str) -> None:
    """In bf16, on the demo pipeline or, with less time left, on a smaller one."""
    with bench.part.check(title, "proven, and its compiled code ran") as check:
        if bench.part.small:
            raise NoMeaning("the dry run compiles once, and that is a toy")
        left, needed = bench.part.time_left_s, NEEDS_S.get(name, 45.0)
        if left < needed / 2:
            raise NoMeaning(f"not begun: {left:.0f} s were left")
        source = "demo" if left > needed else "random:flux-tiny"
        tried = pipelines.from_source(source, bench.part.device)
        compiled(bench, check, name, f"bf16+{name}", tried)
        check.found = f"{source}: {check.found}"


def graph_skipped(bench: Bench, title: str) -> None:
    """A denoiser that writes to its input: inductor gives CUDA graphs up, and must be caught."""
    from pytest_diffspeed import apply_stack
    from pytest_diffspeed.common.errors import NotEffectiveError

    with bench.part.check(title, "NotEffectiveError that says so") as check:
        if not bench.cuda:
            raise NoMeaning("CUDA graphs do not exist on a CPU")
        tried = pipelines.toy(bench.part.device, mutates=True)
        try:
            applied = apply_stack(
                tried.pipeline, "compile_max_autotune", call=tried.call, device=bench.device
            )
        except NotEffectiveError as error:
            said = str(error)
            check.expect(re.search(r"[1-9]\d* skipped \(.*mutat", said, re.DOTALL), said)
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
