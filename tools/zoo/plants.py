"""A fault in each component that runs in the steps: the gate of its kind has to name it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zoo_checks import Wrong, Zoo, component, covers, dynamo_alone, outcome_of

HERE = Path(__file__).name


def planted(name: str) -> Iterator[dict[str, Any]]:
    """Each fault in each component of the pipeline ``name``, one after the other."""
    yield {"pipeline": name}
    kept: list[Zoo] = []
    parts: dict[str, Any] = {}

    def build() -> str:
        kept.append(Zoo(name))
        seen, _ = kept[0].baseline.observed()
        parts.update({p.name: p.module for p in seen.denoisers})
        if not parts:
            raise Wrong("no component was seen in the steps")
        return ", ".join(parts)

    yield from outcome_of("observed", build)
    for part, module in parts.items():
        for fault, check in FAULTS.items():
            yield from outcome_of(f"{fault} in {part}", partial(check, kept[0], part, module))


@contextmanager
def in_forward(module: Any, fault: Callable[[Any], object]) -> Iterator[None]:
    """Run ``fault(output)`` at the end of ``module.forward``."""
    forward = module.forward

    @functools.wraps(forward)
    def with_fault(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        fault(output)
        return output

    module.forward = with_fault
    try:
        yield
    finally:
        del module.forward


def first_tensor(output: Any) -> Any:
    while not hasattr(output, "dtype"):
        values = output.values() if isinstance(output, dict) else output
        output = next(iter(values))
    return output


def graph_break(zoo: Zoo, part: str, module: Any) -> str:
    import torch

    from pytest_diffspeed.gates.catalog.graph_breaks import graph_breaks

    def fault(output: Any) -> None:
        torch._dynamo.graph_break()

    zoo.baseline.memo.pop(("graph breaks", None), None)
    with in_forward(module, fault):
        reports = graph_breaks(zoo.baseline, None)
    broken = {r.name for r in reports if any(HERE in str(one) for one in r.breaks)}
    if not any(covers(one, part) for one in broken):
        raise Wrong(f"looked at {', '.join(r.name for r in reports)} and found no break of ours")
    others = sorted(one for one in broken if not covers(one, part))
    if others:
        raise Wrong(f"said of {', '.join(others)} too, in which nothing was planted")
    return ", ".join(sorted(broken))


def host_sync(zoo: Zoo, part: str, module: Any) -> str:
    from pytest_diffspeed.gates.catalog.syncs import syncs

    def fault(output: Any) -> None:
        first_tensor(output).flatten()[0].item()

    with in_forward(module, fault):
        report = syncs(zoo.baseline, scope="denoising_loop")
    ours = [site for site in report.sites if Path(site.file).name == HERE]
    if not ours:
        raise Wrong(f"{report.first_step} / {report.per_step} syncs, and no line of ours")
    return "; ".join(f"{site.op} ×{site.count}" for site in ours)


def recompilation(zoo: Zoo, part: str, module: Any) -> str:
    from pytest_diffspeed.compilation.recompiles import find_recompiles

    state = SimpleNamespace(word="first")

    def fault(output: Any) -> None:
        # Both ways compute: behind a break of the component's own this is a frame of its own, and
        # dynamo leaves one that computes nothing alone for good.
        first_tensor(output).add(1 if state.word == "first" else 2)

    def changed_call() -> object:
        state.word = "second"
        return call()

    arm = zoo.baseline
    _, steps = arm.observed()
    call = partial(arm.call, arm.pipeline, steps=steps)
    with arm.running(), in_forward(module, fault), dynamo_alone([module]):
        call()
        report = find_recompiles(
            {part: module}, [("changed", changed_call)], warm_up=call, cuda_graphs=False
        )
    if not report.recompiles:
        raise Wrong("nothing compiled again")
    named = {one.component for one in report.recompiles}
    if part not in named:
        raise Wrong(f"it compiled again, and was said of {', '.join(sorted(named))}")
    return f"{len(report.recompiles)} × {part}"


def dtype_cast(zoo: Zoo, part: str, module: Any) -> str:
    import torch

    from pytest_diffspeed.common.errors import NotEffectiveError
    from pytest_diffspeed.techniques.apply import apply_stack

    pipeline = zoo.source.build()
    call = zoo.builder.call(zoo.source, pipeline)
    theirs = component(pipeline, part)

    def fault(output: Any) -> None:
        first = first_tensor(output).flatten()[:4].float()
        torch.mm(first[:, None], first[None])

    with in_forward(theirs, fault):
        try:
            applied = apply_stack(pipeline, "bf16", call=call)
        except NotEffectiveError as error:
            text = str(error)
        else:
            text = "; ".join(str(proof.found) for proof in applied.proofs)
    if "float32" not in text:
        raise Wrong(f"a product in float32 went unseen: {text}")
    if not re.search(rf"'{re.escape(part)}': {{[^}}]*float32", text):
        raise Wrong(f"a product in float32 was seen, and {part} is not named: {text}")
    return text


FAULTS: dict[str, Callable[[Zoo, str, Any], str]] = {
    "graph break": graph_break,
    "host sync": host_sync,
    "recompilation": recompilation,
    "dtype cast": dtype_cast,
}
