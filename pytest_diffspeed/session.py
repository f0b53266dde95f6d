"""What one ``--diffspeed`` session holds: its device, its sources, and the arms built so far."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .about import about_session
from .base.base import Base
from .base.place import Place
from .building import Builder
from .device import Device
from .errors import AbsentArmError, MeasurementError, SourceError
from .evidence.key import EvidenceKey, environment
from .evidence.memory import EvidenceMemory
from .evidence.noise import KnownFloor, NoiseMemory
from .evidence.tree import commit, working_tree
from .extensions import extensions
from .gates.saved_counts import SavedCounts
from .options import Options
from .pipelines.call import PipelineCall
from .pipelines.components import modules, weights_fingerprint
from .pipelines.sources import FolderSource, PipelineSource, parse_source
from .prepared import PreparedArm
from .quiet import third_party
from .records.journal import Journal
from .specs import ArmSpec
from .techniques.apply import undo_stack
from .techniques.base import Family
from .techniques.stacks import BASELINE_NAME, Stack, parse_stack
from .timing.arm import TimedArm
from .timing.clock import Clock, clock_for
from .timing.lock import device_lock
from .timing.noise import measure_noise
from .workdir import workdir
from .worker.arm import WorkerArm, worker_arms
from .worker.protocol import BuildOrder

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from .baseline_images import Reference
    from .reports.progress import Progress


ArmListener = Callable[[str, str, str, Sequence[float], Mapping[str, Any]], None]
"""Told each timed arm once its gate is decided: test, claim, name of the arm, seconds of each call
that counts, and the gate's figures."""


@dataclass
class _Baseline:
    source: PipelineSource
    prepared: PreparedArm
    fingerprint: dict[str, str] = field(default_factory=dict)


