"""The gates of one test: run, told to its outcome, and what that does to the test."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, cast

import pytest

from ..arms.prepared_arm import PreparedArm
from ..arms.session import Session
from ..common.errors import UnexpectedError
from ..common.workdir import safe_name
from ..gates.gate import GateContext
from ..gates.run import run_gates
from ..records.verdict import Cause, GateResult, VerdictKind
from ..reports.causes import cause_of, kinds_of
from ..reports.exports.junit import PREFIX, properties
from ..reports.terminal import failure
from .plan import Plan
from .stash import OUTCOME, PICTURE_NOT_WRITTEN, PLAN, STATE_GUARD
from .summary import NAME as SUMMARY
from .summary import Summary


def check_gates(
    item: pytest.Function, plan: Plan, session: Session, outcome: dict[str, Any]
) -> None:
    """Run the gates of one test and fail it if one of them says so.

    ``outcome`` is filled as results come, so that nothing measured is lost when this raises.
    """
    candidate = cast("PreparedArm", item.funcargs["_prepared"])
    context = GateContext(item.nodeid, session, candidate, plan.previous(candidate.spec.stack))
    results: list[GateResult] = []

    def on_result(result: GateResult) -> None:
        results.append(result)
        outcome["images"] += result.figures.get("pictures", [])[:1]  # the worst; others beside it

    def on_unexpected(error: UnexpectedError) -> None:
        lines = traceback.format_exception(error.__cause__)
        item.add_report_section("call", "diffspeed", "".join(lines))
        outcome["has_traceback"] = True

    outcome["about"] = session.about
    outcome["records"].append({"kind": "proof", **candidate.proof_record()})
    with (
        session.journal.told_to(outcome["records"].append),
        item.config.stash[STATE_GUARD].without_the_body(),
    ):
        problems = run_gates(plan.gates, context, on_result, on_unexpected)
    # Of this run alone: plugins that run a failed test again use the same item.
    kept = [known for known in item.user_properties if not known[0].startswith(PREFIX)]
    item.user_properties[:] = [*kept, *properties(results)]
    try:
        picture = _save_picture(item.nodeid, session, candidate)
    except Exception as error:  # a picture must not cost a verdict
        outcome["images"].append(f"{PICTURE_NOT_WRITTEN}: {type(error).__name__}: {error}")
    else:
        outcome["images"] += [] if picture is None else [str(picture)]
    failed = [failure(result) for result in results if result.blocking]
    if failed or problems:
        causes = [cause_of(result) for result in results if result.blocking]
        errors = (line for line in outcome["records"] if line["kind"] == "gate-error")
        causes += [cause for line in errors if (cause := Cause.from_dict(line.get("cause")))]
        outcome["kinds"] = kinds_of(causes)
        pytest.fail("\n".join([*failed, *problems]), pytrace=False)
    skipping = [r for r in results if r.verdict is VerdictKind.INCONCLUSIVE]
    if skipping and session.options.inconclusive == "skip":
        pytest.skip("; ".join(f"INCONCLUSIVE: {result.reason}" for result in skipping))


def tell_stopped(item: pytest.Item) -> None:
    """Tell the summary what a test had found when the user stopped it."""
    summary = item.config.pluginmanager.get_plugin(SUMMARY)
    outcome = item.stash.get(OUTCOME, None)
    if outcome is not None and isinstance(summary, Summary):
        for row in outcome["ladder"]:
            row["stopped"] = True
        outcome["not_run"] = []
        outcome["records"] += _stopped(item, outcome["records"])
        summary.take(item.nodeid, outcome)


def _stopped(item: pytest.Item, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The gates of a test that the user stopped which have no verdict: none may just be missing."""
    ended = {record["claim"] for record in records if record["kind"] in ("gate", "gate-error")}
    begun = {record["claim"] for record in records if record["kind"] == "gate-start"}
    plan = item.stash.get(PLAN, None)
    claims = sorted({gate.claim for gate in plan.gates} - ended) if plan is not None else []
    return [
        {
            "kind": "not-run",
            "test": item.nodeid,
            "claim": claim,
            "reason": "stopped by the user "
            + ("while it was measured" if claim in begun else "before it was measured"),
        }
        for claim in claims
    ]


def _save_picture(test: str, session: Session, candidate: PreparedArm) -> Path | None:
    """A picture of what the test's arm and the baseline drew last, where both drew images."""
    baseline = session.arms.baseline(candidate.spec.source, candidate.spec.stack)
    first, second = baseline.images(), candidate.images()
    if first is None or second is None or first.shape != second.shape:
        return None
    from ..gates.pictures import save_comparison

    path = session.workdir() / "images" / f"{safe_name(test)}.png"
    return save_comparison(path, first[0], second[0]).relative_to(session.rootdir)
