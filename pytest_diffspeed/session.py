"""What one ``--diffspeed`` session holds: its device, its sources, and the arms built so far."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .device import Device
from .errors import DiffspeedError, MeasurementError, SourceError
from .evidence.memory import EvidenceMemory
from .evidence.tree import working_tree
from .options import Options
from .pipelines.boundaries import require_unit, stage_boundaries
from .pipelines.call import CallDefaults, PipelineCall
from .pipelines.components import condition, modules, weights_fingerprint
from .pipelines.sources import PipelineSource, explain_load_error, parse_source
from .quiet import third_party
from .records.journal import Journal
from .specs import ArmSpec
from .techniques.apply import Applied, apply_stack, running
from .techniques.base import Family
from .techniques.stacks import BASELINE_NAME, Stack, parse_stack
from .timing.arm import Arm
from .timing.clock import Clock, StampClock, clock_for
from .timing.collector import collector_off
from .timing.lock import device_lock
from .timing.stages import Boundaries, StageTimer, StageTimes, time_stages
from .timing.timer import whole_call
from .workdir import workdir

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from .reports.pictures import Pixels
    from .reports.progress import Progress


ArmListener = Callable[[str, str, str, Sequence[float], Mapping[str, Any]], None]
"""Told each timed arm once its gate is decided: test, claim, name of the arm, seconds of each call
that counts, and the gate's figures."""


@dataclass
class PreparedArm:
    """A pipeline with its stack applied and proven, ready to be called and timed."""

    spec: ArmSpec
    pipeline: DiffusionPipeline
    call: PipelineCall
    applied: Applied

    def __post_init__(self) -> None:
        self._arms: dict[str, Arm] = {}
        self._proven = condition(self.pipeline)

    def require_unchanged(self) -> None:
        """Refuse to time a pipeline that is no longer what was proven.

        Raises:
            MeasurementError: a test's body changed it; arms are shared by the tests of a session.
        """
        now = condition(self.pipeline)
        changed = sorted(
            name for name in {*now, *self._proven} if now.get(name) != self._proven.get(name)
        )
        if changed:
            raise MeasurementError(
                f"the pipeline with {self.spec.stack} is no longer what was proven: the body of "
                f"this test or of one before it changed {', '.join(changed)}; tests share their "
                "pipelines, so a body must leave them as they are"
            )

    def arm_of(self, unit: str) -> Arm:
        """Timed by whole calls, steady steps (``step``) or a component.

        Raises:
            SourceError: the pipeline lacks it.
        """
        if unit not in self._arms:
            require_unit(self.pipeline, unit)
            timer = whole_call if unit == "call" else StageTimer(unit, self._boundaries())
            self._arms[unit] = Arm(self.spec.stack.name, self._once, self.running, timer)
        return self._arms[unit]

    def stage_times(self, clock: StampClock) -> StageTimes:
        """The stages of one more call."""
        with self.running(), collector_off():
            return time_stages(self._once, self._boundaries(), clock)[0]

    def _once(self) -> object:
        return self.call(self.pipeline)

    def _boundaries(self) -> Boundaries:
        return stage_boundaries(self.pipeline)

    def images(self) -> Pixels | None:
        """What the last timed call drew: ``N × height × width × 3`` in [0, 1], or ``None``."""
        import torch

        outputs = [a.last_output for a in self._arms.values() if a.last_output is not None]
        output = outputs[-1] if outputs else None
        if not isinstance(output, torch.Tensor) or output.dim() != 4:
            return None
        pixels: Pixels = output.detach().permute(0, 2, 3, 1).to("cpu", torch.float32).numpy()
        return pixels

    @contextmanager
    def running(self) -> Iterator[None]:
        """The process-wide state of a call; third parties' warnings are kept quiet in it."""
        with third_party(), running(self.spec.stack):
            yield


@dataclass
class _Baseline:
    source: PipelineSource
    prepared: PreparedArm
    fingerprint: dict[str, str] = field(default_factory=dict)


class Session:
    """Builds arms from sources and hands them out; one per pytest process."""

    def __init__(self, options: Options, device: Device, rootdir: Path, progress: Progress) -> None:
        self.options = options
        self.device = device
        self.rootdir = rootdir
        self.progress = progress
        self.clock: Clock = clock_for(device)
        self.journal = Journal.in_folder(self.workdir() / "records")
        # Now, and not when a gate asks: an edit made meanwhile is not what is measured.
        written = [] if options.json_path is None else [options.json_path]
        self.tree = working_tree(rootdir, leave_out=written)
        self.evidence = EvidenceMemory(rootdir, fresh=options.fresh)
        self.arm_listeners: list[ArmListener] = []
        self._baselines: dict[str, _Baseline] = {}
        self._others: dict[ArmSpec, PreparedArm] = {}

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
            pipeline = baseline.source.build(shared=shared)
            self._require_same_weights(spec, baseline, pipeline)
            _require_own_parts(spec, baseline.prepared.pipeline, pipeline)
            self._to_device(spec.source, pipeline)
            return self._applied(spec, pipeline, baseline.prepared.call)

    def other(self, spec: ArmSpec) -> PreparedArm:
        """An arm that a gate compares with; kept until the candidate of the test is released."""
        if spec.is_baseline:
            return self.baseline(spec.source)
        if spec not in self._others:
            self._others[spec] = self.prepare(spec)
        return self._others[spec]

    def release(self) -> None:
        """Free what was built for the candidate that ends, and forget what was compiled for it.

        Dynamo compiles code, not modules: the next pipeline of the same class would run what was
        compiled for this one, possibly with dynamic shapes, and its first call would contain no
        compilation.  What would be timed would depend on the order of the tests.
        """
        import torch

        self._others.clear()
        if "torch._dynamo" in sys.modules:  # else nothing was compiled, and it is slow to import
            with third_party():
                torch.compiler.reset()
        gc.collect()  # compiled modules are parts of reference cycles
        if self.device.kind == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def exclusive_device(self) -> Iterator[None]:
        """Hold the device's lock, so that nobody else times on it meanwhile."""
        with device_lock(
            self.device.key,
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
                self._to_device(source_text, pipeline)
                defaults = self._defaults(source, pipeline)
                call = PipelineCall(pipeline, defaults, defaults.prompts[0])
                prepared = self._applied(spec, pipeline, call)
            self._baselines[source_text] = _Baseline(source, prepared, fingerprint)
        return self._baselines[source_text]

    def _defaults(self, source: PipelineSource, pipeline: DiffusionPipeline) -> CallDefaults:
        return source.defaults(pipeline).overridden(
            steps=self.options.steps, prompts=self.options.prompts
        )

    def _applied(
        self, spec: ArmSpec, pipeline: DiffusionPipeline, call: PipelineCall
    ) -> PreparedArm:
        try:
            applied = apply_stack(pipeline, spec.stack, call=call, device=self.device)
        except DiffspeedError:
            raise
        except Exception as error:
            raise SourceError(
                f"pipeline source {spec.source!r} with {spec.stack}: the first call failed: "
                f"{explain_load_error(error)}"
            ) from error
        self.journal.write(
            "proof",
            source=spec.source,
            stack=spec.stack.name,
            first_call_s=applied.first_call_s,
            proofs=[vars(proof) for proof in applied.proofs],
        )
        return PreparedArm(spec, pipeline, call, applied)

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

    def _to_device(self, source: str, pipeline: DiffusionPipeline) -> None:
        try:
            with third_party():
                pipeline.to(self.device.torch_device)
        except Exception as error:
            raise SourceError(
                f"pipeline source {source!r} on {self.device}: {explain_load_error(error)}"
            ) from error

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
