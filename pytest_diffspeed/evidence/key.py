"""The evidence key: what must be the same for an earlier verdict to be one about this."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

DISTRIBUTIONS = ("torch", "diffusers", "transformers", "torchao", "pytest-diffspeed")


COMPONENT_CALLS = "component calls"
"""The part ``pair`` of keys of timings whose pairs are calls of a component alone.  Keys of whole
calls have no such part."""


@dataclass(frozen=True)
class EvidenceKey:
    """``parts`` is plain data, and is written down with the evidence, so that a key explains
    itself.
    """

    parts: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """A name for the key: 32 hexadecimal digits, other ones if any part differs."""
        plain = json.dumps(self.parts, sort_keys=True, ensure_ascii=True)
        return sha256(plain.encode("ascii")).hexdigest()[:32]


def environment(device: str, threads: int, driver: str | None = None) -> dict[str, Any]:
    """What a measurement rests on beside the tree; ``device`` is the name its maker gave it, and
    ``driver`` the version of its driver where it has one that can be told.
    """
    versions = {name: installed_version(name) for name in DISTRIBUTIONS}
    known = {} if driver is None else {"driver": driver}
    python = platform.python_version()
    return {"device": device, **known, "threads": threads, "python": python, **versions}


def installed_version(name: str) -> str | None:
    """Of a distribution; ``None`` where it is absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
