"""One row of the ladder: a stack against the baseline and against the step before, measured.

A row is plain data, so that it crosses process borders; :mod:`pytest_diffspeed.reports.ladder`
prints it.  No row is red for being slow: a ladder tells, and gates assert.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from ..arms.spec import ArmSpec
from ..common.errors import MeasurementError
from ..records.verdict import VerdictKind
from .steps import ResolvedStep

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session
    from ..timing.comparison import SpeedupResult

BUDGET_S = 30.0
"""Seconds of rounds that a row may take for each ratio, or what 12 rounds take, if that is more;
unless ``--diffspeed-budget`` says else."""
PRECISION = 1.05
"""A row ends when the ends of its intervals are no further apart than this factor."""


def row_of(resolved: ResolvedStep, **content: Any) -> dict[str, Any]:
    """A row without figures; ``content`` says why."""
    previous = resolved.previous
    return {
        "stack": resolved.stack.name,
        "previous": None if previous is None else previous.name,
        **content,
    }


def measure_row(
    candidate: PreparedArm, previous: PreparedArm | None, session: Session, row: dict[str, Any]
) -> None:
    """Fill ``row`` with what the rounds show; also with what there is when they are interrupted.

    Raises:
        MeasurementError: an arm could not be timed, or the budget held too few rounds.
    """
    from ..accelerators.registry import allocator_of, disturbances_of
    from ..arms.noise_floor import noise_floor_of
    from ..timing.comparison import Hypothesis
    from ..timing.speedup import SpeedupMeasurement

    source = candidate.spec.source
    prepared, names = arms_of_row(candidate, previous, session)
    arms = prepared[:-1]
    row |= about_row(candidate, session)
    compile_s = candidate.applied.first_call_s - arms[0].applied.first_call_s
    stack = candidate.spec.stack

    def on_result(number: int, result: SpeedupResult) -> None:
        require_pairs(result)
        row[names[number]] = ratio_of_result(result)
        if number == 0:
            row["call_s"] = result.candidate_s
            row["instances"] = result.instances
            row["break_even_images"] = break_even(
                str(result.verdict), result.ratio, result.baseline_s, compile_s
            )

    # The device only once the workers are built: nobody else could time meanwhile.
    with session.workers.instances(prepared, "call") as instances:
        with session.exclusive_device():
            seed = random.SystemRandom().randrange(2**32)
            # Arms of workers are warmed up there.
            beside = instances[0] if session.options.instances_of_arm() == 1 else ()
            row |= noise_floor_of(
                session, source, "call", stack=stack, beside=beside, seed=seed
            ).figures()
            SpeedupMeasurement(
                instances,
                [Hypothesis(1.0, n, len(arms), precision=PRECISION) for n in range(len(arms))],
                budget_s=session.options.budget_s,
                auto_s=BUDGET_S,
                clock=session.clock,
                seed=seed,
                disturbances=disturbances_of(session.device),
                on_warm=lambda number, warm, projection: session.progress.line(
                    f"timing {stack} {names[number].replace('_', ' ')}, at most "
                    f"{projection.budget_s:.0f} s"
                ),
                on_pair=lambda number, pair: session.progress.transient(
                    f"{stack}: round {pair.index + 1}, {names[number].replace('_', ' ')} "
                    f"{pair.baseline_s / pair.candidate_s:.3f}×"
                ),
                on_result=on_result,
            ).run()
        allocator = allocator_of(session.device)
        # A CUDA graph's memory was given out when it was recorded: no call shows it.
        if allocator is not None and not candidate.applied.cuda_graph_launches:
            row["peak_bytes"] = candidate.peak_memory(allocator).allocated_bytes


def arms_of_row(
    candidate: PreparedArm, previous: PreparedArm | None, session: Session
) -> tuple[list[PreparedArm], list[str]]:
    """The baseline, the step before if there is one, and the candidate; and what a row calls its
    ratios to those before it.
    """
    baseline = ArmSpec(candidate.spec.source, candidate.spec.stack.baseline)
    arms = [session.arms.other(baseline), *([] if previous is None else [previous]), candidate]
    return arms, ["over_baseline", "over_previous"][: len(arms) - 1]


def about_row(candidate: PreparedArm, session: Session) -> dict[str, Any]:
    """What a measured row says beside its ratios."""
    return {
        "status": "measured",
        "first_call_s": candidate.applied.first_call_s,
        "proofs": {proof.technique: proof.found for proof in candidate.applied.proofs},
        "proof_figures": {p.technique: dict(p.figures) for p in candidate.applied.proofs},
        "known_slow": list(candidate.applied.known_slow),
        "environment": session.environment(),
    }


def require_pairs(result: SpeedupResult) -> None:
    """Raises: MeasurementError: the budget held no pair."""
    if not result.pairs:
        raise MeasurementError(result.reason)


def break_even(verdict: str, ratio: float, baseline_s: float, compile_s: float) -> float | None:
    """Images after which the longer first call has paid for itself; ``None`` where the pairs do not
    show that the stack is faster.

    Of the ratio, and not of the difference of the two medians, which can have the other sign.
    """
    if verdict != str(VerdictKind.PASS) or ratio <= 1.0:
        return None
    saved_s = baseline_s * (1.0 - 1.0 / ratio)
    return max(0.0, compile_s / saved_s)


def ratio_of_result(result: SpeedupResult) -> dict[str, Any]:
    """``verdict`` is on "at least as fast": INCONCLUSIVE means that the pairs cannot tell."""
    return {
        "verdict": str(result.verdict),
        "ratio": result.ratio,
        "low": result.low,
        "high": result.high,
        "coverage": result.coverage,
        "pairs": result.pairs,
        "noise": result.noise,
        "baseline_s": result.baseline_s,
        "seed": result.seed,
    }
