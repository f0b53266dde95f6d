"""All that the simulated GPU uses of torch and Python without their promise to keep it.

Seen in torch 2.11 to 2.15; on a CPU build only in 2.13.  :func:`require` looks for each name
before anything is changed, so that a version which moved one of them gives a sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.utils._mode_utils import no_dispatch as no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

TESTED = "2.11 to 2.15"
VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
"""Major and minor: some kernels wait in one version and not in another."""
NO_TORCH_FUNCTION = torch._C._disabled_torch_function_impl
DATA: Any = torch._C.TensorBase.data
"""The attribute ``data`` as torch has it, below ``torch.Tensor``."""
_UNNAMED = "privateuseone"
_NEEDED = (
    "Tensor._make_wrapper_subclass",
    "_C.TensorBase.data",
    "_C._ensureCUDADeviceGuardSet",
    "_C._set_only_lift_cpu_tensors",
    "_C._only_lift_cpu_tensors",
    "_C._get_privateuse1_backend_name",
    "_C._acc.PrivateUse1Hooks",
    "_C._acc.DeviceGuard",
    "_C._autograd.DeviceType.PrivateUse1",
    "utils.backend_registration._setup_privateuseone_for_python_backend",
    "_C._dispatch_tls_is_dispatch_key_excluded",
    "cuda._lazy_init",
    "cuda.amp.common.amp_definitely_not_available",
)


class SimulatorError(RuntimeError):
    """The simulated GPU cannot do what was asked of it here."""


def require() -> None:
    """Look for everything that this file relies on.

    Raises:
        SimulatorError: with what this version of torch lacks.
    """
    for path in _NEEDED:
        owner: Any = torch
        for name in path.split("."):
            owner = getattr(owner, name, None)
            if owner is None:
                raise SimulatorError(
                    f"the simulated GPU needs torch.{path}, which torch {torch.__version__} lacks; "
                    f"it was tested with torch {TESTED}"
                )


def wrapper(cls: type[torch.Tensor], content: torch.Tensor, device: torch.device) -> Any:
    """A tensor of ``cls`` with the shape and strides of ``content`` that claims ``device``."""
    return torch.Tensor._make_wrapper_subclass(
        cls,
        content.size(),
        strides=content.stride(),
        storage_offset=content.storage_offset(),
        dtype=content.dtype,
        layout=content.layout,
        device=device,
        requires_grad=False,
    )


def active_modes() -> list[TorchDispatchMode]:
    """The dispatch modes of this thread, outermost first."""
    return _get_current_dispatch_mode_stack()


def below_dispatch_modes() -> bool:
    """Whether torch runs code just now whose ops no dispatch mode and no tensor subclass sees."""
    return bool(torch._C._dispatch_tls_is_dispatch_key_excluded("Python"))


@contextmanager
def data_is_lifted_on_the_cpu() -> Iterator[None]:
    """``torch.tensor(data, device=…)`` makes a CPU tensor and copies it through the dispatcher.

    Without it the copy happens where no dispatch mode sees it.  Fake tensors rely on the same flag.
    """
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def allow_cuda_devices_without_a_gpu() -> None:
    """Tensors may claim a CUDA device: a device guard that does nothing.  Cannot be undone.

    The same guard that fake tensors install; it changes nothing where there is a real one.
    """
    torch._C._ensureCUDADeviceGuardSet()


def privateuse1_name() -> str | None:
    """What the spare device type of torch is called in this process, or ``None``."""
    name = str(torch._C._get_privateuse1_backend_name())
    return None if name == _UNNAMED else name


def name_privateuse1(name: str, module: object, is_available: Any) -> None:
    """Make torch's spare device type a Python device called ``name``.  Cannot be undone."""

    class Hooks(torch._C._acc.PrivateUse1Hooks):
        def is_available(self) -> bool:
            return bool(is_available())

        def is_built(self) -> bool:
            return bool(is_available())

        def has_primary_context(self, index: int) -> bool:
            return bool(is_available())

    class Guard(torch._C._acc.DeviceGuard):
        def type_(self) -> Any:
            return torch._C._autograd.DeviceType.PrivateUse1

    torch.utils.backend_registration._setup_privateuseone_for_python_backend(
        name, module, Hooks(), Guard()
    )


@contextmanager
def autocast_reaches_dispatch() -> Iterator[None]:
    """Ops under autocast on the spare device reach the device as they are.

    Torch has autocast kernels for the device types it knows; without this an op that gets there
    raises.  The library ends with the context.
    """
    library = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
    try:
        library.fallback(torch.library.fallthrough_kernel)
        yield
    finally:
        library._destroy()


class Schema(NamedTuple):
    """An op as its schema describes it; ``mutated`` names the arguments that it writes to, those
    that may be given by position by their position.
    """

    name: str
    overload: str
    mutated: tuple[int | str, ...]


def schema(func: Any) -> Schema:
    """Of an overload such as ``torch.ops.aten.add_.Tensor``."""
    mutated: list[int | str] = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            mutated.append(argument.name if argument.kwarg_only else position)
    return Schema(func._schema.name.partition("::")[2], func._overloadname, tuple(mutated))


def storage_key(storage: torch.UntypedStorage) -> int:
    """The same for all Python objects of one storage, while it lives."""
    return int(storage._cdata)


def generator_key(generator: torch.Generator) -> int:
    """The same for all Python objects of one generator, while it lives."""
    return int(generator._cdata)  # type: ignore[attr-defined]


def copy_of_parameter(tensor: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
    """``copy``, a parameter if ``tensor`` is one: subclasses are by a mark on the object."""
    if isinstance(tensor, torch.nn.Parameter):
        copy._is_param = True
    return copy


def calling_frame() -> FrameType | None:
    """The frame of the caller's caller."""
    return sys._getframe(2)
