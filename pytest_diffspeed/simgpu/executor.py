"""Runs each op of the device on the CPU contents of its tensors, and sees every crossing."""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass
from typing import Any

import torch

from . import torch_private as private
from .autocast import AutocastState, cast
from .events import SyncKind
from .generator import DeviceGenerators
from .memory import DeviceMemory
from .recordings import Recordings
from .rules import RULES, OpCall, Rule
from .tensor import DeviceTensor

SYNC_WARNING = "called a synchronizing CUDA operation"
"""What ``torch.cuda.set_sync_debug_mode`` says (c10/cuda/CUDAFunctions.cpp)."""

_CROSSES_DEVICES = frozenset(
    # These take tensors of two devices: copies, and indexing, which moves its indices.
    {"copy_", "index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
    | {"_unsafe_index_put", "set_", "tensor_split"}
)
_NO_CPU_SCALARS = frozenset(
    # TensorIterator takes 0-dim CPU tensors as numbers; these ops do not use it.
    {"cat", "stack", "gather", "scatter", "scatter_", "scatter_add", "scatter_add_"}
    | {"index_select", "embedding", "take", "nonzero", "cumsum", "sort", "topk"}
    | {"addmm", "addmv", "addr", "addbmm", "baddbmm", "convolution", "native_layer_norm"}
    | {"native_group_norm", "native_batch_norm", "index_add", "index_add_", "index_copy"}
    | {"index_copy_", "masked_select", "masked_scatter", "masked_scatter_", "searchsorted"}
    | {"bucketize", "put_", "repeat_interleave"}
)
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Op:
    """What an op's schema and the tables say about it."""

    name: str
    rule: Rule | None
    may_change_shape: bool
    crosses: bool
    cpu_scalars: bool
    pins: bool
    mutated: tuple[int | str, ...]


class Executor:
    """One simulated device: its tensors, its memory and whoever records its syncs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.memory = DeviceMemory()
        self.generators = DeviceGenerators(device)
        self.autocast = AutocastState(device)
        self.sync_debug_mode = 0
        self.recordings = Recordings()
        self._ops: dict[Any, _Op] = {}
        self._pinned: set[int] = set()

    # -- syncs

    def sync(self, kind: SyncKind, op: str) -> None:
        """Write a sync down, and say it where ``set_sync_debug_mode`` asked for that."""
        for log in self.recordings.listening():
            log.add(kind, op)
        if self.sync_debug_mode and kind.is_sync and not kind.is_asked_for:
            if self.sync_debug_mode == 2:
                raise RuntimeError(SYNC_WARNING)
            warnings.warn(SYNC_WARNING, UserWarning, stacklevel=2)

    # -- tensors

    def wrap(self, content: torch.Tensor, op: str = "wrap") -> DeviceTensor:
        """A tensor of the device with this content; nothing is copied."""
        tensor: DeviceTensor = private.wrapper(DeviceTensor, content, self.device)
        tensor.content = content
        tensor.gpu = self
        self.memory.hold(content, op)
        return tensor

    def is_ours(self, device: object) -> bool:
        asked = torch.device(device)  # type: ignore[call-overload]
        return bool(
            asked.type == self.device.type and asked.index in (None, self.device.index or 0)
        )

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """Mark the CPU memory of ``tensor`` as pinned."""
        storage = tensor.untyped_storage()
        key = private.storage_key(storage)
        if key not in self._pinned:
            self._pinned.add(key)
            weakref.finalize(storage, self._pinned.discard, key).atexit = False
        return tensor

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return (
            not isinstance(tensor, DeviceTensor)
            and private.storage_key(tensor.untyped_storage()) in self._pinned
        )

    # -- ops

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``func`` gives on the device."""
        op = self._ops.get(func)
        if op is None:
            op = self._ops[func] = _describe(func)
        ours: dict[int, DeviceTensor] = {}
        others: dict[int, torch.Tensor] = {}

        plain = tuple([_unwrap(arg, ours, others) for arg in args])
        named = {name: _unwrap(value, ours, others) for name, value in kwargs.items()}
        asked = kwargs.get("device")
        to_device = None if asked is None else self.is_ours(asked)
        generator = kwargs.get("generator")
        if generator is not None:
            self.generators.check(
                generator, on_device=bool(ours) if to_device is None else to_device
            )
        if not ours and not to_device and not op.pins and not kwargs.get("pin_memory"):
            return func(*args, **kwargs)  # nothing here is ours
        for log in self.recordings.listening():
            log.device_ops += 1
        if ours and others:
            self._refuse_mixed(op, args, kwargs, others)
        call = OpCall(op.name, args, kwargs, self.is_pinned, to_device)
        if op.rule is not None:
            for kind in op.rule.kinds(call):
                self.sync(kind, f"aten.{op.name}")
        if op.pins:
            return self._pinning(op.name, ours, plain[0])
        if to_device:
            named["device"] = _CPU
        pinned = bool(named.get("pin_memory"))
        if "pin_memory" in named:
            named["pin_memory"] = None if named["pin_memory"] is None else False
        if "non_blocking" in named:
            named["non_blocking"] = False
        if ours and self.autocast.on:
            plain = cast(op.name, plain, ours)
        result = func(*plain, **named)
        on_device = bool(ours) if to_device is None else to_device
        if op.may_change_shape:
            for tensor in ours.values():
                _follow(tensor)
        known: dict[int, torch.Tensor] = {**others, **ours}
        result = self._rewrap(result, known, op.name if on_device else None)
        return self.pin(result) if pinned and not on_device else result

    def _rewrap(self, value: Any, known: dict[int, torch.Tensor], op: str | None) -> Any:
        """Tensors that came in go out as the same objects; new ones are the device's if ``op``."""
        if isinstance(value, torch.Tensor):
            same = known.get(id(value))
            if same is not None:
                return same
            return value if op is None else self.wrap(value, op)
        if isinstance(value, (list, tuple)):
            return type(value)([self._rewrap(item, known, op) for item in value])
        return value

    def _pinning(self, name: str, ours: dict[int, DeviceTensor], tensor: torch.Tensor) -> Any:
        if name == "is_pinned":
            return not ours and self.is_pinned(tensor)
        if ours:
            raise RuntimeError(
                f"cannot pin '{self.device.type}' memory: only dense CPU tensors can be pinned"
            )
        return tensor if self.is_pinned(tensor) else self.pin(tensor.clone())

    def _refuse_mixed(
        self,
        op: _Op,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        others: dict[int, torch.Tensor],
    ) -> None:
        """Refuse what a real GPU refuses: CPU tensors beside its own, but for 0-dim numbers."""
        if op.crosses:
            return
        mutated = [args[i] if isinstance(i, int) and i < len(args) else None for i in op.mutated]
        mutated += [kwargs.get(i) for i in op.mutated if isinstance(i, str)]
        wrong = any(other.dim() or not op.cpu_scalars for other in others.values())
        if wrong or any(id(tensor) in others for tensor in mutated):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{self.device} and cpu! (aten::{op.name} on the simulated GPU)"
            )


