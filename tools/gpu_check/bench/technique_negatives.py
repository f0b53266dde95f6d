"""Techniques undone behind the package's back: each proof must then fail.

At least one for each family of the registry; :func:`families_without` names those that have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from technique_evidence import OF_THE_HOST


@dataclass(frozen=True)
class Negative:
    """``undo()`` is open while ``technique`` is applied; its proof must fail with ``words``."""

    technique: str
    what: str
    undo: Callable[[], AbstractContextManager[object]]
    words: str
    cuda_only: bool = False

    @property
    def title(self) -> str:
        return f"{self.technique} must fail: {self.what}"


def _after(owner: type, method: str, then: Callable[[Any], object]) -> Any:
    """Open: ``owner.method`` does ``then(pipeline)`` when it is done."""
    original = getattr(owner, method)

    def changed(self: Any, pipeline: Any, *args: Any) -> None:
        original(self, pipeline, *args)
        then(pipeline)

    return mock.patch.object(owner, method, changed)


def _not_applied(owner: type) -> Any:
    return mock.patch.object(owner, "apply", lambda self, pipeline: None)


def _flags_during_calls(owner: type, value: str) -> Any:
    """The precision flags of matrix products are ``value`` from the first call on."""

    def switch(pipeline: Any) -> None:
        def set_flags(*_: object) -> None:
            set_precision(value)

        from pytest_diffspeed.pipelines.components import denoiser

        denoiser(pipeline).register_forward_pre_hook(set_flags)

    return _after(owner, "apply", switch)


def set_precision(value: str) -> None:
    """Set the precision flags of products and convolutions on CUDA."""
    import torch

    backends: Any = torch.backends
    backends.cuda.matmul.fp32_precision = value
    backends.cudnn.conv.fp32_precision = value


def _fp32() -> Any:
    from pytest_diffspeed.techniques.catalog.precision import Fp32

    return _flags_during_calls(Fp32, "tf32")


def _tf32() -> Any:
    from pytest_diffspeed.techniques.catalog.precision import Tf32

    return _flags_during_calls(Tf32, "ieee")


def encoder_left_in_fp32() -> Any:
    """``bf16`` forgets one text encoder; also the fault that a dry run plants."""
    import torch

    from pytest_diffspeed.techniques.catalog.precision import Bf16

    return _after(Bf16, "apply", lambda pipeline: pipeline.text_encoder.to(torch.float32))


def _one_layout_back() -> Any:
    import torch

    from pytest_diffspeed.techniques.catalog.layout import ChannelsLast

    def back(pipeline: Any) -> None:
        pipeline.unet.conv_in.to(memory_format=torch.contiguous_format)

    return _after(ChannelsLast, "apply", back)


def _not_fused() -> Any:
    from pytest_diffspeed.techniques.catalog.projections import FusedQkv

    return _not_applied(FusedQkv)


def _not_quantized() -> Any:
    from pytest_diffspeed.adapters import torchao_internals

    return mock.patch.object(torchao_internals, "quantize_int8_dynamic", lambda *_: None)


@contextmanager
def _multiplied_in_floats() -> Iterator[None]:
    """Int8 weights, and products that torchao quietly computes in floating point."""
    import torch

    from pytest_diffspeed.adapters.torchao_internals import is_quantized
    from pytest_diffspeed.techniques.catalog.quantization import Int8Dynamic

    def forward(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        weight = layer.weight.dequantize()
        return lambda x: torch.nn.functional.linear(x, weight.to(x.dtype), layer.bias)

    def instead(pipeline: Any) -> None:
        for layer in pipeline.unet.modules():
            if is_quantized(layer, "int8", dynamic=True):
                layer.forward = forward(layer)

    with _after(Int8Dynamic, "apply_seen", instead):
        yield


def _sigmas_left() -> Any:
    from pytest_diffspeed.techniques.catalog.scheduler import CpuSigmas

    return _not_applied(CpuSigmas)


def _pinned_to_math() -> Any:
    from pytest_diffspeed.techniques.catalog.attention import SdpaFlash

    return mock.patch.object(SdpaFlash, "backend", "MATH")


def _not_compiled() -> Any:
    from pytest_diffspeed.techniques.catalog.compile import Compile

    return _not_applied(Compile)


NEGATIVES = (
    Negative("fp32", "TF32 switched on while it runs", _fp32, "expected IEEE precision"),
    Negative("tf32", "switched off while it runs", _tf32, "expected TF32 flags", cuda_only=True),
    Negative("bf16", "a text encoder left in fp32", encoder_left_in_fp32, "text_encoder"),
    Negative("channels_last", "one layer put back", _one_layout_back, "other strides in 1"),
    Negative("fused_qkv", "nothing fused", _not_fused, "found none in"),
    Negative("int8_dynamic", "nothing quantized", _not_quantized, "found them in 0"),
    Negative("int8_dynamic", "multiplied in floats", _multiplied_in_floats, "found 0"),
    Negative("cpu_sigmas", "nothing set", _sigmas_left, "begin index"),
    Negative("sdpa_flash", "pinned to math", _pinned_to_math, "_safe_softmax"),
    Negative("compile", "nothing compiled", _not_compiled, "the rest runs eagerly"),
)


def families_without() -> list[str]:
    """Families of the registry in which no proof is seen to fail."""
    from pytest_diffspeed.techniques.registry import techniques

    known = techniques()
    covered = {known[negative.technique].family for negative in NEGATIVES}
    families = {t.family.name for t in known.values() if t.family not in covered}
    return sorted(families.difference(OF_THE_HOST))
