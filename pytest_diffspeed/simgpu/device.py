"""The context in which a simulated GPU exists."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from . import torch_private as private
from .cuda_stubs import BACKEND, cuda_attributes
from .events import SyncLog
from .executor import Executor
from .memory import MemoryReport
from .patches import replaced
from .tensor import ASSIGNABLE_DATA, DeviceTensor
from .torch_private import SimulatorError

NAME = "simgpu"
"""What the device is called where torch was built without CUDA."""
KINDS = ("cuda", NAME)


class _Mode(private.TorchDispatchMode):
    """Sends every op of this thread to the device, those that make tensors out of nothing too."""

    def __init__(self, executor: Executor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.executor = executor

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if torch.is_inference_mode_enabled():
            # Then torch asks for `to` and `item` as they were written, not for the copy and the
            # read that they are made of; only of these the device knows that the CPU waits.
            with self:
                done = func.decompose(*args, **(kwargs or {}))
            if done is not NotImplemented:
                return done
        return self.executor.run(func, args, kwargs or {})


class _Process:
    """What this process has changed in torch, and for whom.

    Torch has one ``torch.cuda``, one ``torch.Generator`` and one spare device type a process, so
    this is one object a process: it is the state of torch, not of a device.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.executor: Executor | None = None
        self.users = 0
        self.changes = ExitStack()
        self.backend: types.ModuleType | None = None

    def join(self, kind: str) -> Executor:
        with self.lock:
            if self.executor is None:
                self.executor = self._open(kind)
            elif self.executor.device.type != kind:
                raise SimulatorError(
                    f"a simulated GPU called {self.executor.device} is open in this process, so "
                    f"one called {kind!r} cannot be; leave its context first"
                )
            self.users += 1
            return self.executor

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.executor = None
                self.changes.close()

    def _open(self, kind: str) -> Executor:
        private.require()
        if kind == "cuda":
            private.allow_cuda_devices_without_a_gpu()
        else:
            self._claim_spare_device()
        executor = Executor(torch.device(kind, 0))
        with ExitStack() as stack:
            attributes = cuda_attributes(executor)
            for module in (torch.cuda.memory, torch.cuda.random, torch.cuda):
                # `torch.cuda` hands on what its parts define, and code imports both.
                same = [name for name in attributes if _is_of(module, name)]
                replaced(stack, module, [(name, attributes[name]) for name in same])
            replaced(
                stack, torch.cuda.amp.common, [("amp_definitely_not_available", lambda: False)]
            )
            set_autocast = executor.autocast.setter(torch.set_autocast_enabled)
            replaced(
                stack,
                torch,
                [
                    ("Generator", executor.generators.factory()),
                    ("set_autocast_enabled", set_autocast),
                ],
            )
            replaced(stack, torch.Tensor, [("data", ASSIGNABLE_DATA)])
            replaced(stack, torch.nn.functional, [("scaled_dot_product_attention", _attention)])
            if self.backend is not None and kind == NAME:
                replaced(stack, self.backend, [(name, attributes[name]) for name in BACKEND])
                stack.enter_context(private.autocast_reaches_dispatch())
            accelerator = ("synchronize", "empty_cache")
            replaced(stack, torch.accelerator, [(name, attributes[name]) for name in accelerator])
            swap = torch.__future__.get_swap_module_params_on_conversion()
            stack.callback(torch.__future__.set_swap_module_params_on_conversion, swap)
            # Keeps parameters the objects that they are, so that tied weights stay tied.
            torch.__future__.set_swap_module_params_on_conversion(True)
            self.changes = stack.pop_all()
        return executor

    def _claim_spare_device(self) -> None:
        name = private.privateuse1_name()
        if name is None:
            self.backend = _backend_module(self)
            private.name_privateuse1(NAME, self.backend, lambda: self.executor is not None)
        elif name != NAME or self.backend is None:
            raise SimulatorError(
                f"torch's spare device type is called {name!r} in this process already, and it can "
                "be named once; run what uses it in a process of its own"
            )


def _is_of(module: types.ModuleType, name: str) -> bool:
    own = vars(module).get(name)
    return module is torch.cuda or (own is not None and own is vars(torch.cuda).get(name))


def _backend_module(process: _Process) -> types.ModuleType:
    """``torch.simgpu``: unavailable whenever no simulated GPU is open."""

    def is_open() -> bool:
        return process.executor is not None

    module = types.ModuleType(f"torch.{NAME}", "The simulated GPU of pytest-diffspeed.")
    values: dict[str, Any] = {
        "is_available": is_open,
        "is_initialized": is_open,
        "device_count": lambda: int(is_open()),
        "current_device": lambda: 0,
        "_is_in_bad_fork": lambda: False,
        "manual_seed_all": lambda seed: None,
        "manual_seed": lambda seed: None,
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16],
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
    }
    for key, value in values.items():
        setattr(module, key, value)
    return module


_PROCESS = _Process()
_REAL_ATTENTION = torch.nn.functional.scaled_dot_product_attention


