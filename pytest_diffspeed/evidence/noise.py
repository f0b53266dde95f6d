"""The noise floor of a baseline on this machine, kept in ``<rootdir>/.diffspeed/noise/``.

One file a key and one line a measurement; the last one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..common.workdir import NAME, workdir
from ..records.journal import as_line
from ..records.lines import read_lines
from ..statistics import NoiseFloor, noise_floor
from .key import EvidenceKey
from .verdict_store import utc_now

Pairs = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class KnownFloor:
    """Pairs ``(earlier seconds, later seconds)`` of the baseline against itself.

    ``at`` is when they were measured, in UTC.
    """

    pairs: Pairs
    at: str

    @property
    def floor(self) -> NoiseFloor:
        return noise_floor(self.pairs)

    def figures(self) -> dict[str, float | int | str | bool]:
        """For a record."""
        floor = self.floor
        return {
            "noise_floor": floor.noise,
            "order_bias": floor.order_bias,
            "order_bias_low": floor.low,
            "order_bias_high": floor.high,
            "is_order_biased": floor.is_biased,
            "noise_floor_pairs": floor.pairs,
            "noise_floor_at": self.at,
        }


class NoiseMemory:
    """Reads and writes floors; each is measured once a key, whatever session asks."""

    def __init__(self, rootdir: Path, now: Callable[[], datetime] = utc_now) -> None:
        self._rootdir = rootdir
        self._now = now

    def known_or(
        self, key: EvidenceKey, measure: Callable[[], list[tuple[float, float]]]
    ) -> KnownFloor:
        """The floor of ``key``, measured now if it is not known.

        Raises:
            RecordError: the file was written by another major version of this package.
        """
        path = self._rootdir / NAME / "noise" / f"{key.digest}.jsonl"
        records = [] if not path.exists() else list(read_lines(path).records)
        known = [record for record in records if record["kind"] == "noise-floor"]
        if known:
            pairs = tuple((float(earlier), float(later)) for earlier, later in known[-1]["pairs"])
            return KnownFloor(pairs, known[-1]["at"])
        found = KnownFloor(tuple(measure()), self._now().isoformat(timespec="seconds"))
        workdir(self._rootdir)  # with its .gitignore
        path.parent.mkdir(exist_ok=True)
        line = as_line(
            {
                "kind": "noise-floor",
                "key": key.digest,
                "parts": dict(key.parts),
                "at": found.at,
                "pairs": [list(pair) for pair in found.pairs],
            }
        )
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
        return found
