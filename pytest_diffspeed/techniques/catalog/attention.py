"""Attention: which kernel computes it in each denoiser and in the VAE.

Text encoders dispatch attention of their own, with causal masks that few kernels take; they stay
as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ...accelerators.features import (
    CUDNN_ATTENTION,
    EFFICIENT_ATTENTION,
    FAST_ATTENTION_IN_FLOAT32,
    FLASH_ATTENTION,
    Feature,
)
from ...accelerators.registry import missing_feature
from ...common.errors import NotEffectiveError
from ..observation import (
    DENOISER,
    FUSED_ATTENTION,
    MATH_ATTENTION,
)
from ..targets import targets_of
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory, put_back

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from ...accelerators.device import Device

_SIXTEEN_BITS = frozenset({"bf16", "fp16"})
BEFORE_CUDA_GRAPHS = "before CUDA graphs"
"""In the figures of a proof: the graphs that are replayed were not looked into."""
_VAE_LEFT = "vae left"  # a note: why the VAE keeps its own attention


class AttentionTechnique(Technique):
    """What all have in common: they need attention to work on, and can be undone."""

    family: ClassVar[Family] = Family.ATTENTION
    undoable: ClassVar[bool] = True
    watches: ClassVar[bool] = True

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        if not before.part(DENOISER).sdpa_calls:
            names = " and ".join(before.denoisers) or "denoiser"
            return f"its {names} does not call scaled_dot_product_attention"
        return None

    def without_attention(self, pipeline: DiffusionPipeline, seen: Observation) -> str:
        """For the end of a proof: the denoisers in which there is nothing to change."""
        before = seen.before or Observation()
        idle = [p for p in targets_of(pipeline).denoisers if not before.part(p).sdpa_calls]
        return f"; SDPA is not called in the {' and '.join(idle)}" if idle else ""

    def require_only(
        self,
        pipeline: DiffusionPipeline,
        seen: Observation,
        expected: frozenset[str],
        forbidden: frozenset[str],
        *,
        decoders: bool = True,
    ) -> Mapping[str, dict[str, int]]:
        """In each part, as many of ``expected`` as SDPA was called before, and none forbidden."""
        before = seen.before or Observation()
        targets = targets_of(pipeline)
        for part in targets.all if decoders else targets.denoisers:
            wanted = before.part(part).sdpa_calls
            found = seen.part(part).attention
            other = {name: n for name, n in found.items() if name in forbidden}
            count = sum(n for name, n in found.items() if name in expected)
            if other or count < wanted:
                raise NotEffectiveError(
                    f"{self.name}: expected {wanted} attentions in the {part} by "
                    f"{' or '.join(sorted(expected))}, found {dict(found) or 'none'}"
                )
        return {part: dict(seen.part(part).attention) for part in targets.all}

    def require_compiled_only(
        self,
        pipeline: DiffusionPipeline,
        seen: Observation,
        expected: frozenset[str],
        *,
        decoders: bool = True,
    ) -> Mapping[str, Any]:
        """In compiled code, no fused kernel but the expected one, and that one in each denoiser
        that had attention before it was compiled.

        The replay of a CUDA graph shows no ops.  Where graphs were launched, what is seen all the
        same must be the expected kernel; that there was one is known from the eager proof alone,
        and the figures say so.
        """
        replayed = seen.cuda_graphs.launches > 0
        targets = targets_of(pipeline)
        attends = [p for p in targets.denoisers if not seen.parts or seen.part(p).attention]
        decoded = [f"{name}.decode" for name in targets.decoders] if decoders else []
        for part in [*targets.denoisers, *decoded]:
            trace = (seen.compiled or {}).get(part)
            found = {} if trace is None else dict(trace.attention)
            other = sorted(set(found) - expected)
            missing = expected and part in attends and not found and not replayed
            if other or missing:
                raise NotEffectiveError(
                    f"{self.name}: expected attention in the compiled {part} by "
                    f"{' or '.join(sorted(expected)) or 'no fused kernel'}, found "
                    f"{found or 'none'}"
                )
        attention = {
            part: dict(trace.attention)
            for part, trace in (seen.compiled or {}).items()
            if trace.attention or not replayed
        }
        if replayed:
            seen_before: dict[str, Any] = {"attention_seen": BEFORE_CUDA_GRAPHS}
            return {**seen_before, "compiled_attention": attention} if attention else seen_before
        return {"compiled_attention": attention}


class Sdpa(AttentionTechnique):
    """``scaled_dot_product_attention`` by one backend and no other.

    ``torch.nn.attention.sdpa_kernel`` is entered in the forward of each denoiser and of the VAE's
    encoder and decoder.  The pinned backend of diffusers (``set_attention_backend``) is not used:
    models with older processors ignore it, and it also sets a default for the whole process.
    """

    backend: ClassVar[str]
    """The member of ``torch.nn.attention.SDPBackend``."""
    ops: ClassVar[frozenset[str]]
    needs_in_float32: ClassVar[Feature | None] = None
    """What the device must be able to do unless the stack has a precision of 16 bits."""

    def incompatible_with_stack(self, stack: Mapping[str, Technique], device: Device) -> str | None:
        if self.needs_in_float32 is None or _SIXTEEN_BITS & set(stack):
            return None
        missing = missing_feature(device, self.needs_in_float32)
        if missing is None:
            return None
        others = "+".join(name for name in stack if name not in ("fp32", "tf32"))
        return f"{missing}; write 'bf16+{others}'"

    def explain(self, error: Exception) -> str | None:
        text = str(error)
        if "No available kernel" in text or "No viable backend" in text:
            return (
                f"torch has no {self.backend} kernel for the shapes, dtypes or masks of its "
                "attention"
            )
        return None

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        backend = getattr(torch.nn.attention.SDPBackend, self.backend)
        notes = memory(pipeline, self.name)
        for part, module in _attending(pipeline).items():
            notes[part] = vars(module).get("forward")
            module.forward = _pinned(module.forward, backend)

    def apply_seen(self, pipeline: DiffusionPipeline, observe: Callable[[], Observation]) -> None:
        """Leave the VAE's attention alone where torch has no such kernel for it, and note that.

        The VAEs of SDXL and Flux attend with one head of 512, more than the fast kernels take on
        CUDA.  What the denoiser cannot take is an error.
        """
        self.apply(pipeline)
        try:
            observe()
        except RuntimeError as error:
            why = self.explain(error)
            if why is None:
                raise
            for part in _attending(pipeline).keys() - targets_of(pipeline).denoisers.keys():
                self._undo_part(pipeline, part)
            memory(pipeline, self.name)[_VAE_LEFT] = why

    def undo(self, pipeline: DiffusionPipeline) -> None:
        for part in _attending(pipeline):
            self._undo_part(pipeline, part)

    def _undo_part(self, pipeline: DiffusionPipeline, part: str) -> None:
        notes = memory(pipeline, self.name)
        if part in notes:
            put_back(_attending(pipeline)[part], "forward", notes.pop(part))

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        forbidden = (FUSED_ATTENTION | {MATH_ATTENTION}) - self.ops
        left = memory(pipeline, self.name).get(_VAE_LEFT)
        found = self.require_only(pipeline, seen, self.ops, forbidden, decoders=left is None)
        counts = ", ".join(
            f"{count} {name} in the {part}"
            for part, ops in found.items()
            if left is None or part in targets_of(pipeline).denoisers
            for name, count in ops.items()
            if name in self.ops
        )
        figures: dict[str, Any] = {"attention": found}
        if left is not None:
            counts += f"; the VAE keeps its own attention, since {left}"
            figures["vae_left"] = left
        counts += self.without_attention(pipeline, seen)
        return Proof(self.name, f"dispatched {counts}", figures)

    def prove_compiled(
        self, pipeline: DiffusionPipeline, seen: Observation
    ) -> Mapping[str, Any] | None:
        left = _VAE_LEFT in memory(pipeline, self.name)
        kernels = self.ops & FUSED_ATTENTION
        return self.require_compiled_only(pipeline, seen, kernels, decoders=not left)


class SdpaFlash(Sdpa):
    name: ClassVar[str] = "sdpa_flash"
    summary: ClassVar[str] = "attention by the flash kernel"
    backend: ClassVar[str] = "FLASH_ATTENTION"
    ops: ClassVar[frozenset[str]] = frozenset(
        {
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_for_cpu",
        }
    )
    needs: ClassVar[tuple[Feature, ...]] = (FLASH_ATTENTION,)
    needs_in_float32: ClassVar[Feature | None] = FAST_ATTENTION_IN_FLOAT32


class SdpaEfficient(Sdpa):
    name: ClassVar[str] = "sdpa_efficient"
    summary: ClassVar[str] = "attention by the memory-efficient kernel, which takes masks"
    backend: ClassVar[str] = "EFFICIENT_ATTENTION"
    ops: ClassVar[frozenset[str]] = frozenset({"_scaled_dot_product_efficient_attention"})
    needs: ClassVar[tuple[Feature, ...]] = (EFFICIENT_ATTENTION,)


class SdpaCudnn(Sdpa):
    name: ClassVar[str] = "sdpa_cudnn"
    summary: ClassVar[str] = "attention by cuDNN"
    backend: ClassVar[str] = "CUDNN_ATTENTION"
    ops: ClassVar[frozenset[str]] = frozenset({"_scaled_dot_product_cudnn_attention"})
    needs: ClassVar[tuple[Feature, ...]] = (CUDNN_ATTENTION,)
    needs_in_float32: ClassVar[Feature | None] = FAST_ATTENTION_IN_FLOAT32


class SdpaMath(Sdpa):
    """The reference inside ``scaled_dot_product_attention``: products around one softmax."""

    name: ClassVar[str] = "sdpa_math"
    summary: ClassVar[str] = "attention by torch's reference, unfused"
    backend: ClassVar[str] = "MATH"
    ops: ClassVar[frozenset[str]] = frozenset({MATH_ATTENTION})
    contradicts: ClassVar[Mapping[str, str]] = dict.fromkeys(
        sorted(_SIXTEEN_BITS), "torch's reference computes 16-bit attention in float32"
    )


def _attending(pipeline: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """The modules whose forward contains attention: each denoiser, both halves of a VAE."""
    targets = targets_of(pipeline)
    halves = {
        f"{name}.{half}": getattr(decoder, half, None)
        for name, decoder in targets.decoders.items()
        for half in ("encoder", "decoder")
    }
    return {**targets.denoisers, **{n: half for n, half in halves.items() if half is not None}}


def _pinned(forward: Any, backend: Any) -> Any:
    from torch.nn.attention import sdpa_kernel

    @functools.wraps(forward)
    def with_kernel(*args: Any, **kwargs: Any) -> Any:
        with sdpa_kernel(backend):
            return forward(*args, **kwargs)

    return with_kernel


TECHNIQUES: tuple[Technique, ...] = (
    SdpaFlash(),
    SdpaEfficient(),
    SdpaCudnn(),
    SdpaMath(),
)
