"""Count in a worker process, of which nothing is left afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..common.arguments import shown, spelt_keywords, texts, whole_number
from ..common.errors import (
    AbsentArmError,
    DiffspeedError,
    MeasurementError,
    SelfComparisonError,
    WrongTypeError,
)
from ..pipelines.sources import WAYS
from ..techniques.stacks import Stack
from .base_commit.place import Place, this_process
from .gpu_cost.order import CountOrder, GpuName, Tell, silent
from .gpu_cost.result import GpuCost
from .worker.process import WorkerProcess

WAIT_S = 3600.0
"""Of one count.  The denoiser of SDXL at full depth took 112 s compiled, on one core (measured)."""


@spelt_keywords
def count_gpu_cost(
    target: str,
    *,
    gpu: GpuName | str = "a100",
    stack: Stack | str = "fp32",
    steps: int | None = None,
    prompts: Sequence[str] | None = None,
    reduced: bool = True,
    resources: bool = False,
    tell: Tell = silent,
) -> GpuCost:
    """What one call of a pipeline with a stack asks of a GPU that need not be there.

    Counted is each component (denoisers in the steps, encoders before, decoders after them), as the
    pipeline itself calls it, with its kernels, bytes, FLOPs by type and lines.  The pipeline is
    built and called in a process of its own, its weights neither read nor drawn where the source
    has configurations.  No proof of the stack's techniques is taken: the counts show what they do.

    Args:
        target: a pipeline source, as ``--diffspeed-pipeline`` takes it.
        gpu: ``a100``, ``h100``, ``l40s``, ``rtx4090``, or a ``….json`` with data of another one.
        stack: such as ``"bf16+compile"``.
        steps: denoising steps, in place of the source's.
        prompts: in place of the source's; the first one is used.
        reduced: count long runs of equal blocks by two and three of them where the stack compiles;
            the width stays.
        resources: also registers and memory of each Triton kernel of a stack that compiles
            (``CountedCalls.resources``), about a second a kernel.
        tell: gets a line of what is going on now and then.

    Returns:
        Kernels, bytes and FLOPs of each call of each component (counted), of one step and of the
        whole call; ``print`` shows them as ``diffspeed cost`` does.

    Raises:
        UsageError: an argument that makes no sense, before a process is started; a WrongTypeError,
            which is a TypeError too, where it is of another type.
        MeasurementError: it cannot be counted, in one sentence: a build of torch without CUDA, code
            that asks for a value (with its line), a stack that has no meaning without weights, a
            source that cannot be built.
    """
    if not isinstance(target, str):
        raise WrongTypeError(
            f"count_gpu_cost() takes a pipeline source, not {shown(target)}: the pipeline is built "
            f"in a process of its own; give {WAYS}"
        )
    if not isinstance(gpu, str):
        raise WrongTypeError(f"gpu is a name such as 'a100', not {shown(gpu)}")
    if steps is not None:
        steps = whole_number("steps", steps, least=1)
    chosen = () if prompts is None else texts("prompts", prompts, example="a fox")
    if not isinstance(stack, (str, Stack)):
        raise WrongTypeError(f"a stack is a text such as 'bf16+compile', not {shown(stack)}")
    return count_in(
        this_process(),
        # The text is read there, where plug-ins of installed packages are loaded.
        CountOrder(target, str(stack), gpu, steps, chosen, reduced, resources=resources),
        tell,
    )


def count_in(place: Place, order: CountOrder, tell: Tell = silent) -> GpuCost:
    """Count in a process at ``place``: this tree, or a base's; ``tell`` gets its progress.

    Raises:
        AbsentArmError, SelfComparisonError: see ``Workers.base_and_head``.
        MeasurementError: see :func:`count_gpu_cost`.
    """
    variables = os.environ if place.variables is None else place.variables
    # What is built must not depend on whether this machine has a GPU.
    hidden = replace(place, variables={**variables, "CUDA_VISIBLE_DEVICES": ""})
    worker = WorkerProcess(f"{order.source} with {order.stack}", hidden)
    try:
        worker.send({"do": "gpu_cost", "order": order.as_dict()})
        answer = worker.answer("counting its GPU cost", WAIT_S)
        while "progress" in answer:
            tell(str(answer["progress"]))
            answer = worker.answer("counting its GPU cost", WAIT_S)
    finally:
        worker.end()
    if "refused" in answer:
        raise _refusal(answer["refused"])
    return GpuCost.from_json(answer["gpu_cost"])


def _refusal(plain: Mapping[str, object]) -> DiffspeedError:
    """To be raised: what the worker said."""
    if plain.get("itself") is True:
        return SelfComparisonError(str(plain["error"]))
    kind = AbsentArmError if plain.get("absent") is True else MeasurementError
    return kind(str(plain["error"]))