def _attention(query: Any, *args: Any, **kwargs: Any) -> Any:
    """One call on the contents, instead of its parts one by one.

    Not where gradients are wanted, which need the parts; and not where a CPU tensor is among the
    arguments, which the parts refuse.
    """
    given = [query, *args, *kwargs.values()]
    tensors = [value for value in given if isinstance(value, torch.Tensor)]
    if torch.is_grad_enabled() or not all(isinstance(t, DeviceTensor) for t in tensors):
        return _REAL_ATTENTION(query, *args, **kwargs)
    if torch.is_autocast_enabled(query.device.type) or query.gpu.autocast.on or _only_math():
        return _REAL_ATTENTION(query, *args, **kwargs)

    def content(value: Any) -> Any:
        return value.content if isinstance(value, DeviceTensor) else value

    gpu = query.gpu
    result = _REAL_ATTENTION(
        query.content,
        *(content(arg) for arg in args),
        **{name: content(value) for name, value in kwargs.items()},
    )
    return gpu.wrap(result, "scaled_dot_product_attention")


def _only_math() -> bool:
    """Whether the fused kernels are off: then a GPU too holds all weights of the attention."""
    cuda = torch.backends.cuda
    return not (
        cuda.flash_sdp_enabled() or cuda.mem_efficient_sdp_enabled() or cuda.cudnn_sdp_enabled()
    )


class SimulatedGpu:
    """A GPU that is none: real pipelines run on it, on the CPU, and their host syncs are found.

    ::

        with SimulatedGpu() as gpu:
            pipe.to(gpu.device)
            with gpu.record() as log:
                pipe("a fox", num_inference_steps=4)
        for sync in log.syncs:
            print(sync.kind, sync.op, sync.site)

    ``device`` is ``cuda:0`` on a CUDA build of torch that finds no GPU, and ``simgpu:0`` elsewhere;
    ``kind`` (``"cuda"`` or ``"simgpu"``) chooses one.  Inside the context tensors can be made on
    and moved to it, ``torch.Generator`` knows it, and ``torch.cuda`` has stand-ins for events,
    streams, memory statistics and sync debug mode.  Leaving puts all of that back, but for two
    things that torch cannot undo in a process: the name ``simgpu``, and a device guard for CUDA
    that does nothing.

    Contexts may be nested, one after the other, and open in several threads: while any is open
    they are all the same device.  A thread must open one itself before it makes tensors on the
    device; tensors of another thread work anywhere.  A recording sees the thread that opened it,
    and those that did not open the device themselves.

    Raises:
        SimulatorError: this torch lacks what it needs, a real GPU is in the way of the name
            ``cuda``, or another library has named torch's spare device type.
    """

    def __init__(self, kind: str | None = None) -> None:
        if kind is None:
            fits = torch.backends.cuda.is_built() and not torch.cuda.is_available()
            # An open one decides: contexts that are open together are the same device.
            open_one = _PROCESS.executor
            kind = open_one.device.type if open_one else ("cuda" if fits else NAME)
        if kind not in KINDS:
            raise SimulatorError(f"a simulated GPU is called 'cuda' or {NAME!r}, not {kind!r}")
        if kind == "cuda" and not torch.backends.cuda.is_built():
            raise SimulatorError(
                f"torch {torch.__version__} is built without CUDA, so no tensor can claim 'cuda'; "
                f"use {NAME!r}, which behaves alike"
            )
        if kind == "cuda" and torch.cuda.is_available():
            raise SimulatorError(
                f"there is a real GPU here, and 'cuda' means that one; use {NAME!r}"
            )
        self.kind = kind
        self._stacks: list[tuple[ExitStack, Executor]] = []
        self._last: Executor | None = None

    def __enter__(self) -> SimulatedGpu:
        with ExitStack() as stack:
            executor = _PROCESS.join(self.kind)
            stack.callback(_PROCESS.leave)
            stack.enter_context(executor.recordings.opened())
            active = private.active_modes()
            if not any(isinstance(mode, _Mode) for mode in active):
                stack.enter_context(private.data_is_lifted_on_the_cpu())
                stack.enter_context(_Mode(executor))
            self._stacks.append((stack.pop_all(), executor))
            self._last = executor
        return self

    def __exit__(self, *exception: Any) -> None:
        stack, _ = self._stacks.pop()
        stack.__exit__(*exception)

    @property
    def device(self) -> torch.device:
        """``cuda:0`` or ``simgpu:0``."""
        return self._executor.device

    @property
    def _executor(self) -> Executor:
        if self._last is None:
            raise SimulatorError("a simulated GPU exists inside `with SimulatedGpu() as gpu:` only")
        return self._last

    @contextmanager
    def record(self, tag: Callable[[], object] | None = None) -> Iterator[SyncLog]:
        """Every sync meanwhile, of this thread and of those that it starts; ``tag()`` is asked at
        each and kept with it.
        """
        with self._executor.recordings.into(SyncLog(tag)) as log:
            yield log

    @property
    def memory(self) -> MemoryReport:
        """Bytes that tensors of the device hold, now and at the peak (counted)."""
        return self._executor.memory.report()

    def reset_peak_memory(self) -> None:
        self._executor.memory.reset_peak()

    def wrap(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the device that shares the memory of a CPU tensor; no sync, no copy."""
        return self._executor.wrap(tensor.detach())
