"""Speed against the base: this tree's arm and the base's, each in worker processes, in turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...common.errors import DiffspeedError
from ...records.verdict import GateResult
from ...techniques.stacks import BASE
from ..against_base.differing import differing
from ..gate import GateContext, why_unchecked
from .evidence_key import attempt_of
from .gate_group import GateGroup, decided
from .marker import SpeedMarker
from .pending import PendingGate

if TYPE_CHECKING:
    from ...arms.worker.arm import WorkerArm
    from ...timing.arm import TimedArm


def speed_against_base(
    markers: Sequence[SpeedMarker], context: GateContext
) -> Iterator[tuple[SpeedMarker, GateResult | DiffspeedError]]:
    """Measure ``markers``, each with ``over="base"``; those of one unit share their rounds."""
    asked: list[PendingGate] = []
    for marker in markers:
        try:
            attempt = attempt_of(marker, context, BASE)
        except Exception as error:
            yield marker, why_unchecked(error)
            continue
        if attempt.verdict is None:
            asked.append(PendingGate(marker, BASE, None, attempt))
        else:
            yield marker, context.publish(attempt.verdict)
    for unit in dict.fromkeys(one.marker.unit for one in asked):
        yield from decided(
            _BaseGateGroup(unit, [a for a in asked if a.marker.unit == unit], context)
        )


class _BaseGateGroup(GateGroup):
    """As any block, with both arms in worker processes: that of the base, then this tree's."""

    _workers: Sequence[Sequence[WorkerArm]] = ()
    _differing: tuple[str, ...] = ()

    def _noise_floor(self, arms: Sequence[TimedArm], seed: int) -> None:
        """None is known of two trees."""

    @contextmanager
    def _instances(self) -> Iterator[Sequence[Sequence[TimedArm]]]:
        with ExitStack() as stack:
            self._workers = stack.enter_context(
                self._session.workers.timed_base_and_head(self._candidate.spec, self.unit)
            )
            base, head = self._workers[0]
            self._differing = differing(base, head)
            yield self._workers

    def _first_calls(self, asked: PendingGate) -> tuple[float, float]:
        base, head = self._workers[0]
        return base.first_call_s, head.first_call_s

    @property
    def _in_workers(self) -> bool:
        return True

    def _annotated(self, found: GateResult) -> GateResult:
        base = self._session.base
        assert base is not None
        notes = "".join(f"; {note}" for note in self._differing)
        figures: dict[str, Any] = {
            **found.figures,
            "against_base": base.about(),
            "differing": list(self._differing),
        }
        return replace(found, reason=f"against {base.name}: {found.reason}{notes}", figures=figures)

    def _afterwards(self) -> None:
        """Nothing of the workers' arms is left."""
