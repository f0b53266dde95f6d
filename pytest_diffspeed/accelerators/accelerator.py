"""What differs between kinds of devices.  :mod:`.catalog` has one file per kind.

Adding a kind adds a file with an ``ACCELERATOR`` there and edits none.  None imports torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .clock import StampClock
from .device import Device
from .features import Feature

if TYPE_CHECKING:
    import torch

    from ..simgpu import SyncLog

Disturbance = Callable[[], "str | None"]
"""Asked before each round: why what follows does not count, or ``None``."""


class Allocator(Protocol):
    """The counters of a device's allocator."""

    def reset_peak(self) -> None: ...
    def allocated(self) -> int: ...
    def peak_allocated(self) -> int: ...
    def peak_reserved(self) -> int: ...


class SyncCounter(Protocol):
    """A device on which syncs can be recorded."""

    device: torch.device
    evidence: str
    blind_spots: Sequence[str]
    simulated: bool

    def record(
        self, tag: Callable[[], object], *, compiled: bool = False
    ) -> AbstractContextManager[SyncLog]: ...

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the device; on the simulated one without a copy."""
        ...


class Accelerator(ABC):
    """One kind of device.  What a kind cannot do, it does not override."""

    kind: ClassVar[str]
    """torch's word for the type of device; what users write as well."""
    is_numbered: ClassVar[bool] = True
    """Whether there may be several, ``kind:0`` and so on; the one without numbers is the CPU."""
    counts_syncs: ClassVar[bool] = False
    """Whether the host can wait for it, and :meth:`sync_counter` sees where."""
    has_graphs: ClassVar[bool] = False
    """Whether torch captures calls in CUDA graphs on it."""
    features: ClassVar[frozenset[str]] = frozenset()
    """Names of the :class:`~.features.Feature` that every device of this kind has."""

    @abstractmethod
    def is_available(self) -> bool:
        """Whether this torch sees such a device here."""

    @abstractmethod
    def device(self, asked: str, index: int | None) -> Device:
        """The device with that number, or the current one.

        Raises:
            UsageError: it is not there; ``asked`` is what the user wrote.
        """

    @abstractmethod
    def clock(self, device: Device) -> StampClock: ...

    def lacks(self, feature: Feature, device: torch.device) -> str | None:
        """Why ``device`` cannot do it, or ``None``."""
        return None if feature.name in self.features else feature.missing

    def count(self) -> int:
        """How many of these devices torch sees."""
        return int(self.is_available())

    def allocator(self, device: Device) -> Allocator | None:
        """The counters of its memory; ``None`` where nobody counts."""
        return None

    def disturbances(self, device: Device) -> tuple[Disturbance, ...]:
        """What is asked before each round that is timed on ``device``."""
        return ()

    def release_memory(self) -> None:  # noqa: B027  nothing to give back is an answer
        """Give back what the allocator keeps of tensors that are gone."""

    def sync_counter(self, device: torch.device) -> SyncCounter | None:
        """What counts its host syncs, where :attr:`counts_syncs`."""
        return None

    def compiled_for(self, device: Device) -> dict[str, str]:
        """What code that was compiled for it depends on beside the processor, by name."""
        return {}

    @contextmanager
    def seeded(self, seed: int, device: torch.device) -> Iterator[None]:
        """Process-wide generators start from ``seed`` inside and are as they were afterwards."""
        import torch

        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: that one also seeds every GPU of the process, for good.
            torch.default_generator.manual_seed(seed)
            yield

    def generator_states(self) -> Any:
        """Those of its process-wide generators; ``None`` where it has none beside the CPU's."""
        return None

    def restore_generators(self, states: Any) -> None:  # noqa: B027  there may be none
        """Put back what :meth:`generator_states` gave."""
