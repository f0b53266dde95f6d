"""Which latents a pipeline can be given: of the shape that it makes itself, seen in a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..adapters.attributes import replaced
from ..common.quiet import third_party
from ..common.text import first_line
from .scheduler_watch import ENDS_STEP, schedulers_of, watch_schedulers

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

MADE_BY = "prepare_latents"
"""The method in which diffusers' pipelines make their latents: of the 288 classes of 0.42.1 that
can be called, 15 take ``latents`` and lack it."""
_CLOSE = 1e-2
"""How far scaled noise may be from the noise, relative to its largest value: the pipeline may work
in bfloat16, whose values are up to 2⁻⁹ from what they stand for."""


@dataclass(frozen=True)
class LatentsPlan:
    """The shape of the latents to draw, or ``None`` and why a call gets only a generator."""

    shape: tuple[int, ...] | None
    reason: str = ""

    def drawn(self, seed: int) -> torch.Tensor | None:
        """The latents of a seed in float32 on the CPU, the same for all arms."""
        return None if self.shape is None else _draw(self.shape, seed)


def plan_latents(pipeline: DiffusionPipeline, arguments: Mapping[str, Any]) -> LatentsPlan:
    """Watch two calls with ``arguments``, each only until its latents are there.

    Latents of our own are right where they are to the call what its own are.  So in the first call,
    without any, the pipeline must make them of noise from the call's generator and of nothing else
    (not of an image, as image-to-image pipelines do), and in the second, which is given latents of
    that shape, it must make the same of ours: both times the noise, scaled by one number.  Packed,
    five-dimensional and batched latents need no knowledge of ours.

    ``arguments`` must hold a ``generator`` if the pipeline takes one, and no ``latents``.

    Raises whatever the first call raises.
    """
    with _drawn_from(arguments.get("generator")) as draws:
        made = _made(pipeline, arguments)
    if not made:
        return LatentsPlan(None, "its call made none that could be seen")
    found = _of_noise(made, draws)
    if found is None:
        return LatentsPlan(None, "it makes them of more than noise from the generator")
    # What is given may have to look like what was made, or like the noise, before it is packed.
    reasons = []
    for shape in dict.fromkeys((tuple(made[found.index].shape), found.shape)):
        refusal = _refusal(pipeline, arguments, made, found, shape)
        if not refusal:
            return LatentsPlan(shape)
        reasons.append(refusal)
    return LatentsPlan(None, reasons[0])


@dataclass(frozen=True)
class _Noise:
    """That ``index`` of what was made is noise of ``shape``, moved about and times ``scale``."""

    index: int
    shape: tuple[int, ...]
    scale: float


def _refusal(
    pipeline: DiffusionPipeline,
    arguments: Mapping[str, Any],
    made: list[Any],
    found: _Noise,
    shape: tuple[int, ...],
) -> str:
    """Why the pipeline cannot be given latents of ``shape``; empty if it can."""
    own = made[found.index]
    ours = _draw(shape, seed=1)  # another seed than a source's: to be told from its own
    try:
        again = _made(pipeline, {**arguments, "latents": ours.to(own.device, own.dtype)})
    except Exception as error:
        message = first_line(error)
        return f"given latents it raised {type(error).__name__}: {message}"
    # Some give less back than the call unpacks: see QwenImageInpaintPipeline in diffusers 0.42.1.
    if [type(part) for part in again] != [type(part) for part in made]:
        return f"given latents its `{MADE_BY}` returns something else than without"
    taken = again[found.index]
    if taken.shape != own.shape or not _is_scaled(ours, taken, found.scale):
        return "it makes other latents than its own of those that it is given"
    return ""


def _draw(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    import torch

    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


class _LatentsMadeError(BaseException):
    """Ends a call whose latents are there; no ``except Exception`` of a pipeline stops it."""


def _made(pipeline: DiffusionPipeline, arguments: Mapping[str, Any]) -> list[Any]:
    """What the first ``prepare_latents`` of a call returned; nothing where none ran.

    A pipeline without that method is seen at its first scheduler's first step, whose sample the
    latents are: later by one call of the denoiser.
    """
    seen: list[Any] = []
    make: Callable[..., Any] | None = getattr(pipeline, MADE_BY, None)

    def making(*args: Any, **kwargs: Any) -> Any:
        assert make is not None, "unreachable because only an existing method is watched"
        result = make(*args, **kwargs)
        seen.extend(result if isinstance(result, (tuple, list)) else (result,))
        raise _LatentsMadeError

    def stepping(_: Any, __: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def first(*args: Any, **kwargs: Any) -> Any:
            sample = inspect.signature(step).bind(*args, **kwargs).arguments.get("sample")
            seen.append(sample)
            raise _LatentsMadeError

        return first

    with third_party(), suppress(_LatentsMadeError), ExitStack() as stack:
        if make is not None:
            stack.enter_context(replaced(pipeline, MADE_BY, making))
        else:
            schedulers = schedulers_of(pipeline).values()
            stack.enter_context(watch_schedulers(stepping, schedulers, ENDS_STEP))
        pipeline(**arguments)
    return seen


@contextmanager
def _drawn_from(generator: object) -> Iterator[list[torch.Tensor]]:
    """What is drawn from ``generator`` while the context is open."""
    import torch
    from torch.overrides import TorchFunctionMode

    draws: list[torch.Tensor] = []

    class Draws(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            words = kwargs or {}
            result = func(*args, **words)
            of_it = words.get("generator") is generator
            if generator is None:  # the pipeline takes none, and draws from the process-wide one
                of_it = of_it and func in (torch.randn, torch.randn_like)
            if of_it and isinstance(result, torch.Tensor):
                draws.append(result.detach().clone())
            return result

    with Draws():
        yield draws


def _of_noise(made: list[Any], draws: list[torch.Tensor]) -> _Noise | None:
    """Which of ``made`` is one of ``draws`` times a number."""
    import torch

    for index, latents in enumerate(made):
        if not isinstance(latents, torch.Tensor) or not latents.is_floating_point():
            continue
        for draw in draws:
            if draw.numel() == latents.numel():
                noise, own = _sorted(draw), _sorted(latents)
                scale = float(noise @ own / (noise @ noise))
                if scale > 0 and _is_scaled(draw, latents, scale):
                    return _Noise(index, tuple(draw.shape), scale)
    return None


def _is_scaled(noise: torch.Tensor, made: torch.Tensor, scale: float) -> bool:
    """Whether ``made`` holds the values of ``noise`` times ``scale``, in whatever order: packing
    moves values and changes none.
    """
    import torch

    if noise.numel() != made.numel():
        return False
    wanted = _sorted(noise) * scale
    return torch.allclose(_sorted(made), wanted, rtol=_CLOSE, atol=_CLOSE * abs(scale))


def _sorted(values: torch.Tensor) -> torch.Tensor:
    import torch

    return values.detach().to("cpu", torch.float32).flatten().sort().values
