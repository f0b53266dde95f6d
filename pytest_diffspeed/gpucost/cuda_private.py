"""How torch is made to believe in a GPU: what is replaced for good in this process.

Seen in torch 2.11 and 2.14; ``torch_private.require`` looks for each name first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo.device_interface as device_interface
from torch._subclasses import fake_tensor

from . import sites
from .gpus import Gpu
from .torch_private import FakeTensor, FakeTensorMode, frames


class Properties:
    """What ``torch.cuda.get_device_properties`` answers.

    Registers, warp size and block limits are those of all GPUs of capability 8.0 to 9.0 (CUDA C++
    Programming Guide).  Clocks and the bus are 0: no code is written after them.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.name = gpu.name
        self.major, self.minor = gpu.capability
        self.total_memory = gpu.memory_bytes
        self.multi_processor_count = gpu.multiprocessors
        self.regs_per_multiprocessor = 65536
        self.max_threads_per_multi_processor = gpu.threads_per_multiprocessor
        self.max_threads_per_block = 1024
        self.warp_size = 32
        self.shared_memory_per_block = 48 << 10
        self.shared_memory_per_block_optin = gpu.shared_per_block
        self.shared_memory_per_multiprocessor = gpu.shared_per_multiprocessor
        self.L2_cache_size = gpu.l2_bytes
        self.gcnArchName = ""  # AMD's; Inductor reads it of every device
        self.clock_rate = self.memory_clock_rate = self.memory_bus_width = 0
        self.is_integrated = self.is_multi_gpu_board = self.pci_bus_id = 0
        self.uuid = "fake"


class _Stream:
    """Stands where a stream is asked for."""

    cuda_stream = stream_id = device_index = 0
    device = torch.device("cuda", 0)

    def wait_stream(self, other: object) -> None: ...

    def synchronize(self) -> None: ...


def installed() -> Any:
    """The fake GPU that :func:`install` put into this process, or ``None``."""
    return getattr(torch.cuda.is_available, "fake_gpu", None)


def install(gpu: Gpu, owner: object, elsewhere: list[str]) -> None:
    """This process believes that it has ``gpu``; :func:`installed` answers ``owner``.

    ``elsewhere`` gets the line of what is computed in another thread than this one.
    """
    torch._C._ensureCUDADeviceGuardSet()
    # Fake tensors take care not to touch the driver only where `is_available()` is false.
    FakeTensorMode.avoid_device_init = property(lambda self: True)  # type: ignore[method-assign, assignment]
    if hasattr(fake_tensor, "init_gpu_context"):  # torch 2.11: makes a real tensor
        without: Any = fake_tensor
        without.init_gpu_context = lambda device: None
    properties = Properties(gpu)
    _replace_in_cuda(gpu, properties, owner)
    _replace_in_dynamo(gpu, properties)
    _convert_fake_modules()
    _choose_convolutions()
    _note_other_threads(elsewhere)


def _note_other_threads(elsewhere: list[str]) -> None:
    """What counts is a mode of one thread: what another one computes would be in no figure."""
    here = threading.get_ident()
    real = FakeTensor.__dict__["__torch_dispatch__"].__func__

    def dispatch(cls: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if threading.get_ident() != here and func is not torch.ops.prim.device.default:
            # Nothing is raised here: in a thread of the autograd engine that would end the process.
            elsewhere.append(sites.innermost(frames()))
        return real(cls, func, types, args, kwargs or {})

    FakeTensor.__torch_dispatch__ = classmethod(dispatch)  # type: ignore[assignment, method-assign]


def _replace_in_cuda(gpu: Gpu, properties: Properties, owner: object) -> None:
    major, minor = gpu.capability
    random_state = torch.zeros(16, dtype=torch.uint8)

    def is_available() -> bool:
        return True

    is_available.fake_gpu = owner  # type: ignore[attr-defined]
    replaced: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "_exchange_device": lambda index: 0,
        "_maybe_exchange_device": lambda index: 0,
        "is_available": is_available,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: gpu.capability,
        "get_device_name": lambda device=None: gpu.name,
        "get_arch_list": lambda: [f"sm_{major}{minor}"],
        "is_bf16_supported": lambda including_emulation=True: True,
        "synchronize": lambda device=None: None,
        "get_rng_state": lambda device="cuda": random_state,
        "set_rng_state": lambda state, device="cuda": None,
        "empty_cache": lambda: None,
        "is_current_stream_capturing": lambda: False,
        "current_stream": lambda device=None: _Stream(),
        "default_stream": lambda device=None: _Stream(),
    }
    for name, value in replaced.items():
        setattr(torch.cuda, name, value)


def _replace_in_dynamo(gpu: Gpu, properties: Properties) -> None:
    """Dynamo and Inductor ask through an interface, which holds functions of its own."""
    major, minor = gpu.capability
    interface: Any = device_interface.CudaInterface
    # Registered one by one, as many as there were when dynamo was first asked.
    device_interface.register_interface_for_device("cuda:0", interface)
    for owner in (interface, interface.Worker):
        owner.get_device_properties = staticmethod(lambda device=None: properties)
        owner.current_device = staticmethod(lambda: 0)
    interface.is_available = staticmethod(lambda: True)
    interface.device_count = staticmethod(lambda: 1)
    interface.get_compute_capability = staticmethod(lambda device=None: 10 * major + minor)
    interface.is_bf16_supported = staticmethod(lambda including_emulation=False: True)
    interface.synchronize = staticmethod(lambda device=None: None)
    interface.is_triton_capable = staticmethod(lambda device=None: True)
    interface.raise_if_triton_unavailable = staticmethod(lambda device=None: None)


def _choose_convolutions() -> None:
    """Fake convolutions in bfloat16 go to cuDNN, as those in float16 do.

    Whether cuDNN takes bfloat16 is asked of the real driver (``native/Convolution.cpp``,
    ``use_cudnn``): without one the answer is a slow kernel, whose output is never channels last.
    All GPUs since capability 8.0 take it.
    """
    real = torch._C._select_conv_backend

    def select(*args: Any, **kwargs: Any) -> Any:
        def half(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or value.dtype != torch.bfloat16:
                return value
            return torch.empty_strided(
                value.shape, value.stride(), dtype=torch.float16, device=value.device
            )

        kwargs = {name: half(value) for name, value in kwargs.items()}
        return real(*map(half, args), **kwargs)

    torch._C._select_conv_backend = select


def _convert_fake_modules() -> None:
    """``module.to(…)`` gives a module of fake tensors new parameters.

    Torch exchanges the content of fake ones in place, and refuses to where anything holds a weak
    reference to them, as fake tensors' own machinery does.
    """
    real = torch.nn.Module._apply

    def apply(self: Any, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        own = [t for t in (*self._parameters.values(), *self._buffers.values()) if t is not None]
        if not any(isinstance(tensor, FakeTensor) for tensor in own):
            return real(self, fn, recurse)  # type: ignore[no-untyped-call]
        if recurse:
            for child in self.children():
                child._apply(fn)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                if parameter is None:
                    continue
                made = fn(parameter)
                if made is not parameter:
                    made = torch.nn.Parameter(made, requires_grad=parameter.requires_grad)
                    self._parameters[name] = made
            for name, buffer in self._buffers.items():
                self._buffers[name] = None if buffer is None else fn(buffer)
        return self

    torch.nn.Module._apply = apply  # type: ignore[method-assign]
