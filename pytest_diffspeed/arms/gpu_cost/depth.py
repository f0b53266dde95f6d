"""Deep models by a few of their blocks: full width, and the repetition calculated.

Compiling all 57 blocks of Flux's denoiser takes minutes and gives the same kernels 57 times.  So
runs of equal blocks are cut to two, then one run after the other to three: the difference is
what one more block costs.  Blocks of a module inside (SDXL's transformers) are added to that module
alone, which is a small part of the whole.  docs/gpu_cost_depths.md has how far that is from all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...gpucost import Cost, Kernel
from .inner_calls import InnerCall, inner_calls

FEW = 2
"""Blocks that stay: a last one may be compiled together with what follows it, and a first one with
what comes before."""
WORTH = 4
"""Blocks from which on a run is cut."""


@dataclass(frozen=True)
class CountedDepth:
    """A cost, what the call returned, and in words which blocks were counted; empty: all."""

    cost: Cost
    returned: Any
    depth: str = ""


@dataclass(frozen=True)
class Run:
    """The last ``length`` blocks of a list are equal; ``owner`` has the list."""

    owner: torch.nn.Module
    blocks: torch.nn.ModuleList
    length: int
    kind: tuple[Any, ...]


CountPart = Callable[[InnerCall], Cost]
"""Counts a module inside alone, as ``count`` does the whole."""


def count_few_blocks(
    module: torch.nn.Module | None,
    count: Callable[[], tuple[Cost, Any]],
    flops: Callable[[], int],
    part: CountPart | None = None,
) -> CountedDepth:
    """``count()``, with long runs of equal blocks in ``module`` cut; ``None``: with all blocks.

    With ``part``, what a block more costs is counted in the module that has the blocks, where there
    is one inside of ``module`` that is called once, alike for all runs of a kind.

    All blocks are counted too where cutting would not halve the work, and where what was calculated
    has other FLOPs than ``flops()``, those of an eager call with all blocks: compiling leaves every
    product as it is.
    """
    groups = _groups(module) if module is not None else []
    if module is not None and _is_worth_it(groups):
        owners = [run.owner for group in groups for run in group if run.owner is not module]
        with inner_calls(owners) as calls:
            all_flops = flops()
        alone = {
            number: call
            for number, group in enumerate(groups)
            if part and (call := calls.alike(run.owner for run in group))
        }
        found = _calculated(groups, count, part, alone)
        if found.cost.figures()["flops"] == all_flops:
            return found
    cost, returned = count()
    return CountedDepth(cost, returned)


def _calculated(
    groups: Sequence[Sequence[Run]],
    count: Callable[[], tuple[Cost, Any]],
    part: CountPart | None,
    alone: Mapping[int, InnerCall],
) -> CountedDepth:
    with _cut(groups, [FEW] * len(groups)):
        base, returned = count()
    added: list[Kernel] = []
    words = []
    shared: set[str] = set()
    for number, group in enumerate(groups):
        lists = f"{len(group)} × " if len(group) > 1 else ""
        word = f"{lists}{group[0].length} {group[0].kind[0].__name__}"
        if part is not None and number in alone:
            one_block, own = _one_more_alone(group[0], part, alone[number])
            one_block *= len(group)
            word += f" in {type(group[0].owner).__name__}"
        else:
            with _cut(groups, [FEW + (number == other) for other in range(len(groups))]):
                more, _ = count()
            one_block, own = one_more(base, more)
        added += one_block * (group[0].length - FEW)
        shared |= own
        words.append(word)
    depth = f"{' and '.join(words)}, calculated from {FEW} and {FEW + 1}"
    if shared:
        depth += f" (not {', '.join(sorted(shared))}, which blocks share)"
    whole = replace(base, kernels=(*base.kernels, *added), launches_in_code=None)
    return CountedDepth(whole, returned, depth)


def _one_more_alone(run: Run, part: CountPart, call: InnerCall) -> tuple[list[Kernel], set[str]]:
    costs = []
    for length in (FEW, FEW + 1):
        with _cut([[run]], [length]):
            costs.append(part(call))
    return one_more(*costs)


def one_more(base: Cost, more: Cost) -> tuple[list[Kernel], set[str]]:
    """The kernels that one block more adds, and the names of those that are not so many a block.

    Kernels of one kind, name and shape may differ in their bytes and lines from one depth to the
    other, so their number says how many a block has.  But small generated kernels of all blocks may
    be fused into one, which then changes with the number of blocks: these stay as they are.
    """
    before, now = _by_what(base), _by_what(more)
    kernels: list[Kernel] = []
    shared: set[str] = set()
    for what, own in now.items():
        earlier = before.get(what, Counter())
        gone = earlier - own
        if what[0].startswith("triton") and gone:
            shared.add(what[1])
            continue
        number = own.total() - earlier.total()
        # The commonest first: what stands in the middle of a model, and not at its ends.
        new = sorted((own - earlier).elements(), key=lambda kernel: -own[kernel])
        kernels += new[: max(0, number)]
    shared |= {
        what[1] for what in before if before[what].total() > now.get(what, Counter()).total()
    }
    return kernels, shared


def _by_what(cost: Cost) -> dict[tuple[str, str, tuple[int, ...]], Counter[Kernel]]:
    found: dict[tuple[str, str, tuple[int, ...]], Counter[Kernel]] = {}
    for kernel in cost.kernels:
        found.setdefault(kernel.what, Counter())[kernel] += 1
    return found


def _is_worth_it(groups: Sequence[Sequence[Run]]) -> bool:
    whole = sum(run.length for group in groups for run in group)
    few = sum(len(group) for group in groups) * FEW * (1 + len(groups))
    return bool(groups) and 2 * (few + sum(len(group) for group in groups)) <= whole


def _groups(module: torch.nn.Module) -> list[list[Run]]:
    """Runs of one kind and length together: they are cut together."""
    found: dict[tuple[Any, ...], list[Run]] = {}
    for run in _runs(module):
        found.setdefault((run.kind, run.length), []).append(run)
    return list(found.values())


def _runs(module: torch.nn.Module) -> Iterator[Run]:
    """The outermost runs that are worth it."""
    for child in module.children():
        if isinstance(child, torch.nn.ModuleList) and len(child) >= WORTH:
            kinds = [_kind(block) for block in child]
            length = next((n for n, kind in enumerate(reversed(kinds)) if kind != kinds[-1]), None)
            length = len(kinds) if length is None else length
            if length >= WORTH:
                yield Run(module, child, length, kinds[-1])
                continue
        yield from _runs(child)


def _kind(block: torch.nn.Module) -> tuple[Any, ...]:
    tensors = {**dict(block.named_parameters()), **dict(block.named_buffers())}
    described = tuple(
        (name, type(t).__name__, tuple(t.shape), str(t.dtype), t.stride())
        for name, t in tensors.items()
    )
    return type(block), tuple(type(inner) for inner in block.modules()), described


@contextmanager
def _cut(groups: Sequence[Sequence[Run]], lengths: Sequence[int]) -> Iterator[None]:
    """Of each run of a group so many blocks as ``lengths`` says; afterwards all are back."""
    with ExitStack() as stack:
        for group, length in zip(groups, lengths, strict=True):
            for run in group:
                blocks = list(run.blocks)
                stack.callback(_put, run.blocks, blocks)
                _put(run.blocks, blocks[: len(blocks) - run.length + length])
        yield


def _put(into: torch.nn.ModuleList, blocks: Sequence[torch.nn.Module]) -> None:
    del into[:]
    into.extend(blocks)
