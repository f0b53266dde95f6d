"""Modelled ratios beside those of published ladders: how far the model of times is off.

    python benchmarks/gpu_cost_ladders.py [--eager] [--write]

Counts each row of published_ladders.json without a GPU and without weights, and keeps the counts in
build/gpu_cost_ladders/, so that an interrupted run goes on.  A row that compiles takes minutes;
``--eager`` counts the others only.  ``--write`` renews docs/gpu_cost_time.md.
"""

import argparse
import datetime
import json
import math
import os
import sys
from pathlib import Path

from pytest_diffspeed import count_gpu_cost
from pytest_diffspeed.arms.gpu_cost.result import GpuCost
from pytest_diffspeed.common.errors import DiffspeedError
from pytest_diffspeed.common.workdir import safe_name
from pytest_diffspeed.gpucost import (
    GpuCostError,
    modelled_ratio,
    modelled_time,
    most_saved,
    named_gpu,
)
from pytest_diffspeed.gpucost.time_constants import constants_of
from pytest_diffspeed.gpucost.time_model import mode_of

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(__file__).with_name("published_ladders.json")
KEPT = ROOT / "build/gpu_cost_ladders"
PAGE = ROOT / "docs/gpu_cost_time.md"
COMMAND = "make benchmark-gpu-cost-ladders"


def counted(ladder, row, *, count):
    """The cost of a row, kept or counted now; why there is none, as text, where it is refused or
    shall not be counted.
    """
    name = safe_name(" ".join((ladder["pipeline"], row["stack"], ladder["gpu"])))
    file = KEPT / f"{name}.json"
    if file.is_file():
        return GpuCost.from_json(json.loads(file.read_text("utf-8")))
    if not count:
        return f"not counted: `{COMMAND}`"
    print(f"counting {ladder['pipeline']} with {row['stack']} …", file=sys.stderr, flush=True)
    os.environ.update(ladder["environment"])
    try:
        cost = count_gpu_cost(ladder["pipeline"], gpu=ladder["gpu"], stack=row["stack"])
    except DiffspeedError as error:
        print(error, file=sys.stderr, flush=True)
        return f"refused: {error}"
    finally:
        for name in ladder["environment"]:
            del os.environ[name]
    KEPT.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(cost.to_json()), encoding="utf-8")
    return cost


def call(cost, steps):
    """One call of the published number of steps."""
    return cost.step(cost.steps - 1).times(steps) + cost.outside


def pair_row(ladder, first, second, costs):
    """A line of the table, with its mode and its error where the model gives a ratio."""
    base, head = ladder["rows"][first], ladder["rows"][second]
    published = base["seconds"] / head["seconds"]
    names = [
        ladder["id"],
        f"`{base['stack']}` → `{head['stack']}`",
        f"{base['seconds']:g} → {head['seconds']:g} s",
        f"{published:.3f}",
    ]
    why = [costs[at] for at in (first, second) if isinstance(costs[at], str)]
    if why:
        return [*names, "–", "", "", why[0]], None
    gpu = named_gpu(ladder["gpu"])
    both = [call(costs[at], ladder["steps"]) for at in (first, second)]
    seconds = [modelled_time(one, gpu).seconds for one in both]
    ratio = seconds[0] / seconds[1]
    error = ratio / published - 1
    saved = most_saved(*both, gpu)
    at_most = f"{saved.share:.0%} or {saved.high:.0%} ({max(0.0, 1 - 1 / published):.0%})"
    modelled = f"{ratio:.3f}"
    try:
        found = modelled_ratio(*both, gpu)
    except GpuCostError:
        what = "eager int8" if mode_of(both[1]) == "eager" else "eager against compiled"
        return [*names, modelled, f"{error:+.1%}", at_most, f"refused: {what}"], None
    modelled += f" ({found.low:.3f} to {found.high:.3f})"
    mode = mode_of(both[0])
    return [*names, modelled, f"{error:+.1%}", at_most, mode], (mode, abs(error))


def page(rows, errors, data):
    """The page of the docs."""
    lines = [
        "# Modelled times and published ones",
        "",
        f"Written on {datetime.date.today()} by `{COMMAND}`.",
        "The seconds were published by others, the counts are ours and made without a GPU, and the",
        "ratios are modelled. Nothing was fitted; but whoever chose the constants had seen these",
        "ladders: this is no blind test.",
        "",
        "| ladder | from → to | published | ratio | modelled (90 % of the draws) | error | "
        "saves at most (did) | kind |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "Error: of the modelled ratio over the published one. The furthest of those that it gives:",
        *(f"- {mode}: {max(found):.1%} of {len(found)} pairs" for mode, found in errors.items()),
        "",
        "A refused ratio is one that `modelled_ratio` does not give; it stands here to show why.",
        "Saves at most: what `--at-most` says of the change, by the model's values and by 95 % of",
        "the draws, and in brackets what was saved.",
        "",
        "## The ladders",
        "",
    ]
    for ladder in data["ladders"]:
        lines.append(f"- {ladder['id']}: {ladder['about']}. Source: {ladder['source']}.")
    lines += [
        "",
        "## The constants",
        "",
        "Of a GPU without values of its own, and of an H100; a draw takes a value in between.",
        "",
        "| constant | value | from | to | H100 | what it is |",
        "|---|---|---|---|---|---|",
    ]
    of_h100 = constants_of(named_gpu("h100"))
    for name, one in constants_of(named_gpu("a100")).items():
        other = of_h100[name]
        own = "" if other == one else f"{other.value:g} ({other.low:g} to {other.high:g})"
        lines.append(
            f"| `{name}` | {one.value:g} | {one.low:g} | {one.high:g} | {own} | {one.what} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eager", action="store_true", help="count no row that compiles")
    parser.add_argument("--write", action="store_true", help=f"renew {PAGE.name}")
    asked = parser.parse_args()
    data = json.loads(DATA.read_text("utf-8"))
    rows, errors = [], {}
    for ladder in data["ladders"]:
        costs = [
            counted(ladder, row, count=not (asked.eager and "compile" in row["stack"]))
            for row in ladder["rows"]
        ]
        for first, second in ladder["pairs"]:
            row, error = pair_row(ladder, first, second, costs)
            rows.append(row)
            if error is not None:
                errors.setdefault(error[0], []).append(error[1])
    print(page(rows, errors, data))
    for mode, found in errors.items():
        furthest = math.ceil(100 * max(found)) / 100
        print(f"gpucost.ERRORS: {mode} {furthest:.2f} of {len(found)} pairs", file=sys.stderr)
    if asked.write:
        PAGE.write_text(page(rows, errors, data), encoding="utf-8")


if __name__ == "__main__":
    main()
