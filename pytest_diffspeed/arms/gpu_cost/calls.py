"""Calls of one component, and what they ask of a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...gpucost import Cost, KernelResources


@dataclass(frozen=True)
class CountedCalls:
    """Calls of one component that ask the same of a GPU.

    ``component`` is the pipeline's own name with the way in (``unet``, ``vae.decode``), ``role``
    what :class:`~pytest_diffspeed.pipelines.observed.Role` says.  ``steps`` has the number of the
    denoising step of each call, from 0; of calls outside of the steps it is empty, and ``calls``
    says how many they are.  ``how``: ``eager`` or ``compiled``.  ``depth``: how repeated blocks
    were counted where not all of them were, in words.  ``resources``: of its Triton kernels, those
    that are alike once, where they were asked for.
    """

    component: str
    role: str
    how: str
    calls: int
    steps: tuple[int, ...]
    cost: Cost
    depth: str = ""
    resources: tuple[KernelResources, ...] = ()
