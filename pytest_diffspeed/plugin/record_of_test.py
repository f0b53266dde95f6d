"""The line of a test among the records: how pytest saw it end, and why where no gate says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from .stash import is_red


def record_of_test(
    report: pytest.TestReport, ours: Mapping[str, Any], setup_s: float | None = None
) -> dict[str, Any]:
    """How pytest saw a test end, with its place: a report points there."""
    path, line, _ = report.location
    gates = (record for record in ours["records"] if record["kind"] == "gate")
    stacks = {str(found["stack"]) for found in [*gates, *ours["ladder"]]}
    return {
        "kind": "test",
        "test": report.nodeid,
        "outcome": report.outcome,
        "stack": stacks.pop() if len(stacks) == 1 else None,
        "file": path.replace(os.sep, "/"),
        "line": (line or 0) + 1,
        "duration_s": report.duration,
        **({} if setup_s is None else {"setup_s": setup_s}),
        "images": [image.replace(os.sep, "/") for image in ours["images"]],
        **_failure(report, ours),
    }


def _failure(report: pytest.TestReport, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Why a test failed, where no gate says so."""
    if not report.failed:
        return {}
    if is_red(ours):
        return {}
    cause = {} if ours["cause"] is None else {"cause": ours["cause"]}
    return {"error": str(ours["why_not_run"]), **cause}
