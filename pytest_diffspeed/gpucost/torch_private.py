"""What the fake GPU uses of torch without its promise to keep it; Inductor's is in its own file.

Seen in torch 2.11 and 2.14, CUDA builds.  :func:`require` looks for each name before anything is
changed, so that a version which moved one of them gives a sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map

from .errors import GpuCostError

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
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
    "ops.aten.linear.default._op_dk",
    "_C._dispatch_has_kernel_for_dispatch_key",
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
_NO_DRIVER_SAID = (
    "Found no NVIDIA driver",
    "CUDA driver version is insufficient",
    "hasPrimaryContext expects a valid device index",
)
_NO_NUMPY_SAID = ".numpy() is not supported for tensor subclasses"


def is_without_fake(error: Exception) -> bool:
    """Whether an op was called that does not say what it returns."""
    told = about_fake(error)
    return isinstance(told, _NO_FAKE) or _NO_FAKE_SAID in str(told) or told is not error


def about_fake(error: BaseException) -> BaseException:
    """What tells of it: torch 2.11 tries an op of its own on real tensors, where it fails anew."""
    first = error.__context__
    return first if isinstance(first, NotImplementedError) and is_of_the_driver(error) else error


def is_of_values(error: Exception) -> bool:
    """Whether a value was asked for."""
    return isinstance(error, _VALUE_DEPENDENT) or _NO_NUMPY_SAID in str(error)


def is_of_the_driver(error: BaseException) -> bool:
    """Whether something asked the CUDA driver itself, past everything that is replaced."""
    return any(said in str(error) for said in _NO_DRIVER_SAID)


def is_a_refusal(error: Exception) -> bool:
    """Whether an op was not run for the lack of a GPU, where a real one would have been."""
    return isinstance(error, RuntimeError) and (is_of_values(error) or is_without_fake(error))


def require() -> None:
    """Refuse a build of torch that cannot count, and one in which it was never tried.

    torch 2.15 has every name and counts, eagerly and compiled.  It is refused since a block of SDXL
    has other kernels there (a linear of a permuted input is one ``addmm``, three convolutions have
    a modelled copy less), and nobody has held the rules of :mod:`.launches` against it yet.

    Raises:
        GpuCostError: with what this build lacks and which to install.
    """
    here = torch.__version__
    tried = " or ".join(f"{major}.{minor}" for major, minor in TRIED)
    if not torch.backends.cuda.is_built() or torch.version.cuda is None:
        raise GpuCostError(
            f"torch {here} is a build without CUDA, whose tensors cannot claim to be on a GPU; "
            f"install a CUDA build of torch {tried}, which needs no GPU and no driver"
        )
    if VERSION not in TRIED:
        raise GpuCostError(
            f"GPU cost was never counted with torch {here}, and what it replaces in torch is "
            f"private; use torch {tried}"
        )
    for path in _NEEDED + tuple(f"cuda.{name}" for name in _REPLACED):
        owner: Any = torch
        for name in path.split("."):
            owner = getattr(owner, name, None)
            if owner is None:
                raise GpuCostError(
                    f"counting GPU cost needs torch.{path}, which torch {here} lacks; use "
                    f"torch {tried}"
                )
    if torch.cuda.is_initialized():
        raise GpuCostError(
            "this process already uses a CUDA device, and a fake one has to come first; count in "
            "a process of its own"
        )


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
    op.py_kernels.pop(_COMPOSITE, None)
    op.py_impl(_COMPOSITE)(attention)
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


@lru_cache(maxsize=4096)
def is_composite(func: Any) -> bool:
    """Whether a GPU runs an op as others, which then reach the mode.

    Mostly such ops never do themselves.  In ``torch.inference_mode`` they do, attention and
    products among them.  Of some, which RMS norm ends in, CUDA has a kernel of its own, and only
    other devices run others instead.
    """
    if not isinstance(func, torch._ops.OpOverload) or func.namespace == "prim":
        return False
    if func is torch.ops.aten.scaled_dot_product_attention.default:
        return True  # its kernel for CUDA is the one that :func:`replace_attention` put there
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return has_kernel(func.name(), _COMPOSITE) and not has_kernel(func.name(), "CUDA")


def run_composite(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What eager mode runs of such an op; of attention, what :func:`replace_attention` put there.

    Not ``func.decompose``: it prefers ways of Python's to write an op in others, which are for
    compilers and which eager mode does not know.
    """
    if func is torch.ops.aten.scaled_dot_product_attention.default:
        return func.py_kernels[_COMPOSITE](*args, **kwargs)
    return func._op_dk(_COMPOSITE, *args, **kwargs)


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


def written_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments of one call that :func:`writes` names; none of a higher-order operator's."""
    if getattr(func, "_schema", None) is None:
        return []
    names = writes(func)
    given = dict(zip(argument_names(func), args, strict=False)) | kwargs
    return [value for name, value in given.items() if name in names]


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
