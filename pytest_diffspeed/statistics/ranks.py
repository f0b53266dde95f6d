"""An order statistic that is followed while values arrive."""

from __future__ import annotations

from heapq import heappop, heappush


class RankTracker:
    """The ``rank``-th largest of the values so far, where ``rank`` moves slowly.

    Two heaps, as for a running median: the ``rank`` largest values in one, the rest in the other.
    A value costs O(log n); so does each step of ``rank``.
    """

    __slots__ = ("_rest", "_top")

    def __init__(self) -> None:
        self._top: list[float] = []  # min-heap of the largest values
        self._rest: list[float] = []  # max-heap (negated) of the others

    def __len__(self) -> int:
        return len(self._top) + len(self._rest)

    def add(self, value: float, rank: int) -> float:
        """Take in ``value``; return the ``rank``-th largest of all values, 1 being the largest."""
        top, rest = self._top, self._rest
        heappush(top, value)
        if not 1 <= rank <= len(self):
            raise ValueError(f"rank must lie in 1..{len(self)}, not {rank}")
        heappush(rest, -heappop(top))
        while len(top) < rank:
            heappush(top, -heappop(rest))
        while len(top) > rank:
            heappush(rest, -heappop(top))
        return top[0]
