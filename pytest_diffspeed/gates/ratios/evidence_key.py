"""What a speedup gate is called in the memory of verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...evidence.key import COMPONENT_CALLS, EvidenceKey
from ...techniques.stacks import BASE
from .marker import WHOLE_CALL

if TYPE_CHECKING:
    from ...evidence.verdict_store import Attempt
    from ...techniques.stacks import Stack
    from ..gate import GateContext
    from .marker import SpeedMarker


def attempt_of(
    marker: SpeedMarker, context: GateContext, over: Stack, *, whole_calls: bool = False
) -> Attempt:
    """The attempt that this gate is at; ``over`` is the stack that ``marker.over`` means here.

    Raises:
        RecordError: the evidence was written by another major version of this package.
    """
    return context.session.evidence.attempt(
        evidence_key(marker, context, over, whole_calls=whole_calls)
    )


def evidence_key(
    marker: SpeedMarker, context: GateContext, over: Stack, *, whole_calls: bool = False
) -> EvidenceKey:
    """Everything that a verdict of this gate depends on, save luck.

    ``whole_calls``: its unit cannot be timed alone.  Pairs of single steps or calls of a component
    and pairs of whole calls add nothing to each other.
    The test is part of it, since its body may do things to the pipeline.
    """
    session, candidate = context.session, context.candidate
    against_base = over == BASE
    base = {"base": session.base.identity()} if against_base and session.base is not None else {}
    return EvidenceKey(
        {
            "tree": vars(session.tree),
            "test": context.test,
            "source": candidate.spec.source,
            "weights": session.arms.weights(candidate.spec.source, candidate.spec.stack),
            "inputs": candidate.call.inputs(),
            "stack": candidate.spec.stack.name,
            "over": over.name,
            "marker": marker.marker,
            "unit": marker.unit,
            "min_ratio": marker.min_ratio,
            "alpha": marker.alpha,
            "method": marker.method,
            "instances": session.options.instances_of_arm(against_base=against_base),
            "environment": session.environment(),
            "code": session.code_beside_the_tree.as_dict(),
            **base,
            **({} if whole_calls or marker.unit == WHOLE_CALL else {"pair": COMPONENT_CALLS}),
        }
    )
