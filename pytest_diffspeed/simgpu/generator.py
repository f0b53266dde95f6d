"""Random numbers of the device: a ``torch.Generator`` that says so, over one of the CPU.

The stream is the CPU's, so that a pipeline draws the same numbers on the device as on the CPU.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from . import torch_private as private

_REAL = torch.Generator


class DeviceGenerators:
    """The generators of one device.  Torch hands a generator to dispatch as a new Python object,
    so they are known by the address of what is behind them.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._known: set[int] = set()

    def check(self, generator: torch.Generator, *, on_device: bool) -> None:
        """Refuse a generator that is not of the device that draws.

        Raises:
            RuntimeError: with torch's words.
        """
        of_device = private.generator_key(generator) in self._known
        if of_device != on_device:
            expected, found = ("cpu", self.device.type)
            if on_device:
                expected, found = found, expected
            raise RuntimeError(
                f"Expected a '{expected}' device type for generator but found '{found}'"
            )

    def factory(self) -> type[torch.Generator]:
        """What stands in for ``torch.Generator``: any device, and ``isinstance`` as before."""
        device, known = self.device, self._known

        class Meta(type(_REAL)):  # type: ignore[misc]
            def __instancecheck__(cls, instance: object) -> bool:
                return isinstance(instance, _REAL)

            def __subclasscheck__(cls, subclass: type) -> bool:
                return issubclass(subclass, _REAL)

        class Generator(_REAL, metaclass=Meta):
            def __new__(cls, device_: Any = None, *, device: Any = None) -> Any:
                asked = torch.device(device_ or device or "cpu")
                if asked.type != own.type:
                    return _REAL(asked)
                generator = DeviceGenerator()
                generator.claimed = own
                known.add(private.generator_key(generator))
                # The address may belong to somebody else's generator afterwards.
                weakref.finalize(
                    generator, known.discard, private.generator_key(generator)
                ).atexit = False
                return generator

        own = device
        Generator.__name__ = Generator.__qualname__ = "Generator"
        return Generator


class DeviceGenerator(_REAL):
    """A CPU generator that says it is on the device."""

    claimed: torch.device

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.claimed
