"""Measure speedups: rounds of interleaved calls, fed to one gate a question until all decide."""

from __future__ import annotations

import inspect
import math
import random
import statistics as stdlib_statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from ..accelerators.catalog.cpu import WallClock
from ..accelerators.clock import Clock
from ..common.arguments import named_number, one_of, shown, spelt_keywords, whole_number
from ..common.errors import WrongTypeError
from ..statistics.methods import Method
from .arm import Arm, TimedArm, check_same_outputs
from .budget import Projection, allowed_seconds
from .comparison import Comparison, Hypothesis, SpeedupResult
from .rounds import Pair, Round, measure_rounds
from .validity import Condition, FullCollection, Validity
from .warm_up import WarmUp, is_far, warm_up


@spelt_keywords
def measure_speedup(
    baseline: TimedArm | Callable[[], object],
    candidate: TimedArm | Callable[[], object],
    *,
    min_ratio: float,
    alpha: float = 0.05,
    method: Method = "sign",
    budget_s: float | None = 60.0,
    clock: Clock | None = None,
    seed: int | None = None,
    discard_warm_call: bool = False,
    disturbances: Sequence[Condition] = (),
    now: Callable[[], float] = time.perf_counter,
    on_warm: Callable[[WarmUp, WarmUp, Projection], None] = lambda *_: None,
    on_pair: Callable[[Pair], None] = lambda _: None,
) -> SpeedupResult:
    """Is ``candidate`` at least ``min_ratio`` times as fast as ``baseline``?

    Args:
        baseline, candidate: functions without arguments that do the same work.
        min_ratio: the threshold on the median of baseline seconds ÷ candidate seconds.
        alpha: the error rate of each verdict at the threshold.
        method: of the gate, see :class:`pytest_diffspeed.statistics.SpeedupGate`.
        budget_s: seconds for the pairs after warm-up; ``None`` means 60, or as many as 12 pairs
            need.
        clock: times one call; the CPU's clock if left out.
        seed: of the order in which the arms of a pair run; drawn if left out, and told in the
            result.  With the same seed always, a machine that is slow in the same calls each time
            always errs in the same direction.
        discard_warm_call: call an arm once off the clock before each timed call of it; for arms
            that disturb each other through caches, clocks or memory.  Twice the calls.
        disturbances: asked before each pair whether the machine is disturbed, beside a full garbage
            collection; see :mod:`pytest_diffspeed.timing.validity`.
        now: a clock for the budget.
        on_warm: told how both arms warmed up, and what the budget can be expected to show.
        on_pair: told each pair as it happens, those that do not count too; a record is written
            there.

    Raises:
        UsageError: an argument makes no sense; a WrongTypeError, which is a TypeError too, where it
            is of another type.  A function returned a coroutine or the like in place of working.
        MeasurementError: an arm raised, its clock misbehaved, or the outputs differ in shape.
    """
    named_number("min_ratio", min_ratio, above=0.0, example="1.5")
    named_number("alpha", alpha, above=0.0, below=0.5, example="0.05")
    one_of("method", method, get_args(Method))
    if seed is not None:
        whole_number("seed", seed, least=0)
    arms = (_as_arm("baseline", baseline), _as_arm("candidate", candidate))
    measurement = SpeedupMeasurement(
        [arms],
        [Hypothesis(min_ratio, alpha=alpha, method=method)],
        budget_s=budget_s,
        clock=clock,
        seed=seed,
        discard_warm_call=discard_warm_call,
        disturbances=disturbances,
        now=now,
        on_warm=lambda _, warm, projection: on_warm(*warm, projection),
        on_pair=lambda _, pair: on_pair(pair),
    )
    (result,) = measurement.run()
    return result


