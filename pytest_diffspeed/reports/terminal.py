"""The terminal block: one line a gate, failures first, and the next command to run.

FAIL            test_a.py::test_fast[bf16]  min_speedup over fp32 per call
1.612× [1.548, 1.671], need ≥ 1.8×; 9 pairs, noise 3.1 % a pair, …
the gate's reason
PASS            test_a.py::test_fast[compile]  no_graph_breaks  unet: 1 graph, 0 breaks (counted)
PASS            test_a.py::test_fast[compile]  min_speedup over fp32 per call  1.612× [1.548,
1.671], need ≥ 1.5×; 9 pairs, 1 process instance (measured)

Within a verdict what is counted stands before images, ratios, memory and seconds: the surer a
figure is, the earlier it is read.

stack    over  ratio [interval]       a call  first call  pairs  verdict
compile  fp32  1.612× [1.548, 1.671]  0.28 s  61.2 s      9      PASS
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..common.text import plural
from ..records.older import axis_of
from ..records.verdict import Axis, Cause, EvidenceKind, GateResult, VerdictKind
from .loose import number, words
from .tally import VERDICTS
from .units import interval as written_interval
from .units import ratio_with_interval

_WIDTH = max(len(kind.value) for kind in VerdictKind)


def in_order(results: Iterable[GateResult]) -> list[GateResult]:
    """Failures first, and the surest figures first among those of one verdict."""
    return sorted(results, key=lambda r: (VERDICTS.index(r.verdict), reliability(r)))


def reliability(result: GateResult) -> int:
    """0 counted, 1 images, 2 a ratio, 3 memory, 4 seconds: the order of reports."""
    return list(Axis).index(axis_of(result))


def gate_lines(
    results: Iterable[GateResult], *, verbose: bool = False, xfailed: Collection[str] = ()
) -> list[tuple[VerdictKind | None, str]]:
    """Lines of the block with the verdict they belong to, in the order of printing.

    A PASS is one line; ``verbose`` gives it everything that other verdicts say.  What fails one of
    the tests ``xfailed`` was expected to, and has the colour of no verdict.
    """
    lines: list[tuple[VerdictKind | None, str]] = []
    for result in in_order(results):
        expected = result.blocking and result.test in xfailed
        verdict = None if expected else result.verdict
        head = f"{verdict or 'xfailed':<{_WIDTH}}  {result.test}  {result.claim}"
        is_short = result.verdict is VerdictKind.PASS and not verbose and not _came_late(result)
        found = _short(result) if is_short else describe(result)
        reason = [] if is_short else result.reason.splitlines()
        words = str(result.figures.get("found", ""))
        if reason and " " in words and reason[0].endswith(words):  # it need not be said twice
            reason[0] += found.removeprefix(words)
            found = ""
        below = [] if is_short else [*reason, *next_step(result.cause)]
        if is_short and found and "\n" not in found:
            head += f"  {found}"
        elif found:
            below = [*found.splitlines(), *below]
        lines.append((verdict, head))
        lines += [(verdict, " " * (_WIDTH + 2) + line) for line in below]
    return lines


def _came_late(result: GateResult) -> bool:
    """Whether it took more than one measurement of this tree to get there."""
    figures = result.figures
    return bool(figures.get("attempt", 1) > 1 or figures.get("undecided_before", 0) > 0)


def failure(result: GateResult) -> str:
    """What stands in the test's own report; a one-line summary shows only its first words."""
    parts = [f"{result.verdict} {result.claim}: {describe(result) or _unmeasured(result)}"]
    return "\n    ".join([*parts, *result.reason.splitlines(), *next_step(result.cause)])


def next_step(cause: Cause | None) -> list[str]:
    """What to do about it, in a line of its own; nothing where nobody says it."""
    return [] if cause is None else [f"next: {cause.next_step}"]


def _unmeasured(result: GateResult) -> str:
    of_rules = (EvidenceKind.COUNTED, EvidenceKind.MODELLED)
    return str(result.evidence) if result.evidence in of_rules else "nothing measured"


def describe(result: GateResult) -> str:
    """What a gate found, in one line; empty where nothing was measured.

    Gates that are not on a ratio say it themselves, in ``figures["found"]``.
    """
    return _format(result, f"{noise_of(result.figures.get('noise'))}{_floor(result)}")


def _short(result: GateResult) -> str:
    return _format(result, "")


