"""What this project says of GPUs, and which checks decide it.

Documents never say on their own that something ran on a GPU or did not: they hold a mark, and
``document.py`` writes there what the committed runs show.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checks import BAD, NO_MEANING, checks_of


@dataclass(frozen=True)
class Claim:
    """``checks`` are ``part:pattern of the check's name``."""

    key: str
    sentence: str
    checks: tuple[str, ...]


CLAIMS = (
    Claim("syncs", "the simulated GPU counts the host syncs of a real one, line by line", ("a:*",)),
    Claim("gates", "each gate passes and fails on a GPU as it does on a CPU", ("b:*",)),
    Claim("techniques", "each technique takes hold on a GPU, and its proof sees it", ("c:*",)),
    Claim(
        "clock",
        "the CUDA clock agrees with the profiler, and gates keep their error rate",
        ("d:*",),
    ),
    Claim("ladder", "what the techniques buy on a GPU", ("e:*",)),
    Claim(
        "kernels",
        "kernels, attention and bytes are what is counted without a GPU",
        ("f:*",),
    ),
    Claim("sharing", "several arms and workers share one GPU", ("g:*",)),
)


@dataclass(frozen=True)
class State:
    """Where a claim stands after the newest run that has checks of it."""

    device: str | None = None
    date: str = ""
    checked: int = 0
    bad: int = 0

    def __str__(self) -> str:
        if self.device is None:
            return "not run on a GPU yet"
        head = f"run on one {self.device} on {self.date}"
        if self.bad:
            return f"{head}: {self.bad} of {self.checked} checks were not as expected"
        return f"{head}: {self.checked} checks, all as expected"


def state_of(claim: Claim, runs: Sequence[Sequence[Mapping[str, Any]]]) -> State:
    """``runs`` are the lines of committed runs on GPUs, oldest first."""
    for rows in reversed(runs):
        own = [check for check in checks_of(rows) if belongs(claim, check)]
        own = [check for check in own if check["verdict"] != NO_MEANING]
        if own:
            run = next(row for row in rows if row["kind"] == "run")
            bad = sum(check["verdict"] in BAD for check in own)
            return State(run["device"], run["date"].split()[0], len(own), bad)
    return State()


def belongs(claim: Claim, check: Mapping[str, Any]) -> bool:
    name = f"{check['part']}:{check['check']}"
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in claim.checks)
