"""Dynamic float8 quantization of linear layers in denoisers and the VAE, by torchao."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, cast

from ...accelerators.features import FLOAT8, Feature
from ..arguments import Parameter
from ..float8_filter import derived
from ..observation import LinearCalls
from ..quantized_linears import QuantizedLinears
from ..technique import Technique

if TYPE_CHECKING:
    import torch

    from ...accelerators.device import Device
    from ...adapters.torchao_internals import Granularity

PUBLISHED_SLOWDOWN = (
    "quantized but not compiled, each layer converts its input in kernels of their own: Flux on an "
    "H100 took 8.62 s an image with float8 that was not compiled, against 6.57 s in bf16 "
    "(published)"
)
"""FLUX.1-dev, 1024 × 1024, 28 steps, one image: sayakpaul/diffusers-torchao, README.md at 9b9f238,
rows ``fp8dq`` and ``None`` without ``compile`` and ``fuse_qkv``."""

BLOCK = (128, 128)
"""With one scale, torchao takes such a weight for one that is scaled in blocks of that size and
refuses its inputs ("input_tensor must be 1x128 scaled"): ``_is_128_128_scaled`` of torchao 0.15 to
0.18 asks before ``_is_tensorwise_scaled`` does."""


class Fp8Dynamic(QuantizedLinears):
    """Float8 (e4m3) weights, and activations quantized to it in each call: products in float8.

    Scaled per tensor, as torchao does where nothing is said, or per row, which follows outliers:
    of the weights each output, of the activations each token.
    """

    name: ClassVar[str] = "fp8_dynamic"
    summary: ClassVar[str] = "dynamic float8 by torchao, layers chosen from the model and a call"
    needs: ClassVar[tuple[Feature, ...]] = (FLOAT8,)
    why_not_undoable: ClassVar[str] = "it rounded the weights to float8"
    kind: ClassVar[str] = "float8"
    image_preset: ClassVar[str] = "w8a8"
    # Alone it is neither compiled nor in 16 bits, which is known to be slow.
    in_default_ladder: ClassVar[bool] = False
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType(
        {"granularity": Parameter("tensor", "what shares one scale", ("tensor", "row"))}
    )

    def leaves(self, linear: LinearCalls) -> str | None:
        by_tensor = self.argument("granularity") == "tensor"
        if by_tensor and (linear.in_features, linear.out_features) == BLOCK:
            return "128 × 128 weights, which torchao takes for a block when scaled per tensor"
        return derived(linear)

    def quantize(self, module: torch.nn.Module, paths: set[str]) -> None:
        from ...adapters.torchao_internals import quantize_float8_dynamic

        quantize_float8_dynamic(module, paths, cast("Granularity", self.argument("granularity")))

    def slow(self, to_compile: str | None) -> str | None:
        return None if to_compile is None else f"{PUBLISHED_SLOWDOWN}; {to_compile}"

    def incompatible_with_stack(self, stack: Mapping[str, Technique], device: Device) -> str | None:
        if self.argument("granularity") == "row" and "bf16" not in stack:
            return (
                "torchao scales float8 by rows for weights in bfloat16 only; "
                "add 'bf16', or scale by tensor"
            )
        return None


TECHNIQUES: tuple[Technique, ...] = (Fp8Dynamic(),)