@dataclass
class SpeedupMeasurement:
    """Decides several ratios between the same arms from the same rounds.

    An arm whose ratios are all decided runs no more.  Used once: :meth:`run`.

    Args:
        instances: the arms, once for each process instance of them; these take turns, and no
            measurement ends before each had its turn.  From three on, verdicts and intervals hold
            for other processes of the same kind too.
        hypotheses: one for each ratio.
        budget_s: see :func:`measure_speedup`, as for all that is not explained here.
        auto_s: the seconds of each ratio where ``budget_s`` is ``None``.
        clock, seed, discard_warm_call, disturbances, now: see there.
        noise: what one pair's log ratio is expected to vary by, for the projection.
        on_warm, on_pair, on_result: told the number of the hypothesis first; the last is called as
            soon as its verdict is there.

    Raises:
        UsageError: ``budget_s`` is not positive.
    """

    instances: Sequence[Sequence[TimedArm]]
    hypotheses: Sequence[Hypothesis]
    budget_s: float | None = 60.0
    auto_s: float | None = None
    clock: Clock | None = None
    seed: int | None = None
    noise: float = math.nan
    discard_warm_call: bool = False
    disturbances: Sequence[Condition] = ()
    now: Callable[[], float] = time.perf_counter
    on_warm: Callable[[int, tuple[WarmUp, WarmUp], Projection], None] = lambda *_: None
    on_pair: Callable[[int, Pair], None] = lambda *_: None
    on_result: Callable[[int, SpeedupResult], None] = lambda *_: None

    def __post_init__(self) -> None:
        if self.budget_s is not None:
            named_number("budget_s", self.budget_s, above=0.0, example="60")
        drawn = random.SystemRandom().randrange(2**32)
        self._seed = drawn if self.seed is None else self.seed
        self._clock: Clock = self.clock or WallClock()
        self._comparisons = [Comparison(one, len(self.instances)) for one in self.hypotheses]
        self._collections = FullCollection()
        self._validity = Validity((self._collections, *self.disturbances))
        self._warm: list[tuple[WarmUp, WarmUp]] = []
        self._warm_up_remark = ""
        self._projections: list[Projection] = []
        self._overheads_s: list[float] = []
        self._undecided: list[int] = []
        self._results: dict[int, SpeedupResult] = {}

    def run(self) -> list[SpeedupResult]:
        """The results, in the order of the hypotheses.

        Ctrl-C ends all hypotheses with the pairs that they have, and goes on as KeyboardInterrupt.

        Raises:
            MeasurementError: as :func:`measure_speedup`; hypotheses that are decided have been
                told.
        """
        allowed_s = self._warm_up()
        self._close_what_needs_no_pairs()
        if self._undecided:
            try:
                with self._collections.watching():
                    self._measure(allowed_s)
            except KeyboardInterrupt:
                for number in self._undecided:
                    if self._comparisons[number].pairs:
                        self._close(number, "stopped by the user")
                raise
            for number in self._undecided:
                self._close(number)
        return [self._results[number] for number in range(len(self.hypotheses))]

    def _warm_up(self) -> float:
        """Warm all arms up, project what the budget shows; the seconds that pairs may take."""
        arms_of_a_round = len(self.instances[0])
        warm_ups = [
            warm_up(
                arms,
                self._clock,
                seed=f"{self._seed}/{number}",
                is_clear=self._is_clear,
                most_s=allowed_seconds(self.budget_s, 0.0, arms_of_a_round, auto_s=self.auto_s),
            )
            for number, arms in enumerate(self.instances)
        ]
        self._warm_up_remark = _remark(self.instances, warm_ups)
        for arms in self.instances:
            for one in self.hypotheses:
                check_same_outputs(arms[one.baseline], arms[one.candidate])
        # What one round costs; instances differ by little.
        round_s = (2 if self.discard_warm_call else 1) * max(
            sum(warm.steady_call_s for warm in warms) for warms in warm_ups
        )
        allowed_s = allowed_seconds(self.budget_s, round_s, arms_of_a_round, auto_s=self.auto_s)
        first = warm_ups[0]
        self._warm = [(first[one.baseline], first[one.candidate]) for one in self.hypotheses]
        self._projections = [
            comparison.projection(warm, round_s, allowed_s, self.noise)
            for comparison, warm in zip(self._comparisons, self._warm, strict=True)
        ]
        for number, projection in enumerate(self._projections):
            self.on_warm(number, self._warm[number], projection)
        return allowed_s

    def _is_clear(self, seconds: Sequence[Sequence[float]]) -> bool:
        """Whether what is left of the warm-up can decide nothing that was asked."""
        return all(
            one.precision is None
            and is_far(seconds[one.baseline], seconds[one.candidate], one.min_ratio)
            for one in self.hypotheses
        )

    def _close_what_needs_no_pairs(self) -> None:
        """Earlier pairs decide some; no budget of this size decides others."""
        for number, comparison in enumerate(self._comparisons):
            if comparison.is_settled or self._projections[number].is_impossible:
                self._close(number)
            else:
                self._undecided.append(number)

    def _measure(self, allowed_s: float) -> None:
        """Rounds until all is decided or the seconds are spent."""
        started = began = self.now()
        for round_ in measure_rounds(
            self.instances,
            self._clock,
            seed=self._seed,
            discard_warm_call=self.discard_warm_call,
            before_round=self._validity.before_pair,
            wanted=self._wanted,
        ):
            self._take(round_)
            ended = self.now()
            self._overheads_s.append(ended - began - self._called_s(round_))
            began = ended
            whole_turn = (round_.index + 1) % len(self.instances) == 0
            if whole_turn:  # only then: the verdict counts each instance
                self._close_what_is_settled()
            spent = ended - started >= allowed_s and round_.index + 1 >= len(self.instances)
            if not self._undecided or (spent and round_.dropped is None):
                return

    def _wanted(self) -> set[int]:
        return {arm for number in self._undecided for arm in self._comparisons[number].arms}

    def _take(self, round_: Round) -> None:
        for number in self._undecided:
            one = self.hypotheses[number]
            pair = round_.pair(one.baseline, one.candidate)
            self.on_pair(number, pair)
            self._comparisons[number].take(pair)

    def _close_what_is_settled(self) -> None:
        for number in [n for n in self._undecided if self._comparisons[n].is_settled]:
            self._undecided.remove(number)
            self._close(number)

    def _close(self, number: int, remark: str = "") -> None:
        known = self._overheads_s
        result = self._comparisons[number].result(
            self._warm[number],
            projection=self._projections[number],
            seed=self._seed,
            discard_warm_call=self.discard_warm_call,
            remark="; ".join(filter(None, (remark, self._warm_up_remark, self._validity.remark))),
            kept_disturbed=self._validity.kept_disturbed,
            round_overhead_s=stdlib_statistics.median(known) if known else math.nan,
        )
        self._results[number] = result
        self.on_result(number, result)

    def _called_s(self, round_: Round) -> float:
        """Seconds that the arms of a round ran in it; an untimed call counts as the timed one."""
        arms = self.instances[round_.instance]
        called = sum(arms[number].last_call_s for number in round_.seconds)
        return 2 * called if self.discard_warm_call else called


