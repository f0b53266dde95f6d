"""What the fake GPU uses of torch without its promise to keep it; Inductor's is in its own file.

Seen in torch 2.11 and 2.14, CUDA builds.  :func:`require` looks for each name before anything is
changed, so that a version which moved one of them gives a sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo.device_interface as device_interface
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map

from .errors import GpuCostError
from .gpus import Gpu

TRIED = ((2, 11), (2, 14))
VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
_NEEDED = (
    "_C._ensureCUDADeviceGuardSet",
    "_C._select_conv_backend",
    "_C.DispatchKey.CompositeImplicitAutograd",
    "_dynamo.device_interface.CudaInterface.Worker",
    "_subclasses.fake_tensor.unset_fake_temporarily",
    "_subclasses.fake_tensor.DataDependentOutputException",
    "_subclasses.fake_tensor.DynamicOutputShapeException",
    "_subclasses.fake_tensor.UnsupportedOperatorException",
    "_subclasses.fake_tensor.UnsupportedFakeTensorException",
    "_subclasses.fake_tensor.FakeTensorMode.avoid_device_init",
    "utils._python_dispatch.TorchDispatchMode.ignore_compile_internals",
    "nn.Module._apply",
    "cuda._lazy_init",
    "cuda._exchange_device",
    "cuda._maybe_exchange_device",
    "ops.aten.scaled_dot_product_attention.default.py_kernels",
)
_REPLACED = (
    "is_available",
    "is_initialized",
    "device_count",
    "current_device",
    "get_device_properties",
    "get_device_capability",
    "get_device_name",
    "get_arch_list",
    "is_bf16_supported",
    "synchronize",
    "get_rng_state",
    "set_rng_state",
    "empty_cache",
    "is_current_stream_capturing",
    "current_stream",
    "default_stream",
)
_VALUE_DEPENDENT: tuple[type[Exception], ...] = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
)
_NO_FAKE: tuple[type[Exception], ...] = (
    fake_tensor.UnsupportedOperatorException,
    fake_tensor.UnsupportedFakeTensorException,
)
_NO_FAKE_SAID = "no fake impl registered"
_NO_NUMPY_SAID = ".numpy() is not supported for tensor subclasses"


def is_without_fake(error: Exception) -> bool:
    """Whether an op was called that does not say what it returns."""
    return isinstance(error, _NO_FAKE) or _NO_FAKE_SAID in str(error)


def is_of_values(error: Exception) -> bool:
    """Whether a value was asked for."""
    return isinstance(error, _VALUE_DEPENDENT) or _NO_NUMPY_SAID in str(error)


def require() -> None:
    """Refuse a build of torch that cannot count, and one in which it was never tried.

    Raises:
        GpuCostError: with what this build lacks and which to install.
    """
    here = torch.__version__
    tried = " and ".join(f"{major}.{minor}" for major, minor in TRIED)
    if not torch.backends.cuda.is_built() or torch.version.cuda is None:
        raise GpuCostError(
            f"torch {here} is a build without CUDA, whose tensors cannot claim to be on a GPU: "
            "install a CUDA build to count GPU cost; it needs no GPU and no driver "
            f"(torch {tried}, such as `pip install torch` on Linux gives)"
        )
    if VERSION not in TRIED:
        raise GpuCostError(
            f"GPU cost was never counted with torch {here}, and what it replaces in torch is "
            f"private: use torch {tried}"
        )
    for path in _NEEDED + tuple(f"cuda.{name}" for name in _REPLACED):
        owner: Any = torch
        for name in path.split("."):
            owner = getattr(owner, name, None)
            if owner is None:
                raise GpuCostError(
                    f"counting GPU cost needs torch.{path}, which torch {here} lacks; it was "
                    f"tried with torch {tried}"
                )
    if torch.cuda.is_initialized():
        raise GpuCostError(
            "this process already uses a CUDA device: a fake one has to come first, in a process "
            "of its own"
        )


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


def install(gpu: Gpu, owner: object) -> None:
    """This process believes that it has ``gpu``; :func:`installed` answers ``owner``."""
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


def attention_ops() -> SimpleNamespace:
    """The ops that torch's attention becomes, by backend."""
    aten = torch.ops.aten
    return SimpleNamespace(
        flash=aten._scaled_dot_product_flash_attention,
        cudnn=aten._scaled_dot_product_cudnn_attention,
        efficient=aten._scaled_dot_product_efficient_attention,
        math=aten._scaled_dot_product_attention_math,
    )


def replace_attention(attention: Callable[..., Any]) -> torch.library.Library:
    """``attention`` decomposes ``scaled_dot_product_attention`` below dynamo and above all modes.

    It lasts as long as what this answers.  Left alone, attention on fake tensors is counted as
    plain products: the C++ that chooses a kernel asks the real driver.
    """
    library = torch.library.Library("aten", "IMPL")
    for key in ("AutogradCUDA", "CUDA"):
        library.impl("scaled_dot_product_attention", attention, key)
    op = torch.ops.aten.scaled_dot_product_attention.default
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    op.py_kernels.pop(composite, None)
    op.py_impl(composite)(attention)
    return library


# --- fake tensors


def fake_mode() -> Any:
    """A mode in which tensors have shape, strides, type and device, and no memory."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def on_cuda(mode: Any, tensor: torch.Tensor) -> torch.Tensor:
    """A fake CUDA tensor with the shape, strides and type of ``tensor``, meta or real."""
    if isinstance(tensor, FakeTensor) and tensor.device.type == "cuda":
        return tensor
    with fake_tensor.unset_fake_temporarily(), torch.no_grad():
        meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        return FakeTensor(mode, meta, torch.device("cuda", 0))


@contextmanager
def real_tensors() -> Iterator[None]:
    """Out of the fake mode, if one is active."""
    with fake_tensor.unset_fake_temporarily():
        yield


def is_foreign_subclass(cls: type) -> bool:
    """Whether tensors of ``cls`` say themselves which tensors they are made of (torchao's)."""
    return (
        cls not in (torch.Tensor, torch.nn.Parameter, FakeTensor)
        and issubclass(cls, torch.Tensor)
        and hasattr(cls, "__tensor_flatten__")
    )


def storage_key(tensor: torch.Tensor) -> int:
    """The same for all tensors in one memory, while it lives."""
    return int(tensor.untyped_storage()._cdata)


# --- ops and frames


def op_name(func: Any) -> tuple[str, str]:
    """Namespace and name of an op: ``("aten", "add")`` of ``aten.add.Tensor``."""
    schema = getattr(func, "_schema", None)
    if schema is None:  # a higher-order operator
        return "higher_order", str(func)
    namespace, _, name = schema.name.partition("::")
    return namespace, name


def writes(func: Any) -> frozenset[str]:
    """Names of the arguments that an op writes to."""
    return frozenset(
        argument.name
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def is_view(func: Any) -> bool:
    """Whether the schema says that an op answers its argument's memory, unwritten."""
    schema = func._schema
    return not writes(func) and any(answer.alias_info is not None for answer in schema.returns)


def argument_names(func: Any) -> list[str]:
    """Of an op, in the order of its schema."""
    return [argument.name for argument in func._schema.arguments]


def frames() -> Iterator[tuple[str, int]]:
    """File and line of the callers, innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
