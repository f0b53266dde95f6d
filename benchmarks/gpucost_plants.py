"""What planted changes do to the GPU cost of a block of SDXL, and of small pipelines.

    python benchmarks/gpucost_plants.py [--write]                 the block: tests/gpucost/planted
    python benchmarks/gpucost_plants.py --pipelines [BASE …]      planted_pipelines.py, all or some

Counts eagerly and compiled in worker processes, without a GPU; ends with an error if a row is not
as it should be.  ``--write`` renews its part of docs/gpu_cost_plants.md.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_diffspeed.gpucost import Cost, compare_costs

ROOT = Path(__file__).resolve().parents[1]
PLANTED = ROOT / "tests/gpucost/planted"
PAGE = ROOT / "docs/gpu_cost_plants.md"
BEGIN, END = "\n<!-- pipelines -->\n", "<!-- /pipelines -->\n"
sys.path.insert(0, str(PLANTED))
import expected  # noqa: E402


def count():
    """Both modes in one worker: what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts.json"
        command = [sys.executable, str(PLANTED / "worker.py"), str(out)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
        return json.loads(out.read_text())


def amount(figure, delta):
    """With its sign: bytes in MB, FLOPs in GFLOP, others as they are."""
    if figure == "bytes":
        return f"{delta / 1e6:+.2f} MB" if abs(delta) >= 5e3 else f"{delta:+d} bytes"
    return f"{delta / 1e9:+.2f} GFLOP" if figure.startswith("flops") else f"{delta:+d}"


def cell(mode, name, found):
    """What moved in one mode, and which limits of the default would fail."""
    row = found[f"{mode}:{name}"]
    if "refused" in row:
        return f"refused: {row['kind']}"
    base = Cost.from_json(found[f"{mode}:{expected.AGAINST.get(name, 'nothing')}"])
    cost = Cost.from_json(row)
    comparison = compare_costs(base, cost)
    moved = [
        f"{amount(figure, delta)}" if figure == "bytes" else f"{figure} {amount(figure, delta)}"
        for figure, delta in expected.moved(base, cost).items()
    ]
    hidden = cost.figures()["hidden"] - base.figures()["hidden"]
    if hidden:
        moved.append(f"hidden (modelled) {hidden:+d}")
    if not moved:
        return "0, same hash" if comparison.same_fingerprint else "0, another hash"
    failed = ", ".join(f"`{figure.name}`" for figure in comparison.failed)
    return "; ".join(moved) + (f" → {failed}" if failed else " → passes")


def described(figures):
    """The figures of the block itself."""
    return (
        f"{figures['kernels']} kernels, {figures['bytes'] / 1e6:.1f} MB, "
        f"{figures['flops'] / 1e9:.2f} GFLOP"
    )


def page(found, summaries):
    """The page of the docs."""
    process = found["process"]
    bases = {
        mode: described(Cost.from_json(found[f"{mode}:nothing"]).figures())
        for mode in expected.TABLES
    }
    lines = [
        "# Planted changes and GPU cost",
        "",
        f"`make benchmark-gpucost-plants ARGS=--write`, on {datetime.date.today().isoformat()},",
        f"with torch {process['torch']}, for `a100`; no GPU was there.",
        "One resnet–transformer–resnet block of SDXL in bfloat16, channels last, with guidance, a",
        f"latent of 32×32. Eager: {bases['eager']}. Compiled: {bases['compiled']}.",
        "",
        "Counted: what moved against the block as it is (int8 with one layer less: against int8).",
        "Behind the arrow: the limits that fail by default (`CostLimits()`): none for what costs",
        "nothing.",
        "",
        "| planted | eager | compiled |",
        "|---|---|---|",
    ]
    for name, summary in summaries.items():
        cells = " | ".join(cell(mode, name, found) for mode in expected.TABLES)
        lines.append(f"| `{name}`: {summary} | {cells} |")
    lines += [
        "",
        f"{process['cpu_s']:.0f} s of processor time for both columns in one process, "
        f"{process['peak_bytes'] / 1e9:.2f} GB at most (measured, 2 cores).",
    ]
    return "\n".join(lines) + "\n"


def of_the_block():
    """The page's part of it, and what is not as the tests expect it."""
    found = count()
    import block  # torch and diffusers: for the docstrings only

    summaries = {name: plant.__doc__.strip() for name, plant in block.PLANTS.items()}
    problems = []
    for mode, table in expected.TABLES.items():
        for name in table:
            base = Cost.from_json(found[f"{mode}:{expected.AGAINST.get(name, 'nothing')}"])
            problems += expected.wrong(mode, name, base, Cost.from_json(found[f"{mode}:{name}"]))
    return page(found, summaries), problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pipelines", nargs="*", metavar="BASE", help="count those, all or some, not the block"
    )
    parser.add_argument("--write", action="store_true", help="renew docs/gpu_cost_plants.md")
    options = parser.parse_args()
    pipelines = options.pipelines is not None
    if pipelines:
        import pipeline_plants

        text, problems = pipeline_plants.run(options.pipelines)
    else:
        text, problems = of_the_block()
    print(text)
    if options.write:
        first, _, second = PAGE.read_text("utf-8").partition(BEGIN)
        both = (first, text) if pipelines else (text, second.removesuffix(END))
        PAGE.write_text(f"{both[0]}{BEGIN}{both[1]}{END}", "utf-8")
    print("\n".join(problems) or "every row is as it should be", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
