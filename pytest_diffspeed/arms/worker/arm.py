"""The parent's side of a worker process: an arm that is timed in another process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ...timing.arm import Shaped
from ..base_commit.place import Place
from ..counts import Counts
from ..probes import Probe
from . import answers
from .process import WorkerProcess
from .protocol import BuildOrder

if TYPE_CHECKING:
    from ...accelerators.clock import Clock

T = TypeVar("T")

BUILD_S = 3600.0
"""Longer than any model takes to load and to compile; who hangs longer will not come back."""
CALL_S = 1800.0
"""The same for one call."""


class WorkerArm:
    """An arm in a process of its own; see :class:`pytest_diffspeed.timing.arm.TimedArm`.

    The worker times its calls with a clock of its own kind (CUDA events, or the CPU's clock), so
    the ``clock`` that a call is given is not used.
    """

    def __init__(
        self,
        name: str,
        order: BuildOrder,
        *,
        place: Place | None = None,
        process: WorkerProcess | None = None,
        call_s: float = CALL_S,
    ) -> None:
        """Built in a new process at ``place``, or in ``process``, which has no other arm then."""
        self.process = WorkerProcess(name, place) if process is None else process
        self.name = name
        self.last_call_s = math.nan
        self.last_output: object = None
        self.turn = 0
        self.calls = 0
        self.first_call_s = math.nan
        self.weights: dict[str, str] = {}
        self.inputs: dict[str, Any] = {}
        self.proofs: list[str] = []
        self._call_s = call_s
        self.process.send({"do": "build", "order": order.as_dict()})

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_ready(self, *, build_s: float = BUILD_S) -> None:
        """Wait until the arm is built and proven.

        Raises:
            MeasurementError: the worker could not build it, ended, or takes longer than
                ``build_s``.
            AbsentArmError, SelfComparisonError: see ``Workers.base_and_head``.
        """
        ready = self._read_as(answers.ready, "building it", self._answer("building it", build_s))
        self.first_call_s = ready.first_call_s
        self.weights = ready.weights
        self.inputs = ready.inputs
        self.proofs = ready.proofs

    def timed_call(self, clock: Clock) -> float:
        answer = self._call("call")
        timed = self._read_as(answers.timed, f"call number {self.calls}", answer)
        self.last_call_s = timed.call_s
        self.last_output = None if timed.shape is None else Shaped(timed.shape)
        return timed.seconds

    def untimed_call(self) -> None:
        self._call("discard")

    def time_alone(self) -> answers.Alone:
        """Have its unit timed alone from now on, if it can be: see :mod:`..alone`.

        Raises:
            MeasurementError: its pipeline could not be called, or the worker ended.
        """
        self.process.send({"do": "alone"})
        doing = "trying its component alone"
        return self._read_as(answers.alone, doing, self._answer(doing, BUILD_S))

    def time_whole_calls(self) -> None:
        """Have whole calls made from now on, of which the unit's seconds count.

        Raises:
            MeasurementError: the worker ended.
        """
        self.process.send({"do": "whole"})
        self._answer("going back to whole calls", self._call_s)

    def probe(self, probe: Probe, **args: Any) -> Counts:
        """What the worker counts of its arm; ``args`` are those of the probe's function.

        Raises:
            MeasurementError: it could not be counted, or the worker ended.
        """
        root = str(self.process.place.root)
        self.process.send({"do": "probe", "at": probe.at, "root": root, "with": args})
        doing = f"looking at {probe.name}"
        return self._read_as(answers.counts, doing, self._answer(doing, BUILD_S))

    def release(self) -> None:
        """Let go of the pipeline and of what was compiled for it; the process stays.

        Raises:
            MeasurementError: the worker ended.
        """
        self.process.send({"do": "release"})
        self._answer("releasing it", self._call_s)

    def end(self) -> None:
        """End the process, however busy it is; safe to call twice."""
        self.process.end()

    def _call(self, order: str) -> dict[str, Any]:
        self.calls += 1
        self.process.send({"do": order, "turn": self.turn})
        return self._answer(f"call number {self.calls}", self._call_s)

    def _answer(self, doing: str, wait_s: float) -> dict[str, Any]:
        return self.process.answer(doing, wait_s)

    def _read_as(
        self, kind: Callable[[dict[str, Any]], T], doing: str, answer: dict[str, Any]
    ) -> T:
        try:
            return kind(answer)
        except answers.WrongAnswerError as error:
            raise self.process.failure(doing, str(error)) from None


@contextmanager
def worker_arms(
    orders: Sequence[tuple[str, BuildOrder]], instances: int
) -> Iterator[list[list[WorkerArm]]]:
    """The arms of ``orders``, ``instances`` times, each in a process of its own.

    They run as this process does and are built one after the other, so that compiling one does not
    slow another's first call down; all of them end with this context.

    Raises:
        AbsentArmError: the pipeline source of one does not exist in its place.
        MeasurementError: one of them could not be built.
    """
    with ExitStack() as stack:
        built: list[list[WorkerArm]] = []
        for _ in range(instances):
            built.append([])
            for name, order in orders:
                arm = WorkerArm(name, order)
                stack.callback(arm.end)
                arm.wait_until_ready()
                built[-1].append(arm)
        yield built
