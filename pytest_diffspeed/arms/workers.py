"""The arms of a session that live in processes of their own: instances, and the base's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..accelerators.device import Device
from ..common.errors import (
    AbsentArmError,
    DiffspeedError,
    MeasurementError,
    SelfComparisonError,
)
from ..common.extensions import extensions
from ..pipelines.sources import FolderSource, parse_source
from ..records.journal import Journal
from ..techniques.stacks import BASELINE_NAME, parse_stack
from ..timing.arm import TimedArm
from .base_commit.base import Base
from .base_commit.place import Place, this_process
from .base_commit.variables import of_base, of_both
from .count_gpu_cost import count_in
from .gpu_cost.order import CountOrder
from .prepared_arm import PreparedArm
from .session_options import Options
from .spec import ArmSpec
from .worker.arm import WorkerArm, worker_arms
from .worker.kept import KeptWorkers
from .worker.protocol import BuildOrder

if TYPE_CHECKING:
    from ..common.progress import Progress
    from .gpu_cost.result import GpuCost


class Workers:
    """Starts worker processes for the arms of a session; ``weights`` tells those that the source of
    an arm gives.
    """

    def __init__(
        self,
        options: Options,
        device: Device,
        base: Base | None,
        weights: Callable[[ArmSpec], Mapping[str, str]],
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._options = options
        self._device = device
        self._base = base
        self._weights = weights
        self._journal = journal
        self._progress = progress
        self._kept = KeptWorkers()
        self._gpu_costs: dict[tuple[str, ArmSpec, str], GpuCost] = {}
        self._incomparable: dict[str | ArmSpec, DiffspeedError] = {}

    @contextmanager
    def instances(
        self, prepared: Sequence[PreparedArm], unit: str
    ) -> Iterator[Sequence[Sequence[TimedArm]]]:
        """The arms to be timed, once for each process instance.

        One instance is this process; several are worker processes, which build the same arms anew.

        Raises:
            MeasurementError: a worker could not build its arm, or built one with other weights.
        """
        count = self._options.instances_of_arm()
        if count == 1:
            yield [[arm.arm_of(unit) for arm in prepared]]
            return
        orders = [(arm.spec.stack.name, self.order(arm.spec, unit)) for arm in prepared]
        names = " and ".join(name for name, _ in orders)
        with ExitStack() as stack:
            with self._progress.phase(f"building {names} in {count} worker processes each"):
                workers = stack.enter_context(worker_arms(orders, count))
            for number, arms in enumerate(workers):
                for arm, own in zip(arms, prepared, strict=True):
                    self._write_worker(arm, own.spec, number)
                    if arm.weights != self._weights(own.spec):
                        raise MeasurementError(
                            f"the worker process of {arm.name} built {own.spec.source!r} with "
                            "other weights than this process; seed the source"
                        )
            yield workers

    @contextmanager
    def base_and_head(
        self, spec: ArmSpec, unit: str, instances: int
    ) -> Iterator[Sequence[Sequence[WorkerArm]]]:
        """The base's arm and this tree's with the same stack, for each process instance.

        The processes stay for the next arms of this source; see :class:`.worker.kept.KeptWorkers`.

        Raises:
            AbsentArmError: the base has no such pipeline source.
            SelfComparisonError: its pipeline comes from installed packages, which both share.
            MeasurementError: a worker could not build its arm.
            UsageError: the base cannot be checked out.
        """
        assert self._base is not None, "a gate against a base asks for one first"
        base, place = self.order_in_base(spec, unit)
        orders = [("base", base, place), ("head", self.order(spec, unit), self._own_place())]
        # A technique of the project's may be the only thing that a pipeline takes from the tree.
        added = frozenset(f"technique {name}" for name in spec.stack.names)
        kept_for = (spec.source, added & set(extensions().added_by))
        with ExitStack() as stack:
            with (
                self._comparable(spec),
                self._progress.phase(f"building {spec.stack} in worker processes, here and there"),
            ):
                workers = stack.enter_context(self._kept.arms(kept_for, orders, instances))
            yield workers

    def gpu_cost(self, spec: ArmSpec, gpu: str) -> GpuCost:
        """What a call of this tree's arm asks of a GPU; nothing of this process's arm is in it.

        Raises:
            MeasurementError: it cannot be counted.
        """
        place = this_process() if self._base is None else self._own_place()
        return self._counted_once("head", spec, gpu, self.order(spec, "call"), place)

    def gpu_costs_of_both(self, spec: ArmSpec, gpu: str) -> tuple[GpuCost, GpuCost]:
        """The base's and this tree's.

        Raises:
            AbsentArmError, SelfComparisonError: see :meth:`base_and_head`.
            MeasurementError: one of them cannot be counted.
            UsageError: the base cannot be checked out.
        """
        order, place = self.order_in_base(spec, "call")
        with self._comparable(spec):
            base = self._counted_once("base", spec, gpu, order, place)
        return base, self.gpu_cost(spec, gpu)

    def _counted_once(
        self, tree: str, spec: ArmSpec, gpu: str, order: BuildOrder, place: Place
    ) -> GpuCost:
        key = (tree, spec, gpu)
        if key not in self._gpu_costs:
            plain = order.as_dict()
            shared = ("source", "stack", "steps", "not_from", "own_environment", "tree")
            with self._progress.phase(f"counting the GPU cost of {spec.stack}, {tree}"):
                self._gpu_costs[key] = count_in(
                    place,
                    CountOrder(
                        gpu=gpu, prompts=order.prompts, **{name: plain[name] for name in shared}
                    ),
                )
        return self._gpu_costs[key]

    def _own_place(self) -> Place:
        assert self._base is not None, "a gate against a base asks for one first"
        variables = of_both(os.environ, self._options.base_env)
        return replace(self._base.own_place(), variables=variables)

    @contextmanager
    def timed_base_and_head(
        self, spec: ArmSpec, unit: str
    ) -> Iterator[Sequence[Sequence[WorkerArm]]]:
        """:meth:`base_and_head` in as many process instances as the session's options ask for."""
        count = self._options.instances_of_arm(against_base=True)
        with self.base_and_head(spec, unit, count) as workers:
            for number, arms in enumerate(workers):
                for arm in arms:
                    self._write_worker(arm, spec, number)
            yield workers

    def close(self) -> None:
        """End the processes that were kept."""
        self._kept.close()

    def order(self, spec: ArmSpec, unit: str) -> BuildOrder:
        """What a worker process is told to build.

        Raises:
            MeasurementError: it takes a plug-in that only pytest loads.
        """
        import torch

        prefix = spec.source.partition(":")[0]
        for added in (*(f"technique {name}" for name in spec.stack.names), f"source {prefix}"):
            who = extensions().added_by.get(added, "")
            if who.startswith("plug-in "):
                raise MeasurementError(
                    f"{added!r} comes from {who}, which worker processes do not load (those of "
                    "--diffspeed-instances and --diffspeed-base); give it through an entry point "
                    "of an installed package, or time it in one process instance without a base"
                )
        return BuildOrder(
            source=spec.source,
            stack=spec.stack.name,
            unit=unit,
            device=str(self._device),
            steps=self._options.steps,
            prompts=self._options.prompts,
            threads=torch.get_num_threads(),
        )

    def order_in_base(self, spec: ArmSpec, unit: str) -> tuple[BuildOrder, Place]:
        """What a worker of the base is told to build, and where."""
        assert self._base is not None, "a gate against a base asks for one first"
        variables = of_base(os.environ, self._options.base_env)
        place = replace(self._base.place(), variables=variables)
        order = self.order(spec, unit)
        source, stack = order.source, spec.stack.with_files(self.in_both).name
        if isinstance(parse_source(source), FolderSource):
            source = self.in_both(source)
        not_from = None if place.not_from is None else str(place.not_from)
        order = replace(order, source=source, stack=stack, not_from=not_from)
        tree = None if place.not_from is None else str(place.root)
        own = place.python != sys.executable
        return replace(order, own_environment=own, tree=tree), place

    def in_both(self, path: str) -> str:
        """A file or folder of this tree, as the base's workers find it too: what git has each tree
        has as its own, and what it does not have (weights, adapters) is this tree's for both.
        """
        assert self._base is not None, "a gate against a base asks for one first"
        given = os.path.expanduser(path)
        if (self._base.place().folder / given).exists() or not os.path.exists(given):
            return path
        return os.path.abspath(given)

    @contextmanager
    def _comparable(self, spec: ArmSpec) -> Iterator[None]:
        """What the base's workers say of a pipeline for good is asked once, not for each gate.

        Raises:
            AbsentArmError, SelfComparisonError: see :meth:`base_and_head`.
            MeasurementError: workers of this tree do not find the pipeline either.
        """
        known = self._incomparable.get(spec.source) or self._incomparable.get(spec)
        if known is not None:
            raise known
        try:
            yield
        except SelfComparisonError as error:  # a technique of the project's may be in the tree
            self._incomparable[spec] = error
            raise
        except AbsentArmError as absent:
            never = self._found_by_no_worker(spec.source)
            self._incomparable[spec.source] = never or absent
            if never is not None:
                raise never from None
            raise

    def _found_by_no_worker(self, source: str) -> MeasurementError | None:
        """A source that the base lacks is a new pipeline only if a worker finds it in this tree.

        This process may know modules that are on no import path, as pytest's importlib mode makes
        them: no worker would ever find such a pipeline, in any base, and the gate could not fire.
        """
        order = self.order(ArmSpec(source, parse_stack(BASELINE_NAME)), "call")
        try:
            with worker_arms([("head", order)], 1):
                return None
        except AbsentArmError as error:
            return MeasurementError(
                "worker processes do not find the pipeline in this tree either, so it can be "
                f"compared with no base: {error}"
            )

    def _write_worker(self, arm: WorkerArm, spec: ArmSpec, number: int) -> None:
        self._journal.write(
            "worker",
            source=spec.source,
            stack=spec.stack.name,
            arm=arm.name,
            instance=number,
            pid=arm.pid,
            first_call_s=arm.first_call_s,
            proofs=arm.proofs,
        )
