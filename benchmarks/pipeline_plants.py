"""What planted changes do to the GPU cost of small pipelines: of ``gpucost_plants.py --pipelines``.

    python benchmarks/pipeline_plants.py BASE OUT.json     what a worker process does

Counts are kept in build/gpucost_plants/, so an interrupted run goes on; remove it to count anew.
"""

import inspect
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import planted_pipelines  # noqa: E402

from pytest_diffspeed.arms.gpu_cost.result import GpuCost  # noqa: E402
from pytest_diffspeed.common.amounts import amount  # noqa: E402
from pytest_diffspeed.gates.gpu_cost_figures import lines_of_failed  # noqa: E402
from pytest_diffspeed.gpucost import compare_costs  # noqa: E402

KEPT = HERE.parent / "build/gpucost_plants"
STACKS = {"eager": "bf16", "compiled": "bf16+compile"}
SHOWS_NOTHING = {
    ("norm_left_to_python", "eager"): "there is no graph to break",
    ("norm_by_hand", "compiled"): "Inductor makes the same of both",
    ("table_from_the_host", "compiled"): "Inductor makes the table on the GPU, where it is used",
    ("contiguous_patches", "compiled"): "Inductor reads what would have been copied as it lies",
}
"""Plants that cost nothing in a mode, and why."""


def count(base, out):
    """All of one base, in this process, which believes from then on that it has a GPU."""
    from pytest_diffspeed.arms.gpu_cost.in_worker import count_here
    from pytest_diffspeed.arms.gpu_cost.order import CountOrder

    names = [base, *(n for n, (_, of) in planted_pipelines.PLANTS.items() if of == base)]
    found = {}
    for mode, stack in STACKS.items():
        for name in names:
            cost = count_here(CountOrder(f"planted_pipelines:{name}", stack, "a100", steps=2))
            found[f"{mode}:{name}"] = cost.to_json()
            print(f"{mode:9} {name}", file=sys.stderr, flush=True)
    Path(out).write_text(json.dumps(found))


def counted(bases):
    """Each in a worker of its own: costs by mode and name."""
    found = {}
    KEPT.mkdir(parents=True, exist_ok=True)
    for base in bases:
        out = KEPT / f"{base}.json"
        if not out.is_file():
            command = [sys.executable, str(HERE / "pipeline_plants.py"), base, str(out)]
            subprocess.run(command, check=True, cwd=HERE, stdout=sys.stderr)
        found |= json.loads(out.read_text())
    return {name: GpuCost.from_json(cost) for name, cost in found.items()}


def compared(base, head):
    """Of a step; of what is outside of the steps where only that differs."""
    step = compare_costs(base.step(1), head.step(1))
    outside = compare_costs(base.outside, head.outside)
    return (outside, ", outside of the steps") if step.same_fingerprint else (step, "")


def planted_lines(name):
    """As reports name them; of what changes nothing there is none."""
    lines, start = inspect.getsourcelines(planted_pipelines.PLANTS[name][0])
    file = Path(planted_pipelines.__file__).name
    return [f"{file}:{n}" for n, line in enumerate(lines, start) if line.endswith("# planted\n")]


def cell(found, where):
    """What moved, which limits fail, and which line comes first."""
    moved = [f"{one.name} {_grown(one)}" for one in found.figures if one.growth]
    if not moved:
        return "0, same hash" if found.same_fingerprint else "0, another hash"
    failed = ", ".join(f"`{one.name}`" for one in found.failed)
    line = next(iter(lines_of_failed(found)), "none").removeprefix("diffusers/")
    return f"{'; '.join(moved)}{where} → {failed} at `{line}`"


def _grown(one):
    return f"{'+' if one.growth > 0 else '-'}{amount(one.name, abs(one.growth))}"


def problems(name, mode, found):
    """What is not as it should be: sentences."""
    lines, reported = planted_lines(name), lines_of_failed(found)
    if not lines or (name, mode) in SHOWS_NOTHING:
        if any(one.growth for one in found.figures):
            yield f"{mode} {name}: figures moved where nothing costs"
        if mode == "eager" and not found.same_fingerprint:
            yield f"{mode} {name}: other kernels where nothing costs"
        return
    if not found.failed:
        yield f"{mode} {name}: nothing fails"
    own = [line for line in reported if line.startswith("planted_pipelines.py:")]
    # A compiler may fuse several lines into one kernel: none of them is its line then.
    if (own and own[0] not in lines) or (not own and mode == "eager"):
        yield f"{mode} {name}: the first line of its own is {own[:1]}, planted are {lines}"


def section(costs, rows):
    """Of the page."""
    key = next(iter(costs.values())).key
    versions = ", ".join(f"{name} {key[name]}" for name in ("torch", "triton", "diffusers"))
    lines = [
        "## In pipelines",
        "",
        '`make benchmark-gpucost-plants ARGS="--pipelines --write"`, on '
        f"{date.today().isoformat()},",
        f"with {versions}, for `a100`, rules {key['rules']};",
        "no GPU was there. Small pipelines of diffusers with",
        "random weights, `bf16` and `bf16+compile`; the second step of two, or what is outside of",
        "the steps where only that moved. Behind the arrow: the limits that fail by default, and",
        "the first line that a FAIL names.",
        "",
        "| planted | eager | compiled |",
        "|---|---|---|",
    ]
    for name, cells in rows.items():
        factory, base = planted_pipelines.PLANTS[name]
        lines.append(f"| {base}, `{name}`: {factory.__doc__} | {' | '.join(cells.values())} |")
    lines += ["", "What costs nothing in one of the two, and why:", ""]
    lines += [
        f"- `{name}`, {mode}: {why}." for (name, mode), why in SHOWS_NOTHING.items() if name in rows
    ]
    return "\n".join(lines) + "\n"


def run(bases=()):
    """The section of these, or of all, and what is not as it should be."""
    bases = bases or list(planted_pipelines.BASES)
    costs = counted(bases)
    rows, wrong = {}, []
    for name, (_, base) in planted_pipelines.PLANTS.items():
        for mode in STACKS if base in bases else ():
            found, where = compared(costs[f"{mode}:{base}"], costs[f"{mode}:{name}"])
            rows.setdefault(name, {})[mode] = cell(found, where)
            wrong += problems(name, mode, found)
    return section(costs, rows), wrong


if __name__ == "__main__":
    count(*sys.argv[1:])
