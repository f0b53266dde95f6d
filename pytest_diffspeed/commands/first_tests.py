"""The test file that ``diffspeed init`` writes: gates, and what each allows for today."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..common.paths import short_path
from ..common.text import first_line, listed, plural, shortened
from ..records.reader import RecordedGate, RecordedSession
from ..records.verdict import GateResult, VerdictKind
from ..similarity.presets import HIGHER_IS_BETTER, IN_DECIBELS, metric_of
from .first_look import IMAGES, Look

WIDTH = 100
TRY_LOG = ".diffspeed/init.log"
"""What the session printed that tried the draft."""
DRAFT = "Tried by `diffspeed init`, which removes it: delete it if that was stopped."
SYNCS_GATE = 'no_gpu_syncs(scope="denoising_loop")'
"""The scheduler's step, and what a pipeline's call does between two of them."""
IMAGES_GATE = 'image_similarity("lossless")'
COST_GATE = 'gpu_cost(over="saved")'
SIMULATED_MEMORY_STEP = 0.02
ALLOCATED_MEMORY_STEP = 0.05
"""What is allowed is the share of memory that was counted, rounded up to this and one more: a
simulated GPU gives out the same each time, a GPU's allocator rounds and caches."""
SLACK_DB = 1.0
SLACK = 1.25
"""Images that miss a limit are allowed errors larger by this much, or so many dB."""
NO_CUDA_BUILD = (
    "not tried: this torch is built without CUDA; with a build that has it (no GPU is needed) it "
    "is counted here"
)
_MOST_LINES = 6


@dataclass(frozen=True)
class FirstGate:
    """A marker as it is written, what was found, and the lines that it leaves alone.

    ``marker`` is ``None`` where the gate is not written: ``found`` has the reason.  ``missing`` is
    the marker that would belong there: no verdict says that it holds, or one says that it does not
    and nothing can be allowed.  It is ``None`` of a gate that says nothing here.
    """

    name: str
    marker: str | None
    found: str
    allowed: tuple[str, ...] = ()
    missing: str | None = None


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
            if gate.missing is not None:
                yield f"      next: see {TRY_LOG}, mend it, and add @pytest.mark.{gate.missing}"


def drafted(look: Look) -> dict[str, str]:
    """The gates that are tried, by name: markers that allow nothing."""
    return {
        "no_gpu_syncs": SYNCS_GATE,
        "no_graph_breaks": "no_graph_breaks()",
        "max_memory": "max_memory(20)",
        **({"image_similarity": IMAGES_GATE} if look.draws_images else {}),
        **({"gpu_cost": COST_GATE} if look.counts_gpu_cost else {}),
    }


def draft(look: Look, stacks: Sequence[str]) -> str:
    """A test file with a test of each stack that allows nothing."""
    gates = [FirstGate(name, marker, "") for name, marker in drafted(look).items()]
    tests = [_test(stack, gates, look.source) for stack in stacks]
    return "\n\n\n".join([f'"""{DRAFT}"""', "import pytest", *tests]) + "\n"


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
    return "\n".join([*lines, f"def {_function(stack)}(optimized_pipeline): ..."])


def _function(stack: str) -> str:
    return "test_" + re.sub(r"\W+", "_", stack).strip("_")


def stack_of(stack: str, session: RecordedSession, look: Look) -> FirstStack:
    """What the session says of a stack: of each gate that was tried, by its one verdict."""
    judged = [one for one in session.latest if one.result.stack == stack]
    failed = _lines_of(stack, session.failed_otherwise)
    if not judged or failed:
        return FirstStack(stack, why_not=_why_untested(stack, session))
    found = [
        _written(name, marker, [one for one in judged if one.result.gate == name])
        or replace(_unjudged(stack, name, session), missing=marker)
        for name, marker in drafted(look).items()
    ]
    if not look.draws_images:
        found.append(_images_elsewhere(look))
    if not look.counts_gpu_cost:
        found.append(FirstGate("gpu_cost", None, NO_CUDA_BUILD))
    return FirstStack(stack, tuple(found))


