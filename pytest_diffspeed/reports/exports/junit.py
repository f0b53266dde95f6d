"""What JUnit's XML says of the gates of one test: properties, by name."""

from __future__ import annotations

from collections.abc import Sequence

from ...records.verdict import GateResult
from .figures import figures_of_result

PREFIX = "diffspeed."


def properties(results: Sequence[GateResult]) -> list[tuple[str, str | float]]:
    """Names and values: ``diffspeed.no_graph_breaks.verdict``, and with the rest of a claim in
    brackets ``diffspeed.min_speedup[over bf16 per call].ratio``, ``….low``, ``….high``.

    A name depends on its gate alone: another gate of the test changes none.
    """
    named: list[tuple[str, str | float]] = []
    for result in results:
        rest = result.claim.removeprefix(result.gate).strip()
        name = PREFIX + result.gate + (f"[{rest}]" if rest else "")
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
