"""Registers and memory of the Triton kernels that a count met, each compiled for the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...gpucost import KernelResources, distinct_sources, kernel_resources
from .order import Tell


def resources_of(
    codes: Mapping[int, Sequence[str]], tell: Tell
) -> dict[int, tuple[KernelResources, ...]]:
    """Of all kernels in the codes of each call of a component, by the call's number.

    A kernel takes about a second, and one that several calls have is compiled once.

    Raises:
        GpuCostError: a kernel does not compile, or triton's wheel lacks a tool.
    """
    sources = {number: distinct_sources(texts) for number, texts in codes.items()}
    whole = dict.fromkeys(pair for pairs in sources.values() for pair in pairs)
    done: dict[tuple[str, str], KernelResources] = {}
    for number, (name, source) in enumerate(whole, 1):
        tell(f"registers of Triton kernel {number} of {len(whole)}, {name}")
        done[name, source] = kernel_resources(name, source)
    return {number: tuple(done[pair] for pair in pairs) for number, pairs in sources.items()}