def _written(name: str, marker: str, judged: Sequence[RecordedGate]) -> FirstGate | None:
    """The gate as its verdict has it; ``None``: it has none."""
    if not judged:
        return None
    (one, *others), result = judged, judged[0].result
    if others:
        claims = listed([each.result.claim for each in judged])
        return FirstGate(name, None, f"has several verdicts, of {claims}", missing=marker)
    if one.error is not None:
        error = f"could not be checked: {first_line(one.error)}"
        return FirstGate(name, None, error, missing=marker)
    if result.verdict is VerdictKind.NOT_APPLICABLE:
        return FirstGate(name, None, first_line(result.reason))
    if result.verdict is VerdictKind.INCONCLUSIVE:
        return FirstGate(name, None, f"has no verdict: {first_line(result.reason)}", missing=marker)
    gate = _GATES[name](result)
    if result.verdict is VerdictKind.FAIL and gate.marker in (None, marker):
        reason = f"red, and nothing can be allowed: {_why_red(result)}"
        return replace(gate, marker=None, found=reason, missing=marker)
    return gate


def _why_red(result: GateResult) -> str:
    return first_line(result.reason if result.cause is None else result.cause.found)


def _unjudged(stack: str, name: str, session: RecordedSession) -> FirstGate:
    """A gate that the session has no verdict of."""
    why = [
        str(line["reason"])
        for line in _lines_of(stack, session.not_run)
        if str(line["claim"]).partition(" ")[0] == name
    ]
    why += [f"of its records {session.note}"] if session.note else []
    reason = first_line(next(iter(why), "the session that tried it does not say why"))
    return FirstGate(name, None, f"has no verdict: {reason}")


def _why_untested(stack: str, session: RecordedSession) -> str:
    lines = (*_lines_of(stack, session.tests), *_lines_of(stack, session.not_run))
    reasons = [line.get("error") or line.get("reason") for line in lines]
    outcomes = [f"its test ended as {line['outcome']}" for line in lines if "outcome" in line]
    known = (str(reason) for reason in (*reasons, *outcomes) if reason)
    return first_line(next(known, f"its test did not run: see {TRY_LOG}"))


def _lines_of(stack: str, lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the stack's test: a line of one that reached no gate does not name the stack."""
    return [x for x in lines if str(x["test"]).endswith(f"::{_function(stack)}[{stack}]")]


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
        return FirstGate("no_gpu_syncs", SYNCS_GATE, "none in the denoising loop")
    lines = [
        f"{short_path(site['file'])}:{site['line']}  {site['source']}"
        for site in figures["sites"]
        if site["allowed"] is None and site["kind"] != "may_block"
    ]
    return FirstGate(
        "no_gpu_syncs",
        f'no_gpu_syncs(scope="denoising_loop", first_step={first}, per_step={steady})',
        f"{plural(first, 'host sync')} in the first step, up to {steady} a step: allowed",
        _few(lines),
    )


def _breaks(result: GateResult) -> FirstGate:
    components: Mapping[str, Any] = result.figures["components"]
    count = int(result.figures["breaks"])
    if not count:
        found = f"none in {', '.join(components)}"
        left = result.figures["not_looked_at"]
        found += f"; not looked at: {', '.join(left)}" if left else ""
        return FirstGate("no_graph_breaks", "no_graph_breaks()", found)
    if result.figures["worse"]:  # no allowance of a marker is one of the file of counts
        return FirstGate("no_graph_breaks", None, "")
    lines = [
        f"{short_path(found['file'])}:{found['line']}  {name}: {first_line(found['reason'])}"
        for name, report in components.items()
        for found in report["breaks"]
    ]
    found = f"{plural(count, 'graph break')}: allowed"
    return FirstGate("no_graph_breaks", f"no_graph_breaks(max_breaks={count})", found, _few(lines))


def _memory(result: GateResult) -> FirstGate:
    share = float(result.figures["memory_ratio"])
    by_allocator = "candidate_reserved_bytes" in result.figures
    step = ALLOCATED_MEMORY_STEP if by_allocator else SIMULATED_MEMORY_STEP
    allowed = (math.ceil(share / step - 1e-9) + 1) * step
    found = f"{share:.2f} × fp32's peak; {allowed:.2f} allowed"
    return FirstGate("max_memory", f"max_memory({allowed:.2f})", found)


def _images(result: GateResult) -> FirstGate:
    from ..similarity import not_checked

    figures = result.figures
    unchecked = tuple(not_checked(figures["skipped"]))
    if result.verdict is VerdictKind.PASS:
        found = "within the limits of lossless"
        return FirstGate("image_similarity", IMAGES_GATE, found, unchecked)
    if figures["findings"] or not figures["misses"]:  # black, NaN: no limit would say that
        return FirstGate("image_similarity", None, "")
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
        (*_few(lines), *unchecked),
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
    return FirstGate("gpu_cost", COST_GATE, f"saved: {found}")


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
