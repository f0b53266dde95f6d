"""Linear layers whose weights are kept in 8 bits and converted back in each call, by torchao.

They save memory, and time only where reading weights is what takes it: products are those of the
stack's own dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ...accelerators.features import FLOAT8
from ...accelerators.registry import missing_feature
from ..observation import LinearCalls
from ..quantized_linears import QuantizedLinears
from ..technique import Family, Technique

if TYPE_CHECKING:
    import torch

    from ...accelerators.device import Device

LEAST_IN_FEATURES = 32
"""Each row of weights gets a scale of 4 bytes.  Beside 32 weights, which 8 bits make 32 bytes
smaller than 16 bits are, that is an eighth of what is saved."""


class _WeightOnly(QuantizedLinears):
    dynamic: ClassVar[bool] = False
    saves_memory: ClassVar[bool] = True
    eager_s: ClassVar[str]
    compiled_s: ClassVar[str]
    """Seconds of an image of FLUX.1-dev on an H100, 1024 × 1024, 28 steps: sayakpaul/
    diffusers-torchao, README.md at 9b9f238, one image at a time and without ``fuse_qkv``."""

    def leaves(self, linear: LinearCalls) -> str | None:
        if linear.in_features < LEAST_IN_FEATURES:
            return (
                f"{linear.in_features} in_features, and fewer than {LEAST_IN_FEATURES} hardly pay "
                "for the scale of each row"
            )
        return None

    def slow(self, to_compile: str | None) -> str | None:
        why = "weights are converted back in each call and nothing is multiplied in 8 bits"
        if to_compile is None:
            return (
                f"{why}: compiled Flux on an H100 took {self.compiled_s} s an image this way, "
                "against 4.21 s in bf16 (published); keep it for the memory that it saves"
            )
        return (
            f"{why}: Flux that was not compiled took {self.eager_s} s an image this way on an "
            f"H100, against 6.57 s in bf16 (published); keep it for memory, and {to_compile}"
        )


class Int8WeightOnly(_WeightOnly):
    """Int8 weights per channel."""

    name: ClassVar[str] = "int8_weight_only"
    summary: ClassVar[str] = "weights kept in int8 by torchao, multiplied in the stack's dtype"
    why_not_undoable: ClassVar[str] = "it rounded the weights to int8"
    kind: ClassVar[str] = "int8"
    eager_s: ClassVar[str] = "8.55"
    compiled_s: ClassVar[str] = "4.62"

    def quantize(self, module: torch.nn.Module, paths: set[str]) -> None:
        from ...adapters.torchao_internals import quantize_int8_weight_only

        quantize_int8_weight_only(module, paths)


class Fp8WeightOnly(_WeightOnly):
    """Float8 (e4m3) weights per channel."""

    name: ClassVar[str] = "fp8_weight_only"
    summary: ClassVar[str] = "weights kept in float8 by torchao, multiplied in the stack's dtype"
    why_not_undoable: ClassVar[str] = "it rounded the weights to float8"
    kind: ClassVar[str] = "float8"
    eager_s: ClassVar[str] = "8.40"
    compiled_s: ClassVar[str] = "4.40"

    def quantize(self, module: torch.nn.Module, paths: set[str]) -> None:
        from ...adapters.torchao_internals import quantize_float8_weight_only

        quantize_float8_weight_only(module, paths)

    def incompatible_with_stack(self, stack: Mapping[str, Technique], device: Device) -> str | None:
        if all(one.family is not Family.COMPILE for one in stack.values()):
            return None
        lacking = missing_feature(device, FLOAT8)
        if lacking is None:
            return None
        return (
            f"Triton writes no code for float8 (e4m3) there: {lacking}; leave compiling out, or "
            "use 'int8_weight_only'"
        )


TECHNIQUES: tuple[Technique, ...] = (Int8WeightOnly(), Fp8WeightOnly())
