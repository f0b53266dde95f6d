"""The committed results, and the table of them in ``docs/versions.md``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from environments import ENVIRONMENTS, SHOWN

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS / "versions.jsonl"
PAGE = DOCS / "versions.md"
START, END = "<!-- made by `make test-versions` -->", "<!-- end -->"

GREEN, FELL, NOT_RUN = "green", "fell", "not run"


def read() -> dict[str, dict[str, Any]]:
    """The newest result of each environment, by its name."""
    if not RESULTS.exists():
        return {}
    lines = (json.loads(line) for line in RESULTS.read_text("utf-8").splitlines())
    return {result["environment"]: result for result in lines}


def keep(result: dict[str, Any]) -> None:
    """Replace the environment's line by ``result``, and the table by one that shows it."""
    results = {**read(), result["environment"]: result}
    known = [results[one.name] for one in ENVIRONMENTS if one.name in results]
    RESULTS.write_text("".join(json.dumps(one) + "\n" for one in known), "utf-8")
    page = PAGE.read_text("utf-8")
    PAGE.write_text(with_table(page, table(read())), "utf-8")


def with_table(page: str, text: str) -> str:
    """The page with ``text`` between the markers."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{text}\n{END}{after}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """What stands between the markers: versions, outcomes, and why tests were skipped."""
    head = ["environment", "Python", *SHOWN]
    versions = [_row(head), _row(["---"] * len(head))]
    ran = [["environment", "day", "commit", "passed", "fell", "skipped", "minutes"], ["---"] * 7]
    notes = []
    for environment in ENVIRONMENTS:
        result = results.get(environment.name)
        if result is None or result["status"] == NOT_RUN:
            why = "never" if result is None else f"not run on {result['date']}: {result['why']}"
            ran.append([f"`{environment.name}`", why, *[""] * 5])
            continue
        found = result["versions"]
        cells = [f"`{environment.name}`: {environment.what}", found["python"]]
        versions.append(_row([*cells, *(found.get(name, "–") for name in SHOWN)]))
        commit = result["commit"]
        for again in result["again"]:
            commit += f", {again['tests']} of them again at {again['commit']}"
        counts = (result["passed"], result["failed"], result["skipped"])
        minutes = f"{result['seconds'] / 60:.0f}"
        row = [f"`{environment.name}`", result["date"], commit, *map(str, counts), minutes]
        ran.append(row)
        for reason, number in result["skip_reasons"].items():
            notes.append(f"- `{environment.name}`, {number} skipped: {reason}")
        for test in result["fell"]:
            notes.append(f"- `{environment.name}`, fell: `{test}`")
    return "\n".join([*versions, "", *map(_row, ran), "", *notes, *([""] if notes else [])])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
