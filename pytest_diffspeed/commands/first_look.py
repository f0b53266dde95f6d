"""What ``diffspeed init`` finds out about a pipeline before it writes anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..common.text import plural

MOST_IMAGES_S = 180.0
"""Drawing the images of two arms may take so long on this machine; else a GPU has to do it."""
IMAGES = 16
"""Of the baseline and of one stack."""
_LOOKED_AT_STEPS = 2
_DEEPEST = 3


@dataclass(frozen=True)
class Look:
    """``step_s`` is seconds of a denoising step with all that a short call has beside it."""

    source: str
    pipeline: str
    scheduler: str | None
    device: str
    on_gpu: bool
    steps: int
    step_s: float
    random_weights: bool
    counts_gpu_cost: bool

    @property
    def images_s(self) -> float:
        """About how long the images of a baseline and of one stack take."""
        return IMAGES * self.steps * self.step_s

    @property
    def draws_images(self) -> bool:
        """Whether a comparison of images says something here and ends soon."""
        return not self.random_weights and (self.on_gpu or self.images_s <= MOST_IMAGES_S)

    def __str__(self) -> str:
        scheduler = f", {self.scheduler}" if self.scheduler else ""
        return (
            f"{self.source}: {self.pipeline}{scheduler}, {self.steps} steps of about "
            f"{self.step_s:.2g} s on {self.device}"
        )


def look_at(source: str, device: str) -> Look:
    """Build the pipeline and call it twice, shortened.

    Raises:
        SourceError: there is no such pipeline, or it cannot be called.
        UsageError: there is no such device.
    """
    import torch

    from ..accelerators.registry import accelerator_of, resolve_device
    from ..arms.builder import Builder
    from ..common.errors import SourceError
    from ..common.quiet import third_party
    from ..pipelines.load_errors import explain_load_error
    from ..pipelines.sources import parse_source

    resolved = resolve_device(device)
    parsed = parse_source(source)
    builder = Builder(resolved)
    with third_party():
        pipeline = parsed.build()
    builder.to_device(pipeline, source)
    call = builder.call(parsed, pipeline)
    steps = call.defaults.steps
    # Not every schedule can be so short: PNDM's with Runge-Kutta steps needs four.
    for few in dict.fromkeys((_LOOKED_AT_STEPS, steps)):
        try:
            with third_party():
                step_s = _step_s(partial(call, pipeline, steps=few), few)
            break
        except Exception as error:
            failed = error
    else:
        raise SourceError(
            f"pipeline source {source!r}: a call of {plural(steps, 'step')} failed: "
            f"{explain_load_error(failed, call.what_was_given())}"
        ) from failed
    scheduler = getattr(pipeline, "scheduler", None)
    return Look(
        source=source,
        pipeline=type(pipeline).__name__,
        scheduler=None if scheduler is None else type(scheduler).__name__,
        device=str(resolved.torch_device),
        on_gpu=accelerator_of(resolved.torch_device).counts_syncs,
        steps=steps,
        step_s=step_s,
        random_weights=source.startswith("random:"),
        counts_gpu_cost=torch.version.cuda is not None,
    )


def _step_s(call: Callable[[], object], steps: int) -> float:
    """Of a second call, which loads nothing any more."""
    call()
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) / steps


def pipelines_in(folder: Path) -> list[Path]:
    """Folders with a pipeline of diffusers, at most three levels down, relative to ``folder``."""
    found = []
    for place, names, files in os.walk(folder):
        deep = len(Path(place).relative_to(folder).parts)
        names[:] = sorted(n for n in names if not n.startswith(".")) if deep < _DEEPEST else []
        if "model_index.json" in files:
            found.append(Path(place).relative_to(folder))
            names.clear()
    return found
