"""Measure speedups: rounds of interleaved calls, fed to one gate a question until all decide."""

from __future__ import annotations

import statistics as stdlib_statistics
import time
from collections.abc import Callable, Sequence

from ..accelerators.catalog.cpu import WallClock
from ..accelerators.clock import Clock
from ..common.errors import UsageError
from .arm import Arm, TimedArm, WarmUp, check_same_outputs, warm_up
from .budget import Projection, allowed_seconds
from .comparison import Comparison, Hypothesis, SpeedupResult
from .rounds import Pair, Round, measure_rounds
from .validity import Condition, FullCollection, Validity


def measure_speedup(
    baseline: TimedArm | Callable[[], object],
    candidate: TimedArm | Callable[[], object],
    *,
    min_ratio: float,
    alpha: float = 0.05,
    method: str = "sign",
    budget_s: float | None = 60.0,
    clock: Clock | None = None,
    seed: int = 0,
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
        seed: of the order in which the arms of a pair run.
        discard_warm_call: call an arm once off the clock before each timed call of it; for arms
            that disturb each other through caches, clocks or memory.  Twice the calls.
        conditions: asked before each pair whether the machine is disturbed, beside a full garbage
            collection; see :mod:`pytest_diffspeed.timing.validity`.
        now: a clock for the budget.
        on_warm: told how both arms warmed up, and what the budget can be expected to show.
        on_pair: told each pair as it happens, those that do not count too; a record is written
            there.

    Raises:
        MeasurementError: an arm raised, its clock misbehaved, or the outputs differ in shape.
    """
    arms = (_as_arm("baseline", baseline), _as_arm("candidate", candidate))
    (result,) = measure_speedups(
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
    return result


def measure_speedups(
    instances: Sequence[Sequence[TimedArm]],
    questions: Sequence[Hypothesis],
    *,
    budget_s: float | None = 60.0,
    auto_s: float | None = None,
    clock: Clock | None = None,
    seed: int = 0,
    noise: float = float("nan"),
    discard_warm_call: bool = False,
    disturbances: Sequence[Condition] = (),
    now: Callable[[], float] = time.perf_counter,
    on_warm: Callable[[int, tuple[WarmUp, WarmUp], Projection], None] = lambda *_: None,
    on_pair: Callable[[int, Pair], None] = lambda *_: None,
    on_result: Callable[[int, SpeedupResult], None] = lambda *_: None,
) -> list[SpeedupResult]:
    """Decide several ratios between the same arms from the same rounds.

    ``instances`` holds the arms once for each process instance of them; these take turns, and no
    measurement ends before each had its turn.  An arm whose ratios are all decided runs no more.
    ``noise`` is what one pair's log ratio is expected to vary by, for the projection; ``auto_s``
    are the seconds of each ratio where ``budget_s`` is ``None``.  ``on_warm``,
    ``on_pair`` and ``on_result`` are told the number of the question, the last as soon as its
    verdict is there; the other arguments are those of :func:`measure_speedup`.  Ctrl-C ends all
    questions with the pairs that they have, and goes on as KeyboardInterrupt.

    Raises:
        MeasurementError: as :func:`measure_speedup`; questions that are decided have been told.
    """
    if budget_s is not None and not budget_s > 0.0:
        raise UsageError(f"budget_s must be positive, not {budget_s!r}")
    clock = clock or WallClock()
    comparisons = [Comparison(question) for question in questions]
    warm_ups = [[warm_up(arm, clock) for arm in arms] for arms in instances]
    for arms in instances:
        for question in questions:
            check_same_outputs(arms[question.baseline], arms[question.candidate])
    # What one round costs; instances differ by little.
    round_s = (2 if discard_warm_call else 1) * max(
        sum(warm.steady_call_s for warm in warms) for warms in warm_ups
    )
    allowed_s = allowed_seconds(budget_s, round_s, len(instances[0]), auto_s=auto_s)
    warm = [(warm_ups[0][q.baseline], warm_ups[0][q.candidate]) for q in questions]
    projections = [
        comparison.projection(warm[number], round_s, allowed_s, noise)
        for number, comparison in enumerate(comparisons)
    ]
    for number, projection in enumerate(projections):
        on_warm(number, warm[number], projection)

    collections = FullCollection()
    validity = Validity((collections, *disturbances))
    overheads: list[float] = []
    results: dict[int, SpeedupResult] = {}

    def close(number: int, remark: str = "") -> None:
        results[number] = comparisons[number].result(
            warm[number],
            projection=projections[number],
            seed=seed,
            discard_warm_call=discard_warm_call,
            remark="; ".join(filter(None, (remark, validity.remark))),
            kept_disturbed=validity.kept_disturbed,
            round_overhead_s=stdlib_statistics.median(overheads) if overheads else float("nan"),
        )
        on_result(number, results[number])

    def is_open(number: int) -> bool:
        return not (comparisons[number].is_settled or projections[number].is_impossible)

    undecided = [number for number in range(len(questions)) if is_open(number)]
    for number in range(len(questions)):
        if number not in undecided:
            close(number)

    def wanted() -> set[int]:
        return {arm for number in undecided for arm in comparisons[number].arms}

    def run() -> None:
        started = began = now()
        for round_ in measure_rounds(
            instances,
            clock,
            seed=seed,
            discard_warm_call=discard_warm_call,
            before_round=validity.before_pair,
            wanted=wanted,
        ):
            for number in undecided:
                question = questions[number]
                pair = round_.pair(question.baseline, question.candidate)
                on_pair(number, pair)
                comparisons[number].take(pair)
            ended = now()
            overheads.append(ended - began - _called_s(instances, round_, discard_warm_call))
            began = ended
            # A whole turn of the instances first: the verdict counts each of them.
            if (round_.index + 1) % len(instances) == 0:
                for number in [n for n in undecided if comparisons[n].is_settled]:
                    undecided.remove(number)
                    close(number)
            spent = ended - started >= allowed_s and round_.index + 1 >= len(instances)
            if not undecided or (spent and round_.dropped is None):
                return

    if undecided:
        try:
            with collections.watching():
                run()
        except KeyboardInterrupt:
            for number in undecided:
                if comparisons[number].pairs:
                    close(number, "stopped by the user")
            raise
        for number in list(undecided):
            close(number)
    return [results[number] for number in range(len(questions))]


def _called_s(
    instances: Sequence[Sequence[TimedArm]], round_: Round, discard_warm_call: bool
) -> float:
    """Seconds that the arms of a round ran in it; a call off the clock counts as the timed one."""
    called = sum(instances[round_.instance][number].last_call_s for number in round_.seconds)
    return 2 * called if discard_warm_call else called


def _as_arm(name: str, arm: TimedArm | Callable[[], object]) -> TimedArm:
    return arm if isinstance(arm, TimedArm) else Arm(name, arm)
