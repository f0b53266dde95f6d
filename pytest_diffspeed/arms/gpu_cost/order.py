"""What a worker is told to count: plain data, known to both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

GpuName = Literal["a100", "h100", "l40s", "rtx4090"]
"""Those of :mod:`pytest_diffspeed.gpucost.gpus`, which a session without tests must not import."""

Tell = Callable[[str], object]
"""Gets a line of what is going on, where that takes long."""


def silent(text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class CountOrder:
    """Source, stack and GPU as a user writes them.

    ``gpu`` is a name or a ``….json``; ``steps`` and ``prompts`` replace those of the source;
    ``reduced`` lets long runs of equal blocks be counted by a few of them where the stack
    compiles.  ``resources``: also registers and memory of each Triton kernel.  ``not_from``,
    ``own_environment`` and ``tree`` are those of :class:`~..worker.protocol.BuildOrder`.
    """

    source: str
    stack: str
    gpu: str
    steps: int | None = None
    prompts: tuple[str, ...] = ()
    reduced: bool = True
    threads: int = 1
    resources: bool = False
    not_from: str | None = None
    own_environment: bool = False
    tree: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CountOrder:
        return cls(**{**plain, "prompts": tuple(plain["prompts"])})
