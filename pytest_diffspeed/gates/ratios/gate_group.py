"""The gates of one test and unit, measured in rounds that they share."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any

from ...common.errors import DiffspeedError, UnexpectedError
from ...records.verdict import GateResult
from ..gate import GateContext, why_unchecked
from .beside_pairs import record_memory, record_stages
from .evidence_key import attempt_of
from .marker import WHOLE_CALL, SpeedMarker
from .pending import PendingGate
from .result import gate_result

if TYPE_CHECKING:
    from ...arms.component_calls import ComponentArms
    from ...arms.lockstep import StepArms
    from ...arms.prepared_arm import PreparedArm
    from ...evidence.noise import KnownFloor
    from ...timing.arm import TimedArm
    from ...timing.budget import Projection
    from ...timing.comparison import Hypothesis, SpeedupResult
    from ...timing.rounds import Pair
    from ...timing.warm_up import WarmUp


WHOLE_CALLS = "whole calls"


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


class GateGroup:
    """The gates of one test and unit, measured together.

    Pairs are calls of the component alone, or single steps, where those are known to be the same as
    in a whole call; where they are not, pairs are whole calls, and the line says why.
    """

    def __init__(self, unit: str, asked: list[PendingGate], context: GateContext) -> None:
        self.unit = unit
        self.asked = asked
        self._context = context
        self._session = context.session
        self._candidate = context.candidate
        self._overs = list(dict.fromkeys(a.over for a in asked))
        self._floor: KnownFloor | None = None
        self._alone: ComponentArms | StepArms | None = None
        self._pairs_of = WHOLE_CALLS
        """What a pair is of, for the line and the record."""
        self._is_alone = False
        """Whether that is less than a whole call."""
        self._open: list[PendingGate] = []

    def measure(self) -> None:
        """Decide all gates; each is on record before the next round begins.

        Raises:
            DiffspeedError: what was not decided yet could not be.
        """
        from ...accelerators.registry import disturbances_of
        from ...timing.speedup import SpeedupMeasurement  # numpy: not at collection

        session = self._session
        seed = random.SystemRandom().randrange(2**32)
        if self.unit != WHOLE_CALL and not self._in_workers:
            self._choose_pairs()
        with ExitStack() as held:
            with self._instances() as instances:
                if self.unit != WHOLE_CALL and self._in_workers:
                    self._choose_pairs_in(instances)
                self._open = [asked for asked in self.asked if asked.result is None]
                if not self._open:
                    return
                # Only now: workers may build for minutes, and nobody else could time meanwhile.
                held.enter_context(session.exclusive_device())
                self._floor = self._noise_floor(instances[0], seed)
                for asked in self._open:
                    self._write_start(asked, seed)
                    asked.instance = asked.attempt.begin()
                SpeedupMeasurement(
                    instances,
                    [self._hypothesis(asked) for asked in self._open],
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

        if self._in_workers and self._is_alone:
            return None  # this process's baseline makes no such pairs
        beside = () if self._in_workers else arms  # those of workers are warmed up there
        return noise_floor_of(
            self._session,
            self._candidate.spec.source,
            self.unit,
            stack=self._candidate.spec.stack,
            beside=beside,
            seed=seed,
            alone=None if self._alone is None else self._alone.arm_of,
        )

    def _choose_pairs(self) -> None:
        """Take calls of the component alone or single steps, if that can be; else whole calls, as
        another gate: its earlier pairs and its FAIL are those of whole calls.
        """
        from ...arms.alone import arms_alone
        from ...arms.component_calls import NotAloneError

        try:
            self._alone = arms_alone(self._arms(), self.unit)
        except NotAloneError as error:
            self._fall_back(str(error))
        else:
            self._time_alone(self._alone.pairs_of)

    def _choose_pairs_in(self, workers: Sequence[Sequence[TimedArm]]) -> None:
        """The same of arms in worker processes; all of them time the same."""
        from ...arms.worker.arm import WorkerArm

        arms = [arm for instance in workers for arm in instance if isinstance(arm, WorkerArm)]
        found = [arm.time_alone() for arm in arms]
        why_not = next((one.why_not for one in found if one.why_not is not None), None)
        if why_not is None and any(one != found[0] for one in found):
            why_not = f"the arms do not run {self.unit} in the same steps"
        if why_not is None:
            self._time_alone(found[0].pairs_of)
            return
        for arm in arms:
            arm.time_whole_calls()
        self._fall_back(why_not)

    def _time_alone(self, pairs_of: str) -> None:
        self._is_alone, self._pairs_of = True, pairs_of

    def _fall_back(self, why: str) -> None:
        self._pairs_of = f"{WHOLE_CALLS}, since {why}"
        self._session.progress.line(f"{self.unit} is timed in whole calls: {why}")
        for asked in self.asked:
            asked.attempt = attempt_of(asked.marker, self._context, asked.over, whole_calls=True)
            if asked.attempt.verdict is not None:
                asked.result = self._context.publish(asked.attempt.verdict)

    def _arms(self) -> list[PreparedArm]:
        """Those of ``over``, then the candidate."""
        baselines = {asked.over: asked.baseline for asked in self.asked}
        prepared = [*(baselines[over] for over in self._overs), self._candidate]
        return [arm for arm in prepared if arm is not None]

    def _instances(self) -> AbstractContextManager[Sequence[Sequence[TimedArm]]]:
        """The arms, once for each process instance."""
        if self._alone is not None:
            return self._alone.open()
        return self._session.workers.instances(self._arms(), self.unit)

    def _afterwards(self) -> None:
        """What is told of the arms beside the verdicts, which are on record by now.

        It takes whole calls, which are all that is saved where pairs are calls of a component.
        """
        if self._is_alone:
            return
        measured = [asked for asked in self.asked if asked.counted and asked.result is not None]
        record_stages(measured, self._candidate, self._session, self._identity)
        record_memory(self._open, self._candidate, self._session, self._identity)

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
        asked, (first, second) = self._open[number], warm
        say = self._session.progress.line
        say(
            f"timing {self._stack} against {asked.over}: {second.steady_s:.3g} s against "
            f"{first.steady_s:.3g} s a {self.unit}, at most {projection.budget_s:.0f} s"
        )
        if not projection.is_enough:
            say(f"{asked.marker.claim}: {projection.sentence}")

    def _on_pair(self, number: int, pair: Pair) -> None:
        asked = self._open[number]
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
        asked = self._open[number]
        assert asked.instance is not None
        found = gate_result(
            asked.marker,
            self._context,
            asked.over.name,
            measured,
            first_calls=self._first_calls(asked),
            floor={} if self._floor is None else self._floor.figures(),
            pairs_of=self._pairs_of,
            has_stages=not self._is_alone,
        )
        asked.result = asked.instance.end(self._annotated(found))
        self._context.publish(asked.result)

    def _annotated(self, found: GateResult) -> GateResult:
        """The result with what else this block knows of its arms."""
        return found
