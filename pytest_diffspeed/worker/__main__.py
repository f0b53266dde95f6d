"""The worker process: builds one arm, then calls it whenever it is told to.

    python -m pytest_diffspeed.worker

Started by :mod:`pytest_diffspeed.worker.arm`, never by hand.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from .protocol import BuildOrder, as_line, from_line

if TYPE_CHECKING:
    from ..timing.arm import Arm
    from ..timing.clock import Clock


def main() -> None:
    answers = _private_output()
    orders = sys.stdin.buffer
    first = from_line(orders.readline())
    if first is None:
        return  # the parent is gone already
    try:
        arm, clock, facts = _build(BuildOrder.from_dict(first))
    except Exception as error:
        _say(answers, {"error": _sentence(error)})
        return
    _say(answers, {"ready": facts})
    for line in orders:
        order = from_line(line) or {}
        try:
            _say(answers, _obey(str(order.get("do")), arm, clock))
        except Exception as error:
            _say(answers, {"error": _sentence(error)})


def _private_output() -> BinaryIO:
    """A stream to the parent that nobody else writes to: prints go to standard error."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return private


def _build(order: BuildOrder) -> tuple[Arm, Clock, dict[str, Any]]:
    """The arm, its clock, and what the parent checks: weights, proofs, the first call."""
    import torch

    from ..building import Builder
    from ..device import resolve_device
    from ..extension_points import add_installed
    from ..extensions import Extensions, use
    from ..pipelines.components import weights_fingerprint
    from ..pipelines.sources import parse_source
    from ..specs import ArmSpec
    from ..techniques.stacks import parse_stack
    from ..timing.clock import clock_for

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
        "first_call_s": prepared.applied.first_call_s,
        "proofs": [proof.found for proof in prepared.applied.proofs],
    }
    return prepared.arm_of(order.unit), clock_for(device), facts


def _obey(order: str, arm: Arm, clock: Clock) -> dict[str, Any]:
    if order == "discard":
        arm.discarded_call()
        return {}
    if order == "call":
        seconds = arm.timed_call(clock)
        shape = getattr(arm.last_output, "shape", None)
        return {
            "seconds": seconds,
            "call_s": arm.last_call_s,
            "shape": None if shape is None else list(shape),
        }
    raise ValueError(f"{order!r} is no order")


def _say(answers: BinaryIO, content: dict[str, Any]) -> None:
    answers.write(as_line(content))


def _sentence(error: Exception) -> str:
    from ..errors import DiffspeedError

    known = isinstance(error, DiffspeedError)
    return str(error) if known else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
