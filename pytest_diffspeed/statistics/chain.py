"""Ratios of neighbours chained into one figure for each, with what is known of it.

A graph: each link is a ratio between two nodes with an interval, measured on its own.  In logs
ratios add, and the half-widths of independent ones add in quadrature, as standard errors do: so a
chain of n links like each other is known sqrt(n) times less well than a link.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

STANDARD_ERRORS = 1.645
"""In the half-width of an interval that holds in 90 %, as those of our gates do, of a Gaussian."""


@dataclass(frozen=True)
class LogRatio:
    """The logarithm of a ratio, and how far the truth may lie below and above.

    ``down`` and ``up`` are half-widths in logs, not negative; ``math.inf`` where it is open.
    """

    value: float
    down: float
    up: float

    @classmethod
    def of(cls, ratio: float, low: float | None, high: float | None) -> LogRatio:
        """Of a positive ``ratio`` and its interval, ``None`` where that is open.

        An interval that is empty or a point was crossed from both sides while it was measured, as
        happens where a machine changes its speed: nothing is known, and both sides are open.  A
        ratio outside is as far from the end beyond it as nothing.
        """
        value = math.log(ratio)
        if low is not None and high is not None and low >= high:
            return cls(value, math.inf, math.inf)
        down = math.inf if low is None or low <= 0 else value - math.log(low)
        up = math.inf if high is None or math.isinf(high) else math.log(high) - value
        return cls(value, max(down, 0.0), max(up, 0.0))

    @property
    def ratio(self) -> float:
        return math.exp(self.value)

    @property
    def low(self) -> float | None:
        return None if math.isinf(self.down) else math.exp(self.value - self.down)

    @property
    def high(self) -> float | None:
        return None if math.isinf(self.up) else math.exp(self.value + self.up)

    @property
    def open_sides(self) -> int:
        return math.isinf(self.down) + math.isinf(self.up)

    def inverse(self) -> LogRatio:
        """The same seen from the other end."""
        return LogRatio(-self.value, self.up, self.down)

    def then(self, other: LogRatio) -> LogRatio:
        """This and an independent one after the other."""
        return LogRatio(
            self.value + other.value,
            math.hypot(self.down, other.down),
            math.hypot(self.up, other.up),
        )


SAME = LogRatio(0.0, 0.0, 0.0)
"""A node against itself."""


def combined(several: Sequence[LogRatio]) -> LogRatio:
    """One figure of several independent measurements of the same ratio, at least one.

    Those with both ends count by the inverse square of their mean half-width; open ones add nothing
    to them.  Where they disagree by more than their intervals let expect, the interval of the mean
    is widened by the factor of Birge, sqrt(chi squared / (n - 1)), as the Particle Data Group does
    (Review of Particle Physics, introduction, "unconstrained averaging").  If all are open, the one
    with the fewest open sides stands for all.
    """
    closed = [one for one in several if not one.open_sides]
    if not closed:
        return min(several, key=_badness)
    if len(closed) == 1:
        return closed[0]
    # A half-width of nothing would outweigh all others for ever.
    widths = [max((one.down + one.up) / 2, 1e-6) for one in closed]
    weights = [width**-2 for width in widths]
    total = math.fsum(weights)
    mean = math.fsum(w * one.value for w, one in zip(weights, closed, strict=True)) / total
    chi_squared = math.fsum(
        ((one.value - mean) * STANDARD_ERRORS / width) ** 2
        for width, one in zip(widths, closed, strict=True)
    )
    wider = max(1.0, math.sqrt(chi_squared / (len(closed) - 1)))
    down, up = (
        wider * math.hypot(*(w * side for w, side in zip(weights, sides, strict=True))) / total
        for sides in ([one.down for one in closed], [one.up for one in closed])
    )
    return LogRatio(mean, down, up)


@dataclass(frozen=True)
class Reached:
    """A node with its figure against the first node of its chain."""

    node: str
    total: LogRatio


def chained(
    links: Mapping[tuple[str, str], LogRatio],
    order: Callable[[str], float],
    start: str | None = None,
) -> list[list[Reached]]:
    """Every chain of ``links``, each from its first node.

    Args:
        links: from a node to another, the figure of the second against the first.  A link counts in
            both directions.
        order: the place of a node; chains and the nodes in them are sorted by it.
        start: the node of which the figure is 1, in place of the first one of its chain.

    Returns:
        for each set of nodes that links join, all its nodes in order.  Where several ways lead to a
        node, the one with the fewest open sides counts, of these the narrowest.
    """
    beside: dict[str, list[tuple[str, LogRatio]]] = {}
    for (base, head), ratio in links.items():
        beside.setdefault(base, []).append((head, ratio))
        beside.setdefault(head, []).append((base, ratio.inverse()))
    nodes = sorted(beside, key=lambda node: (order(node), node))
    firsts = nodes if start not in beside else [str(start), *nodes]
    chains: list[list[Reached]] = []
    seen: set[str] = set()
    for first in firsts:
        if first not in seen:
            reached = _from(first, beside)
            seen |= reached.keys()
            chains.append([Reached(node, reached[node]) for node in nodes if node in reached])
    return sorted(chains, key=lambda chain: (order(chain[0].node), chain[0].node))


def _from(first: str, beside: Mapping[str, Iterable[tuple[str, LogRatio]]]) -> dict[str, LogRatio]:
    """Dijkstra's algorithm: squares of half-widths add, so the narrowest way is the shortest."""
    reached: dict[str, LogRatio] = {}
    number = count()  # so that two ways that are as good keep their order
    waiting = [((0, 0.0), next(number), first, SAME)]
    while waiting:
        _, _, node, total = heapq.heappop(waiting)
        if node in reached:
            continue
        reached[node] = total
        for other, ratio in beside[node]:
            if other not in reached:
                way = total.then(ratio)
                heapq.heappush(waiting, (_badness(way), next(number), other, way))
    return reached


def _badness(way: LogRatio) -> tuple[int, float]:
    sides = (side for side in (way.down, way.up) if not math.isinf(side))
    return way.open_sides, math.fsum(side**2 for side in sides)
