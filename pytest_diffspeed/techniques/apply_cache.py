"""Put on a cache of features and prove it, in whole calls and after the rest of its stack.

What is left out of a call must not be taken for what another technique did (fewer matrix products
by fused projections), so the others are proven without it.  And two steps say nothing of a cache
that starts to reuse in the fourth: its proof compares whole calls, one without it and one with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..common.errors import DiffspeedError
from ..common.text import first_line
from .observation import Observation
from .observe import observe

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from .technique import Proof, Technique


def apply_cache(
    technique: Technique, pipeline: DiffusionPipeline, call: Callable[[], object]
) -> Proof:
    """Apply ``technique``, of the family ``CACHE``, to a pipeline with the rest of its stack.

    Raises:
        IncompatibleError: it cannot be put on, or a call that went well without it raises with it.
        NotEffectiveError: nothing was skipped in ``call()``, a whole call.
    """
    before = _whole(pipeline, call)
    why = technique.incompatible_with_call(pipeline, before)
    if why is not None:
        raise technique.refusal(pipeline, why)
    try:
        technique.apply_seen(pipeline, lambda: _whole(pipeline, call))
        seen = _whole(pipeline, call)
    except (DiffspeedError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        why = technique.explain(error) or (
            f"a call with it raised {type(error).__name__}: {first_line(error)}"
        )
        raise technique.refusal(pipeline, why) from error
    return technique.prove(pipeline, replace(seen, before=before))


def _whole(pipeline: DiffusionPipeline, call: Callable[[], object]) -> Observation:
    seen = observe(pipeline, call, steps=0)
    return replace(seen, steps=sum(seen.scheduler.stepped.values()) if seen.scheduler else 0)
