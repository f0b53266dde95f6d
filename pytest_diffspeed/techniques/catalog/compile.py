"""Compilation of each denoiser and of ``vae.decode``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ...accelerators.registry import accelerator_of
from ...common.errors import NotEffectiveError
from ..arguments import Parameter, Value
from ..observation import CompiledPart, CudaGraphs
from ..targets import targets_of
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory, put_back

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

# The flags of the guide "Accelerate inference".  They concern GPUs: 1×1 convolutions as matrix
# products, block sizes searched by coordinate descent (in all directions), no epilogues fused into
# Triton products, and the multiplication after an int8 product fused into it.
GUIDE_FLAGS: Mapping[str, bool] = MappingProxyType(
    {
        "conv_1x1_as_mm": True,
        "coordinate_descent_tuning": True,
        "coordinate_descent_check_all_directions": True,
        "epilogue_fusion": False,
        "force_fuse_int_mm_with_mul": True,
    }
)


REPLAYING = ("reduce-overhead", "max-autotune")
"""Modes of inductor that record CUDA graphs on a GPU."""
CALLS_UNTIL_RECORDED = 2
"""The first run of a function warms up, the second is recorded; vae.decode runs once a call."""


class Compile(Technique):
    """``torch.compile``, in its default mode or another, one graph per component, with the guide's
    flags.

    A CUDA graph writes its outputs to the same memory each time, so in modes that have them the
    compiled calls begin a step and hand out copies.
    """

    name: ClassVar[str] = "compile"
    family: ClassVar[Family] = Family.COMPILE
    summary: ClassVar[str] = "torch.compile of each denoiser and vae.decode, fullgraph"
    undoable: ClassVar[bool] = True
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType(
        {
            "mode": Parameter(
                "default",
                "inductor's mode",
                ("default", *REPLAYING, "max-autotune-no-cudagraphs"),
            )
        }
    )
    backend: ClassVar[str] = "inductor"
    mode: str | None = None
    flags: ClassVar[Mapping[str, Any]] = GUIDE_FLAGS

    def with_arguments(self, arguments: Mapping[str, Value]) -> Technique:
        configured = super().with_arguments(arguments)
        if isinstance(configured, Compile) and "mode" in arguments:
            configured.mode = str(arguments["mode"])
            configured.extra_warmup_calls = CALLS_UNTIL_RECORDED * configured.replays_graphs
        return configured

    @property
    def replays_graphs(self) -> bool:
        """Whether its mode records CUDA graphs where the device has them."""
        return self.mode in REPLAYING

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        if self.arguments and self.backend != "inductor":
            return f"modes are inductor's, and it compiles with {self.backend!r}"
        return super().incompatible(pipeline)

    def options(self) -> dict[str, Any]:
        """Words for ``torch.compile``.  Inductor's flags go with each compilation of this callable,
        the later ones of a recompilation too, and are never set globally.
        """
        options: dict[str, Any] = {"fullgraph": True, "backend": self.backend}
        if self.backend == "inductor":
            from ...adapters.torch_internals import inductor_options

            options["options"] = inductor_options(self.mode, self.flags)
        return options

    def apply(self, pipeline: DiffusionPipeline) -> None:
        import torch

        from ...adapters.torch_internals import fresh_outputs, wrap_compiled_call

        targets = targets_of(pipeline)
        for model in targets.denoisers.values():
            model.compile(**self.options())
            if self.replays_graphs:
                wrap_compiled_call(model, fresh_outputs)
        notes = memory(pipeline, self.name)
        for name, decoder in targets.decoders.items():
            notes[name] = vars(decoder).get("decode")
            decode = torch.compile(decoder.decode, **self.options())
            decoder.decode = fresh_outputs(decode) if self.replays_graphs else decode

    def undo(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.torch_internals import uncompile

        targets, notes = targets_of(pipeline), memory(pipeline, self.name)
        for model in targets.denoisers.values():
            uncompile(model)
        for name, decoder in targets.decoders.items():
            if name in notes:
                put_back(decoder, "decode", notes[name])

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        proof = self._prove_compiled(pipeline, seen)
        return self._prove_graphs(proof, pipeline, seen) if self.replays_graphs else proof

    def _prove_compiled(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        parts = seen.compiled or {}
        missing = sorted(set(targets_of(pipeline).denoisers) - set(parts))
        if missing:
            raise NotEffectiveError(
                f"{self.name}: expected each denoiser to be looked at, found that "
                f"{', '.join(missing)} was not"
            )
        for part, trace in parts.items():
            self._require_compiled(part, trace, seen.steps)
        found = ", ".join(f"{part} {trace.runs} of {trace.calls}" for part, trace in parts.items())
        return Proof(
            self.name,
            f"calls that ran compiled code, in {seen.steps} steps: {found}; nothing ran eagerly",
            {
                "compiled_frames": sum(len(trace.frames) for trace in parts.values()),
                "runs": {part: trace.runs for part, trace in parts.items()},
                "calls": {part: trace.calls for part, trace in parts.items()},
                "eager_ops": sum(sum(trace.eager_ops.values()) for trace in parts.values()),
                **self.options().get("options", {}),
            },
        )

    def _require_compiled(self, part: str, trace: CompiledPart, steps: int) -> None:
        if not trace.calls:
            raise NotEffectiveError(
                f"{self.name}: expected {part} to be called in a call of {steps} steps, found no "
                "call of it, so compiling it changes nothing"
            )
        if trace.runs < trace.calls:
            raise NotEffectiveError(
                f"{self.name}: expected compiled code to run in each call of {part}, found it in "
                f"{trace.runs} of {trace.calls}: the rest runs eagerly"
            )
        if trace.resumed:
            raise NotEffectiveError(
                f"{self.name}: expected one graph for each call of {part}, found {trace.resumed} "
                f"pieces resumed after a graph break in {trace.calls} calls"
            )
        if self.backend == "inductor" and trace.graph_calls < trace.calls:
            raise NotEffectiveError(
                f"{self.name}: expected a graph of inductor's to run in each call of {part}, found "
                f"{trace.graph_calls} in {trace.calls}"
            )
        if trace.eager_ops:
            ops = ", ".join(f"{count} {name}" for name, count in trace.eager_ops.items())
            raise NotEffectiveError(
                f"{self.name}: expected all arithmetic of {part} in compiled code, found outside "
                f"of it {ops}: a piece runs eagerly"
            )

    def _prove_graphs(self, proof: Proof, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        if not accelerator_of(pipeline.device).has_graphs:
            return Proof(
                self.name,
                f"{proof.found}; CUDA graphs do not exist on {pipeline.device.type}",
                {**proof.figures, "cuda_graphs": "not applicable"},
            )
        graphs = seen.cuda_graphs
        calls = sum(trace.calls for trace in (seen.compiled or {}).values())
        require_cuda_graphs(self.name, graphs, calls)
        return Proof(
            self.name,
            f"{proof.found}; {graphs.launches} CUDA graphs launched, none skipped",
            {**proof.figures, "cuda_graphs": graphs.launches},
        )


class CompileMaxAutotune(Compile):
    """``compile(mode=max-autotune)``: kernels chosen by measuring, and CUDA graphs on a GPU."""

    name: ClassVar[str] = "compile_max_autotune"
    summary: ClassVar[str] = "torch.compile in mode max-autotune, with CUDA graphs on a GPU"
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType({})
    mode: str | None = "max-autotune"
    extra_warmup_calls: int = CALLS_UNTIL_RECORDED


def require_cuda_graphs(technique: str, graphs: CudaGraphs, calls: int = 1) -> None:
    """Refuse a stack whose CUDA graphs were skipped or not launched in each of ``calls``.

    Inductor cuts a function at what no CUDA graph can hold, and gives up without counting a skip
    where nothing is left of it (``cudagraph_partition_post_compile``, read in torch 2.11 and 2.14).

    Raises:
        NotEffectiveError: with how many, and inductor's reasons.
    """
    if graphs.skips or graphs.launches < max(calls, 1):
        reasons = f" ({'; '.join(graphs.reasons)})" if graphs.reasons else ""
        raise NotEffectiveError(
            f"{technique}: expected CUDA graphs to be launched in each of {calls} compiled calls "
            f"and none to be skipped, found {graphs.launches} launches and {graphs.skips} "
            f"skipped{reasons}"
        )


TECHNIQUES: tuple[Technique, ...] = (Compile(), CompileMaxAutotune())
