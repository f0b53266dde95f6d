"""A long series in few columns: what a line of the terminal and a small picture have room for."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise


def binned(
    values: Sequence[float], changed: Sequence[int], most: int
) -> tuple[list[float], frozenset[int]]:
    """At most ``most`` heights, each the median of its share of the values, and the places among
    them where a level begins (``changed`` are its indexes among the values).
    """
    width = min(most, len(values))
    ends = [len(values) * i // width for i in range(width + 1)]
    heights = [statistics.median(values[a:b]) for a, b in pairwise(ends)]
    return heights, frozenset(((index + 1) * width - 1) // len(values) for index in changed)
