"""Finds the kinds of devices, and picks the one that a session measures on: never quietly another.

Importing this imports no torch.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..common.errors import UsageError
from . import catalog
from .accelerator import Accelerator, Allocator, Disturbance
from .clock import StampClock
from .device import Device
from .features import Feature

if TYPE_CHECKING:
    import torch


@functools.cache
def accelerators() -> Mapping[str, Accelerator]:
    """All kinds by name; the CPU comes last, since ``auto`` takes the first that is there."""
    found: list[Accelerator] = []
    for module_info in pkgutil.iter_modules(catalog.__path__):
        module = importlib.import_module(f"{catalog.__name__}.{module_info.name}")
        found.append(module.ACCELERATOR)
    found.sort(key=lambda accelerator: not accelerator.is_numbered)
    return MappingProxyType({accelerator.kind: accelerator for accelerator in found})


def accelerator_of(device: Device | torch.device) -> Accelerator:
    """The kind of a device, ours or torch's; one that we know nothing of is treated as the CPU."""
    kind = device.kind if isinstance(device, Device) else device.type
    return accelerators().get(kind, accelerators()["cpu"])


def clock_for(device: Device) -> StampClock:
    return accelerator_of(device).clock(device)


def allocator_of(device: Device) -> Allocator | None:
    """The counters of ``device``; ``None`` where nobody counts."""
    return accelerator_of(device).allocator(device)


def disturbances_of(device: Device) -> tuple[Disturbance, ...]:
    """What is asked before each round that is timed on ``device``."""
    return accelerator_of(device).disturbances(device)


def missing_feature(device: Device | torch.device, feature: Feature) -> str | None:
    """Why ``device`` cannot do what ``feature`` names, or ``None``."""
    asked = device.torch_device if isinstance(device, Device) else device
    return accelerator_of(device).lacks(feature, asked)


def device_words() -> list[str]:
    """What ``--diffspeed-device`` takes."""
    choices = ["auto"]
    for kind, accelerator in reversed(list(accelerators().items())):
        choices += [kind, f"{kind}:N"] if accelerator.is_numbered else [kind]
    return choices


def counting_kinds() -> dict[str, Accelerator]:
    """The kinds whose host syncs can be counted; the one that is taken of itself comes first."""
    return {kind: one for kind, one in accelerators().items() if one.counts_syncs}


def counting_words() -> list[str]:
    """What means a device whose host syncs can be counted."""
    return [word for kind in counting_kinds() for word in (kind, f"{kind}:N")]


def check_device_word(text: str) -> str:
    """Refuse a device that this version does not know, without importing torch."""
    kind, colon, number = text.partition(":")
    known = accelerators().get(kind)
    is_number = known is not None and known.is_numbered and re.fullmatch(r"\d+", number)
    if text == "auto" or (known is not None and (not colon or is_number)):
        return text
    choices = device_words()
    valid = f"{', '.join(choices[:-1])} or {choices[-1]}"
    raise UsageError(f"{text!r} is no device that this version measures on; valid: {valid}")


def resolve_device(text: str) -> Device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` and their like into a device that is there.

    Raises:
        UsageError: the word is not valid, or the device is not there.  Asking for a GPU and getting
            the CPU would make every figure of the session a wrong one.
    """
    check_device_word(text)
    kind, _, number = text.partition(":")
    if text == "auto":
        kind = next(kind for kind, one in accelerators().items() if one.is_available())
    return accelerators()[kind].device(text, int(number) if number else None)


def device_of_worker(text: str, worker: str | None, counts: Mapping[str, int]) -> str:
    """The device that a worker of pytest-xdist takes: one GPU each, in turn.

    ``worker`` is its name, as ``gw3``, and ``None`` where there are no workers; ``counts`` says how
    many devices of each numbered kind this process sees.  One that was asked for by its number
    stays.
    """
    number = re.fullmatch(r"gw([0-9]+)", worker or "")
    kind = next((k for k in counts if counts[k]), "") if text == "auto" else text
    if number is None or counts.get(kind, 0) < 2:
        return text
    return f"{kind}:{int(number[1]) % counts[kind]}"


def numbered_devices() -> dict[str, int]:
    """How many devices of each numbered kind torch sees; the kind that ``auto`` takes first."""
    return {kind: one.count() for kind, one in accelerators().items() if one.is_numbered}
