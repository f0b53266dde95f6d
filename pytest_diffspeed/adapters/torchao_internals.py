"""What this package uses of torchao, seen in torchao 0.15.0, 0.17.0 and 0.18.0.

``quantize_``, the configs, ``Int8Tensor`` and ``Float8Tensor`` are exported by
``torchao.quantization``, and torchao moves such names between minor versions.  0.14 has no
``Int8Tensor``; up to 0.17 the configs of int8 make the older ``AffineQuantizedTensor`` unless they
are of version 2, and 0.18 knows nothing else.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from ..common.quiet import third_party
from .tested import TORCHAO

_PLAIN_TENSORS = 2
"""The version of torchao's configs that quantizes to ``Int8Tensor`` and ``Float8Tensor``."""
Granularity = Literal["tensor", "row"]


def why_unusable() -> str | None:
    """A sentence if torchao is absent or of a version that lacks what is used; else ``None``."""
    try:
        _names()
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "torchao":
            return (
                "torchao is not installed, although pytest-diffspeed depends on it; "
                "run `pip install torchao`"
            )
        return f"torchao cannot be imported: {error}"
    except ImportError as error:
        return (
            f"this torchao lacks what is used of it ({error}); pytest-diffspeed was tested with "
            f"torchao {TORCHAO}"
        )
    return None


def quantize_int8_dynamic(module: torch.nn.Module, paths: set[str]) -> None:
    """Quantize the linear layers at ``paths`` in place: weights per row, activations per token."""
    _quantize(module, paths, _names().Int8DynamicActivationInt8WeightConfig)


def quantize_int8_weight_only(module: torch.nn.Module, paths: set[str]) -> None:
    """Quantize the weights of the linear layers at ``paths`` in place, per row."""
    _quantize(module, paths, _names().Int8WeightOnlyConfig)


def quantize_float8_weight_only(module: torch.nn.Module, paths: set[str]) -> None:
    """The same in float8 (e4m3)."""
    _quantize(module, paths, _names().Float8WeightOnlyConfig)


def quantize_float8_dynamic(
    module: torch.nn.Module, paths: set[str], granularity: Granularity
) -> None:
    """Quantize the linear layers at ``paths`` in place: weights and activations in float8 (e4m3).

    Scaled per tensor, or per row: of the weights each output, of the activations each token.
    torchao's config refuses a CPU, although torch multiplies float8 there too and torchao's tensors
    call it: on a CPU the tensors are made as its handler makes them on a GPU, with torch's kernel.
    """
    torchao = _names()
    how = torchao.PerRow() if granularity == "row" else torchao.PerTensor()
    layers: dict[str, Any] = {path: module.get_submodule(path) for path in paths}
    on_cpu = {path for path, layer in layers.items() if layer.weight.device.type == "cpu"}
    with third_party():
        for path in on_cpu:
            weight = _float8_on_a_cpu(layers[path].weight, how)
            layers[path].weight = torch.nn.Parameter(weight, requires_grad=False)
    config = torchao.Float8DynamicActivationFloat8WeightConfig
    for dtype in sorted({str(layers[path].weight.dtype) for path in paths - on_cpu}):
        of_dtype = {path for path in paths - on_cpu if str(layers[path].weight.dtype) == dtype}
        least = _least_activation(layers[next(iter(of_dtype))].weight.dtype)
        _quantize(module, of_dtype, config, granularity=how, activation_value_lb=least)


def _float8_on_a_cpu(weight: torch.Tensor, granularity: Any) -> torch.Tensor:
    from torchao.quantization.quant_api import QuantizeTensorToFloat8Kwargs
    from torchao.quantization.quantize_.common import KernelPreference

    torchao = _names()
    activations = QuantizeTensorToFloat8Kwargs(
        torch.float8_e4m3fn,
        granularity,
        hp_value_lb=_least_activation(weight.dtype),
        kernel_preference=KernelPreference.TORCH,
    )
    made: torch.Tensor = torchao.Float8Tensor.from_hp(
        weight.detach(),
        float8_dtype=torch.float8_e4m3fn,
        granularity=granularity,
        mm_config=torchao.Float8MMConfig(use_fast_accum=True),
        kernel_preference=KernelPreference.TORCH,
        act_quant_kwargs=activations,
    )
    return made


def _least_activation(dtype: torch.dtype) -> float:
    """What the largest activation of a row counts as at least.

    torchao divides by the scale of a row, so a row of zeros (padding) becomes NaN and with it the
    image.  It scales in the dtype of the activations, and a 448th of this must be above zero there.
    """
    return 2.0**-12 if dtype is torch.float16 else 1e-12


def _quantize(module: torch.nn.Module, paths: set[str], config: Any, **more: Any) -> None:
    """``set_inductor_config=False``: the default changes inductor's configuration for the whole
    process and for good.
    """
    if paths:
        with third_party():
            _names().quantize_(
                module,
                config(set_inductor_config=False, version=_PLAIN_TENSORS, **more),
                filter_fn=lambda layer, path: path in paths,
            )


def is_quantized(layer: Any, kind: str, *, dynamic: bool) -> bool:
    """Whether the weight of a layer is quantized to ``kind``, ``"int8"`` or ``"float8"``; with
    activations that are quantized in each call, or with none.
    """
    torchao = _names()
    made = {"int8": torchao.Int8Tensor, "float8": torchao.Float8Tensor}[kind]
    weight = getattr(layer, "weight", None)
    return isinstance(weight, made) and (weight.act_quant_kwargs is not None) == dynamic


def lost_rows(layer: Any) -> bool:
    """Whether weights of a layer in float8 became NaN: those of a row of zeros, divided by 0."""
    return bool((layer.weight.scale == 0).any())


def weight_bytes(layer: Any) -> int:
    """What the weight of a layer holds: of a quantized one values, scales and zero points."""
    weight: torch.Tensor = layer.weight
    if not hasattr(weight, "__tensor_flatten__"):
        return weight.nbytes
    inner, _ = weight.__tensor_flatten__()
    return sum(getattr(weight, name).nbytes for name in inner)


def _names() -> Any:
    with third_party():
        import torchao.quantization as torchao
        from torchao.quantization import (  # noqa: F401  # each of them must be there
            Float8DynamicActivationFloat8WeightConfig,
            Float8MMConfig,
            Float8Tensor,
            Float8WeightOnlyConfig,
            Int8DynamicActivationInt8WeightConfig,
            Int8Tensor,
            Int8WeightOnlyConfig,
            PerRow,
            PerTensor,
            quantize_,
        )

    return torchao
