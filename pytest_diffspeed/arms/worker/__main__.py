"""The worker process: builds one arm, then calls it whenever it is told to.

    python diffspeed_worker.py [PIPE]

Started by :mod:`.arm`, never by hand: the script is written by it, and the parent holds the other
end of the pipe with the number ``PIPE`` for as long as it lives.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .imports import assert_not_imported, assert_uses_base, drop_from_path
from .protocol import BuildOrder, as_line, from_line
from .watch import end_with_parent

if TYPE_CHECKING:
    from ...accelerators.clock import Clock
    from ..prepared_arm import PreparedArm


def main() -> None:
    if len(sys.argv) > 1:
        end_with_parent(int(sys.argv[1]), Path(sys.argv[0]).parent)
    answers = _private_output()
    orders = sys.stdin.buffer
    first = from_line(orders.readline())
    if first is None:
        return  # the parent is gone already
    build = BuildOrder.from_dict(first)
    try:
        if build.not_from is not None:
            drop_from_path(Path(build.not_from))
        prepared, clock, facts = _build(build)
        if build.not_from is not None:
            assert_not_imported(Path(build.not_from), shared=not build.own_environment)
        if build.tree is not None and not build.own_environment:
            assert_uses_base(Path(build.tree), build.source)
    except Exception as error:
        _answer(answers, _failed(error))
        return
    _answer(answers, {"ready": facts})
    checked = len(sys.modules)
    for line in orders:
        order = from_line(line) or {}
        try:
            answer = _obey(order, prepared, build.unit, clock)
            if build.not_from is not None and len(sys.modules) != checked:
                # Imports inside functions come with the calls.
                assert_not_imported(Path(build.not_from), shared=not build.own_environment)
                checked = len(sys.modules)
            _answer(answers, answer)
        except Exception as error:
            _answer(answers, _failed(error))


def _private_output() -> BinaryIO:
    """A stream to the parent that nobody else writes to: prints go to standard error."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return private


def _build(order: BuildOrder) -> tuple[PreparedArm, Clock, dict[str, Any]]:
    """The arm, its clock, and what the parent checks: weights, proofs, the first call."""
    import torch

    from ...accelerators.registry import clock_for, resolve_device
    from ...common.extensions import Extensions, use
    from ...extend.installed import add_installed
    from ...pipelines.components import weights_fingerprint
    from ...pipelines.sources import parse_source
    from ...techniques.stacks import parse_stack
    from ..builder import Builder
    from ..spec import ArmSpec

    torch.set_num_threads(order.threads)
    added = Extensions()
    use(added)
    add_installed(added)
    device = resolve_device(order.device)
    builder = Builder(device, steps=order.steps, prompts=order.prompts)
    source = parse_source(order.source)
    pipeline = source.build()
    weights = weights_fingerprint(pipeline)
    builder.to_device(pipeline, order.source)
    spec = ArmSpec(order.source, parse_stack(order.stack))
    prepared = builder.prepare(spec, pipeline, builder.call(source, pipeline))
    facts = {
        "weights": weights,
        "inputs": prepared.call.inputs(),
        "first_call_s": prepared.applied.first_call_s,
        "proofs": [proof.found for proof in prepared.applied.proofs],
    }
    prepared.arm_of(order.unit)  # refuse a unit that the pipeline lacks before anything is timed
    return prepared, clock_for(device), facts


def _obey(order: dict[str, Any], prepared: PreparedArm, unit: str, clock: Clock) -> dict[str, Any]:
    do = order.get("do")
    if do == "probe":
        from ..probes import probe_at

        probe = probe_at(str(order["at"]))
        seen = probe.count(prepared, str(order["root"]), order.get("with") or {})
        return {"seen": seen.as_dict()}
    arm = prepared.arm_of(unit)
    if do == "discard":
        arm.untimed_call()
        return {}
    if do == "call":
        seconds = arm.timed_call(clock)
        shape = getattr(arm.last_output, "shape", None)
        return {
            "seconds": seconds,
            "call_s": arm.last_call_s,
            "shape": None if shape is None else list(shape),
        }
    raise ValueError(f"{do!r} is no order")


def _answer(answers: BinaryIO, content: dict[str, Any]) -> None:
    answers.write(as_line(content))


def _failed(error: Exception) -> dict[str, Any]:
    from ...common.errors import AbsentSourceError, DiffspeedError, SelfComparisonError

    known = isinstance(error, DiffspeedError)
    return {
        "error": str(error) if known else f"{type(error).__name__}: {error}",
        "absent": isinstance(error, AbsentSourceError),
        "itself": isinstance(error, SelfComparisonError),
    }


if __name__ == "__main__":
    main()
