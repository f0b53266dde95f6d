"""A shard: one part of a suite that runs on several machines, as ``--diffspeed-shard`` names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..common.errors import UsageError
from ..common.text import shortened

MOST = 9999
_WORD = re.compile(r"([0-9]{1,4})/([0-9]{1,4})(?:@([0-9a-z]{1,32}))?")


@dataclass(frozen=True)
class Shard:
    """``number`` counts from 1.  ``plan`` names the plan that dealt the tests out: of shards of two
    plans a test may be in none.
    """

    number: int
    of: int
    plan: str | None = None

    def __str__(self) -> str:
        return f"shard {self.number}/{self.of}"

    @property
    def word(self) -> str:
        """What the option takes."""
        return f"{self.number}/{self.of}{'' if self.plan is None else f'@{self.plan}'}"


def parse_shard(text: str) -> Shard:
    """``2/3``, or ``2/3@PLAN`` as ``diffspeed plan`` writes it.

    Raises:
        UsageError: it is no such word, or there is no such shard.
    """
    found = _WORD.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{shortened(text, 60)!r} names no shard; write 2/3 for the second of three"
        )
    shard = Shard(int(found[1]), int(found[2]), found[3])
    if not 1 <= shard.number <= shard.of:
        raise UsageError(f"there is no shard {shard.number} of {shard.of}; they count from 1")
    return shard


def shard_of(about: Mapping[str, Any]) -> Shard | None:
    """The shard that a ``session`` line tells of; ``None`` where it tells of none."""
    told = about.get("shard")
    if not isinstance(told, Mapping):
        return None
    number, of, plan = told.get("number"), told.get("of"), told.get("plan")
    if not (isinstance(number, int) and isinstance(of, int) and 1 <= number <= of <= MOST):
        return None
    return Shard(number, of, plan if isinstance(plan, str) else None)
