"""What this package uses of torchao, seen in torchao 0.15.0, 0.17.0 and 0.18.0.

``quantize_``, ``Int8DynamicActivationInt8WeightConfig`` and ``Int8Tensor`` are exported by
``torchao.quantization``, and torchao moves such names between minor versions.  0.14 has no
``Int8Tensor``; up to 0.17 a config makes the older ``AffineQuantizedTensor`` of it unless it is of
version 2, and 0.18 knows nothing else.
"""

from __future__ import annotations

from typing import Any

import torch

from ..common.quiet import third_party
from .tested import TORCHAO

_INT8_TENSOR = 2
"""The version of torchao's config that quantizes to ``Int8Tensor``."""


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
    """Quantize the linear layers at ``paths`` in place: weights per row, activations per token.

    ``set_inductor_config=False``: the default changes inductor's configuration for the whole
    process and for good.
    """
    quantize, config, _ = _names()
    if paths:
        with third_party():
            quantize(
                module,
                config(set_inductor_config=False, version=_INT8_TENSOR),
                filter_fn=lambda layer, path: path in paths,
            )


def is_int8(layer: Any) -> bool:
    """Whether the weight of a layer is quantized to int8 with dynamic activations."""
    _, _, int8_tensor = _names()
    weight = getattr(layer, "weight", None)
    return isinstance(weight, int8_tensor) and weight.act_quant_kwargs is not None


def _names() -> tuple[Any, Any, Any]:
    with third_party():
        from torchao.quantization import (
            Int8DynamicActivationInt8WeightConfig,
            Int8Tensor,
            quantize_,
        )

    return quantize_, Int8DynamicActivationInt8WeightConfig, Int8Tensor
