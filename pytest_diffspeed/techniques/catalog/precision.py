"""Precision: the fp32 baseline and bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...errors import NotEffectiveError
from ..base import Family, Observation, Proof, Technique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def _prove_dtype(
    technique: str, dtype_name: str, pipeline: DiffusionPipeline, seen: Observation
) -> Proof:
    """Every floating parameter has the dtype, and so has every matrix product that ran."""
    from ...pipelines.components import floating_dtypes

    parameters = floating_dtypes(pipeline)
    wrong = {
        component: sorted(set(dtypes) - {dtype_name})
        for component, dtypes in parameters.items()
        if set(dtypes) - {dtype_name}
    }
    if wrong:
        raise NotEffectiveError(
            f"{technique}: expected every parameter in {dtype_name}, found {wrong}"
        )
    other_ops = {dtype: count for dtype, count in seen.op_dtypes.items() if dtype != dtype_name}
    if other_ops or not seen.op_dtypes:
        found = dict(seen.op_dtypes) or "no matrix product or convolution at all"
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

    def apply(self, pipeline: DiffusionPipeline) -> None:
        """Nothing to change: sources build in float32, and arms run with IEEE flags."""

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ...precision import require_ieee

        proof = _prove_dtype(self.name, "torch.float32", pipeline, seen)
        flags = require_ieee()
        return Proof(self.name, proof.found + ", IEEE flags read back", {**proof.figures, **flags})


class Bf16(Technique):
    """All components in bfloat16."""

    name: ClassVar[str] = "bf16"
    family: ClassVar[Family] = Family.PRECISION
    summary: ClassVar[str] = "weights and activations in bfloat16"
    changes: ClassVar[frozenset[str] | None] = None

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        pipeline.to(dtype=torch.bfloat16)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        return _prove_dtype(self.name, "torch.bfloat16", pipeline, seen)


TECHNIQUES: tuple[Technique, ...] = (Fp32(), Bf16())
