"""Worker processes that stay for a session: most of what one costs is its start, not its arm."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ...common.errors import MeasurementError
from ..base_commit.place import Place
from .arm import WorkerArm
from .process import WorkerProcess
from .protocol import BuildOrder


class KeptWorkers:
    """Processes of the arms of a comparison, by the arm's name and instance.

    They hold no pipeline in between.  Those of one pipeline are kept at a time, so that what one
    source has imported says nothing of another.
    """

    def __init__(self) -> None:
        self._processes: dict[tuple[str, int], WorkerProcess] = {}
        self._kept_for: Hashable = None

    @contextmanager
    def arms(
        self,
        kept_for: Hashable,
        orders: Sequence[tuple[str, BuildOrder, Place]],
        instances: int,
    ) -> Iterator[list[list[WorkerArm]]]:
        """The arms of ``orders``, ``instances`` times, each in a process of its own.

        They are built one after the other, so that compiling one does not slow another's first call
        down.  Afterwards the processes wait for the next arms of that name in that place, if
        ``kept_for`` is the same; where anything failed, they end.

        Raises:
            AbsentArmError, SelfComparisonError: see ``Workers.base_and_head``.
            MeasurementError: one of them could not be built, or its process ended.
        """
        if kept_for != self._kept_for:
            self.close()
            self._kept_for = kept_for
        used: dict[tuple[str, int], WorkerProcess] = {}
        try:
            built: list[list[WorkerArm]] = []
            for number in range(instances):
                built.append([])
                for name, order, place in orders:
                    process = self._taken(name, number, place)
                    used[name, number] = process
                    arm = WorkerArm(name, order, process=process)
                    arm.wait_until_ready()
                    built[-1].append(arm)
            yield built
        except BaseException:
            _end(used)
            raise
        try:
            for arms in built:
                for arm in arms:
                    arm.release()
        except MeasurementError:  # it is gone: whoever asked it last was told
            _end(used)
        else:
            self._processes |= used

    def close(self) -> None:
        """End all of them."""
        processes, self._processes = self._processes, {}
        _end(processes)

    def _taken(self, name: str, number: int, place: Place) -> WorkerProcess:
        kept = self._processes.pop((name, number), None)
        if kept is not None and kept.place == place:
            return kept
        if kept is not None:  # the environment or the import path changed meanwhile
            kept.end()
        return WorkerProcess(name, place)


def _end(processes: Mapping[tuple[str, int], WorkerProcess]) -> None:
    for process in processes.values():
        process.end()
