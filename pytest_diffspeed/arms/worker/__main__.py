"""The worker process: builds an arm, calls it whenever it is told to, and lets go of it.

    python diffspeed_worker.py [PIPE]

Started by :mod:`.arm`, never by hand: the script is written by it, and the parent holds the other
end of the pipe with the number ``PIPE`` for as long as it lives.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .imports import assert_not_imported, assert_uses_base, drop_from_path
from .protocol import BuildOrder, as_line, from_line
from .watch import end_with_parent

if TYPE_CHECKING:
    from ...accelerators.clock import Clock
    from ...accelerators.device import Device
    from ...pipelines.sources import PipelineSource
    from ...timing.arm import Arm
    from ..prepared_arm import PreparedArm


def main() -> None:
    if len(sys.argv) > 1:
        end_with_parent(int(sys.argv[1]), Path(sys.argv[0]).parent)
    answers = _private_output()
    worker = _Worker(lambda text: _answer(answers, {"progress": text}))
    for line in sys.stdin.buffer:
        try:
            answer = worker.obey(from_line(line) or {})
        except Exception as error:
            answer = _failed(error)
        _answer(answers, answer)


class _Worker:
    """Holds one arm at a time."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._order: BuildOrder | None = None
        self._arm: PreparedArm | None = None
        self._clock: Clock | None = None
        self._generators: dict[str, Mapping[str, Any]] = {}
        """By source, as its first pipeline found them."""
        self._checked = 0
        self._alone: Arm | None = None
        self._held = ExitStack()
        """What :attr:`_alone` runs in."""

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what an order says; what it gives is the answer.

        Raises:
            Exception: it cannot be done.
        """
        do = order.get("do")
        if do == "build":
            return {"ready": self._build(BuildOrder.from_dict(order["order"]))}
        if do == "gpu_cost":
            return _gpu_cost(order["order"], self._tell)
        if self._order is None or self._arm is None or self._clock is None:
            raise ValueError(f"{do!r} was asked of a worker that has built nothing")
        if do == "release":
            return self._release(self._order)
        if do == "alone":
            answer = {"alone": self._time_alone(self._arm, self._order.unit)}
        elif do == "whole":
            answer = self._time_whole_calls()
        elif do == "probe":
            answer = _probed(order, self._arm)
        else:
            arm = self._alone or self._arm.arm_of(self._order.unit)
            answer = _called(order, arm, self._clock)
        self._check_imports(self._order)
        return answer

    def _build(self, order: BuildOrder) -> dict[str, Any]:
        if order.not_from is not None and self._order is None:
            drop_from_path(Path(order.not_from))
        self._order, self._arm = order, None
        self._arm, self._clock, facts = _build(order, self._draw_as_first)
        self._check_imports(order)
        if order.tree is not None and not order.own_environment:
            assert_uses_base(Path(order.tree), order.source)
        return facts

    def _draw_as_first(self, source: PipelineSource, device: Device) -> None:
        """Have each pipeline of a source built from where the random generators were before its
        first one: a new process imports the source's code, and may seed them by that.
        """
        import torch

        from ...techniques.global_state import generators_now, restore_generators

        source.import_code()
        torch.empty(0, device=str(device))  # a GPU has generators from its first use on
        if source.name not in self._generators:
            self._generators[source.name] = generators_now()
        restore_generators(self._generators[source.name])

    def _release(self, order: BuildOrder) -> dict[str, Any]:
        """The next arm finds the process as this one did: dynamo compiles code, not modules, and
        would run for it what was compiled for this one.
        """
        from ...accelerators.registry import accelerator_of, resolve_device
        from ...common.quiet import third_party

        self._time_whole_calls()
        self._arm = None
        if "torch._dynamo" in sys.modules:
            import torch

            with third_party():
                torch.compiler.reset()
        gc.collect()  # compiled modules are parts of reference cycles
        accelerator_of(resolve_device(order.device)).release_memory()
        return {}

    def _time_alone(self, prepared: PreparedArm, unit: str) -> dict[str, Any]:
        from ..alone import arms_alone
        from ..component_calls import NotAloneError

        self._time_whole_calls()
        try:
            arms = arms_alone([prepared], unit)
        except NotAloneError as error:
            return {"why_not": str(error)}
        ((self._alone,),) = self._held.enter_context(arms.open())
        return {"pairs_of": arms.pairs_of, "ran_in": list(arms.ran_in)}

    def _time_whole_calls(self) -> dict[str, Any]:
        self._alone = None
        self._held.close()
        return {}

    def _check_imports(self, order: BuildOrder) -> None:
        """Imports inside functions come with the calls."""
        if order.not_from is not None and len(sys.modules) != self._checked:
            assert_not_imported(Path(order.not_from), shared=not order.own_environment)
            self._checked = len(sys.modules)


def _private_output() -> BinaryIO:
    """A stream to the parent that nobody else writes to: prints go to standard error."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return private


def _build(
    order: BuildOrder, before_building: Callable[[PipelineSource, Device], None]
) -> tuple[PreparedArm, Clock, dict[str, Any]]:
    """The arm, its clock, and what the parent checks: weights, proofs, the first call."""
    import torch

    from ...accelerators.registry import clock_for, resolve_device
    from ...pipelines.components import weights_fingerprint
    from ...pipelines.sources import parse_source
    from ...techniques.stacks import parse_stack
    from ..builder import Builder
    from ..spec import ArmSpec

    torch.set_num_threads(order.threads)
    device = resolve_device(order.device)
    builder = Builder(device, steps=order.steps, prompts=order.prompts)
    source = parse_source(order.source)
    before_building(source, device)
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


def _gpu_cost(plain: dict[str, Any], tell: Callable[[str], object]) -> dict[str, Any]:
    """The count, or why there is none; this process is of no other use afterwards."""
    from ...common.errors import DiffspeedError
    from ..gpu_cost.in_worker import count_here
    from ..gpu_cost.order import CountOrder

    order = CountOrder.from_dict(plain)
    if order.not_from is not None:
        drop_from_path(Path(order.not_from))
    try:
        # This folder is the parent's, which removes it also where it kills this process.
        counted = count_here(order, tell, Path(sys.argv[0]).parent)
        if order.not_from is not None:
            assert_not_imported(Path(order.not_from), shared=not order.own_environment)
        if order.tree is not None and not order.own_environment:
            assert_uses_base(Path(order.tree), order.source)
    except DiffspeedError as error:
        return {"refused": _failed(error)}
    return {"gpu_cost": counted.to_json()}


def _probed(order: dict[str, Any], prepared: PreparedArm) -> dict[str, Any]:
    from ..probes import probe_at

    probe = probe_at(str(order["at"]))
    seen = probe.count(prepared, str(order["root"]), order.get("with") or {})
    return {"seen": seen.as_dict()}


def _called(order: dict[str, Any], arm: Arm, clock: Clock) -> dict[str, Any]:
    from ...timing.arm import in_turn

    do = order.get("do")
    in_turn(arm, int(order.get("turn", 0)))
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
