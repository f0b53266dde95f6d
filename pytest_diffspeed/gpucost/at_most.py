"""What a change, or a host sync, could matter at most: asked before a day is spent on it.

Modelled, and meant as upper ends: what goes is taken to be replaced by nothing, what waits to wait
as long as it can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from .bound import fastest_possible
from .cost import TRANSFERS, Cost
from .gpus import Gpu
from .time_constants import constants_of, drawn
from .time_model import GpuWork, ModelledTime, interval, mode_of, without_lines

Values = Mapping[str, float]


@dataclass(frozen=True)
class AtMost:
    """``share`` of ``seconds`` (of the cost, modelled), and its upper end over the draws.

    ``part_s``: what the share is made of; ``kernels``: how many take it.
    """

    share: float
    high: float
    seconds: float
    part_s: float
    kernels: int = 0


def most_saved(base: Cost, head: Cost, gpu: Gpu) -> AtMost:
    """What ``head`` could save of ``base`` at most: the time of the kernels that only ``base`` has,
    as if what comes in their place took none, but no more than ends at ``head``'s bound
    (:func:`~.bound.fastest_possible`).  One of the two may be compiled.

    Raises:
        GpuCostError: for products of a type that ``gpu`` does not have.
    """
    only_base = (without_lines(base) - without_lines(head)).elements()
    gone = tuple(kernel for kernel in only_base if kernel.kind not in TRANSFERS)
    all_of_it, part = GpuWork.of(base, gpu), GpuWork.of(replace(base, kernels=gone), gpu)
    same_mode = mode_of(base) == mode_of(head)
    fastest_s = fastest_possible(head, gpu).seconds

    def share(values: Values) -> float:
        whole, less = all_of_it.seconds(values), part.seconds(values)
        left_s = max(whole.gpu_s - less.gpu_s, fastest_s)
        if same_mode:  # another mode may launch what is left in no time
            left_s = max(left_s, whole.cpu_s - less.cpu_s)
        return _share(whole.seconds - left_s, whole)

    return _at_most(
        gpu, share, all_of_it, lambda values: part.seconds(values).gpu_s, kernels=len(gone)
    )


def most_a_sync_costs(cost: Cost, gpu: Gpu) -> AtMost:
    """What host syncs could cost at most: CPU and GPU take turns, where one ran ahead of the other.

    One sync exposes the launches of what stands behind it, and any number of them no more than all
    launches, or all of the GPU's time where the CPU is the slower one.

    Raises:
        GpuCostError: for products of a type that ``gpu`` does not have.
    """
    work = GpuWork.of(cost, gpu)

    def exposed_s(values: Values) -> float:
        time = work.seconds(values)
        return min(time.gpu_s, time.cpu_s)

    return _at_most(
        gpu,
        lambda values: _share(exposed_s(values), work.seconds(values)),
        work,
        exposed_s,
        kernels=work.launches,
    )


def most_anything_saves(cost: Cost, gpu: Gpu) -> AtMost:
    """What is left if the same products and bytes ran at the peaks of ``gpu``, which nothing does.

    Raises:
        GpuCostError: for products of a type that ``gpu`` does not have.
    """
    fastest_s = fastest_possible(cost, gpu).seconds
    work = GpuWork.of(cost, gpu)

    def share(values: Values) -> float:
        time = work.seconds(values)
        return _share(time.seconds - fastest_s, time)

    return _at_most(gpu, share, work, lambda values: fastest_s)


def _at_most(
    gpu: Gpu,
    share: Callable[[Values], float],
    work: GpuWork,
    part_s: Callable[[Values], float],
    kernels: int = 0,
) -> AtMost:
    constants = constants_of(gpu)
    values = {name: one.value for name, one in constants.items()}
    high = interval([share(draw) for draw in drawn(constants)])[1]
    return AtMost(share(values), high, work.seconds(values).seconds, part_s(values), kernels)


def _share(part_s: float, whole: ModelledTime) -> float:
    return max(0.0, part_s / whole.seconds) if whole.seconds else 0.0
