"""Compilation of the blocks that repeat in each denoiser, each kind of them once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ...common.errors import NotEffectiveError
from ...common.text import plural
from ..arguments import Parameter
from ..observation import CompiledBlock, CompiledPart
from ..repeated_blocks import RepeatedBlocks, repeated_blocks
from ..targets import targets_of
from ..technique import Observation, Proof, Technique
from ..undo_notes import memory, owners
from .compile import Compile

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class CompileRegional(Compile):
    """``block.compile(fullgraph=True)`` of each repeated block, with the guide's flags.

    A model of many blocks of one kind compiles for as long as one of them takes: dynamo keeps what
    it compiled with the code of the class, and all instances run it.  The VAE stays eager,
    as in diffusers' recipe: it has no blocks that diffusers would compile so, and its decode as a
    whole would be one more long compilation.

    No mode that records CUDA graphs: a graph is recorded for the weights of each instance, so
    nothing would be shared any more.
    """

    name: ClassVar[str] = "compile_regional"
    summary: ClassVar[str] = "torch.compile of the repeated blocks of each denoiser, fullgraph"
    changes: ClassVar[frozenset[str] | None] = frozenset({"denoiser"})
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType(
        {"mode": Parameter("default", "inductor's mode", ("default", "max-autotune-no-cudagraphs"))}
    )
    compiled_unit: ClassVar[str] = "block"

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        reason = super().incompatible(pipeline)
        if reason is not None:
            return reason
        left = _left(pipeline)
        if len(left) < len(targets_of(pipeline).denoisers):
            return None
        return f"{'; '.join(left.values()) or 'it has no denoiser'}; use 'compile'"

    def apply(self, pipeline: DiffusionPipeline) -> None:
        notes, options = memory(pipeline, self.name), self._options_on(pipeline)
        for part, model in targets_of(pipeline).denoisers.items():
            notes[part] = repeated_blocks(model)
            for block in notes[part].blocks.values():
                block.compile(**options)

    def _options_on(self, pipeline: DiffusionPipeline) -> dict[str, Any]:
        """Attention is pinned around the denoiser's forward, so beside one that is not, or to
        another kernel, the code of its blocks looks the same to dynamo.
        """
        from ...adapters.torch_internals import told_apart
        from .attention import TECHNIQUES as KERNELS

        options, applied = self.options(), owners(pipeline)
        pinned = "+".join(kernel.name for kernel in KERNELS if kernel.name in applied)
        if pinned and "options" in options:
            options["options"] = told_apart(options["options"], pinned)
        return options

    def undo(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.torch_internals import uncompile

        notes: Mapping[str, RepeatedBlocks] = memory(pipeline, self.name)
        for chosen in notes.values():
            for block in chosen.blocks.values():
                uncompile(block)

    def running(self) -> AbstractContextManager[object]:
        from ...adapters.recompile_limit import recompiling_up_to_its_cap

        return recompiling_up_to_its_cap()

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        notes: Mapping[str, RepeatedBlocks] = memory(pipeline, self.name)
        traces, left = seen.compiled or {}, _left(pipeline)
        taken = [part for part in targets_of(pipeline).denoisers if part not in left]
        for part in taken:
            self._require_blocks(part, notes.get(part), traces.get(part), seen.steps)
        kinds = {part: _kinds(traces[part].blocks) for part in taken}
        shares = {part: _flops_share(part, traces[part].blocks, seen) for part in taken}
        for part, of_part in kinds.items():
            for kind in of_part:
                self._require_shared(part, kind)
        found = [
            f"{' and '.join(map(str, kinds[part]))} of the {part}, {shares[part]:.1%} of its "
            "linear and convolution FLOPs"
            for part in taken
        ]
        found += [f"not in the {part}: {why}" for part, why in left.items()]
        eager = [part for part in traces if part not in targets_of(pipeline).denoisers]
        if eager:
            found.append(f"{' and '.join(eager)} eager")
        return Proof(
            self.name,
            f"blocks that ran compiled code in each call, in {seen.steps} steps: "
            f"{'; '.join(found)}",
            {
                "blocks": {part: {kind.name: vars(kind) for kind in kinds[part]} for part in taken},
                "flops_share": shares,
                "named_by": {part: notes[part].named_by for part in taken},
                **({"left": left} if left else {}),
                **self.options().get("options", {}),
            },
        )

    def _require_blocks(
        self, part: str, chosen: RepeatedBlocks | None, trace: CompiledPart | None, steps: int
    ) -> None:
        blocks = {} if trace is None else trace.blocks
        wanted = {} if chosen is None else chosen.blocks
        missing = [path for path in wanted if path not in blocks]
        if missing or not wanted:
            without = f"; without: {', '.join(missing[:3])}" if missing else ""
            raise NotEffectiveError(
                f"{self.name}: expected the repeated blocks of {part} to be compiled by "
                f"themselves, found {len(blocks)} that are{without}"
            )
        for path, block in blocks.items():
            if block.calls:  # some models leave blocks out of a call
                self._require_compiled(f"{part}.{path}", block, steps)
        if not any(block.calls for block in blocks.values()):
            raise NotEffectiveError(
                f"{self.name}: expected the {len(blocks)} compiled blocks of {part} to be called "
                f"in a call of {steps} steps, found no call of any, so compiling them changes "
                "nothing"
            )

    def _require_shared(self, part: str, kind: _Kind) -> None:
        """Blocks of one kind that compile once each take as long as the whole denoiser."""
        if kind.compilations == kind.called > kind.shapes:
            raise NotEffectiveError(
                f"{self.name}: expected the {kind.called} {kind.name} of {part} that were called "
                f"to share what is compiled, since they were given {plural(kind.shapes, 'shape')}, "
                f"found {kind.compilations} compilations: each is compiled by itself (see which "
                "guards differ with TORCH_LOGS=recompiles)"
            )


@dataclass(frozen=True)
class _Kind:
    """The blocks of one class in one denoiser.

    ``instances`` are compiled, of which ``called`` were called, ``calls`` times all together, in
    which compiled code ran ``runs`` times, of ``compilations``.  ``shapes`` are what they were
    given, inputs and weights: one compilation can hold for several, if sizes are dynamic.
    """

    name: str
    instances: int
    called: int
    calls: int
    runs: int
    compilations: int
    shapes: int

    def __str__(self) -> str:
        """``4 FluxSingleTransformerBlock (1 compilation)``."""
        how_many = (
            str(self.called)
            if self.called == self.instances
            else (f"{self.called} of {self.instances}")
        )
        return f"{how_many} {self.name} ({plural(self.compilations, 'compilation')})"


def _kinds(blocks: Mapping[str, CompiledBlock]) -> list[_Kind]:
    of_kind: dict[str, list[CompiledBlock]] = {}
    for block in blocks.values():
        of_kind.setdefault(block.kind, []).append(block)
    return [
        _Kind(
            name,
            len(same),
            sum(block.calls > 0 for block in same),
            sum(block.calls for block in same),
            sum(block.runs for block in same),
            len(frozenset().union(*(block.compilations for block in same))),
            len(frozenset().union(*(block.shapes for block in same))),
        )
        for name, same in of_kind.items()
    ]


def _flops_share(part: str, blocks: Iterable[str], seen: Observation) -> float:
    """Of the FLOPs of the linear layers and convolutions of ``part``, those inside ``blocks``."""
    flops = {name: linear.flops for name, linear in seen.linears.items()}
    flops.update(seen.convolution_flops)
    own = {name: count for name, count in flops.items() if name.startswith(f"{part}.")}
    inside = tuple(f"{part}.{path}." for path in blocks)
    total = sum(own.values())
    return sum(n for name, n in own.items() if name.startswith(inside)) / total if total else 0.0


def _left(pipeline: DiffusionPipeline) -> dict[str, str]:
    """Denoisers in which nothing repeats, and what that means of each."""
    return {
        part: f"no block of its {part}, a {type(model).__name__}, repeats"
        for part, model in targets_of(pipeline).denoisers.items()
        if not repeated_blocks(model).blocks
    }


TECHNIQUES: tuple[Technique, ...] = (CompileRegional(),)
