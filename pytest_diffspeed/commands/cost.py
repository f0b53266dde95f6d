"""``diffspeed cost``: what a pipeline with a stack asks of a GPU, counted without one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
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
        "--modelled-time",
        action="store_true",
        help="with --against, both eager or both compiled: how many times as fast --stack is by a "
        "model, with its error; a difference below 5 %% it cannot tell",
    )
    parser.add_argument(
        "--at-most",
        action="store_true",
        help="what could matter at most, of a step: going from --against to --stack, a host sync, "
        "anything at all (modelled)",
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
        DiffspeedError: it cannot be counted, or what else was asked cannot be told of it.
    """
    from ..gpucost import GpuCostError

    _check(arguments)
    progress = Progress(_to_stderr)
    costs = [_counted(arguments, arguments.stack, progress, resources=arguments.resources)]
    if arguments.against:
        costs.append(_counted(arguments, arguments.against, progress))
    if arguments.json is not None:
        written = [cost.to_json() for cost in costs]
        replace_file(arguments.json, json.dumps(written, indent=1) + "\n")
    try:
        for lines in _sections(arguments, costs):
            print("\n".join(lines))
    except GpuCostError as error:
        raise UsageError(str(error)) from None
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """What makes no sense is said before minutes are spent, and before torch is imported."""
    from ..gpucost import GpuCostError, named_gpu
    from ..gpucost.time_model import MIXED
    from ..pipelines.sources import parse_source
    from ..techniques.stacks import parse_stack
    from ..techniques.technique import Family

    stacks = [text for text in (arguments.stack, arguments.against) if text is not None]
    parse_source(arguments.source).require_there()
    parsed = [parse_stack(text) for text in stacks]
    try:
        named_gpu(arguments.gpu)
    except GpuCostError as error:
        raise UsageError(str(error)) from None
    for option in ("lines", "steps"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise UsageError(f"--{option}={value}: give a whole number of at least 1")
    if arguments.claimed is not None and not arguments.claimed > 0:
        raise UsageError(f"--claimed={arguments.claimed:g}: give the seconds of a call, above 0")
    if arguments.modelled_time and not arguments.against:
        raise UsageError(
            "--modelled-time tells how many times as fast --stack is as another one: name that by "
            "--against STACK, eager where --stack is, compiled where it is"
        )
    if arguments.modelled_time:
        compiling = [
            any(one.family is Family.COMPILE for one in stack.techniques()) for stack in parsed
        ]
        if compiling[0] != compiling[1]:
            raise UsageError(f"--modelled-time: {MIXED}")
    if arguments.json is not None:
        check_output(str(arguments.json), _MARK)


def _sections(arguments: argparse.Namespace, costs: Sequence[GpuCost]) -> Iterator[list[str]]:
    """What is printed, one part after the other."""
    from ..arms.gpu_cost.text import bound_lines, difference_lines, table_lines
    from .cost_resources import resource_lines
    from .cost_time import at_most_lines, ratio_lines

    head, base = costs[0], costs[-1]
    yield table_lines(head, most=arguments.lines)
    if arguments.resources:
        yield ["", *resource_lines(head, most=arguments.lines)]
    if arguments.bound or arguments.claimed is not None:
        yield bound_lines(head, arguments.gpu, arguments.claimed)
    if base is not head:
        yield ["", *difference_lines(base, head, most=arguments.lines)]
    if arguments.modelled_time:
        yield ["", *ratio_lines(base, head, arguments.gpu)]
    if arguments.at_most:
        yield ["", *at_most_lines(base, arguments.gpu, None if base is head else head)]


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
