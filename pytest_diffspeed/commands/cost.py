"""``diffspeed cost``: what a pipeline with a stack asks of a GPU, counted without one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import UsageError
from ..common.files import check_output, replace_file
from ..common.progress import Progress

if TYPE_CHECKING:
    from ..arms.gpu_cost.result import GpuCost

_MARK = '"source"'
"""Stands at the beginning of what ``--json`` writes."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "cost",
        help="kernels, bytes and FLOPs of a pipeline on a GPU that need not be there",
        description="Counts what one call of a pipeline asks of a GPU, per component and denoising "
        "step, with the lines that ask for most.  Needs a CUDA build of torch and no GPU; weights "
        "are not read.  See docs/gpu_cost.md.",
    )
    parser.add_argument("source", metavar="SOURCE", help="a pipeline, as --diffspeed-pipeline has")
    parser.add_argument("--stack", default="fp32", help="such as bf16+compile (default: fp32)")
    parser.add_argument(
        "--gpu",
        default="a100",
        help="a100, h100, l40s, rtx4090, or a .json file of your own (default: a100)",
    )
    parser.add_argument(
        "--against", metavar="STACK", help="also what changes from this stack to --stack, by line"
    )
    parser.add_argument("--steps", type=int, help="denoising steps (default: the pipeline's)")
    parser.add_argument("--lines", type=int, default=10, help="of the costliest (default: 10)")
    parser.add_argument(
        "--bound",
        action="store_true",
        help="also the time below which nobody can be: at 100 %% of the GPU's peaks",
    )
    parser.add_argument(
        "--claimed",
        type=float,
        metavar="SECONDS",
        help="of a call: how much of the peaks that needs; more than all of them is impossible",
    )
    parser.add_argument(
        "--resources",
        action="store_true",
        help="also registers, stack and shared memory of the Triton kernels of a --stack that "
        "compiles, about a second a kernel",
    )
    parser.add_argument(
        "--full-depth",
        action="store_true",
        help="compile all blocks, also where a few of them tell what the others cost",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write everything that was counted"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0: counted.

    Raises:
        DiffspeedError: it cannot be counted.
    """
    from .cost_resources import resource_lines
    from .cost_text import bound_lines, difference_lines, table_lines

    if arguments.claimed is not None and not arguments.claimed > 0:
        raise UsageError(f"--claimed={arguments.claimed:g}: give the seconds of a call, above 0")
    if arguments.json is not None:
        check_output(str(arguments.json), _MARK)
    progress = Progress(_to_stderr)
    costs = [_counted(arguments, arguments.stack, progress, resources=arguments.resources)]
    if arguments.against:
        costs.append(_counted(arguments, arguments.against, progress))
    print("\n".join(table_lines(costs[0], most=arguments.lines)))
    if arguments.resources:
        print("\n".join(["", *resource_lines(costs[0], most=arguments.lines)]))
    if arguments.bound or arguments.claimed is not None:
        print("\n".join(bound_lines(costs[0], arguments.gpu, arguments.claimed)))
    if len(costs) > 1:
        print("\n".join(["", *difference_lines(costs[1], costs[0], most=arguments.lines)]))
    if arguments.json is not None:
        written = [cost.to_json() for cost in costs]
        replace_file(arguments.json, json.dumps(written, indent=1) + "\n")
    return 0


def _to_stderr(line: str) -> None:
    """So that the table can be redirected."""
    print(line, file=sys.stderr, flush=True)


def _counted(
    arguments: argparse.Namespace, stack: str, progress: Progress, *, resources: bool = False
) -> GpuCost:
    from ..arms.count_gpu_cost import count_gpu_cost

    if resources:
        progress.line("registers take about a second for each Triton kernel")
    with progress.phase(f"counting {arguments.source} with {stack}"):
        return count_gpu_cost(
            arguments.source,
            gpu=arguments.gpu,
            stack=stack,
            steps=arguments.steps,
            reduced=not arguments.full_depth,
            resources=resources,
            tell=Progress(_to_stderr).transient,  # beside the lines of the phase
        )
