"""What a worker counts of its arm, by name: plain arguments in, plain data out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..prepared import PreparedArm


def look(arm: PreparedArm, at: str, how: Mapping[str, Any]) -> dict[str, Any]:
    """What is seen of ``arm`` by the look called ``at``.

    Raises:
        UsageError: there is no such look.
    """
    looks: dict[str, Callable[..., dict[str, Any]]] = {"images": _images}
    if at not in looks:
        raise UsageError(f"a worker cannot look at {at!r}; it can at {', '.join(sorted(looks))}")
    return looks[at](arm, **how)


def _images(arm: PreparedArm, *, cases: list[list[Any]], path: str) -> dict[str, Any]:
    """Draw ``cases``, each a prompt and a seed, into the file ``path``: ``N × C × H × W``."""
    import numpy as np
    import torch

    from ..pipelines.call import Case

    drawn = []
    for prompt, seed in cases:
        with arm.running():
            image = arm.call.of(Case(prompt, seed)).draw(arm.pipeline).image
        drawn.append(image.to("cpu", torch.float32).numpy())
    np.save(Path(path), np.stack(drawn))
    return {"images": len(drawn)}
