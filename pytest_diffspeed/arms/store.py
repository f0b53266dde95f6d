"""The pipelines of a session: baselines are kept, candidates are released and used again."""

from __future__ import annotations

import gc
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..accelerators.registry import accelerator_of
from ..common.errors import SourceError
from ..common.quiet import third_party
from ..pipelines.call import PipelineCall
from ..pipelines.components import modules, weights_fingerprint
from ..pipelines.sources import PipelineSource, parse_source
from ..records.journal import Journal
from ..techniques.apply import undo_stack
from ..techniques.stacks import FP32, Stack
from ..techniques.targets import targets_of
from ..techniques.technique import Family
from .builder import Builder
from .prepared_arm import PreparedArm
from .spec import ArmSpec

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from ..common.progress import Progress


@dataclass
class _Baseline:
    source: PipelineSource
    prepared: PreparedArm
    fingerprint: dict[str, str] = field(default_factory=dict)


class ArmStore:
    """Builds arms from sources and hands them out; the baseline of a source is built once."""

    def __init__(self, builder: Builder, journal: Journal, progress: Progress) -> None:
        self._builder = builder
        self._journal = journal
        self._progress = progress
        self._baselines: dict[ArmSpec, _Baseline] = {}
        self._others: dict[ArmSpec, PreparedArm] = {}
        self._shared_with_baseline: dict[ArmSpec, frozenset[str]] = {}
        self._spare: tuple[ArmSpec, DiffusionPipeline] | None = None

    def baseline(self, source: str, stack: Stack = FP32) -> PreparedArm:
        """The fp32 pipeline of a source, with the adapters that ``stack`` carries; built once a
        session.
        """
        return self._baseline(source, stack).prepared

    def weights(self, source: str, stack: Stack = FP32) -> dict[str, str]:
        """A digest of the weights of each component of a source's pipeline, those of the adapters
        that ``stack`` carries included.
        """
        baseline = self._baseline(source, stack)
        if baseline.prepared.spec.stack == FP32:
            return baseline.fingerprint
        return weights_fingerprint(baseline.prepared.pipeline)

    def source_weights(self, spec: ArmSpec) -> dict[str, str]:
        """The same of what the source of an arm gives, before any adapter is loaded."""
        return self._baseline(spec.source, spec.stack).fingerprint

    def prepare(self, spec: ArmSpec) -> PreparedArm:
        """A fresh copy of the source's pipeline with the stack applied and proven.

        Components that the stack does not change are the baseline's own.

        Raises:
            SourceError: the source gave no pipeline, or one with other weights than before.
            MissingHardwareError, IncompatibleError, NotEffectiveError: see :func:`apply_stack`.
        """
        baseline = self._baseline(spec.source, spec.stack)
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
            return self.baseline(spec.source, spec.stack)
        if spec not in self._others:
            self._others[spec] = self.prepare(spec)
        return self._others[spec]

    def release(self, candidate: PreparedArm | None = None) -> None:
        """Free what was built for the candidate that ends, and forget what was compiled for it.

        A stack that can be undone is undone, and the pipeline, if it is as it was before, serves
        the next stack; any other stack works on a fresh copy.

        Dynamo compiles code, not modules: the next pipeline of the same class would run what was
        compiled for this one, possibly with dynamic shapes, and its first call would contain no
        compilation.  What would be timed would depend on the order of the tests.
        """
        self._others.clear()
        if candidate is not None:
            self._undo(candidate)
        self.forget_compiled()
        gc.collect()  # compiled modules are parts of reference cycles
        accelerator_of(self._builder.device).release_memory()

    def forget_compiled(self) -> None:
        """Forget all that dynamo compiled in this process."""
        import torch

        if "torch._dynamo" in sys.modules:  # else nothing was compiled, and it is slow to import
            with third_party():
                torch.compiler.reset()

    def _baseline(self, source_text: str, stack: Stack) -> _Baseline:
        spec = ArmSpec(source_text, stack.baseline)
        if spec not in self._baselines:
            source = parse_source(source_text)
            # That without adapters, if it is there: what none is loaded into is in memory once.
            bare = self._baselines.get(ArmSpec(source_text, FP32))
            with self._phase(spec):
                shared = {} if bare is None else _shared(bare.prepared.pipeline, spec.stack)
                pipeline = source.build(shared=shared)
                fingerprint = weights_fingerprint(pipeline)
                if bare is not None:
                    _require_own_parts(spec, bare.prepared.pipeline, pipeline)
                self._builder.to_device(pipeline, source_text)
                prepared = self._applied(spec, pipeline, self._builder.call(source, pipeline))
            self._baselines[spec] = _Baseline(source, prepared, fingerprint)
        return self._baselines[spec]

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
            self._progress.line(f"the next stack gets a fresh copy: {error}")
        else:
            self._spare = candidate.spec, candidate.pipeline

    def _applied(
        self, spec: ArmSpec, pipeline: DiffusionPipeline, call: PipelineCall
    ) -> PreparedArm:
        prepared = self._builder.prepare(spec, pipeline, call)
        self._journal.write("proof", **prepared.proof_record())
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
        return self._progress.phase(f"{what} {spec.stack} of {spec.source}")


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
    changed = stack.changed_components()
    if changed is None:
        unchanged: set[str] = set()
    else:
        targets = targets_of(pipeline)
        roles = {"denoiser": targets.denoisers, "vae": targets.decoders}
        theirs = {id(m) for role in changed for m in roles.get(role, {}).values()}
        unchanged = {
            name
            for name, part in modules(pipeline).items()
            if name not in changed and not any(id(module) in theirs for module in part.modules())
        }
    weightless = {
        name
        for name, part in pipeline.components.items()
        if part is not None and name not in modules(pipeline) and not hasattr(part, "set_timesteps")
    }
    return {name: pipeline.components[name] for name in sorted(unchanged | weightless)}
