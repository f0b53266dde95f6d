"""The gates of one test and unit, measured in rounds that they share."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...arms.spec import ArmSpec
from ...common.errors import DiffspeedError, SelfComparisonError, UnexpectedError
from ...records.verdict import GateResult
from ...techniques.stacks import PREVIOUS, Stack
from ..countable import require_countable
from ..gate import GateContext, why_unchecked
from .evidence_key import attempt_of
from .marker import SpeedMarker
from .result import gate_result

if TYPE_CHECKING:
    from ...accelerators.clock import Clock
    from ...arms.prepared_arm import PreparedArm
    from ...evidence.noise import KnownFloor
    from ...evidence.verdict_store import Attempt, Instance
    from ...timing.arm import TimedArm
    from ...timing.budget import Projection
    from ...timing.comparison import Hypothesis, SpeedupResult
    from ...timing.rounds import Pair
    from ...timing.warm_up import WarmUp


def decided(block: GateGroup) -> Iterator[tuple[SpeedMarker, GateResult | DiffspeedError]]:
    """Measure a block and give each of its gates with its verdict, or why it has none."""
    failed: DiffspeedError | None = None
    try:
        block.measure()
    except Exception as error:
        failed = why_unchecked(error)
    except BaseException:  # Ctrl-C: what is decided is told all the same
        yield from ((a.marker, a.result) for a in block.asked if a.result is not None)
        raise
    if isinstance(failed, UnexpectedError) and all(a.result is not None for a in block.asked):
        raise failed  # after the verdicts, so no gate would say it
    for asked in block.asked:
        if asked.result is not None:
            yield asked.marker, asked.result
        else:
            assert failed is not None, "a block ends with a verdict or an error for each"
            yield asked.marker, failed
    block.tell_arms()


@dataclass
class PendingGate:
    """One gate that is to be measured, and what came of it."""

    marker: SpeedMarker
    over: Stack
    baseline: PreparedArm | None
    """``None``: it is built in worker processes only."""
    attempt: Attempt
    instance: Instance | None = None
    counted: list[Pair] = field(default_factory=list)
    result: GateResult | None = None


def ask(marker: SpeedMarker, context: GateContext) -> PendingGate | GateResult:
    """The gate with the arm that it compares with; the FAIL that it ended with already."""
    candidate = context.candidate
    over = context.previous if marker.over == PREVIOUS else marker.over
    if over == candidate.spec.stack:
        raise SelfComparisonError(f"it would compare {over} with itself")
    attempt = attempt_of(marker, context, over)
    if attempt.verdict is not None:
        return attempt.verdict
    baseline = context.session.arms.other(ArmSpec(candidate.spec.source, over))
    for arm in (baseline, candidate):
        arm.require_unchanged()
    return PendingGate(marker, over, baseline, attempt)


class GateGroup:
    """The gates of one test and unit, measured together."""

    def __init__(self, unit: str, asked: list[PendingGate], context: GateContext) -> None:
        self.unit = unit
        self.asked = asked
        self._context = context
        self._session = context.session
        self._candidate = context.candidate
        self._overs = list(dict.fromkeys(a.over for a in asked))
        self._floor: KnownFloor | None = None

    def measure(self) -> None:
        """Decide all gates; each is on record before the next round begins.

        Raises:
            DiffspeedError: what was not decided yet could not be.
        """
        from ...accelerators.registry import disturbances_of
        from ...timing.speedup import SpeedupMeasurement  # numpy: not at collection

        session = self._session
        seed = random.SystemRandom().randrange(2**32)
        with ExitStack() as held:
            with self._instances() as instances:
                # Only now: workers may build for minutes, and nobody else could time meanwhile.
                held.enter_context(session.exclusive_device())
                self._floor = self._noise_floor(instances[0], seed)
                for asked in self.asked:
                    self._write_start(asked, seed)
                    asked.instance = asked.attempt.begin()
                SpeedupMeasurement(
                    instances,
                    [self._hypothesis(asked) for asked in self.asked],
                    budget_s=session.options.budget_s,
                    clock=session.clock,
                    seed=seed,
                    noise=math.nan if self._floor is None else self._floor.floor.noise,
                    disturbances=disturbances_of(session.device),
                    on_warm=self._on_warm,
                    on_pair=self._on_pair,
                    on_result=self._on_result,
                ).run()
            self._afterwards()

    def _noise_floor(self, arms: Sequence[TimedArm], seed: int) -> KnownFloor | None:
        """What is known of the baseline; where it is measured now, ``arms`` are called as often."""
        from ...arms.noise_floor import noise_floor_of

        beside = () if self._in_workers else arms  # those of workers are warmed up there
        return noise_floor_of(
            self._session, self._candidate.spec.source, self.unit, beside=beside, seed=seed
        )

    def _instances(self) -> AbstractContextManager[Sequence[Sequence[TimedArm]]]:
        """The arms, once for each process instance: those of ``over``, then the candidate."""
        baselines = {asked.over: asked.baseline for asked in self.asked}
        prepared = [*(baselines[over] for over in self._overs), self._candidate]
        arms = [arm for arm in prepared if arm is not None]
        return self._session.workers.instances(arms, self.unit)

    def _afterwards(self) -> None:
        """What is told of the arms beside the verdicts, which are on record by now."""
        self._record_stages()
        self._record_memory()

    def tell_arms(self) -> None:
        """Tell the session's listeners the seconds of each arm."""
        for asked in self.asked:
            if not asked.counted or asked.result is None:
                continue
            times = (
                (asked.over.name, [pair.baseline_s for pair in asked.counted]),
                (self._stack, [pair.candidate_s for pair in asked.counted]),
            )
            for listener in self._session.arm_listeners:
                for arm, seconds in times:
                    claim, figures = asked.marker.claim, asked.result.figures
                    try:
                        listener(self._context.test, claim, arm, seconds, figures)
                    except Exception as error:  # somebody else's table must not cost a verdict
                        self._session.progress.line(
                            f"{listener} failed: {type(error).__name__}: {error}"
                        )

    @property
    def _stack(self) -> str:
        return self._candidate.spec.stack.name

    def _identity(self, asked: PendingGate) -> dict[str, Any]:
        return {"test": self._context.test, "stack": self._stack, "claim": asked.marker.claim}

    def _first_calls(self, asked: PendingGate) -> tuple[float, float]:
        assert asked.baseline is not None
        return asked.baseline.applied.first_call_s, self._candidate.applied.first_call_s

    @property
    def _in_workers(self) -> bool:
        return self._session.options.instances_of_arm() > 1

    def _hypothesis(self, asked: PendingGate) -> Hypothesis:
        from ...timing.comparison import Hypothesis

        return Hypothesis(
            asked.marker.min_ratio,
            baseline=self._overs.index(asked.over),
            candidate=len(self._overs),
            alpha=asked.marker.alpha,
            method=asked.marker.method,
            earlier=asked.attempt.earlier,
            earlier_instances=len(asked.attempt.processes),
        )

    def _write_start(self, asked: PendingGate, seed: int) -> None:
        first_calls = self._first_calls(asked)
        self._session.journal.write(
            "gate-start",
            **self._identity(asked),
            over=asked.over.name,
            need=asked.marker.min_ratio,
            seed=seed,
            device=vars(self._session.device),
            environment=self._session.environment(),
            baseline_first_call_s=first_calls[0],
            candidate_first_call_s=first_calls[1],
        )

    def _on_warm(self, number: int, warm: tuple[WarmUp, WarmUp], projection: Projection) -> None:
        asked, (first, second) = self.asked[number], warm
        say = self._session.progress.line
        say(
            f"timing {self._stack} against {asked.over}: {second.steady_s:.3g} s against "
            f"{first.steady_s:.3g} s a {self.unit}, at most {projection.budget_s:.0f} s"
        )
        if not projection.is_enough:
            say(f"{asked.marker.claim}: {projection.sentence}")

    def _on_pair(self, number: int, pair: Pair) -> None:
        asked = self.asked[number]
        # A kind of its own, so that no reader counts it.
        kind = "pair" if pair.dropped is None else "dropped-pair"
        self._session.journal.write(kind, **self._identity(asked), **vars(pair))
        if pair.dropped is None:
            asked.counted.append(pair)
            assert asked.instance is not None
            worker = pair.instance if self._in_workers else None
            asked.instance.pair(pair.baseline_s, pair.candidate_s, worker)
        ratio = pair.baseline_s / pair.candidate_s
        self._session.progress.transient(
            f"pair {pair.index + 1}: {ratio:.3f}×  ({self._stack} over {asked.over})"
        )

    def _on_result(self, number: int, measured: SpeedupResult) -> None:
        asked = self.asked[number]
        assert asked.instance is not None
        found = gate_result(
            asked.marker,
            self._context,
            asked.over.name,
            measured,
            first_calls=self._first_calls(asked),
            floor={} if self._floor is None else self._floor.figures(),
        )
        asked.result = asked.instance.end(self._annotated(found))
        self._context.publish(asked.result)

    def _annotated(self, found: GateResult) -> GateResult:
        """The result with what else this block knows of its arms."""
        return found

    def _record_stages(self) -> None:
        """Only now: the verdicts are written, whatever these calls do."""
        measured = [a for a in self.asked if a.counted and a.result is not None]
        stages: dict[str, Any] = {}
        for asked in measured:
            for prepared in (asked.baseline, self._candidate):
                assert prepared is not None
                name = prepared.spec.stack.name
                if name not in stages:
                    stages[name] = _stages(prepared, self._session.clock)
            ours = None
            if stages[self._stack] is not None:
                ours = {"baseline": stages[asked.over.name], "candidate": stages[self._stack]}
            assert asked.result is not None
            asked.result.figures["stages"] = ours
            self._session.journal.write("stages", **self._identity(asked), stages=ours)

    def _record_memory(self) -> None:
        """The peak of one more call of each arm, where an allocator counts it."""
        from ...accelerators.registry import allocator_of

        allocator = allocator_of(self._session.device)
        if allocator is None:
            return
        peaks: dict[str, Any] = {}
        for asked in self.asked:
            if asked.result is None:
                continue
            for prepared in (asked.baseline, self._candidate):
                assert prepared is not None
                name = prepared.spec.stack.name
                if name not in peaks:
                    try:
                        require_countable(prepared)
                        peaks[name] = vars(prepared.peak_memory(allocator))
                    except Exception as error:  # the verdict is there, and stays
                        peaks[name] = {"error": f"{type(error).__name__}: {error}"}
            memory = {"baseline": peaks[asked.over.name], "candidate": peaks[self._stack]}
            asked.result.figures["memory"] = memory
            self._session.journal.write("memory", **self._identity(asked), memory=memory)


def _stages(prepared: PreparedArm, clock: Clock) -> dict[str, Any] | None:
    """Stage times of one more call; watching it cannot touch the pairs any more.

    ``None`` where the clock times whole calls only.  The pairs have been paid for: a call that
    raises now says so in the place of its stages and costs the verdict nothing.
    """
    from ...accelerators.clock import StampClock

    if not isinstance(clock, StampClock):
        return None
    try:
        return dict(prepared.stage_times(clock).as_dict())
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
