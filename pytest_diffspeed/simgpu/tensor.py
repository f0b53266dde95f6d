"""A tensor that claims to live on the device and holds its content in CPU memory."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeVar

import torch

from . import torch_private as private
from .events import SyncKind
from .memory import DeviceMemory

T = TypeVar("T")


class Gpu(Protocol):
    """What a tensor asks of the device that it claims to live on."""

    device: torch.device
    memory: DeviceMemory

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...
    def sync(self, kind: SyncKind, op: str) -> None: ...


class DeviceTensor(torch.Tensor):
    """``content`` is the CPU tensor behind it; views of a tensor hold views of its content."""

    content: torch.Tensor
    gpu: Gpu

    __torch_function__: Any = private.NO_TORCH_FUNCTION

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Reached where the device's own mode is not active: in another thread, or afterwards.
        return _owner(args, kwargs).run(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceTensor:
        if id(self) not in memo:
            with torch.no_grad():
                copy: Any = self.detach().clone()
            copy.requires_grad_(self.requires_grad)
            memo[id(self)] = private.copy_of_parameter(self, copy)
        twin: DeviceTensor = memo[id(self)]
        return twin

    def __format__(self, spec: str) -> str:
        # As torch does it for its own class alone.
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def __bool__(self) -> bool:
        return self._number(bool, super().__bool__)

    def __int__(self) -> int:
        return self._number(int, super().__int__)

    def __index__(self) -> int:
        return self._number(operator.index, super().__index__)

    def __float__(self) -> float:
        return self._number(float, super().__float__)

    def __complex__(self) -> complex:
        return self._number(complex, super().__complex__)

    def _number(self, read: Callable[[torch.Tensor], T], through_torch: Callable[[], T]) -> T:
        """One value on the CPU.

        Constructors over a list (``torch.tensor``, ``torch.Tensor``, ``new_tensor``, ``asarray``,
        …) read its elements one by one and below every dispatch mode, where torch would ask the
        driver.  What ``read`` refuses, as an index of a float, is refused before anybody waits.
        """
        if not private.below_dispatch_modes():
            return through_torch()
        value = read(self.content)
        self.gpu.sync(SyncKind.VALUE_READ, "aten._local_scalar_dense")
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        # On CUDA a Python number becomes a 0-dim *CPU* tensor here, on other devices a device
        # tensor (python_variable_indexing.cpp, THPVariable_setitem); do it CUDA's way on both.
        if isinstance(value, (bool, int, float, complex)):
            value = torch.scalar_tensor(value, dtype=self.dtype, device="cpu")
        super().__setitem__(key, value)

    def tolist(self) -> Any:
        if self.numel():
            self.gpu.sync(SyncKind.BLOCKING_D2H, "tolist")
        return self.content.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().resolve_conj().resolve_neg().numpy()
        self._refuse_numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self._refuse_numpy()

    def _refuse_numpy(self) -> NoReturn:
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise private.SimulatorError(
            "a tensor of the simulated GPU cannot be saved; move it to the CPU first"
        )

    def data_ptr(self) -> int:
        return self.content.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """The content's storage: what identifies the memory behind views."""
        return self.content.untyped_storage()


def _assign_data(tensor: torch.Tensor, new: torch.Tensor) -> None:
    """``tensor.data = new``, also where one of them is of the device and the other is not.

    Offloading moves weights so.  Torch would copy what it knows of the tensor and leave its class,
    so a parameter of the CPU could not get the content of a tensor of the device.
    """
    if isinstance(tensor, DeviceTensor) == isinstance(new, DeviceTensor):
        private.DATA.__set__(tensor, new)
        return
    twin = new.detach()
    if isinstance(tensor, torch.nn.Parameter):
        twin = torch.nn.Parameter(twin, requires_grad=tensor.requires_grad)
    torch.utils.swap_tensors(tensor, twin)


ASSIGNABLE_DATA = property(lambda tensor: private.DATA.__get__(tensor), _assign_data)
"""``torch.Tensor.data`` while a device is open."""


def _owner(args: Any, kwargs: Any) -> Gpu:
    for arg in (*args, *(kwargs or {}).values()):
        for item in arg if isinstance(arg, (list, tuple)) else (arg,):
            if isinstance(item, DeviceTensor):
                return item.gpu
    raise AssertionError("unreachable because torch only asks a class about its own tensors")