def _format(result: GateResult, noise: str) -> str:
    figures = result.figures
    if "found" in figures:  # a gate that counts says it in its own words
        return f"{figures['found']} ({result.evidence}){_instead(figures)}"
    if not has_ratio(figures):
        return ""
    spread = figures.get("process_spread")
    apart = "" if spread is None or not math.isfinite(spread) else f", {_percent(spread)} apart"
    return (
        f"{ratio_and_pairs(figures)}{noise}, "
        f"{plural(figures['instances'], 'process instance')}{apart} ({result.evidence})"
        f"{_instead(figures)}"
    )


def ratio_and_pairs(figures: Mapping[str, Any]) -> str:
    """``1.612× [1.548, 1.671], need ≥ 1.5×; 9 pairs``."""
    return (
        f"{interval(figures)}, need ≥ {figures['need']:.3g}×; "
        f"{plural(figures['pairs'], 'pair')}{pairs_of(figures)}"
    )


def noise_of(share: float | None) -> str:
    """``, noise 3.1 % a pair``."""
    return f", noise {_percent(share)} a pair"


def pairs_of(figures: Mapping[str, Any]) -> str:
    """What a pair is of, where it is not simply a call: ``" of unet calls of steps 1 and 2 …"``."""
    of = figures.get("pairs_of")
    return f" of {of}" if isinstance(of, str) and figures.get("unit") != "call" else ""


def _instead(figures: Mapping[str, Any]) -> str:
    """Stricter markers in whose place this one holds: a PASS is not theirs."""
    return "".join(f"; in the place of {written}" for written in words(figures.get("replaces")))


def has_ratio(figures: Mapping[str, Any]) -> bool:
    """Whether a ratio was measured, with all that a line on it says: records are read from files
    too, and a gate of somebody's own may mean another thing by ``pairs``.
    """
    needed = ("ratio", "need", "pairs", "instances")
    numbers = all(isinstance(figures.get(name), (int, float)) for name in needed)
    return numbers and math.isfinite(figures["ratio"]) and bool(figures["pairs"])


def _floor(result: GateResult) -> str:
    """What the baseline against itself showed, in brackets; empty where it is not known."""
    figures = result.figures
    if not figures.get("noise_floor_pairs"):
        return ""
    bias = figures.get("order_bias")
    message = f"baseline against itself {_percent(figures.get('noise_floor'))}"
    if figures.get("is_order_biased") and bias is not None:
        message += f", the later call {_percent(abs(bias))} {'slower' if bias > 0 else 'faster'}"
    else:
        message += ", no order bias seen"
    return f" ({message})"


def interval(figures: Mapping[str, Any]) -> str:
    """``1.41× [1.35, 1.47]``; an open end is written as such."""
    low, high = number(figures.get("low")), number(figures.get("high"))
    found = number(figures.get("ratio"))
    if found is None:
        return f"?× {written_interval(low, high)}"
    return ratio_with_interval(found, low, high)


def ladder_table(results: Iterable[GateResult]) -> list[str]:
    """The table of stacks: ratio with its interval, first call, pairs, seconds a call; with the
    tests where there are several.
    """
    rows = [("stack", "over", "ratio [interval]", "a call", "first call", "pairs", "verdict")]
    tests = ["test"]
    shown: set[tuple[str, str, str]] = set()
    for result in results:
        figures = result.figures
        row = (result.test, result.stack, figures.get("over", ""))
        whole_calls = figures.get("unit", "call") == "call"
        if has_ratio(figures) and whole_calls and row not in shown:
            shown.add(row)
            # Its file and stack stand elsewhere, and the whole name would be half a line.
            tests.append(result.test.rpartition("::")[2].removesuffix(f"[{result.stack}]"))
            rows.append(
                (
                    result.stack,
                    str(figures.get("over", "")),
                    interval(figures),
                    _seconds(figures.get("candidate_s"), ".3g"),
                    _seconds(figures.get("candidate_first_call_s"), ".1f"),
                    str(figures["pairs"]),
                    result.verdict.value,
                )
            )
    if len(rows) == 1:
        return []
    if len(set(tests[1:])) == 1:
        return align(rows)
    return align([(*row, test) for row, test in zip(rows, tests, strict=True)])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded to their widest cell, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _seconds(value: float | None, digits: str) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:{digits}} s"


def _percent(share: float | None) -> str:
    return "unknown" if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"
