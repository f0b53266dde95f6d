"""What a technique is.  Catalogue files subclass :class:`Technique`; nothing here imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ..device import Device


class Family(IntEnum):
    """Families in the canonical order in which a stack is applied, whatever order was written.

    The order is forced by what each does: projections are fused before they are quantized,
    weights are cast before either, and compilation comes last because it freezes what it sees.
    """

    PRECISION = 1
    LAYOUT = 2
    PROJECTIONS = 3
    QUANTIZATION = 4
    SCHEDULER = 5
    ATTENTION = 6
    COMPILE = 7


@dataclass(frozen=True)
class Observation:
    """What one untimed call of the pipeline showed, for techniques to prove themselves by.

    ``op_dtypes`` counts the dtypes (``"torch.bfloat16"``) of the matrix products and convolutions
    that the denoiser and the VAE ran, before compilation; ``compiled_frames`` counts the runs of
    each compiled frame in a call after compilation; ``None`` where nothing was to compile.
    """

    op_dtypes: Mapping[str, int] = field(default_factory=dict)
    compiled_frames: Mapping[int, int] | None = None


@dataclass(frozen=True)
class Proof:
    """That a technique took hold: one sentence, and the numbers behind it."""

    technique: str
    found: str
    figures: Mapping[str, Any] = field(default_factory=dict)


class Technique(ABC):
    """One named optimization of a pipeline.

    A technique never degrades quietly: what it cannot do it refuses in :meth:`missing_hardware`
    (the test is skipped) or :meth:`does_not_fit` (the test is in error), and what it did it shows
    in :meth:`prove`.
    """

    name: ClassVar[str]
    family: ClassVar[Family]
    summary: ClassVar[str]
    changes: ClassVar[frozenset[str] | None] = frozenset({"denoiser", "vae"})
    """Components that :meth:`apply` changes; all others are shared with the baseline.
    ``None`` means every one."""

    def missing_hardware(self, device: Device) -> str | None:
        """Why ``device`` cannot do this, or ``None``."""
        return None

    def does_not_fit(self, pipeline: DiffusionPipeline) -> str | None:
        """Why this pipeline cannot take it although the hardware could, or ``None``."""
        return None

    @abstractmethod
    def apply(self, pipeline: DiffusionPipeline) -> None:
        """Change ``pipeline`` in place."""

    @abstractmethod
    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        """Show that it took hold.

        Raises:
            NotEffectiveError: with what was expected and what was found.
        """

    def running(self) -> AbstractContextManager[object]:
        """A context in which every call of the pipeline runs (process-wide flags)."""
        return nullcontext()
