"""Registers and memory of Triton kernels as text for a terminal, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..arms.gpu_cost.text import WIDTH
from ..common.amounts import amount
from ..common.text import plural, shortened

if TYPE_CHECKING:
    from ..arms.gpu_cost.result import GpuCost
    from ..gpucost import KernelResources

_CELLS = (11, 11, 15, 9)
_HEADS = ("registers", "stack", "shared", "variants")


def resource_lines(cost: GpuCost, *, most: int = 10) -> list[str]:
    """The ``most`` Triton kernels of each component with most stack, then with most registers."""
    lines = [
        "Triton kernels as ptxas compiles them: registers and stack of a thread, shared memory of",
        "a block. Each is a range over the variants of a kernel: which one runs is found by timing",
        "on a GPU. Stack is what did not fit into registers, or an array.",
    ]
    for component in cost.components:
        calls = [one for one in cost.calls if one.component == component and one.resources]
        kernels = list(dict.fromkeys(kernel for one in calls for kernel in one.resources))
        if kernels:
            lines += ["", *_table(component, kernels, most)]
    return lines


def _table(component: str, kernels: list[KernelResources], most: int) -> Iterator[str]:
    with_stack = sum(kernel.stack_bytes[1] > 0 for kernel in kernels)
    left = len(kernels) - most
    shown = f"the {most} worst of these, {left} not shown" if left > 0 else "the worst first"
    yield (
        f"{component}: {plural(len(kernels), 'distinct Triton kernel')}, {with_stack} with stack "
        f"in a variant; {shown}"
    )
    yield _row(_HEADS, "kernel")
    for kernel in sorted(kernels, key=_worst_first)[:most]:
        cells = (
            _range(kernel.registers),
            _range(kernel.stack_bytes, " B"),
            _amounts(kernel.shared_bytes),
            str(kernel.configurations),
        )
        yield _row(cells, shortened(kernel.name, WIDTH - sum(_CELLS) - 2))


def _row(cells: Sequence[str], name: str) -> str:
    shown = (f"{cell:>{width}}" for cell, width in zip(cells, _CELLS, strict=True))
    return f"{''.join(shown)}  {name}"


def _worst_first(kernel: KernelResources) -> tuple[int, int, int, str]:
    return (
        -kernel.stack_bytes[1],
        -kernel.registers[1],
        -kernel.shared_bytes[1],
        kernel.name,
    )


def _range(values: tuple[int, int], unit: str = "") -> str:
    low, high = values
    return f"{low}{unit}" if low == high else f"{low}–{high}{unit}"


def _amounts(values: tuple[int, int]) -> str:
    low, high = (amount("bytes", value) for value in values)
    return low if low == high else f"{low}–{high}"
