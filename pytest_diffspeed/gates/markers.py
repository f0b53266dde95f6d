"""Markers, parsed into frozen dataclasses.  The only place that gives their arguments a meaning.

Each marker is one dataclass whose fields are the marker's arguments; ``from_arguments`` checks them
and refuses values that make no sense.  Nothing here imports torch.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..common.errors import UsageError, nearest
from ..techniques.stacks import Stack
from .marker_values import (
    BadValueError,
    as_count,
    as_counts,
    as_device,
    as_flag,
    as_number,
    as_numbers,
    as_one_of,
    as_optional_stack,
    as_sizes,
    as_stack,
    as_words,
)
from .signatures import SIGNATURES

UNITS = ("call", "step")
COMPONENT_UNITS = ("text_encoder", "denoiser", "vae.decode")
METHODS = ("sign", "bet")
SCOPES = ("scheduler.step", "denoising_loop", "call")
CALIBRATED = "calibrated"
"""In the place of a preset: the limits that were measured and stored for this device and stack."""
PRESETS = ("exact", "lossless", "int8", "w8a8", "int4", "cache", CALIBRATED)
LIMITS = (
    "psnr",
    "ssim",
    "ssim_full",
    "ms_ssim",
    "mae",
    "max_abs",
    "other_image_ratio",
    "rank1",
    "latent_l2",
    "denoiser_l2",
    "lpips",
    "flip",
)
"""Those of :data:`pytest_diffspeed.similarity.METRICS`, which cannot be imported without torch."""
COMPONENTS = ("denoiser", "unet", "transformer", "vae.decode", "text_encoder", "scheduler.step")
SAVED = "saved"
"""In place of a number: as many as the file of counts says."""


@dataclass(frozen=True)
class Diffspeed:
    """``@pytest.mark.diffspeed(*stacks, pipeline=None)``: run the test once per stack."""

    marker: ClassVar[str] = "diffspeed"
    signature: ClassVar[str] = SIGNATURES["diffspeed"]
    stacks: tuple[Stack, ...]
    pipeline: str | None = None

    @classmethod
    def from_arguments(cls, *stacks: str, pipeline: str | None = None) -> Diffspeed:
        if not stacks:
            raise BadValueError("stacks", "names no stack; write at least one, such as 'compile'")
        parsed = tuple(as_stack("stacks", text) for text in stacks)
        names = [stack.name for stack in parsed]
        for name in names:
            if names.count(name) > 1:
                raise BadValueError("stacks", f"names the stack {name!r} twice")
        if pipeline is not None and not (isinstance(pipeline, str) and pipeline.strip()):
            raise BadValueError("pipeline", f"must be a pipeline source, not {pipeline!r}")
        return cls(parsed, pipeline)


@dataclass(frozen=True)
class GateMarker:
    """What all gate markers share: ``stack=`` and ``device=`` restrict where the gate holds."""

    marker: ClassVar[str]
    signature: ClassVar[str]

    @property
    def claim(self) -> str:
        """Markers of one test with the same claim compete; the most specific one wins."""
        return self.marker

    @property
    def only_stack(self) -> Stack | None:
        return getattr(self, "stack", None)

    @property
    def only_device(self) -> str | None:
        return getattr(self, "device", None)


@dataclass(frozen=True)
class SpeedMarker(GateMarker):
    """What the two gates on a paired ratio share: against what, of what, and how sure."""

    over: Stack
    alpha: float
    unit: str
    method: str
    stack: Stack | None
    device: str | None

    @property
    def claim(self) -> str:
        return f"{self.marker} over {self.over} per {self.unit}"

    @property
    def min_ratio(self) -> float:
        """The threshold on baseline seconds ÷ candidate seconds."""
        raise NotImplementedError

    @staticmethod
    def shared(
        over: str, alpha: float, unit: str, method: str, stack: str | None, device: str | None
    ) -> tuple[Stack, float, str, str, Stack | None, str | None]:
        return (
            as_stack("over", over, previous=True, base=True),
            as_number("alpha", alpha, above=0.0, below=0.5, example="0.05"),
            as_one_of("unit", unit, UNITS + COMPONENT_UNITS),
            as_one_of("method", method, METHODS),
            as_optional_stack(stack),
            as_device(device),
        )


@dataclass(frozen=True)
class MinSpeedup(SpeedMarker):
    """The candidate is at least ``ratio`` times as fast as ``over``."""

    marker: ClassVar[str] = "min_speedup"
    signature: ClassVar[str] = SIGNATURES["min_speedup"]
    ratio: float

    @property
    def min_ratio(self) -> float:
        return self.ratio

    @classmethod
    def from_arguments(
        cls,
        ratio: float,
        over: str = "fp32",
        alpha: float = 0.05,
        unit: str = "call",
        method: str = "sign",
        stack: str | None = None,
        device: str | None = None,
    ) -> MinSpeedup:
        example = "1.5 for one and a half times as fast"
        checked = as_number("ratio", ratio, above=0.0, example=example)
        return cls(*cls.shared(over, alpha, unit, method, stack, device), checked)


@dataclass(frozen=True)
class MaxSlowdown(SpeedMarker):
    """The candidate is at most ``percent`` slower than ``over``."""

    marker: ClassVar[str] = "max_slowdown"
    signature: ClassVar[str] = SIGNATURES["max_slowdown"]
    percent: float

    @property
    def min_ratio(self) -> float:
        return 1.0 / (1.0 + self.percent / 100.0)

    @classmethod
    def from_arguments(
        cls,
        percent: float,
        over: str = "fp32",
        alpha: float = 0.05,
        unit: str = "call",
        method: str = "sign",
        stack: str | None = None,
        device: str | None = None,
    ) -> MaxSlowdown:
        checked = as_number("percent", percent, least=0.0, example="5 for at most 5 % slower")
        return cls(*cls.shared(over, alpha, unit, method, stack, device), checked)


@dataclass(frozen=True)
class NoGraphBreaks(GateMarker):
    """``torch.compile`` captures each component in one graph."""

    marker: ClassVar[str] = "no_graph_breaks"
    signature: ClassVar[str] = SIGNATURES["no_graph_breaks"]
    components: tuple[str, ...] | None
    max_breaks: int | None
    """``None``: only the file of counts limits it."""
    stack: Stack | None
    device: str | None

    @classmethod
    def from_arguments(
        cls,
        components: Sequence[str] | None = None,
        max_breaks: int | str = 0,
        stack: str | None = None,
        device: str | None = None,
    ) -> NoGraphBreaks:
        return cls(
            _as_components(components),
            None if max_breaks == SAVED else as_count("max_breaks", max_breaks),
            as_optional_stack(stack),
            as_device(device),
        )


def _as_components(value: Sequence[str] | None) -> tuple[str, ...] | None:
    parts = as_words("components", value)
    return None if parts is None else tuple(as_one_of("components", w, COMPONENTS) for w in parts)


@dataclass(frozen=True)
class NoRecompiles(GateMarker):
    """After warm-up nothing compiles again."""

    marker: ClassVar[str] = "no_recompiles"
    signature: ClassVar[str] = SIGNATURES["no_recompiles"]
    max_recompiles: int | None
    """``None``: only the file of counts limits it."""
    sizes: tuple[tuple[int, int], ...] | None
    batch_sizes: tuple[int, ...] | None
    prompts: tuple[str, ...] | None
    guidance: tuple[float, ...] | None
    stack: Stack | None
    device: str | None

    @classmethod
    def from_arguments(
        cls,
        max_recompiles: int | str = 0,
        sizes: Sequence[tuple[int, int]] | None = None,
        batch_sizes: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        guidance: Sequence[float] | None = None,
        stack: str | None = None,
        device: str | None = None,
    ) -> NoRecompiles:
        return cls(
            None if max_recompiles == SAVED else as_count("max_recompiles", max_recompiles),
            as_sizes("sizes", sizes),
            as_counts("batch_sizes", batch_sizes, least=1),
            as_words("prompts", prompts),
            as_numbers("guidance", guidance),
            as_optional_stack(stack),
            as_device(device),
        )


@dataclass(frozen=True)
class NoGpuSyncs(GateMarker):
    """The CPU never waits for the device inside ``scope``."""

    marker: ClassVar[str] = "no_gpu_syncs"
    signature: ClassVar[str] = SIGNATURES["no_gpu_syncs"]
    scope: str | Callable[..., Any]
    first_step: int
    per_step: int
    allow: tuple[str, ...]
    strict: bool
    stack: Stack | None
    device: str | None

    @property
    def claim(self) -> str:
        return f"no_gpu_syncs in {self.scope_name}"

    @property
    def scope_name(self) -> str:
        if isinstance(self.scope, str):
            return self.scope
        return str(getattr(self.scope, "__qualname__", type(self.scope).__name__))

    @classmethod
    def from_arguments(
        cls,
        scope: str | Callable[..., Any] = "scheduler.step",
        first_step: int = 0,
        per_step: int = 0,
        allow: Sequence[str] = (),
        strict: bool = False,
        stack: str | None = None,
        device: str | None = None,
    ) -> NoGpuSyncs:
        return cls(
            scope if callable(scope) else as_one_of("scope", scope, SCOPES),
            as_count("first_step", first_step),
            as_count("per_step", per_step),
            as_words("allow", allow, least=0) or (),
            as_flag("strict", strict),
            as_optional_stack(stack),
            as_device(device),
        )


@dataclass(frozen=True)
class ImageSimilarity(GateMarker):
    """The images are those of the fp32 baseline, within a preset's limits."""

    marker: ClassVar[str] = "image_similarity"
    signature: ClassVar[str] = SIGNATURES["image_similarity"]
    preset: str
    limits: tuple[tuple[str, float], ...]
    stack: Stack | None
    device: str | None

    @classmethod
    def from_arguments(
        cls,
        preset: str = "lossless",
        stack: str | None = None,
        device: str | None = None,
        **limits: float,
    ) -> ImageSimilarity:
        names = tuple(f"{metric}_{kind}" for metric in LIMITS for kind in ("mean", "worst"))
        for name in limits:
            if name not in names:
                valid = ("preset", "stack", "device", *names)
                raise BadValueError(name, f"is no argument of it; {nearest(name, valid)}")
        checked = tuple(
            (name, as_number(name, value, least=0.0, example="25"))
            for name, value in limits.items()
        )
        return cls(
            as_one_of("preset", preset, PRESETS),
            checked,
            as_optional_stack(stack),
            as_device(device),
        )


