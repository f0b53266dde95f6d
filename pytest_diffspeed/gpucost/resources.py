"""What Inductor's Triton kernels need of a multiprocessor: registers, stack, shared memory.

Compiled to machine code for the fake GPU by the ptxas of triton's wheel, and read by its cuobjdump.
Which of a kernel's configurations runs is found by timing them on a GPU, so each figure is a range.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import GpuCostError

Range = tuple[int, int]


@dataclass(frozen=True)
class KernelResources:
    """Of one Triton kernel: least and most over its ``configurations``.

    ``registers``: of a thread; ``stack_bytes``: of a thread, in memory, where registers did not
    suffice (spills) or an array is indexed; ``shared_bytes``: of a block.
    """

    name: str
    configurations: int
    registers: Range
    stack_bytes: Range
    shared_bytes: Range


def distinct_sources(codes: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Name and source of each Triton kernel in several codes, those that are alike once.

    Inductor numbers its kernels in each code anew: a name may stand for two kernels, and one kernel
    have two names.
    """
    found: dict[str, tuple[str, str]] = {}
    for code in codes:
        for name, source in triton_sources(code).items():
            found.setdefault(source.replace(name, ""), (name, source))
    return tuple(found.values())


def triton_sources(code: str) -> dict[str, str]:
    """Name → source of each Triton kernel in a code that Inductor wrote."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        texts = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant)]
        if node.func.attr == "triton" and len(texts) == 2:
            found[str(texts[0])] = str(texts[1])
    return found


def triton_resources(code: str) -> Iterator[KernelResources]:
    """Of each Triton kernel in ``code`` (:func:`~.counting.count_compiled`), one by one.

    In a process with a :class:`~.fake_gpu.FakeGpu`; about a second a kernel.

    Raises:
        GpuCostError: where triton's wheel has no cuobjdump, or a kernel does not compile.
    """
    for name, source in triton_sources(code).items():
        yield kernel_resources(name, source)


def kernel_resources(name: str, source: str) -> KernelResources:
    """Of one of :func:`triton_sources`; see :func:`triton_resources`."""
    from . import triton_private

    tool = triton_private.cuobjdump()
    binaries = triton_private.binaries(name, source)
    used = [usage(tool, binary.cubin) for binary in binaries]
    return KernelResources(
        name,
        len(used),
        _range([one["REG"] for one in used]),
        _range([one["STACK"] for one in used]),
        _range([binary.shared_bytes for binary in binaries]),
    )


def usage(tool: Path, cubin: bytes) -> dict[str, int]:
    """REG, STACK, SHARED and LOCAL of one kernel's machine code, as ``-res-usage`` prints them.

    Raises:
        GpuCostError: where it prints none of them.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-res-usage", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    pairs = re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", done.stdout)
    found = {word: int(number) for word, number in pairs}
    if not {"REG", "STACK"} <= set(found):
        said = (done.stdout + done.stderr).strip().splitlines()
        raise GpuCostError(f"{tool.name} tells no registers: {said[-1] if said else 'nothing'}")
    return found


def _range(values: list[int]) -> Range:
    return min(values), max(values)
