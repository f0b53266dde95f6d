"""The test file that ``diffspeed init`` writes: gates, and what each allows for today."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.paths import short_path
from ..common.text import first_line, plural, shortened
from ..records.reader import RecordedSession
from ..records.verdict import GateResult, VerdictKind
from ..similarity.presets import HIGHER_IS_BETTER, IN_DECIBELS, metric_of
from .first_look import IMAGES, Look

WIDTH = 100
IMAGES_GATE = 'image_similarity("lossless")'
MEMORY_STEP = 0.05
"""What is allowed is the share of memory that was counted, rounded up to this and one more."""
SLACK_DB = 1.0
SLACK = 1.25
"""Images that miss a limit are allowed errors larger by this much, or so many dB."""
_MOST_LINES = 6


@dataclass(frozen=True)
class FirstGate:
    """A marker as it is written, what was found, and the lines that it leaves alone.

    ``marker`` is ``None`` where the gate says nothing here: ``found`` has the reason.
    """

    name: str
    marker: str | None
    found: str
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class FirstStack:
    """A stack with its gates, or why it cannot be tested."""

    stack: str
    gates: tuple[FirstGate, ...] = ()
    why_not: str | None = None

    def lines(self) -> Iterator[str]:
        """What is printed of it."""
        if self.why_not is not None:
            yield f"{self.stack}: no test: {self.why_not}"
            return
        yield f"{self.stack}: takes hold"
        for gate in self.gates:
            yield f"  {gate.name:<17} {gate.found}"
            yield from (f"      {line}" for line in gate.allowed)


def draft(look: Look, stacks: Sequence[str]) -> str:
    """A test file with a test of each stack that allows nothing."""
    gates = ["no_gpu_syncs()", "no_graph_breaks()", "max_memory(100)"]
    gates += [IMAGES_GATE] if look.draws_images else []
    gates += ['gpu_cost(over="saved")'] if look.counts_gpu_cost else []
    tests = [
        _test(stack, [FirstGate("", gate, "") for gate in gates], look.source) for stack in stacks
    ]
    return "\n\n\n".join(["import pytest", *tests]) + "\n"


def final(look: Look, stacks: Sequence[FirstStack], named: str | None) -> str:
    """The test file; ``named`` is the source where no ini-file says it."""
    scheduler = f" with {look.scheduler}" if look.scheduler else ""
    head = textwrap.fill(
        f"Performance gates of {look.source} ({look.pipeline}{scheduler}), begun by "
        f"`diffspeed init` on {look.device}. What was red on that day is allowed, with its line: "
        "take an allowance out when it is mended.",
        WIDTH - 3,
    )
    speed = (
        "# Where speed is to be gated, on a device of its own, add a ratio, for example\n"
        '#     @pytest.mark.min_speedup(1.2, device="cuda")'
    )
    tests = [_test(one.stack, one.gates, named) for one in stacks]
    top = [f'"""{head}\n"""', "import pytest", *([] if look.on_gpu else [speed])]
    return "\n\n\n".join(["\n\n".join(top), *tests]) + "\n"


def _test(stack: str, gates: Sequence[FirstGate], source: str | None) -> str:
    place = f', pipeline="{source}"' if source else ""
    lines = [f'@pytest.mark.diffspeed("{stack}"{place})']
    for gate in gates:
        lines += [f"# {shortened(line, WIDTH - 2)}" for line in gate.allowed]
        if gate.marker is None:
            lines += [f"# no {gate.name}: {shortened(first_line(gate.found), WIDTH - 30)}"]
        else:
            lines += [f"@pytest.mark.{gate.marker}"]
    name = re.sub(r"\W+", "_", stack).strip("_")
    return "\n".join([*lines, f"def test_{name}(optimized_pipeline): ..."])


def stack_of(stack: str, session: RecordedSession, look: Look) -> FirstStack:
    """What the session says of a stack."""
    gates = {gate.result.gate: gate for gate in session.latest if gate.result.stack == stack}
    failed = [line for line in session.failed_otherwise if line.get("stack") == stack]
    if not gates or failed:
        reason = next((line.get("reason") or line.get("error") for line in failed), None)
        return FirstStack(stack, why_not=first_line(str(reason or "its test reached no gate")))
    found: list[FirstGate] = []
    for name, one in gates.items():
        if one.error is not None:
            found.append(FirstGate(name, None, f"could not be checked: {first_line(one.error)}"))
        elif one.result.verdict not in (VerdictKind.PASS, VerdictKind.FAIL):
            found.append(FirstGate(name, None, first_line(one.result.reason)))
        elif name in _GATES:
            found.append(_GATES[name](one.result))
    if not look.draws_images:
        found.append(_images_elsewhere(look))
    return FirstStack(stack, tuple(found))


def _images_elsewhere(look: Look) -> FirstGate:
    if look.random_weights:
        return FirstGate(
            "image_similarity", None, "random weights draw noise, and noise is not compared"
        )
    found = (
        f"not tried: {IMAGES} images would take about {look.images_s / 60:.0f} min on "
        f"{look.device}; gated on a GPU"
    )
    return FirstGate("image_similarity", 'image_similarity("lossless", device="cuda")', found)


def _syncs(result: GateResult) -> FirstGate:
    figures = result.figures
    first = int(figures["first_step"]) + int(figures["outside"])
    steady = max(figures["per_step"], default=0)
    if not first and not steady:
        return FirstGate("no_gpu_syncs", "no_gpu_syncs()", "none in scheduler.step")
    lines = [
        f"{short_path(site['file'])}:{site['line']}  {site['source']}"
        for site in figures["sites"]
        if site["allowed"] is None and site["kind"] != "may_block"
    ]
    return FirstGate(
        "no_gpu_syncs",
        f"no_gpu_syncs(first_step={first}, per_step={steady})",
        f"{plural(first, 'host sync')} in the first step, up to {steady} a step: allowed",
        _few(lines),
    )


def _breaks(result: GateResult) -> FirstGate:
    components: Mapping[str, Any] = result.figures["components"]
    count = int(result.figures["breaks"])
    if not count:
        return FirstGate("no_graph_breaks", "no_graph_breaks()", f"none in {', '.join(components)}")
    lines = [
        f"{short_path(found['file'])}:{found['line']}  {name}: {first_line(found['reason'])}"
        for name, report in components.items()
        for found in report["breaks"]
    ]
    found = f"{plural(count, 'graph break')}: allowed"
    return FirstGate("no_graph_breaks", f"no_graph_breaks(max_breaks={count})", found, _few(lines))


def _memory(result: GateResult) -> FirstGate:
    share = float(result.figures["memory_ratio"])
    allowed = (math.ceil(share / MEMORY_STEP - 1e-9) + 1) * MEMORY_STEP
    found = f"{share:.2f} × fp32's peak; {allowed:.2f} allowed"
    return FirstGate("max_memory", f"max_memory({allowed:.2f})", found)


def _images(result: GateResult) -> FirstGate:
    figures = result.figures
    if result.verdict is VerdictKind.PASS:
        return FirstGate("image_similarity", IMAGES_GATE, "within the limits of lossless")
    if figures["findings"] or not figures["misses"]:  # black, NaN: no limit would say that
        return FirstGate("image_similarity", None, first_line(result.reason))
    limits = {str(miss["limit"]): _slack(miss) for miss in figures["misses"]}
    words = ", ".join(f"{name}={value:g}" for name, value in limits.items())
    lines = [
        f"{miss['limit']} is {miss['found']:.4g}, lossless needs {miss['bound']:.4g}"
        for miss in figures["misses"]
    ]
    return FirstGate(
        "image_similarity",
        f'image_similarity("lossless", {words})',
        f"{plural(len(limits), 'limit')} of lossless missed: allowed; look at the pictures in "
        ".diffspeed/images",
        _few(lines),
    )


def _slack(miss: Mapping[str, Any]) -> float:
    """A limit that what was found keeps with a margin, so that rounding cannot break it."""
    metric, found = metric_of(str(miss["limit"])), float(miss["found"])
    if metric in IN_DECIBELS:
        return math.floor(found - SLACK_DB)
    if HIGHER_IS_BETTER[metric]:
        return max(0.0, math.floor(1000 * (1.0 - SLACK * (1.0 - found))) / 1000)
    return math.ceil(1e4 * SLACK * found) / 1e4


def _cost(result: GateResult) -> FirstGate:
    found = first_line(str(result.figures.get("found", "")))
    return FirstGate("gpu_cost", 'gpu_cost(over="saved")', f"saved: {found}")


def _few(lines: Sequence[str]) -> tuple[str, ...]:
    each = tuple(dict.fromkeys(lines))
    left = len(each) - _MOST_LINES
    return each if left <= 0 else (*each[:_MOST_LINES], f"… and {plural(left, 'more line')}: -v")


_GATES: Mapping[str, Callable[[GateResult], FirstGate]] = {
    "no_gpu_syncs": _syncs,
    "no_graph_breaks": _breaks,
    "max_memory": _memory,
    "image_similarity": _images,
    "gpu_cost": _cost,
}
