"""Watch one untimed eager call: ops by part, rows of linear layers, use of the scheduler.

A compiled module must never be called under a dispatch mode (it would run eagerly, for good on some
versions), so this is used before compilation is applied; :mod:`.observe_compiled` is for after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ..adapters.diffusers_attention import processors_of
from ..adapters.torch_internals import TorchDispatchMode
from .module_hooks import around, hooked
from .observation import (
    FUSED_ATTENTION,
    PLAIN_SOFTMAX,
    SDPA,
    ConvolutionInputs,
    LinearCalls,
    Observation,
    PartOps,
)
from .observe_convolutions import convolution_flops
from .observe_scheduler import SchedulerWatch
from .targets import models_with, targets_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

# Exact names of aten ops: a substring such as "linear" would also match `upsample_bilinear2d`.
GEMMS = frozenset({"mm", "addmm", "mv", "addmv", "linear", "matmul", "_addmm_activation"})
# Those of unfused attention.  In a linear layer they are its product: of an input that is not
# contiguous and a weight without gradient torch 2.11 makes a batch.
BATCHED_GEMMS = frozenset({"bmm", "baddbmm", "addbmm"})
# Products in 8 bits.  `_scaled_mm_v2` is that of `torch.nn.functional.scaled_mm`, and
# `f8f8bf16_rowwise` that of MSLK, which torchao prefers on GPUs where it is installed.
INT8_GEMMS = frozenset({"_int_mm"})
FLOAT8_GEMMS = frozenset({"_scaled_mm", "_scaled_mm_v2", "f8f8bf16_rowwise"})
CONVOLUTIONS = frozenset(
    {
        "convolution",
        "_convolution",
        "convolution_overrideable",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose2d",
        "cudnn_convolution",
        "mkldnn_convolution",
        "miopen_convolution",
        "_slow_conv2d_forward",
        "_conv_depthwise2d",
    }
)
ARITHMETIC = GEMMS | BATCHED_GEMMS | CONVOLUTIONS | FUSED_ATTENTION
_ATTENTION = SDPA | {PLAIN_SOFTMAX}


class OpCounter(TorchDispatchMode):
    """Counts ops by the part that runs; outside of a part it counts nothing."""

    # `out_dtype`, by which torchao multiplies int8 on CUDA, is a higher-order operator.  Without
    # this torch refuses it under a mode, and torchao then quietly multiplies in float32 instead.
    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Part, path of the module in it, and whether that is a linear layer.
        self.inside: list[tuple[str, str, bool]] = []
        self.op_dtypes: dict[str, Counter[str]] = {}
        self.attention: dict[str, Counter[str]] = {}
        self.gemms: Counter[str] = Counter()
        self.narrow: dict[str, dict[str, Counter[str]]] = {}
        self.widened: dict[str, dict[str, Counter[str]]] = {}
        self.convolutions: dict[str, Counter[str]] = {}
        self.places: dict[str, dict[str, Counter[str]]] = {}
        self.sdpa_places: dict[str, Counter[str]] = {}
        self.arithmetic: dict[str, Counter[str]] = {}
        self.entered: dict[str, Counter[str]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # What raised did not run: where torch refuses an int8 product, torchao quietly multiplies
        # in float32 instead.
        result = func(*args, **(kwargs or {}))
        if self.inside:
            self._count(*self.inside[-1], _aten_name(func), args, result)
        return result

    def _count(
        self, part: str, path: str, in_linear: bool, name: str, args: tuple[Any, ...], result: Any
    ) -> None:
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        kind = _narrow_product(name, tensors)
        if kind is not None:
            self.gemms[part] += 1
            self.arithmetic.setdefault(part, Counter())[path] += 1
            self.narrow.setdefault(part, {}).setdefault(kind, Counter())[path] += 1
            return
        if name == "_to_copy" and tensors[0].dim() >= 2 and result.dtype.is_floating_point:
            source = _narrow_kind(tensors[0].dtype)
            if source is not None and result.dtype.itemsize > 1:
                self.widened.setdefault(part, {}).setdefault(source, Counter())[path] += 1
        self.gemms[part] += name in GEMMS or (in_linear and name in BATCHED_GEMMS)
        if name in _ATTENTION:
            self.attention.setdefault(part, Counter())[name] += 1
        if name in SDPA:
            self.sdpa_places.setdefault(part, Counter())[path] += 1
        floating = [t for t in tensors if t.is_floating_point()]
        if name in ARITHMETIC and floating:
            dtype = str(floating[-1].dtype)
            self.op_dtypes.setdefault(part, Counter())[dtype] += 1
            self.arithmetic.setdefault(part, Counter())[path] += 1
            self.places.setdefault(part, {}).setdefault(dtype, Counter())[path] += 1
        if name in CONVOLUTIONS:
            layout = _layout_of_input(*args)
            if layout is not None:
                self.convolutions.setdefault(part, Counter())[layout] += 1

    def parts(self, names: Iterable[str] = ()) -> dict[str, PartOps]:
        """What was counted in each part that ran, and of each of ``names``."""
        return {
            part: PartOps(
                dict(self.op_dtypes.get(part, {})),
                dict(self.attention.get(part, {})),
                self.gemms[part],
                ConvolutionInputs(**self.convolutions.get(part, Counter())),
                _plain(self.places.get(part, {})),
                dict(self.sdpa_places.get(part, {})),
                dict(self.arithmetic.get(part, {})),
                dict(self.entered.get(part, {})),
                _plain(self.narrow.get(part, {})),
                _plain(self.widened.get(part, {})),
            )
            for part in dict.fromkeys([*names, *self.op_dtypes, *self.attention, *self.gemms])
        }


def observe(pipeline: DiffusionPipeline, call: Callable[[], object], *, steps: int) -> Observation:
    """What the denoisers, the VAE and the scheduler do in ``call()``.

    ``steps`` is said along: the number of denoising steps that ``call`` runs.
    """
    targets = targets_of(pipeline)
    ops = OpCounter()
    rows: dict[str, tuple[torch.nn.Linear, list[int]]] = {}
    scheduler = SchedulerWatch(pipeline)
    processors = _ProcessorWatch()
    in_steps: dict[str, Counter[int]] = {}
    with ExitStack() as stack:
        for part, module in targets.all.items():
            stack.enter_context(_inside(ops, part, module))
            stack.enter_context(_rows(part, module, rows))
            stack.enter_context(_calls(part, module, scheduler, in_steps))
        for name, model in models_with(targets.denoisers, "attn_processors").items():
            stack.enter_context(processors.watch(name, model))
        convolutions = stack.enter_context(convolution_flops(targets.denoisers))
        stack.enter_context(scheduler.open())
        with ops:
            call()
    return Observation(
        ops.parts(targets.all),
        _linears(rows),
        dict(convolutions),
        scheduler.seen(),
        steps=steps,
        sets_processors=frozenset(processors.changed),
        denoisers=tuple(targets.denoisers),
        calls_in_steps={part: tuple(calls.values()) for part, calls in in_steps.items()},
    )


def observe_linears(pipeline: DiffusionPipeline, call: Callable[[], object]) -> Observation:
    """The linear layers alone, of what :func:`observe` sees, without a dispatch mode."""
    rows: dict[str, tuple[torch.nn.Linear, list[int]]] = {}
    with ExitStack() as stack:
        for part, module in targets_of(pipeline).all.items():
            stack.enter_context(_rows(part, module, rows))
        call()
    return Observation(linears=_linears(rows))


def _linears(
    rows: dict[str, tuple[torch.nn.Linear, list[int]]],
) -> dict[str, LinearCalls]:
    return {
        name: LinearCalls(layer.in_features, layer.out_features, tuple(seen))
        for name, (layer, seen) in rows.items()
        if seen
    }


@contextmanager
def _inside(ops: OpCounter, part: str, module: torch.nn.Module) -> Iterator[None]:
    """What runs in ``module`` counts for ``part``, by the innermost of its modules."""
    handles = []
    for path, inner in module.named_modules():
        is_linear = isinstance(inner, torch.nn.Linear)

        def enter(here: tuple[str, str, bool] = (part, path, is_linear)) -> None:
            ops.inside.append(here)
            ops.entered.setdefault(here[0], Counter())[here[1]] += 1

        handles += around(inner, enter, ops.inside.pop)
    with hooked(handles):
        yield


@contextmanager
def _calls(
    part: str, module: torch.nn.Module, scheduler: SchedulerWatch, found: dict[str, Counter[int]]
) -> Iterator[None]:
    """Count the calls of ``module`` by how many steps ended before."""

    def count(*_: object) -> None:
        found.setdefault(part, Counter())[scheduler.stepped.total()] += 1

    with hooked([module.register_forward_pre_hook(count)]):
        yield


class _ProcessorWatch:
    """Whether a model finds other attention processors when it is called than before the call."""

    def __init__(self) -> None:
        self.changed: set[str] = set()

    @contextmanager
    def watch(self, name: str, model: torch.nn.Module) -> Iterator[None]:
        def compare(*_: object) -> None:
            if processors_of(model) != before:
                self.changed.add(name)

        before = processors_of(model)
        with hooked([model.register_forward_pre_hook(compare)]):
            yield


@contextmanager
def _rows(
    part: str, module: torch.nn.Module, rows: dict[str, tuple[torch.nn.Linear, list[int]]]
) -> Iterator[None]:
    handles = []
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Linear):
            seen: list[int] = []
            rows[f"{part}.{name}"] = (layer, seen)

            def count(_: object, args: tuple[Any, ...], seen: list[int] = seen) -> None:
                if args and isinstance(args[0], torch.Tensor) and args[0].dim():
                    seen.append(args[0].shape[:-1].numel())

            handles.append(layer.register_forward_pre_hook(count))
    with hooked(handles):
        yield


def _aten_name(func: Any) -> str:
    """``"addmm"`` of the overload ``aten.addmm.default``; the name of a higher-order operator."""
    name: str = getattr(func, "overloadpacket", func).__name__
    return name


def _layout_of_input(
    given: torch.Tensor, weight: torch.Tensor, _bias: object = None, stride: Any = (), *_: object
) -> str | None:
    """The field of :class:`ConvolutionInputs` that counts this input; ``None``: none does."""
    if given.dim() not in (4, 5) or weight.shape[2:].numel() == 1:
        return None
    wanted = torch.channels_last if given.dim() == 4 else torch.channels_last_3d
    if given.is_contiguous(memory_format=wanted):
        return None if given.is_contiguous() else "channels_last"
    kernel = list(weight.shape[2:])
    return "patches" if kernel == list(stride) else "other"


def _narrow_product(name: str, tensors: list[torch.Tensor]) -> str | None:
    """``"int8"`` or ``"float8"`` for a matrix product in it, which else this op is not."""
    if name in FLOAT8_GEMMS:
        return "float8"
    # `out_dtype` is how torchao multiplies int8 on CUDA.
    all_int8 = bool(tensors) and all(t.dtype is torch.int8 for t in tensors)
    return "int8" if name in INT8_GEMMS or (name == "out_dtype" and all_int8) else None


def _narrow_kind(dtype: torch.dtype) -> str | None:
    if dtype is torch.int8:
        return "int8"
    return "float8" if dtype.is_floating_point and dtype.itemsize == 1 else None


def _plain(counted: Mapping[str, Counter[str]]) -> dict[str, Mapping[str, int]]:
    return {key: dict(places) for key, places in counted.items()}
