"""What each gate of the project must answer, and whether a record says so.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_sessions import first_sentence

STEPS = 4
HOST_SLEEP_S = 0.25
"""``SLEEP_S`` of the project, in each step."""
DEVICE_CYCLES = 300_000_000
FASTEST_HZ = 2.2e9
"""Above the boost clocks of an H100 and an H200 (1.98 GHz)."""

Rule = Callable[[Mapping[str, Any], str], "str | None"]
"""Given a record and the device's name: what is wrong with it, or ``None``."""


@dataclass(frozen=True)
class Expected:
    """What one gate of one test must answer; ``says`` are texts that its reason must contain."""

    session: str
    test: str
    gate: str
    verdict: str
    says: tuple[str, ...] = ()
    rule: Rule | None = None

    @property
    def name(self) -> str:
        colour = {"PASS": "green", "FAIL": "red"}[self.verdict]
        return f"{self.gate} {colour}: {self.test.removeprefix('test_').replace('_', ' ')}"

    @property
    def phrase(self) -> str:
        naming = f" naming {', '.join(self.says)}" if self.says else ""
        where = f", {self.rule.__doc__}" if self.rule is not None and self.rule.__doc__ else ""
        return f"{self.verdict}{naming}{where}"


def counted_on_the_gpu(record: Mapping[str, Any], device: str) -> str | None:
    """counted on this GPU where there is one"""
    found = str(record["figures"].get("counted_on"))
    wanted = f"CUDA, {device}," if device else "simulated GPU"
    return None if found.startswith(wanted) else f"counted on {found!r}, not on {wanted!r}"


def counted_by_the_allocator(record: Mapping[str, Any], device: str) -> str | None:
    """measured by the allocator where there is one"""
    figures = record["figures"]
    if not device:
        found = str(figures.get("counted_on"))
        return None if "simulated" in found else f"counted on {found!r}, not on a simulated GPU"
    if "simulated" in record["reason"] or figures.get("counted_on") != device:
        return f"counted on {figures.get('counted_on')!r}, not on {device!r}"
    for arm in ("baseline", "candidate"):
        reserved, peak = (
            figures.get(f"{arm}_reserved_bytes", 0),
            figures.get(f"{arm}_peak_bytes", 0),
        )
        if not reserved >= peak > 0:
            return f"{arm}: {reserved} bytes reserved, {peak} allocated"
    return None


def expectations(lines: Mapping[str, str]) -> list[Expected]:
    """In order of value; ``lines`` are the planted ones by their words."""
    syncs, memory = counted_on_the_gpu, counted_by_the_allocator
    return [
        Expected("red", "test_break", "no_graph_breaks", "FAIL", (lines["break"],)),
        Expected("red", "test_sync", "no_gpu_syncs", "FAIL", (lines["sync"],), syncs),
        Expected("red", "test_recompile", "no_recompiles", "FAIL", (lines["recompile"],)),
        Expected("red", "test_memory", "max_memory", "FAIL", (), memory),
        Expected("red", "test_not_numbers", "image_similarity", "FAIL", ("NaN",)),
        Expected("red", "test_other_images", "image_similarity", "FAIL", ("psnr",)),
        Expected("red", "test_device_sleep", "min_speedup", "FAIL"),
        Expected("red", "test_device_sleep", "max_slowdown", "FAIL"),
        Expected("red", "test_host_sleep", "min_speedup", "FAIL"),
        Expected("red", "test_host_sleep", "max_slowdown", "FAIL"),
        Expected("red", "test_compile_time", "max_compile_time", "FAIL", ("allowed: 0.001 s",)),
        Expected("green", "test_counted", "no_graph_breaks", "PASS"),
        Expected("green", "test_counted", "no_gpu_syncs", "PASS", (), syncs),
        Expected("green", "test_memory", "max_memory", "PASS", (), memory),
        Expected("green", "test_images", "image_similarity", "PASS"),
        Expected("green", "test_speed", "min_speedup", "PASS"),
        Expected("green", "test_speed", "max_slowdown", "PASS"),
        Expected("compiled", "test_compiled", "no_recompiles", "PASS"),
        Expected("compiled", "test_compiled", "max_compile_time", "PASS"),
    ]


def verdict_of(rows: Sequence[Mapping[str, Any]], one: Expected) -> Mapping[str, Any] | None:
    """The last word of a gate, or why it could not be checked."""
    own = [
        row
        for row in rows
        if row["kind"] in ("gate", "gate-error")
        and f"::{one.test}[" in row["test"]
        and str(row["claim"]).split()[0] == one.gate
    ]
    return own[-1] if own else None


def judged(record: Mapping[str, Any], one: Expected, device: str) -> tuple[bool, str]:
    """Whether a record is what was expected, and what it says in one sentence."""
    if record["kind"] == "gate-error":
        return False, f"could not be checked: {first_sentence(record['error'])}"
    ratio = record["figures"].get("ratio")
    ratio = "" if ratio is None else f"{ratio:.3g}×, "
    found = f"{record['verdict']}: {ratio}{first_sentence(record['reason'])}"
    problems = []
    if record["verdict"] != one.verdict:
        problems.append(f"not {one.verdict}")
    problems += [f"does not say {text!r}" for text in one.says if text not in record["reason"]]
    if one.rule is not None:
        problem = one.rule(record, device)
        problems += [] if problem is None else [problem]
    said = [text for text in one.says if text in record["reason"]]
    told = f" [{'; '.join(problems)}]" if problems else f" [{', '.join(said)}]" if said else ""
    return not problems, (f"{told.strip()} {found}" if problems else f"{found}{told}")


def verdicts_by_claim(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    return {(row["test"], row["claim"]): row["verdict"] for row in rows if row["kind"] == "gate"}


def planted_seconds(rows: Sequence[Mapping[str, Any]], *, gpu: bool) -> tuple[bool, str]:
    """Whether a call is longer by what was planted, on the device and on the host.

    What the CPU does while the device sleeps is hidden behind it, so half of the sleep is enough.
    """
    device_s = STEPS * (DEVICE_CYCLES / FASTEST_HZ if gpu else HOST_SLEEP_S)
    planted = {"test_device_sleep": device_s, "test_host_sleep": STEPS * HOST_SLEEP_S}
    ok, told = True, []
    for test, seconds in planted.items():
        one = Expected("red", test, "min_speedup", "FAIL")
        record = verdict_of(rows, one)
        figures = {} if record is None else record.get("figures", {})
        before, after = figures.get("baseline_s"), figures.get("candidate_s")
        if before is None or after is None:
            ok = False
            told.append(f"{test}: no figures")
            continue
        ok = ok and after - before >= seconds / 2
        told.append(f"{test}: {before:.3f} → {after:.3f} s, planted {seconds:.3f} s")
    return ok, "; ".join(told)


def planted_lines(text: str) -> dict[str, str]:
    """``planted_faults.py:12`` by the word of each ``# PLANTED word``."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        marked = re.search(r"# PLANTED (\w+)$", line)
        if marked is not None:
            found[marked[1]] = f"planted_faults.py:{number}"
    return found