def _remark(instances: Sequence[Sequence[TimedArm]], warm_ups: Sequence[Sequence[WarmUp]]) -> str:
    """Which arms were not level when warm-up ended, as a clause; empty where all were."""
    moving = [
        (arm.name, warm.calls)
        for arms, warms in zip(instances, warm_ups, strict=True)
        for arm, warm in zip(arms, warms, strict=True)
        if not warm.is_level
    ]
    if not moving:
        return ""
    names = ", ".join(dict.fromkeys(name for name, _ in moving))
    calls = min(count for _, count in moving)
    return f"warm-up ended after {calls} calls of each arm, before those of {names} were level"


def _as_arm(name: str, arm: TimedArm | Callable[[], object]) -> TimedArm:
    """``arm``, ready to be timed.

    Raises:
        WrongTypeError: it is no function, or one with arguments.
    """
    if isinstance(arm, TimedArm):
        return arm
    if not callable(arm):
        raise WrongTypeError(
            f"{name} must be a function without arguments, not {shown(arm)}; write for example "
            f"{name}=lambda: pipeline('a fox'), which is called again for each pair"
        )
    try:
        inspect.signature(arm).bind()
    except ValueError:  # a builtin that hides its signature
        pass
    except TypeError as error:
        raise WrongTypeError(
            f"{name} is called without arguments, and this function does not take that ({error}); "
            f"write for example {name}=lambda: pipeline('a fox')"
        ) from None
    return Arm(name, arm)
