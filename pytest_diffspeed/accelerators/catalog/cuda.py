"""GPUs that torch calls ``cuda``.  Builds for ROCm call AMD's so too: nothing ran on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ...common.errors import UsageError
from ..accelerator import Accelerator, Allocator, Disturbance, SyncCounter
from ..clock import StampClock
from ..device import Device
from ..disturbances import Throttling
from ..features import Feature

if TYPE_CHECKING:
    import torch

    from ...simgpu import SyncLog

T = TypeVar("T")


class CudaClock:
    """Device events around the call and between its stages, synchronized outside the timed region.

    docs/hardware.md says what hardware has shown of it.
    """

    def __init__(self, device: Device) -> None:
        self._device = device.torch_device

    def time(self, call: Callable[[], T]) -> tuple[float, T]:
        self.prepare()
        started = self.stamp()
        result = call()
        ended = self.stamp()
        return self.seconds([started, ended])[1], result

    def prepare(self) -> None:
        import torch

        torch.cuda.synchronize(self._device)

    def stamp(self) -> Any:
        """An event on the stream on which the call launches its work at this moment."""
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, stamps: Sequence[Any]) -> list[float]:
        for stamp in stamps:
            stamp.synchronize()
        first = stamps[0]
        return [0.0, *(first.elapsed_time(stamp) / 1000.0 for stamp in stamps[1:])]


class CudaAllocator:
    """torch's caching allocator on one CUDA device."""

    def __init__(self, device: Device) -> None:
        self._device = device.torch_device

    def reset_peak(self) -> None:
        import torch

        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()  # else the peak of what is reserved is an earlier call's
        torch.cuda.reset_peak_memory_stats(self._device)

    def allocated(self) -> int:
        import torch

        return int(torch.cuda.memory_allocated(self._device))

    def peak_allocated(self) -> int:
        import torch

        torch.cuda.synchronize(self._device)
        return int(torch.cuda.max_memory_allocated(self._device))

    def peak_reserved(self) -> int:
        import torch

        return int(torch.cuda.max_memory_reserved(self._device))


class CudaSyncs:
    """Counts on a real GPU; what it cannot see is in ``blind_spots``."""

    simulated = False

    def __init__(self, device: torch.device) -> None:
        import torch

        from ..cuda_syncs import BLIND_SPOTS

        self.device = device
        self.blind_spots: Sequence[str] = BLIND_SPOTS
        self.evidence = f"CUDA, {torch.cuda.get_device_name(device)}, torch {torch.__version__}"

    def record(
        self, tag: Callable[[], object], *, compiled: bool = False
    ) -> AbstractContextManager[SyncLog]:
        from ..cuda_syncs import record_cuda

        return record_cuda(tag, watch_ops=not compiled)

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device)


class Cuda(Accelerator):
    kind: ClassVar[str] = "cuda"
    counts_syncs: ClassVar[bool] = True
    has_graphs: ClassVar[bool] = True

    def is_available(self) -> bool:
        import torch

        return torch.cuda.is_available()

    def device(self, asked: str, index: int | None) -> Device:
        import torch

        if not torch.cuda.is_available():
            built = "has no CUDA support" if torch.version.cuda is None else "finds no CUDA device"
            raise UsageError(
                f"{asked!r} was asked for, but torch {torch.__version__} {built} here; "
                "use --diffspeed-device=cpu, or run on a machine with a GPU"
            )
        number = torch.cuda.current_device() if index is None else index
        if number >= torch.cuda.device_count():
            raise UsageError(
                f"{asked!r} was asked for, but there are {torch.cuda.device_count()} CUDA devices "
                f"(cuda:0 to cuda:{torch.cuda.device_count() - 1})"
            )
        from ...adapters.nvml import driver_version

        properties = torch.cuda.get_device_properties(number)
        identity = str(getattr(properties, "uuid", number))
        return Device("cuda", number, properties.name, f"cuda-{identity}", driver_version())

    def clock(self, device: Device) -> StampClock:
        return CudaClock(device)

    def lacks(self, feature: Feature, device: torch.device) -> str | None:
        """By the compute capability, as NVIDIA's tables have it."""
        import torch

        least = feature.compute_capability
        if least is None:
            return feature.missing
        found = torch.cuda.get_device_capability(device)
        if found >= least:
            return None
        return (
            f"it needs compute capability {least[0]}.{least[1]}, and this GPU has "
            f"{found[0]}.{found[1]}"
        )

    def count(self) -> int:
        import torch

        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    def allocator(self, device: Device) -> Allocator:
        return CudaAllocator(device)

    def disturbances(self, device: Device) -> tuple[Disturbance, ...]:
        from ...adapters.nvml import throttle_reasons

        return (Throttling(lambda: throttle_reasons(device.key, device.index)),)

    def release_memory(self) -> None:
        import torch

        torch.cuda.empty_cache()

    def sync_counter(self, device: torch.device) -> SyncCounter:
        return CudaSyncs(device)

    def compiled_for(self, device: Device) -> dict[str, str]:
        import torch

        major, minor = torch.cuda.get_device_capability(device.torch_device)
        return {"GPU": f"{device.name}, compute capability {major}.{minor}"}

    @contextmanager
    def seeded(self, seed: int, device: torch.device) -> Iterator[None]:
        import torch

        with torch.random.fork_rng(devices=[device]):
            torch.default_generator.manual_seed(seed)
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
            yield

    def generator_states(self) -> Any:
        import torch

        if torch.cuda.is_available() and torch.cuda.is_initialized():
            return torch.cuda.get_rng_state_all()
        return None

    def restore_generators(self, states: Any) -> None:
        import torch

        torch.cuda.set_rng_state_all(states)


ACCELERATOR = Cuda()
