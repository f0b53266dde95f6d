"""What a session was told: the values of its options, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..history.url import StoreUrl
from ..records.shard import Shard
from ..techniques.stacks import Stack

INCONCLUSIVE_POLICIES = ("fail", "warn", "skip")

QUICK, FULL = LADDERS = ("quick", "full")
"""How the ladder measures: component calls, or whole calls and compiled rows."""

MOST_INSTANCES = 16
"""Process instances of one arm; each loads the pipeline."""


@dataclass(frozen=True)
class Options:
    """``budget_s`` is ``None`` for ``auto``; ``techniques`` is empty where markers decide.

    ``inconclusive`` is ``None`` where each gate's own default holds; ``instances`` counts the
    process instances of each arm that is timed, and is ``None`` where nobody gave it.  ``store`` is
    ``None`` where no history is kept.  ``base`` is a revision that git knows, ``base_python`` an
    interpreter, ``base_env`` names of environment variables that its workers see beside the usual.
    ``ladder`` is one of :data:`LADDERS`.  ``shard`` says which part of a suite this is.
    """

    device: str
    pipeline: str
    techniques: tuple[Stack, ...]
    steps: int | None
    prompts: tuple[str, ...]
    budget_s: float | None
    inconclusive: str | None
    fresh: bool = False
    instances: int | None = None
    save_counts: bool = False
    reports: Mapping[str, Path] = field(default_factory=dict)
    store: StoreUrl | None = None
    base: str | None = None
    base_python: str | None = None
    compile_cache: Path | None = None
    base_env: tuple[str, ...] = ()
    ladder: str = QUICK
    shard: Shard | None = None

    def instances_of_arm(self, *, against_base: bool = False) -> int:
        """How many process instances each timed arm gets: one process cannot tell a change from
        what differs between processes, so a base is compared in four (docs/base.md: what that is
        chosen by).
        """
        return self.instances or (4 if against_base else 1)

    @property
    def has_base(self) -> bool:
        """Whether this tree is compared with another commit or another environment."""
        return self.base is not None or self.base_python is not None

    @property
    def json_path(self) -> Path | None:
        """Where the session's records go when it ends."""
        return self.reports.get("json")

    @property
    def written(self) -> tuple[Path, ...]:
        """The files that the session writes when it ends."""
        return tuple(self.reports.values())
