"""A stack on components that have no weights: applied, not proven.

What a proof shows by running is not to be had here; the counts themselves show the effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...common.errors import IncompatibleError
from ...common.quiet import third_party
from ...common.text import first_line
from ...techniques.apply import check_compatible
from ...techniques.catalog.compile import Compile
from ...techniques.observation import Observation
from ...techniques.observe import observe_linears
from ...techniques.stacks import Stack
from ...techniques.targets import targets_of
from ...techniques.technique import Family, Technique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ...accelerators.device import Device
    from .fake_components import FakeComponents


@dataclass(frozen=True)
class CompiledParts:
    """What a stack compiles: the names of denoisers, by their ``forward``, and of decoders, by
    their ``decode``, with inductor's options.
    """

    denoisers: frozenset[str] = frozenset()
    decoders: frozenset[str] = frozenset()
    options: Mapping[str, Any] | None = None

    def compiles(self, component: str, entry: str) -> bool:
        return component in (self.decoders if entry == "decode" else self.denoisers)


def apply_to_fakes(
    stack: Stack,
    pipeline: DiffusionPipeline,
    components: FakeComponents,
    device: Device,
    run: Callable[[], object],
) -> CompiledParts:
    """Apply all of ``stack`` but its compilation; what is to be compiled is said instead.

    ``run()`` calls the pipeline once, for techniques that decide by a call.

    Raises:
        MissingHardwareError, IncompatibleError: a technique cannot be applied, and why.
    """
    for technique in stack.techniques():
        if technique.family is Family.ADAPTERS:
            raise IncompatibleError(
                f"{technique.text}: an adapter is weights, and a GPU cost is counted on components "
                "without any; merged (fused=True) it asks for what the stack without it asks for, "
                "so leave it out of the stack"
            )
    with components.on_the_gpu(), third_party():
        check_compatible(stack, pipeline, device)
    moved = [t.name for t in stack.techniques() if t.family is Family.OFFLOAD]
    if moved:
        raise IncompatibleError(
            f"{moved[0]} moves weights between host and device, which is not counted; count the "
            "stack without it, whose kernels are the same"
        )
    compiled = CompiledParts()
    for technique in stack.techniques():
        if technique.family is Family.CACHE:
            raise IncompatibleError(
                f"GPU cost of {stack} cannot be counted: what {technique.name} leaves out depends "
                "on values, and components without weights have none; count the stack without it"
            )
        if technique.family is Family.COMPILE:
            compiled = compiled_by(technique, pipeline)
        else:
            apply_one(technique, pipeline, components, run)
    return compiled


_REALLY_RUNS = (Family.SOLVER, Family.STEPS, Family.SCHEDULER)
"""Families that change nothing on a component: the scheduler runs on its own values."""


def apply_one(
    technique: Technique,
    pipeline: DiffusionPipeline,
    components: FakeComponents,
    run: Callable[[], object],
) -> None:
    seen = Observation()
    if type(technique).apply_seen is not Technique.apply_seen:
        seen = observe_linears(pipeline, run)
    try:
        with ExitStack() as contexts:
            contexts.enter_context(third_party())
            if technique.family not in _REALLY_RUNS:
                contexts.enter_context(components.on_the_gpu())
            technique.apply_seen(pipeline, lambda: seen)
    except IncompatibleError:
        raise
    except Exception as error:
        raise IncompatibleError(
            f"{technique.name} cannot be applied to components without weights, so its GPU cost "
            f"cannot be counted: {type(error).__name__}: {first_line(error)}"
        ) from error


def compiled_by(technique: Technique, pipeline: DiffusionPipeline) -> CompiledParts:
    """Raises :class:`IncompatibleError` for compilation that is not the catalogue's."""
    if technique.compiled_unit != "component":
        raise IncompatibleError(
            f"{technique.name} compiles each {technique.compiled_unit} by itself, and what runs "
            "beside them eagerly; the GPU cost of that is not counted; count the stack with "
            "'compile', or without compilation"
        )
    if not isinstance(technique, Compile) or technique.backend != "inductor":
        raise IncompatibleError(
            f"{technique.name} compiles in a way of its own, which is not counted; "
            "count the stack with 'compile'"
        )
    targets = targets_of(pipeline)
    return CompiledParts(
        frozenset(targets.denoisers), frozenset(targets.decoders), technique.options()["options"]
    )
