"""A row of the quick ladder: components timed alone, and a whole call composed of them.

A call is one of all encoders, as many steady steps as the arm's has, and one of all decoders; a row
names the checkers that it is without.  Where steps cannot be timed alone, and where the arms' calls
have other numbers of them, the denoisers' calls stand in for them, without guidance and scheduler.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..records.verdict import VerdictKind
from .measure import PRECISION, about_row, arms_of_row, break_even, ratio_of_result, require_pairs

if TYPE_CHECKING:
    from ..arms.component_calls import ComponentArms
    from ..arms.lockstep import StepArms
    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session
    from ..timing.comparison import SpeedupResult

ENCODER, STEP, DENOISER, DECODER = "encoder", "step", "denoiser", "decoder"

BUDGET_S = 4.0
"""Seconds of rounds of the steps for each ratio, or what 12 rounds take, if that is more."""
BUDGET_OF_OTHERS_S = 1.0
"""The same of encoders and decoders, which are a few hundredths of a call."""
ALPHA = 0.05


def measure_composed(
    candidate: PreparedArm, previous: PreparedArm | None, session: Session, row: dict[str, Any]
) -> None:
    """Fill ``row`` with ratios of a composed call, and with those of its parts.

    Raises:
        NotAloneError: a component has to be timed in whole calls; the row is as it was.
        MeasurementError: an arm could not be timed.
    """
    from ..arms.component_calls import NotAloneError

    if session.options.instances_of_arm() > 1:
        raise NotAloneError("worker processes time these only")
    prepared, names = arms_of_row(candidate, previous, session)
    alone, parts = _timed_alone(prepared)
    found: dict[str, list[SpeedupResult]] = {}
    with session.exclusive_device():
        for role, arms in alone.items():
            with arms.open() as (timed,):
                found[role] = _measured(role, timed, len(parts), session, candidate)
    row |= about_row(candidate, session)
    for number, name in enumerate(names):
        row[name] = composed_ratio(
            [(parts[role][number], parts[role][-1], one[number]) for role, one in found.items()]
        )
    over_baseline = {role: ratios[0] for role, ratios in found.items()}
    row["composed"] = {
        role: {
            "times": parts[role][-1],
            "times_in_baseline": parts[role][0],
            "pairs_of": alone[role].pairs_of,
            "candidate_s": result.candidate_s,
            **ratio_of_result(result),
        }
        for role, result in over_baseline.items()
    }
    row["without"] = [checker.name for checker in prepared[0].observed()[0].checkers]
    row["call_s"] = sum(parts[role][-1] * one.candidate_s for role, one in over_baseline.items())
    row["instances"] = 1
    whole = row[names[0]]
    row["break_even_images"] = break_even(
        whole["verdict"],
        whole["ratio"],
        whole["baseline_s"],
        compile_s=candidate.applied.first_call_s - prepared[0].applied.first_call_s,
    )


def _timed_alone(
    prepared: Sequence[PreparedArm],
) -> tuple[dict[str, ComponentArms | StepArms], dict[str, tuple[int, ...]]]:
    """The arms of each part of a call, and how often a call of each of ``prepared`` has it."""
    from ..arms.component_calls import NotAloneError, component_arms
    from ..arms.lockstep import step_arms

    each = [parts_of_call(arm) for arm in prepared]
    parts = {role: tuple(one.get(role, 0) for one in each) for role in each[0]}
    steps = parts.pop(DENOISER, ())
    alone: dict[str, ComponentArms | StepArms] = {}
    if min(steps, default=0) > 1:  # a call with one step has no steady one
        with suppress(NotAloneError):
            alone[STEP] = step_arms(prepared)
    if steps and STEP not in alone:
        alone[DENOISER] = component_arms(prepared, DENOISER)
    parts = {**parts, **dict.fromkeys(alone, steps)}
    alone |= {role: component_arms(prepared, role) for role in parts if role not in alone}
    return {
        role: alone[role] for role in (ENCODER, STEP, DENOISER, DECODER) if role in alone
    }, parts


def parts_of_call(arm: PreparedArm) -> dict[str, int]:
    """The roles that run in a call, and how often what is timed of them runs in one: once, or as
    many times as the call has steps.
    """
    observed, _ = arm.observed()
    steps = arm.steps_of_call() or 1
    roles = {
        ENCODER: (observed.encoders, 1),
        DENOISER: (observed.denoisers, steps),
        DECODER: (observed.decoders, 1),
    }
    return {role: times for role, (components, times) in roles.items() if components}


def _measured(
    role: str, arms: Sequence[Any], parts: int, session: Session, candidate: PreparedArm
) -> list[SpeedupResult]:
    """The ratios of the last arm to each arm before it."""
    from ..accelerators.registry import disturbances_of
    from ..timing.comparison import Hypothesis
    from ..timing.speedup import SpeedupMeasurement

    last = len(arms) - 1
    stack = candidate.spec.stack
    session.progress.transient(f"{stack}: timing the {role} alone")
    results = SpeedupMeasurement(
        [arms],
        # The errors of the parts add up in the whole.
        [Hypothesis(1.0, n, last, ALPHA / parts, precision=PRECISION) for n in range(last)],
        budget_s=session.options.budget_s,
        auto_s=BUDGET_S if role in (STEP, DENOISER) else BUDGET_OF_OTHERS_S,
        clock=session.clock,
        seed=random.SystemRandom().randrange(2**32),
        disturbances=disturbances_of(session.device),
        on_pair=lambda number, pair: session.progress.transient(
            f"{stack}: {role}, round {pair.index + 1}, {pair.baseline_s / pair.candidate_s:.3f}×"
        ),
    ).run()
    for result in results:
        require_pairs(result)
    return results


def composed_ratio(parts: Sequence[tuple[int, int, SpeedupResult]]) -> dict[str, Any]:
    """The ratio of composed calls: of how often each part runs in a call of the other arm and how
    often in the candidate's, and of what was found of it.

    The parts' ratios, and the ends of their intervals, weigh as the candidate's seconds would in as
    many of them as the other arm's call has.  Their rates of error add up, so the interval holds
    with what is left.
    """
    weights = [times * result.candidate_s for times, _, result in parts]
    candidate_s = sum(times * result.candidate_s for _, times, result in parts)
    results = [result for _, _, result in parts]

    def whole(values: Sequence[float]) -> float:
        pairs = zip(weights, values, strict=True)
        return sum(weight * value for weight, value in pairs) / candidate_s

    ratio = whole([result.ratio for result in results])
    low = whole([result.low for result in results])
    high = whole([result.high for result in results])
    verdict = VerdictKind.INCONCLUSIVE
    if low >= 1.0:
        verdict = VerdictKind.PASS
    elif high < 1.0:
        verdict = VerdictKind.FAIL
    return {
        "verdict": str(verdict),
        "ratio": ratio,
        "low": low,
        "high": high,
        "coverage": 1.0 - sum(1.0 - result.coverage for result in results),
        "pairs": sum(result.pairs for result in results),
        "noise": max(result.noise for result in results),
        "baseline_s": ratio * candidate_s,
        "seed": results[0].seed,
    }
