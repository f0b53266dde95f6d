"""Builds pipelines from their sources and applies stacks to them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ..accelerators.device import Device
from ..common.errors import DiffspeedError, SourceError
from ..compilation.cost import watching_compilation
from ..pipelines.call import PipelineCall
from ..pipelines.cases import CallDefaults
from ..pipelines.load import to_device
from ..pipelines.load_errors import explain_load_error
from ..pipelines.sources import PipelineSource
from ..techniques.apply import apply_stack
from ..techniques.call_steps import call_of
from ..techniques.stacks import BASELINE_NAME
from ..techniques.technique import Family, KnownSlowWarning
from .prepared_arm import PreparedArm
from .spec import ArmSpec

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class Builder:
    """Builds on one device; ``steps`` and ``prompts`` replace those of the sources."""

    def __init__(
        self, device: Device, *, steps: int | None = None, prompts: tuple[str, ...] = ()
    ) -> None:
        self.device = device
        self._steps = steps
        self._prompts = prompts
        self._paid: set[str] = set()
        """Keys of graphs that arms have compiled, for :func:`watching_compilation`."""

    def to_device(self, pipeline: DiffusionPipeline, text: str) -> None:
        """Move ``pipeline`` to where it will run.

        Raises:
            SourceError: it does not fit there.
        """
        to_device(pipeline, self.device, text)

    def call(self, source: PipelineSource, pipeline: DiffusionPipeline) -> PipelineCall:
        """The call that every arm of ``source`` makes.

        Raises:
            SourceError: the call lacks an argument, or has one that would not arrive, or failed
                before its latents were there.
        """
        defaults: CallDefaults = source.defaults(pipeline).overridden(
            steps=self._steps, prompts=self._prompts
        )
        try:
            return PipelineCall(pipeline, defaults)
        except SourceError as error:
            raise SourceError(
                f"pipeline source {source.name!r} with {BASELINE_NAME}: {error}"
            ) from error

    def prepare(
        self, spec: ArmSpec, pipeline: DiffusionPipeline, call: PipelineCall
    ) -> PreparedArm:
        """Apply the stack in place, run it once and prove it; ``call`` is the baseline's.

        Raises:
            SourceError: the first call failed.
            MissingHardwareError, IncompatibleError, NotEffectiveError: see :func:`apply_stack`.
        """
        compiles = any(t.family is Family.COMPILE for t in spec.stack.techniques())
        try:
            # Whoever asked for the stack tells what is known to be slow about it: see `known_slow`.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", KnownSlowWarning)
                with watching_compilation(compiles=compiles, paid=self._paid) as compilation:
                    applied = apply_stack(pipeline, spec.stack, call=call, device=self.device)
        except DiffspeedError:
            raise
        except Exception as error:
            raise SourceError(
                f"pipeline source {spec.source!r} with {spec.stack}: the first call failed: "
                f"{explain_load_error(error, call.what_was_given())}"
            ) from error
        own = call_of(spec.stack, pipeline, call)
        return PreparedArm(spec, pipeline, own, applied, compilation.seen)
