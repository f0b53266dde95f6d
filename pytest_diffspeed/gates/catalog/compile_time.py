"""``max_compile_time``: the cold start, and after how many images it has paid off."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...common.errors import MeasurementError
from ...common.text import listed, plural
from ...records.verdict import (
    SECONDS,
    Axis,
    Cause,
    EvidenceKind,
    GateResult,
    Metric,
    VerdictKind,
)
from ...techniques.stacks import Stack
from ...techniques.technique import Family
from ..gate import Gate, GateContext
from ..marker import GateMarker
from ..marker_values import as_device, as_number, as_optional_stack

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm

_CALLS = 3
"""Timed calls of each arm: enough for the sentence on when it pays off, which is no verdict."""


@dataclass(frozen=True)
class MaxCompileTime(GateMarker):
    """The first call, compilation included, takes at most ``seconds``."""

    signature: ClassVar[str] = (
        "max_compile_time(seconds, stack=None, device=None): cold start with compilation"
    )
    axis: ClassVar[Axis] = Axis.TIME
    seconds: float
    stack: Stack | None
    device: str | None

    @classmethod
    def from_arguments(
        cls, seconds: float, stack: str | None = None, device: str | None = None
    ) -> MaxCompileTime:
        return cls(
            as_number("seconds", seconds, above=0.0, example="120"),
            as_optional_stack(stack),
            as_device(device),
        )


class MaxCompileTimeGate(Gate):
    """The first whole call of the arm was timed when it was built; here it is judged.

    A few more calls of arm and baseline are timed, to say after how many images it has paid off.
    """

    markers: ClassVar[tuple[type[GateMarker], ...]] = (MaxCompileTime,)

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        from ...compilation.cost import ColdStart

        assert isinstance(marker, MaxCompileTime)
        session, arm = context.session, context.candidate
        stack = arm.spec.stack
        if not any(technique.family is Family.COMPILE for technique in stack.techniques()):
            raise MeasurementError(
                f"{stack} compiles nothing, so there is no compilation to time; use a stack with a "
                "technique that compiles"
            )
        arm.require_unchanged()
        _require_cold(arm)
        seconds: list[float] = []
        with session.exclusive_device():
            for one in (arm, session.arms.baseline(arm.spec.source, stack)):
                timed = one.arm_of("call")
                timed.untimed_call()
                times = [timed.timed_call(session.clock) for _ in range(_CALLS)]
                seconds.append(statistics.median(times))
        start = ColdStart(arm.applied.first_call_s, seconds[0], seconds[1], arm.compilation.cache)
        failed = start.first_call_s > marker.seconds
        reason = f"the first call took {start.first_call_s:.3g} s, allowed: {marker.seconds:g} s"
        if start.cache in ("warm", "partly warm"):
            reason += "; a cold start takes longer: clear inductor's cache to time one"
        result = context.result(
            marker,
            VerdictKind.FAIL if failed else VerdictKind.PASS,
            reason=reason,
            evidence=EvidenceKind.MEASURED,
            figures={
                "found": start.sentence(),
                "allowed_s": marker.seconds,
                "graphs": arm.compilation.graphs,
                **start.as_dict(),
            },
            metrics=[
                Metric(name, value, "s", kind=SECONDS, is_counted=False)
                for name, value in (
                    ("baseline_s", start.baseline_s),
                    ("first_call_s", start.first_call_s),
                )
            ],
            cause=Cause(
                "COMPILE TIME",
                f"the first call took {start.first_call_s:.3g} s, {marker.seconds:g} s allowed",
                _next_step(stack),
            ),
        )
        return context.publish(result)


def _require_cold(arm: PreparedArm) -> None:
    """Refuse a first call that another stack of this session made short.

    A cache that was warm when the session began is what users keep for that.

    Raises:
        MeasurementError: with what was found compiled.
    """
    found = ""
    if arm.applied.compiled_before:
        found = f"{listed(arm.applied.compiled_before)} ran code that this process had compiled"
    elif arm.compilation.paid_here:
        hits = plural(arm.compilation.paid_here, "graph")
        found = f"{hits} came from inductor's cache, into which this session had compiled"
    if found:
        raise MeasurementError(
            f"the first call of {arm.spec.stack} was no cold start: {found} before, for another "
            "stack or an earlier test; run this test in a session of its own"
        )


def _next_step(stack: Stack) -> str:
    whole = any(
        technique.family is Family.COMPILE and technique.compiled_unit == "component"
        for technique in stack.techniques()
    )
    shorter = "compile repeated blocks only ('compile_regional'), " if whole else ""
    return f"{shorter}keep a compile cache, or allow more seconds"


GATES = (MaxCompileTimeGate(),)
