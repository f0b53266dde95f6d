"""What can be counted of an arm on this device, and what a simulated GPU cannot run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..arms.spec import ArmSpec
from ..common.errors import UncountableError
from ..techniques.stacks import BASELINE_NAME, Stack
from ..techniques.technique import Family, Technique

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from .gate import GateContext

NOT_SIMULATED = (Family.QUANTIZATION, Family.COMPILE)
"""Families of techniques that change kernels only, and that a simulated GPU cannot run: those of
them that run eager operations on plain tensors say so (``on_plain_tensors``)."""


def simulable(context: GateContext) -> PreparedArm:
    """The candidate, without what cannot run on a simulated GPU: compiled code, int8 weights."""
    spec = context.candidate.spec
    kept = [t.text for t in spec.stack.techniques() if not _not_simulated(t)]
    stack = Stack(tuple(kept) or (BASELINE_NAME,))
    if stack == spec.stack:
        context.candidate.require_unchanged()
        return context.candidate
    return context.session.arms.other(ArmSpec(spec.source, stack))


def _not_simulated(technique: Technique) -> bool:
    return technique.family in NOT_SIMULATED and not technique.on_plain_tensors


def counted_with(stack: Stack, own: Stack) -> tuple[str | None, dict[str, Any]]:
    """What a reader must know where ``stack`` was counted as ``own``: a sentence, if they differ,
    and figures for the record.
    """
    left_out = [part for part in stack.parts if part not in own.parts]
    figures = {"counted_with": own.name, "not_applied": left_out}
    if own == stack:
        return None, figures
    sentence = (
        f"counted with {own}: {' and '.join(left_out)} not applied, since techniques that "
        "change kernels only do not run on a simulated GPU"
    )
    return sentence, figures


def require_eager(stack: Stack) -> None:
    """Refuse what a simulated GPU cannot run: its memory would be that of another program.

    Raises:
        UncountableError: the stack compiles or quantizes.
    """
    names = [t.name for t in stack.techniques() if _not_simulated(t)]
    if names:
        raise UncountableError(
            f"memory of {stack} cannot be counted without a GPU: {' and '.join(names)} cannot run "
            "on a simulated one, which runs eager operations on plain tensors; gate an eager stack "
            "such as 'bf16', or run on a machine with a GPU"
        )


def require_countable(arm: PreparedArm) -> None:
    """Refuse a stack that replays CUDA graphs.

    A replay takes nothing from the allocator: what its kernels write to lies in a pool that was
    filled when the graph was recorded, and that looks like something of another pipeline's.

    Raises:
        UncountableError: graphs were launched when the stack was proven.
    """
    launches = arm.applied.cuda_graph_launches
    if launches:
        raise UncountableError(
            f"{arm.spec.stack} replays CUDA graphs ({launches} launched in a call), whose memory "
            "the allocator gave out when they were recorded, so the peak of a call cannot be "
            "counted; gate a stack without CUDA graphs, such as 'compile'"
        )
