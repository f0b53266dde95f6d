"""Dynamic int8 quantization of linear layers in denoisers and the VAE, by torchao."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...accelerators.features import INT8, INT8_OF_ANY_SHAPE, Feature
from ...accelerators.registry import missing_feature
from ..int8_filter import derived, published_sdxl, torch_refuses
from ..observation import LinearCalls
from ..quantized_linears import QuantizedLinears
from ..technique import Technique

if TYPE_CHECKING:
    import torch

PUBLISHED_SLOWDOWN = (
    "quantized but not compiled, each layer converts its input in kernels of their own: Flux on an "
    "H100 took 119.7 s an image with int8 that was not compiled, against 6.57 s in bf16 "
    "(published)"
)


class Int8Dynamic(QuantizedLinears):
    """Int8 weights per channel, int8 activations per token, scaled in each call.

    Which layers: those that :func:`~pytest_diffspeed.techniques.int8_filter.derived` takes, by
    their shapes and the rows that a real call gave them.  Any floating dtype may come before it:
    torchao was made for bfloat16, and float32 gives right results too, so it is no contradiction.
    """

    name: ClassVar[str] = "int8_dynamic"
    summary: ClassVar[str] = "dynamic int8 by torchao, layers chosen from the model and a call"
    needs: ClassVar[tuple[Feature, ...]] = (INT8,)
    why_not_undoable: ClassVar[str] = "it rounded the weights to int8"
    kind: ClassVar[str] = "int8"

    def leaves(self, linear: LinearCalls) -> str | None:
        return derived(linear)

    def quantize(self, module: torch.nn.Module, paths: set[str]) -> None:
        from ...adapters.torchao_internals import quantize_int8_dynamic

        quantize_int8_dynamic(module, paths)

    def slow(self, to_compile: str | None) -> str | None:
        return None if to_compile is None else f"{PUBLISHED_SLOWDOWN}; {to_compile}"

    def device_refuses(self, linear: LinearCalls, device: torch.device) -> str | None:
        refused = torch_refuses(linear)
        if refused is None or missing_feature(device, INT8_OF_ANY_SHAPE) is None:
            return None
        return f"{refused}; use 'int8_dynamic', which reads the rows"


class Int8DynamicSdxl(Int8Dynamic):
    """With the list of shapes that was published for SDXL on an A100."""

    name: ClassVar[str] = "int8_dynamic_sdxl"
    summary: ClassVar[str] = "dynamic int8 by torchao, layers by the published SDXL list"

    def leaves(self, linear: LinearCalls) -> str | None:
        return published_sdxl(linear)


TECHNIQUES: tuple[Technique, ...] = (Int8Dynamic(), Int8DynamicSdxl())
