"""What JUnit's XML says of the gates of one test: properties, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..verdict import GateResult
from .figures import figures_of_result

PREFIX = "diffspeed."


def properties(results: Sequence[GateResult]) -> list[tuple[str, str | float]]:
    """Names and values: ``diffspeed.min_speedup.verdict``, ``….ratio``, ``….low``, ``….high``.

    Where a test has several gates of one kind, the rest of the claim stands in brackets, as in
    ``diffspeed.min_speedup[over bf16 per call].ratio``.
    """
    several = Counter(result.gate for result in results)
    named: list[tuple[str, str | float]] = []
    for result in results:
        name = PREFIX + result.gate
        if several[result.gate] > 1:
            name += f"[{result.claim.removeprefix(result.gate).strip()}]"
        named.append((f"{name}.verdict", str(result.verdict)))
        if result.evidence is not None:
            named.append((f"{name}.evidence", str(result.evidence)))
        for figure in figures_of_result(result):
            named.append((f"{name}.{figure.name}", figure.value))
            if figure.low is not None:
                named.append((f"{name}.low", figure.low))
            if figure.high is not None:
                named.append((f"{name}.high", figure.high))
    return named
