"""The terminal block: one line a gate, failures first, and the next command to run.

FAIL            test_a.py::test_fast[bf16]  min_speedup over fp32 per call
1.612× [1.548, 1.671], need ≥ 1.8×; 9 pairs, noise 3.1 % a pair, …
the gate's reason
PASS            test_a.py::test_fast[compile]  min_speedup over fp32 per call
1.612× [1.548, 1.671], need ≥ 1.5×; 9 pairs, noise 3.1 % a pair, …

stack    over  ratio [interval]       a call  first call  pairs  verdict
compile  fp32  1.612× [1.548, 1.671]  0.28 s  61.2 s      9      PASS
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..verdict import Evidence, GateResult, VerdictKind

_ORDER = (
    VerdictKind.FAIL,
    VerdictKind.INCONCLUSIVE,
    VerdictKind.NOT_APPLICABLE,
    VerdictKind.PASS,
)
_WIDTH = max(len(kind.value) for kind in VerdictKind)


def gate_lines(results: Iterable[GateResult]) -> list[tuple[VerdictKind, str]]:
    """Lines of the block with the verdict they belong to, in the order of printing."""
    lines: list[tuple[VerdictKind, str]] = []
    for result in sorted(results, key=lambda r: _ORDER.index(r.verdict)):
        head = f"{result.verdict.value:<{_WIDTH}}  {result.test}  {result.claim}"
        lines.append((result.verdict, head))
        found = describe(result)
        indent = " " * (_WIDTH + 2)
        if found:
            lines.append((result.verdict, indent + found))
        if result.verdict is not VerdictKind.PASS or _came_late(result):
            lines.append((result.verdict, indent + result.reason.replace("\n", "\n" + indent)))
    return lines


def _came_late(result: GateResult) -> bool:
    """Whether it took more than one measurement of this tree to get there."""
    figures = result.figures
    return bool(figures.get("attempt", 1) > 1 or figures.get("undecided_before", 0) > 0)


def failure(result: GateResult) -> str:
    """What stands in the test's own report; a one-line summary shows only its first words."""
    parts = [f"{result.verdict} {result.claim}: {describe(result) or _unmeasured(result)}"]
    return "\n    ".join([*parts, *result.reason.splitlines()])


def _unmeasured(result: GateResult) -> str:
    return "counted" if result.evidence is Evidence.COUNTED else "nothing measured"


def describe(result: GateResult) -> str:
    """What a gate found, in one line; empty where nothing was measured.

    Gates that are not on a ratio say it themselves, in ``figures["found"]``.
    """
    figures = result.figures
    if "found" in figures:  # a gate that counts says it in its own words
        return f"{figures['found']} ({result.evidence})"
    if not figures.get("pairs"):
        return ""
    plural = "" if figures["instances"] == 1 else "s"
    return (
        f"{interval(figures)}, need ≥ {figures['need']:.3g}×; {figures['pairs']} pairs, noise "
        f"{_percent(figures['noise'])} a pair{_floor(figures)}, {figures['instances']} process "
        f"instance{plural} ({result.evidence})"
    )


def _floor(figures: dict[str, Any]) -> str:
    """What the baseline against itself showed, in brackets; empty where it is not known."""
    if not figures.get("noise_floor_pairs"):
        return ""
    bias = figures["order_bias"]
    told = f"baseline against itself {_percent(figures['noise_floor'])}"
    if figures.get("is_order_biased"):
        told += f", the later call {_percent(abs(bias))} {'slower' if bias > 0 else 'faster'}"
    else:
        told += ", no order bias seen"
    return f" ({told})"


def interval(figures: dict[str, float]) -> str:
    """``1.41× [1.35, 1.47]``; an open end is written as such."""
    low, high = figures["low"], figures["high"]
    left = f"{low:.3f}" if low is not None and math.isfinite(low) and low > 0 else "0"
    right = f"{high:.3f}" if high is not None and math.isfinite(high) else "∞"
    return f"{figures['ratio']:.3f}× [{left}, {right}]"


def ladder_table(results: Iterable[GateResult]) -> list[str]:
    """The table of stacks: ratio with its interval, first call, pairs, seconds a call."""
    rows = [("stack", "over", "ratio [interval]", "a call", "first call", "pairs", "verdict")]
    shown: set[tuple[str, str, str]] = set()
    for result in results:
        figures = result.figures
        row = (result.test, result.stack, figures.get("over", ""))
        whole_calls = figures.get("unit", "call") == "call"
        if figures.get("pairs") and whole_calls and row not in shown:
            shown.add(row)
            rows.append(
                (
                    result.stack,
                    figures["over"],
                    interval(figures),
                    f"{figures['candidate_s']:.3g} s",
                    f"{figures['candidate_first_call_s']:.1f} s",
                    str(figures["pairs"]),
                    result.verdict.value,
                )
            )
    if len(rows) == 1:
        return []
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded to their widest cell, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _percent(share: float | None) -> str:
    return "unknown" if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"