class Session:
    """Builds arms from sources and hands them out; one per pytest process."""

    def __init__(
        self,
        options: Options,
        device: Device,
        rootdir: Path,
        progress: Progress,
        base: Base | None = None,
    ) -> None:
        self.options = options
        self.base = base
        self.device = device
        self.rootdir = rootdir
        self.progress = progress
        self.clock: Clock = clock_for(device)
        self.journal = Journal.in_folder(self.workdir() / "records")
        # Now, and not when a gate asks: an edit made meanwhile is not what is measured.
        self.tree = working_tree(rootdir, leave_out=options.written)
        self.about = about_session(options, device, rootdir, self.tree, base)
        self.journal.write("session", **self.about)
        self.counts = SavedCounts(rootdir, save=options.save_counts)
        self.evidence = EvidenceMemory(rootdir, fresh=options.fresh)
        self._noise = NoiseMemory(rootdir)
        self.arm_listeners: list[ArmListener] = []
        self.misfits: dict[ArmSpec, str] = {}
        """Stacks that turned out not to fit when they were applied, and why."""
        self._builder = Builder(device, steps=options.steps, prompts=options.prompts)
        self.baseline_images: dict[str, Reference] = {}
        """By source; filled by the gates that compare images."""
        self._found_by_workers: set[str] = set()
        self._baselines: dict[str, _Baseline] = {}
        self._others: dict[ArmSpec, PreparedArm] = {}
        self._shared_with_baseline: dict[ArmSpec, frozenset[str]] = {}
        self._spare: tuple[ArmSpec, DiffusionPipeline] | None = None

    def workdir(self) -> Path:
        return workdir(self.rootdir)

    def baseline(self, source: str) -> PreparedArm:
        """The fp32 pipeline of a source; built once a session."""
        return self._baseline(source).prepared

    def weights(self, source: str) -> dict[str, str]:
        """A digest of the weights of each component of a source's pipeline."""
        return self._baseline(source).fingerprint

    def prepare(self, spec: ArmSpec) -> PreparedArm:
        """A fresh copy of the source's pipeline with the stack applied and proven.

        Components that the stack does not change are the baseline's own.

        Raises:
            SourceError: the source gave no pipeline, or one with other weights than before.
            MissingHardwareError, DoesNotFitError, NotEffectiveError: see :func:`apply_stack`.
        """
        baseline = self._baseline(spec.source)
        if spec.is_baseline:
            return baseline.prepared
        with self._phase(spec):
            shared = _shared(baseline.prepared.pipeline, spec.stack)
            pipeline = self._undone(spec.source, set(shared))
            if pipeline is None:
                pipeline = baseline.source.build(shared=shared)
            self._require_same_weights(spec, baseline, pipeline)
            _require_own_parts(spec, baseline.prepared.pipeline, pipeline)
            self._builder.to_device(pipeline, spec.source)
            try:
                prepared = self._applied(spec, pipeline, baseline.prepared.call)
            except BaseException:
                self.forget_compiled()  # nobody will release what was not handed out
                raise
            self._shared_with_baseline[spec] = frozenset(shared)
            return prepared

    def other(self, spec: ArmSpec) -> PreparedArm:
        """An arm that a gate compares with; kept until the candidate of the test is released."""
        if spec.is_baseline:
            return self.baseline(spec.source)
        if spec not in self._others:
            self._others[spec] = self.prepare(spec)
        return self._others[spec]

    def environment(self) -> dict[str, Any]:
        """What a measurement of this session rests on beside the tree."""
        import torch

        return environment(self.device.name, torch.get_num_threads(), self.device.driver)

    def noise_floor(self, source: str, unit: str) -> KnownFloor:
        """The baseline of ``source`` timed against itself, now or earlier for this commit.

        Raises:
            MeasurementError: it could not be timed.
        """
        baseline = self.baseline(source)
        key = EvidenceKey(
            {
                "commit": commit(self.rootdir) or vars(self.tree),
                "source": source,
                "weights": self.weights(source),
                "inputs": baseline.call.inputs(),
                "unit": unit,
                "environment": self.environment(),
            }
        )

        def measure() -> list[tuple[float, float]]:
            with self.progress.phase(f"timing the baseline of {source} against itself"):
                return measure_noise(baseline.arm_of(unit), self.clock)

        known = self._noise.known_or(key, measure)
        self.journal.write("noise-floor", key=key.digest, at=known.at, pairs=known.pairs)
        return known

    @contextmanager
    def instances(
        self, prepared: Sequence[PreparedArm], unit: str
    ) -> Iterator[Sequence[Sequence[TimedArm]]]:
        """The arms to be timed, once for each process instance.

        One instance is this process; several are worker processes, which build the same arms anew.

        Raises:
            MeasurementError: a worker could not build its arm, or built one with other weights.
        """
        count = self.options.instances_of_arm()
        if count == 1:
            yield [[arm.arm_of(unit) for arm in prepared]]
            return
        orders = [(arm.spec.stack.name, self.order(arm.spec, unit)) for arm in prepared]
        names = " and ".join(name for name, _ in orders)
        with ExitStack() as stack:
            with self.progress.phase(f"building {names} in {count} worker processes each"):
                workers = stack.enter_context(worker_arms(orders, count))
            for number, arms in enumerate(workers):
                for arm, own in zip(arms, prepared, strict=True):
                    self._write_worker(arm, own.spec, number)
                    if arm.weights != self.weights(own.spec.source):
                        raise MeasurementError(
                            f"the worker process of {arm.name} built {own.spec.source!r} with "
                            "other weights than this process; seed the source"
                        )
            yield workers

    @contextmanager
    def base_and_head(
        self, candidate: PreparedArm, unit: str
    ) -> Iterator[Sequence[Sequence[WorkerArm]]]:
        """The base's arm and this tree's with the candidate's stack, for each process instance.

        Raises:
            AbsentArmError: the base has no such pipeline source.
            SelfComparisonError: its pipeline comes from installed packages, which both share.
            MeasurementError: a worker could not build its arm.
            UsageError: the base cannot be checked out.
        """
        spec = candidate.spec
        count = self.options.instances_of_arm(against_base=True)
        base, place = self.order_in_base(spec, unit)
        orders = [("base", base), ("head", self.order(spec, unit))]
        with ExitStack() as stack:
            with (
                self._absent_in_base_only(spec.source),
                self.progress.phase(f"building {spec.stack} in {count} worker processes each"),
            ):
                workers = stack.enter_context(worker_arms(orders, count, [place, None]))
            for number, arms in enumerate(workers):
                for arm in arms:
                    self._write_worker(arm, spec, number)
            yield workers

    @contextmanager
    def base_arm(self, spec: ArmSpec) -> Iterator[WorkerArm]:
        """The base's arm in one worker process, to be looked at.

        Raises:
            AbsentArmError, MeasurementError, UsageError: see :meth:`base_and_head`.
        """
        base, place = self.order_in_base(spec, "call")
        with ExitStack() as stack:
            with (
                self._absent_in_base_only(spec.source),
                self.progress.phase(f"building {spec.stack} of the base"),
            ):
                ((arm,),) = stack.enter_context(worker_arms([("base", base)], 1, [place]))
            yield arm

    @contextmanager
    def _absent_in_base_only(self, source: str) -> Iterator[None]:
        """A source that the base lacks is a new pipeline only if a worker finds it in this tree.

        This process may know modules that are on no import path, as pytest's importlib mode makes
        them: no worker would ever find such a pipeline, in any base, and the gate could not fire.

        Raises:
            AbsentArmError: the base lacks it.
            MeasurementError: workers of this tree do not find it either.
        """
        try:
            yield
        except AbsentArmError:
            if source not in self._found_by_workers:
                order = self.order(ArmSpec(source, parse_stack(BASELINE_NAME)), "call")
                try:
                    with worker_arms([("head", order)], 1):
                        self._found_by_workers.add(source)
                except AbsentArmError as error:
                    raise MeasurementError(
                        "worker processes do not find the pipeline in this tree either, so it can "
                        f"be compared with no base: {error}"
                    ) from None
            raise

    def order_in_base(self, spec: ArmSpec, unit: str) -> tuple[BuildOrder, Place]:
        """What a worker of the base is told to build, and where."""
        assert self.base is not None, "a gate against a base asks for one first"
        place = self.base.place()
        order = self.order(spec, unit)
        source = order.source
        if isinstance(parse_source(source), FolderSource) and not (place.folder / source).is_dir():
            source = os.path.abspath(os.path.expanduser(source))  # weights that git does not have
        not_from = None if place.not_from is None else str(place.not_from)
        order = replace(order, source=source, not_from=not_from)
        tree = None if place.not_from is None else str(place.root)
        own = place.python != sys.executable
        return replace(order, own_environment=own, tree=tree), place

    def _write_worker(self, arm: WorkerArm, spec: ArmSpec, number: int) -> None:
        self.journal.write(
            "worker",
            source=spec.source,
            stack=spec.stack.name,
            arm=arm.name,
            instance=number,
            pid=arm.pid,
            first_call_s=arm.first_call_s,
            proofs=arm.proofs,
        )

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
            device=str(self.device),
            steps=self.options.steps,
            prompts=self.options.prompts,
            threads=torch.get_num_threads(),
        )

    def _undone(self, source: str, shared: set[str]) -> DiffusionPipeline | None:
        """The pipeline of the last candidate, undone, if it may be used again.

        What it shares with the baseline must be among ``shared``, which the next stack leaves
        alone.  It is used or dropped: two would lie in memory otherwise.
        """
        spare, self._spare = self._spare, None
        if spare is None or spare[0].source != source:
            return None
        spec, pipeline = spare
        return pipeline if self._shared_with_baseline[spec] <= shared else None

    def _undo(self, candidate: PreparedArm) -> None:
        """Undo what can be undone, so that the pipeline need not be loaded again."""
        stack = candidate.spec.stack
        if candidate.spec.is_baseline or not all(t.undoable for t in stack.techniques()):
            return
        try:
            candidate.require_unchanged()
            with third_party():
                undo_stack(candidate.pipeline, stack)
        except Exception as error:  # a plug-in's undo may raise anything; nothing is lost by it
            self.progress.line(f"the next stack gets a fresh copy: {error}")
        else:
            self._spare = candidate.spec, candidate.pipeline

    def release(self, candidate: PreparedArm | None = None) -> None:
        """Free what was built for the candidate that ends, and forget what was compiled for it.

        A stack that can be undone is undone, and the pipeline, if it is as it was before, serves
        the next stack; any other stack works on a fresh copy.

        Dynamo compiles code, not modules: the next pipeline of the same class would run what was
        compiled for this one, possibly with dynamic shapes, and its first call would contain no
        compilation.  What would be timed would depend on the order of the tests.
        """
        import torch

        self._others.clear()
        if candidate is not None:
            self._undo(candidate)
        self.forget_compiled()
        gc.collect()  # compiled modules are parts of reference cycles
        if self.device.kind == "cuda":
            torch.cuda.empty_cache()

    def forget_compiled(self) -> None:
        """Forget all that dynamo compiled in this process."""
        import torch

        if "torch._dynamo" in sys.modules:  # else nothing was compiled, and it is slow to import
            with third_party():
                torch.compiler.reset()

    def exclusive_device(self) -> AbstractContextManager[None]:
        """Hold the device's lock: nobody else times or draws on it meanwhile."""
        return self._device_lock(shared=False)

    def shared_device(self) -> AbstractContextManager[None]:
        """Use the device beside others that do not time on it, and beside nobody who does."""
        return self._device_lock(shared=True)

    @contextmanager
    def _device_lock(self, *, shared: bool) -> Iterator[None]:
        with device_lock(
            self.device.key,
            shared=shared,
            on_wait=lambda: self.progress.line(
                f"waiting: another process is timing on {self.device}"
            ),
        ):
            yield

    def _baseline(self, source_text: str) -> _Baseline:
        if source_text not in self._baselines:
            source = parse_source(source_text)
            spec = ArmSpec(source_text, parse_stack(BASELINE_NAME))
            with self._phase(spec):
                pipeline = source.build()
                fingerprint = weights_fingerprint(pipeline)
                self._builder.to_device(pipeline, source_text)
                prepared = self._applied(spec, pipeline, self._builder.call(source, pipeline))
            self._baselines[source_text] = _Baseline(source, prepared, fingerprint)
        return self._baselines[source_text]

    def _applied(
        self, spec: ArmSpec, pipeline: DiffusionPipeline, call: PipelineCall
    ) -> PreparedArm:
        prepared = self._builder.prepare(spec, pipeline, call)
        self.journal.write("proof", **prepared.proof_record())
        return prepared

    def _require_same_weights(
        self, spec: ArmSpec, baseline: _Baseline, pipeline: DiffusionPipeline
    ) -> None:
        found = weights_fingerprint(pipeline)
        differing = sorted(name for name in found if found[name] != baseline.fingerprint.get(name))
        if differing or set(found) != set(baseline.fingerprint):
            raise SourceError(
                f"pipeline source {spec.source!r} gives other weights each time it is asked "
                f"({', '.join(differing) or 'other components'}), so nothing can be compared with "
                "the baseline; seed it"
            )

    def _phase(self, spec: ArmSpec) -> AbstractContextManager[Any]:
        compiles = any(t.family is Family.COMPILE for t in spec.stack.techniques())
        what = "building, compiling and proving" if compiles else "building and proving"
        return self.progress.phase(f"{what} {spec.stack} of {spec.source}")


