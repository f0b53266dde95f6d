"""What a gate is, and what it is given.  Imports no torch: gates are known at collection."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ..common.errors import DiffspeedError, UnexpectedError
from ..common.paths import short_path
from ..common.text import first_line
from ..records.verdict import Cause, EvidenceKind, GateResult, Metric, VerdictKind
from .marker import GateMarker

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session
    from ..arms.worker.arm import WorkerArm
    from ..techniques.stacks import Stack


@dataclass(frozen=True)
class GateContext:
    """One test with one stack: what its gates look at, and where their results go.

    ``previous`` is the stack before this one in the test's marker, or the baseline.  ``replaced``
    are, by claim and as written, stricter markers in whose place the one that holds stands.
    """

    test: str
    session: Session
    candidate: PreparedArm
    previous: Stack
    replaced: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
        cause: Cause | None = None,
    ) -> GateResult:
        """The result of ``marker`` on this test; a FAIL blocks unless ``blocking`` says otherwise.

        ``claim`` is what was asserted where it is not the marker's own, as against a base.
        ``cause`` says of one that did not pass what is wrong, where, and what to do next.
        """
        replaces = () if claim is not None else self.replaced.get(marker.claim, ())
        if replaces:
            figures = {**(figures or {}), "replaces": list(replaces)}
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
            cause=None if verdict is VerdictKind.PASS else cause,
        )

    def publish(self, result: GateResult) -> GateResult:
        """Put a result on record: the one way on which it leaves a gate."""
        self.session.journal.write("gate", **result.as_dict())
        return result


Checked = tuple[GateMarker, "GateResult | DiffspeedError"]
"""A marker with its verdict, or with why it could not be checked."""


def why_unchecked(error: Exception) -> DiffspeedError:
    """What a gate ends with that raised: the sentence where there is one, else where it raised.

    The gates after it are checked all the same, whatever it was.
    """
    if isinstance(error, DiffspeedError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({short_path(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    sentence = f"{type(error).__name__}: {first_line(error)}{place}"
    unexpected = UnexpectedError(f"{sentence}; its traceback stands below the test's failure")
    unexpected.__cause__ = error
    return unexpected


@dataclass(frozen=True)
class BaseClaim:
    """What a marker claims of the base, the commit or environment that is compared with."""

    marker: GateMarker
    claim: str


class BothArms(NamedTuple):
    """The base's arm and this tree's with the same stack, each in a process of its own: what the
    tests of this tree patch in their process changes neither.
    """

    base: WorkerArm
    head: WorkerArm


ArmsOfBoth = Callable[["PreparedArm"], BothArms]
"""Gives the arms of both trees with the same stack as an arm of this process."""


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
                checked: GateResult | DiffspeedError = self.check(marker, context)
            except Exception as error:
                checked = why_unchecked(error)
            yield marker, checked

    # --- with a base: the same claim for the same stack, against another commit or environment

    def base_claims(self, markers: Sequence[GateMarker]) -> Sequence[BaseClaim]:
        """What of a test's markers of this kind is claimed of the base; none where it cannot be."""
        return ()

    def check_against_base(
        self, claim: BaseClaim, context: GateContext, of_both: ArmsOfBoth
    ) -> GateResult:
        """The verdict on one of :meth:`base_claims`; whoever calls this publishes it."""
        raise NotImplementedError

    def check_all_against_base(
        self, claims: Sequence[BaseClaim], context: GateContext, of_both: ArmsOfBoth
    ) -> Iterator[tuple[BaseClaim, GateResult | DiffspeedError]]:
        """Check :meth:`base_claims`, each as if it were alone."""
        for claim in claims:
            try:
                found = self.check_against_base(claim, context, of_both)
                checked: GateResult | DiffspeedError = context.publish(found)
            except Exception as error:
                checked = why_unchecked(error)
            yield claim, checked