@dataclass(frozen=True)
class MaxMemory(GateMarker):
    """Peak device memory is at most ``ratio`` times that of ``over``."""

    marker: ClassVar[str] = "max_memory"
    signature: ClassVar[str] = SIGNATURES["max_memory"]
    ratio: float
    over: Stack
    stack: Stack | None
    device: str | None

    @property
    def claim(self) -> str:
        return f"max_memory over {self.over}"

    @classmethod
    def from_arguments(
        cls,
        ratio: float,
        over: str = "fp32",
        stack: str | None = None,
        device: str | None = None,
    ) -> MaxMemory:
        return cls(
            as_number("ratio", ratio, above=0.0, example="0.6"),
            as_stack("over", over, previous=True),
            as_optional_stack(stack),
            as_device(device),
        )


@dataclass(frozen=True)
class MaxCompileTime(GateMarker):
    """The first call, compilation included, takes at most ``seconds``."""

    marker: ClassVar[str] = "max_compile_time"
    signature: ClassVar[str] = SIGNATURES["max_compile_time"]
    seconds: float
    stack: Stack | None
    device: str | None

    @classmethod
    def from_arguments(
        cls, seconds: float, stack: str | None = None, device: str | None = None
    ) -> MaxCompileTime:
        return cls(
            as_number("seconds", seconds, above=0.0, example="120"),
            as_optional_stack(stack),
            as_device(device),
        )