def _require_own_parts(
    spec: ArmSpec, baseline: DiffusionPipeline, pipeline: DiffusionPipeline
) -> None:
    """Refuse a candidate that is, or contains, what its stack would change in the baseline.

    Raises:
        SourceError: a factory gave the same object twice.
    """
    shareable = set(_shared(baseline, spec.stack))
    theirs = modules(baseline)
    same = [
        name
        for name, part in modules(pipeline).items()
        if name not in shareable and name in theirs and _share_weights(part, theirs[name])
    ]
    if pipeline is baseline or same:
        what = f"the same {', '.join(same)}" if same else "the same pipeline object"
        raise SourceError(
            f"pipeline source {spec.source!r} gives {what} each time it is asked, so "
            f"{spec.stack} would change the baseline too; build new ones in each call"
        )


def _share_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pointers = {parameter.data_ptr() for parameter in first.parameters()}
    return any(parameter.data_ptr() in pointers for parameter in second.parameters())


def _shared(pipeline: DiffusionPipeline, stack: Stack) -> dict[str, Any]:
    """The components of the baseline that a copy with ``stack`` may use as they are."""
    from .pipelines.components import denoiser_name

    changed = stack.changed_components()
    if changed is None:
        unchanged: set[str] = set()
    else:
        roles = {"denoiser": denoiser_name(pipeline), "vae": "vae"}
        unchanged = set(modules(pipeline)) - {roles.get(role, role) for role in changed}
    weightless = {
        name
        for name, part in pipeline.components.items()
        if part is not None and name not in modules(pipeline) and not hasattr(part, "set_timesteps")
    }
    return {name: pipeline.components[name] for name in sorted(unchanged | weightless)}