# A function of the module: a recursive closure would be a reference cycle, which keeps tensors
# until the garbage collector comes by.
def _unwrap(value: Any, ours: dict[int, DeviceTensor], others: dict[int, torch.Tensor]) -> Any:
    """The content of tensors of the device, in lists too; notes which tensors were given."""
    if isinstance(value, DeviceTensor):
        ours[id(value.content)] = value
        return value.content
    if isinstance(value, torch.Tensor):
        others[id(value)] = value
    elif isinstance(value, (list, tuple)):
        return [_unwrap(item, ours, others) for item in value]
    return value


def _describe(func: Any) -> _Op:
    name, overload, mutated = private.schema(func)
    return _Op(
        name=name,
        rule=RULES.get(name),
        may_change_shape=bool(
            torch.Tag.inplace_view in func.tags
            or "out" in overload
            or name in ("resize_", "resize_as_", "set_")
        ),
        crosses=name in _CROSSES_DEVICES,
        cpu_scalars=name not in _NO_CPU_SCALARS,
        pins=name in ("_pin_memory", "is_pinned"),
        mutated=mutated,
    )


def _follow(tensor: DeviceTensor) -> None:
    """Give the outer tensor the shape that its content has now."""
    content = tensor.content
    if tensor.shape == content.shape and tensor.stride() == content.stride():
        return
    gpu = tensor.gpu
    with private.no_dispatch():
        tensor.data = private.wrapper(DeviceTensor, content, gpu.device)
    gpu.memory.hold(content, "resize_")
