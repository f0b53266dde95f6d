"""What the small pipelines of diffusers ask of a GPU, or why that cannot be counted.

    python benchmarks/gpu_cost_pipelines.py                       all that were not counted yet
    python benchmarks/gpu_cost_pipelines.py --only 'Flux*'        some of them
    python benchmarks/gpu_cost_pipelines.py --stack bf16+compile --only WanPipeline
    python benchmarks/gpu_cost_pipelines.py --table --write       docs/gpu_cost_pipelines.md

Each is built with random weights and counted in a process of its own, with one step.  Counts are
appended to ``--out`` as they end, so a run can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
import fnmatch
import platform
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from trials import append, read

from pytest_diffspeed import count_gpu_cost
from pytest_diffspeed.common.amounts import amount
from pytest_diffspeed.common.errors import DiffspeedError
from pytest_diffspeed.evidence.key import installed_version
from pytest_diffspeed.pipelines import zoo

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/gpu_cost_pipelines.md"
FIGURES = ("kernels", "bytes", "flops")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["*"], help="pipelines or patterns")
    parser.add_argument("--stack", default="fp32")
    parser.add_argument("--out", type=Path, default=Path("build/gpu_cost_pipelines.jsonl"))
    parser.add_argument("--table", action="store_true", help="count nothing")
    parser.add_argument("--write", action="store_true", help="renew docs/gpu_cost_pipelines.md")
    arguments = parser.parse_args()
    known = {(row["pipeline"], row["stack"]) for row in read(arguments.out)}
    names = [n for n in zoo.names() if any(fnmatch.fnmatch(n, one) for one in arguments.only)]
    for name in [] if arguments.table else names:
        if (name, arguments.stack) not in known:
            append(arguments.out, {"pipeline": name, **counted(name, arguments.stack)})
    text = "\n".join(page(read(arguments.out))) + "\n"
    print(text)
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")


def counted(name: str, stack: str) -> dict:
    try:
        cost = count_gpu_cost(f"random:{name}", stack=stack, steps=2)
    except DiffspeedError as error:
        return {"stack": stack, "refused": str(error)}
    roles = {one.component: one.role for one in cost.calls}
    return {
        "stack": stack,
        "steps": cost.steps,
        "parts": {
            part: {
                "role": roles[part],
                "calls": sum(one.calls for one in cost.calls if one.component == part),
                **{figure: cost.of(part).figures()[figure] for figure in FIGURES},
            }
            for part in cost.components
        },
    }


def page(rows: list[dict]) -> Iterator[str]:
    done = [row for row in rows if "parts" in row]
    parts = sum(len(row["parts"]) for row in done)
    yield "# What the pipelines of diffusers ask of a GPU"
    yield ""
    yield (
        f"Counted on {date.today()} by `make benchmark-gpu-cost-pipelines`, for an A100 that is "
        "not there: small pipelines with random weights, two steps, each in a process of its own. "
        f"diffusers {installed_version('diffusers')}, torch "
        f"{installed_version('torch')}, Python {platform.python_version()}."
    )
    yield ""
    by_stack = Counter(row["stack"] for row in rows)
    for stack, many in by_stack.items():
        good = sum(row["stack"] == stack for row in done)
        yield f"- `{stack}`: {good} of {many} counted"
    yield f"- {parts} components of them"
    yield ""
    yield "| pipeline | stack | component | role | calls | kernels | bytes | FLOPs |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in done:
        for name, part in row["parts"].items():
            yield (
                f"| {row['pipeline']} | {row['stack']} | {name} | {part['role']} | {part['calls']} "
                f"| {' | '.join(amount(figure, part[figure]) for figure in FIGURES)} |"
            )
    refused = [row for row in rows if "refused" in row]
    if refused:
        yield ""
        yield "## Not counted"
        yield ""
        yield "| pipeline | stack | why |"
        yield "|---|---|---|"
        for row in refused:
            why = " ".join(row["refused"].replace("|", "\\|").split())
            yield f"| {row['pipeline']} | {row['stack']} | {why.replace(str(ROOT), '…')} |"


if __name__ == "__main__":
    main()
