"""An audit as the records of a session: what ``diffspeed history import`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from pytest_diffspeed import __version__
from pytest_diffspeed.common.paths import short_path
from pytest_diffspeed.gates.catalog.syncs import sync_metrics
from pytest_diffspeed.records.journal import write_all
from pytest_diffspeed.records.lines import read_lines

FILE = Path(__file__).resolve().parents[2] / "docs" / "releases" / "sessions.jsonl"
STACK = "default"
"""Each scheduler has its default configuration."""
UNDER = {"scheduler": ("torch", "numpy"), "pipeline": ("torch", "numpy", "transformers")}
"""What syncs depend on beside the code of a release."""
SCOPES = {"scheduler": "scheduler.step", "pipeline": "call"}

Session = list[dict[str, Any]]


def session_of(
    tag: str, at: str, rows: Sequence[Mapping[str, Any]], environment: Mapping[str, str]
) -> Session:
    """One release: its ``session`` line, then a gate for each scheduler."""
    device = {"kind": "cpu", "index": None, "name": "simulated GPU"}
    about = {
        "kind": "session",
        "session": sha256(f"diffusers {tag}".encode()).hexdigest()[:32],
        "at": at,
        "version": __version__,
        "commit": tag,
        "committed_at": at,
        "subject": f"diffusers {tag.removeprefix('v')}",
        "dirty": False,
        "environment": {"device": "simulated GPU", **environment},
        "machine": sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:32],
        "device": device,
        "pipeline": "random weights",
        "options": {"steps": None, "prompts": [], "techniques": []},
    }
    return [about, *(_gate(row, environment) for row in rows)]


def _gate(row: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    report = row["report"]
    subject = "scheduler" if "scheduler" in row else "pipeline"
    under = {"device": "simulated GPU", **{name: environment[name] for name in UNDER[subject]}}
    gate = {
        "kind": "gate",
        "gate": "no_gpu_syncs",
        "claim": f"no_gpu_syncs in {SCOPES[subject]}",
        "test": row[subject].removeprefix("random:"),
        "stack": STACK,
        "blocking": False,
        "axis": "structure",
        "source": row[subject],
    }
    if report is None:
        return {
            **gate,
            "verdict": "NOT_APPLICABLE",
            "reason": row["reason"],
            "evidence": None,
            "figures": {},
            "metrics": [],
        }
    once = report["first_step"] + report["outside"]
    sites = [{**site, "file": short_path(site["file"])} for site in report["sites"]]
    place = "the first step" if not report["outside"] else "the first step and outside the steps"
    found = f"{once} in {place}, at most {max(report['per_step'], default=0)} in a later one"
    return {
        **gate,
        "verdict": "FAIL" if once or any(report["per_step"]) else "PASS",
        "reason": f"syncs in {report['scope']}: {found}",
        "evidence": "counted",
        "figures": {
            "found": found,
            "scope": report["scope"],
            "first_step": report["first_step"],
            "per_step": report["per_step"],
            "outside": report["outside"],
            "may_block": report["may_block"],
            "counted_on": report["evidence"],
            "counted_under": under,
            "sites": sites,
        },
        "metrics": [asdict(metric) for metric in sync_metrics(once, report["per_step"])],
    }


def read_sessions() -> dict[str, Session]:
    """By tag, as they were written; empty where nothing was."""
    found: dict[str, Session] = {}
    if FILE.exists():
        for record in read_lines(FILE).records:
            if record["kind"] == "session":
                current = found[str(record["commit"])] = []
            current.append(dict(record))
    return found


def write_sessions(sessions: Sequence[Session]) -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    write_all(FILE, (record for session in sessions for record in session))
