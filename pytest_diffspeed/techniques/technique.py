"""What a technique is.  Catalogue files subclass :class:`Technique`; nothing here imports torch."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ..accelerators.registry import missing_feature
from ..common.errors import IncompatibleError, NotUndoneError
from .arguments import Parameter, Value, bound, canonical
from .observation import Observation as Observation

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ..accelerators.device import Device
    from ..accelerators.features import Feature


class Family(IntEnum):
    """Families in the canonical order in which a stack is applied, whatever order was written.

    The order is forced by what each does: an adapter is part of the model, so all that follows is
    done to it too (its products are cast and quantized, or merged before the weights are rounded);
    projections are fused before they are quantized, weights are cast before either, a scheduler is
    there before anything is changed on it, a cache wraps the blocks as they will run, tiles and
    slices change how often the VAE runs and nothing in it, offloading moves the weights that all
    others have left, and compilation comes last because it freezes what it sees.
    """

    ADAPTERS = 0
    PRECISION = 1
    LAYOUT = 2
    PROJECTIONS = 3
    QUANTIZATION = 4
    SOLVER = 5
    STEPS = 6
    SCHEDULER = 7
    ATTENTION = 8
    CACHE = 9
    TILING = 10
    SLICING = 11
    OFFLOAD = 12
    COMPILE = 13


@dataclass(frozen=True)
class Proof:
    """That a technique took hold: one sentence, and the numbers behind it."""

    technique: str
    found: str
    figures: Mapping[str, Any] = field(default_factory=dict)


class KnownSlowWarning(UserWarning):
    """A stack that was asked for is known to be slow; the message carries the published figure."""


class Technique(ABC):
    """One named optimization of a pipeline.

    A technique never degrades quietly: what it cannot do it refuses in :meth:`missing_hardware`
    (the test is skipped) or :meth:`incompatible` and its kin (the test is in error), and what it
    did it shows in :meth:`prove`.  Most techniques need :meth:`apply` and :meth:`prove` only.
    """

    name: ClassVar[str]
    family: ClassVar[Family]
    summary: ClassVar[str]
    changes: ClassVar[frozenset[str] | None] = frozenset({"denoiser", "vae"})
    """Components that :meth:`apply` changes; all others are shared with the baseline.
    ``None`` means every one."""
    contradicts: ClassVar[Mapping[str, str]] = {}
    """Techniques of other families that cannot be in one stack with this one, and why."""
    contradicts_families: ClassVar[Mapping[Family, str]] = {}
    """The same of whole families."""
    watches: ClassVar[bool] = False
    """Whether a call of the untouched pipeline is to be watched first.
    :meth:`incompatible_with_call` judges by it, and :meth:`prove` finds it in ``seen.before``."""
    changes_schedule: ClassVar[bool] = False
    """Whether calls may have another number of denoising steps than the baseline's, or get
    elsewhere in as many.  Steps of whole calls are then counted before and after
    (``seen.call_steps``), and images have a preset of their own."""
    image_preset: ClassVar[str] = ""
    """The preset by which ``image_similarity`` judges a stack with it where the marker names none;
    empty: that of the others in the stack, or ``lossless``."""
    saves_memory: ClassVar[bool] = False
    """Whether it is there for memory and makes nothing faster: a ladder of speedups has it where it
    is asked for only."""
    compiled_unit: ClassVar[str] = "component"
    """Of what techniques that compile expect one graph each."""
    on_plain_tensors: ClassVar[bool] = False
    """Of a technique that quantizes: whether the model still runs eager operations on plain tensors
    with it, as a simulated GPU can."""
    in_default_ladder: ClassVar[bool] = True
    """Whether a ladder has it as a row of its own, alone, where nobody says which rows."""
    extra_warmup_calls: int = 0
    """Untimed calls between the first one and the proof of what was compiled."""
    needs: ClassVar[tuple[Feature, ...]] = ()
    """What the device must be able to do: where it lacks one, the test is skipped."""
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType({})
    """What may be written behind the name, as in ``compile(mode=reduce-overhead)``."""
    arguments: Mapping[str, Value] = MappingProxyType({})
    """Those that were written and are no default."""
    files: ClassVar[frozenset[str]] = frozenset()
    """Those of :attr:`parameters` that are files or folders, relative to the working directory."""
    by_place: ClassVar[int] = 0
    """How many of its first arguments are written without their names."""
    example: ClassVar[str] = ""
    """Of a technique that cannot do without arguments: one way of writing it, ``steps(10)``."""
    undoable: ClassVar[bool] = False
    why_not_undoable: ClassVar[str] = "it changes the weights for good"

    def read_arguments(self, given: Sequence[tuple[str | None, Value]]) -> Mapping[str, Value]:
        """What was written behind the name, checked; those by place have no name.

        Raises:
            UnknownStackError: an argument is missing, unknown, given twice, or has no value that it
                can have.
        """
        return bound(self.name, given, self.parameters)

    def with_arguments(self, arguments: Mapping[str, Value]) -> Technique:
        """This technique with ``arguments``, which :attr:`parameters` allow."""
        if not arguments:
            return self
        configured = copy.copy(self)
        configured.arguments = MappingProxyType(dict(arguments))
        return configured

    def argument(self, name: str) -> Value:
        """What was written for the parameter ``name``, or its default."""
        return self.arguments.get(name, self.parameters[name].default)

    @property
    def call_steps(self) -> int | None:
        """How many denoising steps a call is asked for; ``None``: as many as the baseline's."""
        return None

    @property
    def in_baseline(self) -> str | None:
        """How the baseline has it too, as a stack has it; ``None``: the baseline does without.

        What makes the model another one and not a faster one is in both arms, so that ratios and
        images are about the rest of the stack.
        """
        return None

    @property
    def text(self) -> str:
        """The name with the arguments, as a stack has it."""
        return canonical(self.name, self.arguments, by_place=self.by_place)

    def missing_hardware(self, device: Device) -> str | None:
        """Why ``device`` cannot do this, or ``None``: the first of :attr:`needs` that it lacks."""
        lacking = (missing_feature(device, feature) for feature in self.needs)
        return next((why for why in lacking if why is not None), None)

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        """Why this pipeline cannot take it although the hardware could, or ``None``."""
        return None

    def incompatible_with_stack(self, stack: Mapping[str, Technique], device: Device) -> str | None:
        """Why it cannot work on ``device`` in ``stack``, all of it by name, or ``None``."""
        return None

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        """Why it has nothing to do in the call that was watched, or ``None``."""
        return None

    def refusal(self, pipeline: DiffusionPipeline, why: str) -> IncompatibleError:
        """The error that says that ``pipeline`` cannot take it."""
        return IncompatibleError(
            f"{self.name} is incompatible with {type(pipeline).__name__}: {why}"
        )

    def known_slow(self, stack: Mapping[str, Technique]) -> str | None:
        """What is known to be slow about ``stack``, all of it by name, with the figure, or
        ``None``.
        """
        return None

    @abstractmethod
    def apply(self, pipeline: DiffusionPipeline) -> None:
        """Change ``pipeline`` in place."""

    def apply_seen(self, pipeline: DiffusionPipeline, observe: Callable[[], Observation]) -> None:
        """Like :meth:`apply`, which it calls, for those that decide by what a call shows.

        ``observe()`` runs the pipeline as the techniques before this one left it.
        """
        self.apply(pipeline)

    def watch(self, pipeline: DiffusionPipeline) -> AbstractContextManager[object]:
        """Open around each eager call that is watched, for what :class:`Observation` has not.

        What it gives is in ``seen.own[name]`` after the call; ``None``: nothing.
        """
        return nullcontext()

    def explain(self, error: Exception) -> str | None:
        """Why the first call with this technique raised ``error``, if that is its doing."""
        return None

    @abstractmethod
    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        """Show that it took hold.

        Raises:
            NotEffectiveError: with what was expected and what was found.
        """

    def prove_compiled(
        self, pipeline: DiffusionPipeline, seen: Observation
    ) -> Mapping[str, Any] | None:
        """Show that it still holds in compiled code; figures to add to the proof, or ``None``.

        Raises:
            NotEffectiveError: with what was expected and what was found.
        """
        return None

    def undo(self, pipeline: DiffusionPipeline) -> None:
        """Make ``pipeline`` what it was before :meth:`apply`.

        Raises:
            NotUndoneError: this technique cannot be undone.
        """
        raise NotUndoneError(
            f"{self.name} cannot be undone: {self.why_not_undoable}; build the pipeline again"
        )

    def running(self) -> AbstractContextManager[object]:
        """A context in which every call of the pipeline runs (process-wide flags)."""
        return nullcontext()
