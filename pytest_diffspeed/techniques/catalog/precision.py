"""Precision: the fp32 baseline, TF32, bfloat16 and float16."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from ...common.errors import NotEffectiveError
from ..capability import capability_below
from ..observation import VAE
from ..technique import Family, Observation, Proof, Technique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ...accelerators.device import Device

_FP32 = "torch.float32"


def _prove_dtype(
    technique: str,
    dtype_name: str,
    pipeline: DiffusionPipeline,
    seen: Observation,
    vae_dtype: str | None = None,
) -> Proof:
    """Every floating parameter has the dtype, and so has every matrix product that ran.

    ``vae_dtype`` is that of the VAE where it is another one.
    """
    from ...pipelines.components import floating_dtypes

    parameters = floating_dtypes(pipeline)
    of = {name: dtype_name for name in parameters}
    if vae_dtype is not None:
        of["vae"] = vae_dtype
    wrong = {
        component: sorted(set(dtypes) - {of[component]})
        for component, dtypes in parameters.items()
        if set(dtypes) - {of[component]}
    }
    if wrong:
        raise NotEffectiveError(
            f"{technique}: expected every parameter in {dtype_name}, found {wrong}"
        )
    other_ops = {
        (part, dtype): count
        for part, ops in seen.parts.items()
        for dtype, count in ops.op_dtypes.items()
        if dtype != (dtype_name if part != VAE or vae_dtype is None else vae_dtype)
    }
    if other_ops or not seen.op_dtypes:
        found = (
            {part: dict(ops.op_dtypes) for part, ops in seen.parts.items()}
            if seen.op_dtypes
            else "no matrix product or convolution at all"
        )
        raise NotEffectiveError(
            f"{technique}: expected every matrix product and convolution of the denoiser and the "
            f"VAE in {dtype_name}, found {found}"
        )
    ops = seen.op_dtypes[dtype_name]
    tensors = sum(sum(dtypes.values()) for dtypes in parameters.values())
    return Proof(
        technique,
        f"{tensors} parameter tensors and {ops} matrix products or convolutions in {dtype_name}",
        {"parameter_tensors": tensors, "ops": ops, "dtype": dtype_name},
    )


class Fp32(Technique):
    """The baseline: IEEE single precision in matrix products *and* convolutions."""

    name: ClassVar[str] = "fp32"
    family: ClassVar[Family] = Family.PRECISION
    summary: ClassVar[str] = "the baseline: true fp32, eager"
    changes: ClassVar[frozenset[str] | None] = frozenset()
    undoable: ClassVar[bool] = True

    def apply(self, pipeline: DiffusionPipeline) -> None:
        """Nothing to change: sources build in float32, and arms run with IEEE flags."""

    def undo(self, pipeline: DiffusionPipeline) -> None:
        """Nothing to undo."""

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ..precision_flags import require_ieee

        proof = _prove_dtype(self.name, _FP32, pipeline, seen)
        flags = require_ieee()
        return Proof(self.name, proof.found + ", IEEE flags read back", {**proof.figures, **flags})


class Tf32(Technique):
    """Float32 weights, multiplied with 10 bits of mantissa: what published "fp32" arms often are.

    Both matrix products and convolutions; of itself torch does this to convolutions only.
    """

    name: ClassVar[str] = "tf32"
    family: ClassVar[Family] = Family.PRECISION
    summary: ClassVar[str] = "float32 weights, products and convolutions in TF32"
    changes: ClassVar[frozenset[str] | None] = frozenset()
    undoable: ClassVar[bool] = True

    def missing_hardware(self, device: Device) -> str | None:
        if device.kind != "cuda":
            return "TF32 is a mode of NVIDIA's tensor cores"
        return capability_below(device, (8, 0))

    def apply(self, pipeline: DiffusionPipeline) -> None:
        """Nothing to change on the pipeline: arms run inside :meth:`running`."""

    def undo(self, pipeline: DiffusionPipeline) -> None:
        """Nothing to undo: the flags are those of a call, not of the pipeline."""

    def running(self) -> AbstractContextManager[object]:
        from ..precision_flags import fp32_precision

        return fp32_precision("tf32")

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        proof = _prove_dtype(self.name, _FP32, pipeline, seen)
        flags = _cuda_flags()
        wrong = {name: value for name, value in flags.items() if value != "tf32"}
        if wrong:
            raise NotEffectiveError(f"{self.name}: expected TF32 flags, found {wrong}")
        return Proof(self.name, proof.found + ", TF32 flags read back", {**proof.figures, **flags})


def _cuda_flags() -> dict[str, str]:
    import torch

    backends: Any = torch.backends  # the annotations lack `fp32_precision`
    return {
        "cuda.matmul": str(backends.cuda.matmul.fp32_precision),
        "cudnn.conv": str(backends.cudnn.conv.fp32_precision),
    }


class _SixteenBits(Technique):
    family: ClassVar[Family] = Family.PRECISION
    changes: ClassVar[frozenset[str] | None] = None
    why_not_undoable: ClassVar[str] = "it rounded the weights"


class Bf16(_SixteenBits):
    """All components in bfloat16."""

    name: ClassVar[str] = "bf16"
    summary: ClassVar[str] = "weights and activations in bfloat16"

    def missing_hardware(self, device: Device) -> str | None:
        # Older GPUs emulate it, slowly.
        return capability_below(device, (8, 0)) if device.kind == "cuda" else None

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        pipeline.to(dtype=torch.bfloat16)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        return _prove_dtype(self.name, "torch.bfloat16", pipeline, seen)


class Fp16(_SixteenBits):
    """All components in float16, but a VAE whose configuration asks for float32.

    ``force_upcast`` says that activations of the VAE leave float16's range (SDXL's does).  Some
    pipelines then cast its weights to float32 and back in every call; here they stay in float32,
    and ``vae.decode`` casts its input.
    """

    name: ClassVar[str] = "fp16"
    summary: ClassVar[str] = "weights and activations in float16; the VAE in float32 if it asks"

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        from ...pipelines.components import modules, vae

        keeps = _keeps_float32(pipeline)
        for name, part in modules(pipeline).items():
            if not (keeps and name == "vae"):
                part.to(dtype=torch.float16)
        if keeps:
            decoder = vae(pipeline)
            decoder.decode = _in_float32(decoder.decode)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        dtype = "torch.float16"
        if not _keeps_float32(pipeline):
            return _prove_dtype(self.name, dtype, pipeline, seen)
        proof = _prove_dtype(self.name, dtype, pipeline, seen, vae_dtype=_FP32)
        figures: Mapping[str, Any] = {**proof.figures, "vae_dtype": _FP32}
        return Proof(
            self.name, f"{proof.found}; the VAE in float32, as its configuration asks", figures
        )


def _keeps_float32(pipeline: DiffusionPipeline) -> bool:
    from ...pipelines.components import vae

    return bool(getattr(getattr(vae(pipeline), "config", None), "force_upcast", False))


def _in_float32(decode: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    @functools.wraps(decode)
    def decode_in_float32(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return decode(z.to(torch.float32), *args, **kwargs)

    return decode_in_float32


TECHNIQUES: tuple[Technique, ...] = (Fp32(), Tf32(), Bf16(), Fp16())