GATE_MARKERS: tuple[type[GateMarker], ...] = (
    MinSpeedup,
    MaxSlowdown,
    NoGraphBreaks,
    NoRecompiles,
    NoGpuSyncs,
    ImageSimilarity,
    MaxMemory,
    MaxCompileTime,
)


def parse_diffspeed(args: Iterable[Any], kwargs: Mapping[str, Any]) -> Diffspeed:
    """Parse the arguments of ``@pytest.mark.diffspeed``; raises :class:`UsageError`."""
    return typing.cast(Diffspeed, _parse(Diffspeed, args, kwargs))


def parse_gate(cls: type[GateMarker], args: Iterable[Any], kwargs: Mapping[str, Any]) -> GateMarker:
    """Parse the arguments of a gate marker; raises :class:`UsageError`."""
    return typing.cast(GateMarker, _parse(cls, args, kwargs))


def _parse(cls: type[Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> object:
    factory: Callable[..., object] = cls.from_arguments
    marker: str = cls.marker
    parameters = inspect.signature(factory).parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    valid = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    args = tuple(args)
    for word in kwargs:
        if word not in valid and not open_ended:
            raise UsageError(
                f"{marker}(…, {word}=…): {word!r} is no argument of it; {nearest(word, valid)}"
            )
    try:
        inspect.signature(factory).bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(f"{_call(marker, args, kwargs)}: {error}; it is {cls.signature}") from None
    try:
        return factory(*args, **kwargs)
    except BadValueError as error:
        raise UsageError(f"{_call(marker, args, kwargs)}: `{error.argument}` {error}") from None


def _call(marker: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    parts = [repr(a) for a in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
    return f"{marker}({', '.join(parts)})"
