"""What stands in for ``torch.cuda`` while a simulated GPU is open.

The calls that CUDA code around a pipeline makes: events, streams, synchronization, memory
statistics, sync debug mode, device properties.  ``torch.cuda.is_available()`` keeps saying what it
said, so that nobody detects a GPU by accident.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from .events import SyncKind

if TYPE_CHECKING:
    from .executor import Executor

NAME = "Simulated GPU"
TOTAL_BYTES = 80 * 2**30
"""As large as the cards that large pipelines are run on; nothing is refused for its size."""
_MODES = {"default": 0, "warn": 1, "error": 2}
BACKEND = (
    *("synchronize", "empty_cache", "manual_seed", "manual_seed_all", "seed", "seed_all"),
    *("initial_seed", "get_rng_state", "get_rng_state_all", "set_rng_state", "set_rng_state_all"),
)
"""What code asks of ``torch.<device>``, whatever the device is called."""


def cuda_attributes(gpu: Executor) -> dict[str, Any]:
    """By name, what replaces attributes of ``torch.cuda``."""
    stream, event = _stream_type(gpu), _event_type(gpu)
    current = [stream()]  # the default stream, then those whose context is open

    def set_stream(chosen: Any) -> None:
        current[-1] = chosen

    def set_sync_debug_mode(debug_mode: int | str) -> None:
        if isinstance(debug_mode, str):
            if debug_mode not in _MODES:
                raise RuntimeError(
                    "invalid value of debug_mode, expected one of `default`, `warn`, `error`"
                )
            debug_mode = _MODES[debug_mode]
        gpu.sync_debug_mode = debug_mode

    def memory_stats(device: Any = None) -> dict[str, int]:
        report = gpu.memory.report()
        return {
            "allocated_bytes.all.current": report.live_bytes,
            "allocated_bytes.all.peak": report.peak_bytes,
            "reserved_bytes.all.current": report.live_bytes,
            "reserved_bytes.all.peak": report.peak_bytes,
            "num_alloc_retries": 0,
            "num_ooms": 0,
        }

    def mem_get_info(device: Any = None) -> tuple[int, int]:
        return max(0, TOTAL_BYTES - gpu.memory.report().live_bytes), TOTAL_BYTES

    @contextmanager
    def use(chosen: Any = None) -> Iterator[None]:
        current.append(current[-1] if chosen is None else chosen)
        try:
            yield
        finally:
            current.pop()

    return {
        "_lazy_init": lambda: None,
        "is_initialized": lambda: True,
        "Event": event,
        "Stream": stream,
        "StreamContext": use,
        "stream": use,
        "current_stream": lambda device=None: current[-1],
        "default_stream": lambda device=None: current[0],
        "set_stream": set_stream,
        "current_device": lambda: gpu.device.index or 0,
        "set_device": lambda device: None,
        "synchronize": _synchronizer(gpu, "synchronize"),
        "empty_cache": lambda: gpu.sync(SyncKind.EMPTY_CACHE, "torch.cuda.empty_cache"),
        "ipc_collect": lambda: None,
        "memory_allocated": lambda device=None: gpu.memory.report().live_bytes,
        "max_memory_allocated": lambda device=None: gpu.memory.report().peak_bytes,
        "memory_reserved": lambda device=None: gpu.memory.report().live_bytes,
        "max_memory_reserved": lambda device=None: gpu.memory.report().peak_bytes,
        "reset_peak_memory_stats": lambda device=None: gpu.memory.reset_peak(),
        "memory_stats": memory_stats,
        "mem_get_info": mem_get_info,
        "set_sync_debug_mode": set_sync_debug_mode,
        "get_sync_debug_mode": lambda: gpu.sync_debug_mode,
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: SimpleNamespace(
            name=NAME,
            major=9,
            minor=0,
            total_memory=TOTAL_BYTES,
            multi_processor_count=132,
            uuid="simulated",
        ),
        "is_bf16_supported": lambda including_emulation=True: True,
        **_random_numbers(),
    }


def _random_numbers() -> dict[str, Any]:
    """The device draws from the CPU's stream, so the state of that one is the device's.

    Nothing here waits: the state of a CUDA generator is kept on the host.
    """
    generator = torch.default_generator

    def seed(seed: int) -> None:
        generator.manual_seed(int(seed))

    def set_states(new_states: Iterable[torch.Tensor]) -> None:
        for state in new_states:
            generator.set_state(state)

    return {
        "manual_seed": seed,
        "manual_seed_all": seed,
        "seed": lambda: seed(generator.seed()),
        "seed_all": lambda: seed(generator.seed()),
        # No bound method of torch's: dynamo has one rule for each function that it finds here.
        "initial_seed": lambda: generator.initial_seed(),
        "get_rng_state": lambda device=None: generator.get_state(),
        "get_rng_state_all": lambda: [generator.get_state()],
        "set_rng_state": lambda new_state, device=None: generator.set_state(new_state),
        "set_rng_state_all": set_states,
    }


def _synchronizer(gpu: Executor, op: str) -> Callable[..., None]:
    def synchronize(device: Any = None) -> None:
        gpu.sync(SyncKind.SYNCHRONIZE, f"torch.cuda.{op}")

    return synchronize


def _stream_type(gpu: Executor) -> type:
    class Stream:
        """Everything here runs in order, as on one stream."""

        def __init__(self, device: Any = None, priority: int = 0, **kwargs: Any) -> None:
            self.device = gpu.device
            self.cuda_stream = 0

        def synchronize(self) -> None:
            gpu.sync(SyncKind.SYNCHRONIZE, "torch.cuda.Stream.synchronize")

        def wait_stream(self, stream: Any) -> None:
            """The device waits, not the CPU."""

        def wait_event(self, event: Any) -> None:
            """The device waits, not the CPU."""

        def record_event(self, event: Any = None) -> Any:
            event = event if event is not None else _event_type(gpu)()
            event.record(self)
            return event

        def query(self) -> bool:
            return True

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    return Stream


def _event_type(gpu: Executor) -> type:
    class Event:
        """``elapsed_time`` is the CPU's clock: the device's work is done by the CPU."""

        def __init__(
            self,
            enable_timing: bool = False,
            blocking: bool = False,
            interprocess: bool = False,
            external: bool = False,
        ) -> None:
            self.timed = enable_timing
            self.at: float | None = None

        def record(self, stream: Any = None) -> None:
            self.at = time.perf_counter()

        def wait(self, stream: Any = None) -> None:
            """The device waits, not the CPU."""

        def query(self) -> bool:
            return True

        def synchronize(self) -> None:
            gpu.sync(SyncKind.SYNCHRONIZE, "torch.cuda.Event.synchronize")

        def elapsed_time(self, end_event: Any) -> float:
            """Milliseconds."""
            if not (self.timed and end_event.timed):
                raise ValueError("Both events must be created with argument 'enable_timing=True'.")
            if self.at is None or end_event.at is None:
                raise ValueError("Both events must be recorded before calculating elapsed time.")
            return float((end_event.at - self.at) * 1000.0)

    return Event
