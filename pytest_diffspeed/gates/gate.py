"""What a gate is, and what it is given.  Imports no torch: gates are known at collection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..common.errors import DiffspeedError
from ..records.verdict import EvidenceKind, GateResult, Metric, VerdictKind
from .marker import GateMarker

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session
    from ..arms.worker.arm import WorkerArm
    from ..techniques.stacks import Stack


@dataclass(frozen=True)
class GateContext:
    """One test with one stack: what its gates look at, and where their results go.

    ``previous`` is the stack before this one in the test's marker, or the baseline.
    """

    test: str
    session: Session
    candidate: PreparedArm
    previous: Stack

    def result(
        self,
        marker: GateMarker,
        verdict: VerdictKind,
        reason: str,
        *,
        evidence: EvidenceKind | None,
        figures: dict[str, Any] | None = None,
        metrics: Sequence[Metric] = (),
        blocking: bool | None = None,
        claim: str | None = None,
    ) -> GateResult:
        """The result of ``marker`` on this test; a FAIL blocks unless ``blocking`` says otherwise.

        ``claim`` is what was asserted where it is not the marker's own, as against a base.
        """
        return GateResult(
            gate=marker.marker,
            claim=marker.claim if claim is None else claim,
            test=self.test,
            stack=self.candidate.spec.stack.name,
            verdict=verdict,
            reason=reason,
            evidence=evidence,
            blocking=verdict is VerdictKind.FAIL if blocking is None else blocking,
            figures={} if figures is None else figures,
            axis=str(marker.axis),
            metrics=tuple(metrics),
            source=self.candidate.spec.source,
        )

    def publish(self, result: GateResult) -> GateResult:
        """Put a result on record: the one way on which it leaves a gate."""
        self.session.journal.write("gate", **result.as_dict())
        return result


Checked = tuple[GateMarker, "GateResult | DiffspeedError"]
"""A marker with its verdict, or with why it could not be checked."""


@dataclass(frozen=True)
class BaseClaim:
    """What a marker claims of the base, the commit or environment that is compared with."""

    marker: GateMarker
    claim: str


ArmOfBase = Callable[["PreparedArm"], "WorkerArm"]
"""Gives the base's arm with the same stack as an arm of this tree."""


class Gate(ABC):
    """One kind of assertion."""

    markers: ClassVar[tuple[type[GateMarker], ...]]
    counts: ClassVar[bool] = False
    """Whether it counts and times nothing: such gates run before those that time."""
    times: ClassVar[bool] = False
    """Whether it times pairs: against a base such gates run last, when no other arm is there."""

    def unavailable(self, marker: GateMarker) -> str | None:
        """Why this version cannot check this marker, or ``None``."""
        return None

    def unfit(self, marker: GateMarker, source: str) -> str | None:
        """Why this marker cannot hold for a pipeline source, told at collection, or ``None``."""
        return None

    @abstractmethod
    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        """Collect the evidence and give the verdict; records are written before it returns."""

    def check_all(self, markers: Sequence[GateMarker], context: GateContext) -> Iterator[Checked]:
        """Check the markers of one test that are of this kind, each as if it were alone.

        A gate that can share work between them overrides this.
        """
        for marker in markers:
            try:
                yield marker, self.check(marker, context)
            except DiffspeedError as error:
                yield marker, error

    # --- with a base: the same claim for the same stack, against another commit or environment

    def base_claims(self, markers: Sequence[GateMarker]) -> Sequence[BaseClaim]:
        """What of a test's markers of this kind is claimed of the base; none where it cannot be."""
        return ()

    def check_against_base(
        self, claim: BaseClaim, context: GateContext, of_base: ArmOfBase
    ) -> GateResult:
        """The verdict on one of :meth:`base_claims`; whoever calls this publishes it."""
        raise NotImplementedError

    def check_all_against_base(
        self, claims: Sequence[BaseClaim], context: GateContext, of_base: ArmOfBase
    ) -> Iterator[tuple[BaseClaim, GateResult | DiffspeedError]]:
        """Check :meth:`base_claims`, each as if it were alone."""
        for claim in claims:
            try:
                yield claim, context.publish(self.check_against_base(claim, context, of_base))
            except DiffspeedError as error:
                yield claim, error
