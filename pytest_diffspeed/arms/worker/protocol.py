"""What a worker process and its parent tell each other: one JSON object a line.

The parent writes to the worker's standard input: ``{"do": "build", "order": …}`` (a
:class:`BuildOrder`), then any number of ``{"do": "call"}``, ``{"do": "discard"}`` or ``{"do":
"probe", "at": …}`` (:mod:`..probes`).  After ``{"do": "release"}`` it may build another arm.  A
worker that counts a GPU cost, ``{"do": "gpu_cost", "order": …}``, does that and nothing else;
before its answer it may say ``{"progress": TEXT}`` any number of times.  The worker answers each
line with one on a pipe of its own; what libraries print goes to its standard error, which the
parent keeps for the case of a crash.  The end of its input ends a worker, so none outlives its
parent.

Times are taken by the worker's own clock, inside the worker: nothing of the pipe is in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class BuildOrder:
    """The arm that a worker builds: source, stack and unit as a user writes them.

    ``device`` is ``cpu`` or ``cuda:N``; ``threads`` are torch's on the CPU.  Nothing may be
    imported from below the folder ``not_from``; ``own_environment`` says that the worker's packages
    are not those of its parent.  ``tree`` is the base's, where there is another commit.
    """

    source: str
    stack: str
    unit: str
    device: str
    steps: int | None
    prompts: tuple[str, ...]
    threads: int
    not_from: str | None = None
    own_environment: bool = False
    tree: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> BuildOrder:
        return cls(**{**plain, "prompts": tuple(plain["prompts"])})


def as_line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=True).encode("ascii") + b"\n"


def from_line(line: bytes) -> dict[str, Any] | None:
    """The object in ``line``, or ``None`` where it holds none."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
