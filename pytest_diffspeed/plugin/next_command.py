"""What a session ends with: annotations for GitHub, and the next command to run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from ..records.reader import RecordedSession
from ..records.verdict import GateResult, VerdictKind
from ..reports.github import annotation_lines
from ..reports.terminal import in_order

# Options that a run of one test again must have too: they are part of what was measured.
_MATTERING = (
    "device",
    "pipeline",
    "techniques",
    "steps",
    "budget",
    "instances",
    "inconclusive",
    "ladder",
    "base",
    "base-python",
    "base-env",
)
_NEEDED = MappingProxyType({"budget": "needed_budget_s", "instances": "needed_instances"})
"""By option: the figure of a gate that says how much of it a verdict takes."""


def github_lines(session: RecordedSession) -> list[str]:
    """Workflow commands where GitHub Actions reads what is printed; none elsewhere."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return []
    workspace = os.environ.get("GITHUB_WORKSPACE")
    return annotation_lines(session, workspace=Path(workspace) if workspace else None)


def next_command(
    config: pytest.Config,
    results: Sequence[GateResult],
    unchecked: Sequence[str],
    records: Path | None,
    failed: Sequence[str] = (),
) -> str:
    """What to run next: the first red test alone, more pairs, or a report of what was found.

    ``unchecked`` are tests with a gate that could not be checked, ``failed`` those that failed
    before their gates; ``records`` is where this session wrote what it found, if it is one file.
    """
    ordered = in_order(results)
    red = [*unchecked, *(result.test for result in ordered if result.blocking), *failed]
    if red:
        args = _args_of_this_run(config, _most_needed(results, red[0]))
        return f"again, this one only: {shlex.join([*args, _from_here(config, red[0])])}"
    undecided = [r.test for r in ordered if r.verdict is VerdictKind.INCONCLUSIVE]
    if undecided:
        needed = _most_needed(results, undecided[0])
        command = [*_args_of_this_run(config, needed), _from_here(config, undecided[0])]
        more = "more pairs" if needed["instances"] is None else "more process instances"
        return f"{more} for the first INCONCLUSIVE one: {shlex.join(command)}"
    if config.getoption("--diffspeed-html") is not None:  # the report is there
        return "these tests over commits: diffspeed history list"
    if records is not None:
        args = ["diffspeed", "report", os.path.relpath(records), "--html", "report.html"]
        return f"a report of this session: {shlex.join(args)}"
    again = shlex.join([*_args_of_this_run(config), "--diffspeed-json=records.jsonl"])
    return f"once more, keeping the records: {again}"


def _from_here(config: pytest.Config, test: str) -> str:
    """``test`` as it is called where pytest was started; its name begins at the root folder."""
    file, colons, name = test.partition("::")
    try:
        path = os.path.relpath(config.rootpath / file, config.invocation_params.dir)
    except ValueError:  # no way leads from one drive of Windows to another
        return test
    return f"{path}{colons}{name}"


def _most_needed(results: Sequence[GateResult], test: str) -> dict[str, float | None]:
    """By option: the most that a gate of this test says it takes, where it has no verdict yet."""
    undecided = [
        result.figures
        for result in results
        if result.test == test and result.verdict is VerdictKind.INCONCLUSIVE
    ]
    needed = {name: [one.get(figure) for one in undecided] for name, figure in _NEEDED.items()}
    return {
        name: max((number for number in numbers if number is not None), default=None)
        for name, numbers in needed.items()
    }


def _args_of_this_run(
    config: pytest.Config, needed: Mapping[str, float | None] = MappingProxyType({})
) -> list[str]:
    """The words that make another run measure as this one did, with what is ``needed`` by name of
    the option where it was too little.
    """
    args = ["pytest", "--diffspeed"]
    for name in _MATTERING:
        given = config.getoption(f"--diffspeed-{name}")
        if (more := needed.get(name)) is not None:
            given = f"{more:g}"
        args += [] if given is None else [f"--diffspeed-{name}={given}"]
    prompts = config.getoption("--diffspeed-prompts") or ()
    return [*args, *(f"--diffspeed-prompts={prompt}" for prompt in prompts)]
