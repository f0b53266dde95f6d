"""Weights wait on the host, and are on the device only while what they belong to runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ...accelerators.features import MEMORY_OF_ITS_OWN, Feature
from ...common.errors import IncompatibleError, NotEffectiveError, UnknownStackError
from ...common.text import listed, size
from ..arguments import Parameter, Value, bound
from ..targets import targets_of
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from ..offload_watch import Moves

_COMPILED = (
    "hooks that move weights are kept out of compiled code (`torch.compiler.disable`), so each is "
    "a graph break, and nothing here compiles without `fullgraph=True`"
)
_QUANTIZED = (
    "quantized weights are made of several tensors, of which hooks of some versions of diffusers "
    "move the outermost alone, or are cast by hooks of their own"
)


class _Offload(Technique):
    """What both ways have in common: how they are proven, refused and undone."""

    family: ClassVar[Family] = Family.OFFLOAD
    changes: ClassVar[frozenset[str] | None] = None
    undoable: ClassVar[bool] = True
    saves_memory: ClassVar[bool] = True
    watches: ClassVar[bool] = True
    needs: ClassVar[tuple[Feature, ...]] = (MEMORY_OF_ITS_OWN,)
    contradicts_families: ClassVar[Mapping[Family, str]] = MappingProxyType(
        {Family.COMPILE: _COMPILED, Family.QUANTIZATION: _QUANTIZED}
    )

    def watch(self, pipeline: DiffusionPipeline) -> AbstractContextManager[object]:
        from ..offload_watch import watched_moves

        return watched_moves(pipeline)

    def apply(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.diffusers_offload import own_forwards
        from ...adapters.offload_hooks import computes_on
        from ...pipelines.components import modules

        self.require_plain(modules(pipeline))
        notes = memory(pipeline, self.name)
        notes["device"] = device = computes_on(pipeline)
        notes["forwards"] = own_forwards(modules(pipeline).values())
        self.offload(pipeline, device)

    def require_plain(self, parts: Mapping[str, torch.nn.Module]) -> None:
        """Refuse weights that another technique of the stack has quantized."""
        from ...adapters.module_state import is_made_of_others

        for name, part in parts.items():
            if any(is_made_of_others(weight) for weight in part.parameters()):
                raise IncompatibleError(
                    f"{self.name} is incompatible with quantized weights ({name}): {_QUANTIZED}"
                )

    def offload(self, pipeline: DiffusionPipeline, device: torch.device) -> None:
        """Put the hooks on, and the weights on the host."""
        raise NotImplementedError

    def stays(self, pipeline: DiffusionPipeline) -> frozenset[str]:
        """Components that are not meant to leave the device."""
        return frozenset()

    def undo(self, pipeline: DiffusionPipeline) -> None:
        from ...adapters.diffusers_offload import remove_offloading
        from ...pipelines.components import modules

        notes = memory(pipeline, self.name)
        if "device" in notes:
            parts = modules(pipeline).values()
            remove_offloading(pipeline, parts, notes["device"], notes["forwards"])

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        now: Moves | None = seen.own.get(self.name)
        was: Moves | None = None if seen.before is None else seen.before.own.get(self.name)
        if now is None or was is None:
            raise NotEffectiveError(f"{self.text}: expected calls to be watched, found none")
        ran = {n: c for n, c in now.components.items() if c.on_device or c.on_host}
        silent = [n for n in targets_of(pipeline).denoisers if n.partition(".")[0] not in ran]
        if silent:
            raise NotEffectiveError(f"{self.text}: expected {silent[0]} to run, found no op of it")
        for name, component in now.components.items():
            if name in self.stays(pipeline):
                continue
            if component.left_bytes:
                raise NotEffectiveError(
                    f"{self.text}: expected the weights of {name} on the host after a call, found "
                    f"{size(component.left_bytes)} of {size(component.weight_bytes)} on the device"
                )
            if name in ran and (component.on_host or not component.copied_bytes):
                raise NotEffectiveError(
                    f"{self.text}: expected {name} to run on the device with weights copied there, "
                    f"found {component.on_host} of its products and convolutions on the host and "
                    f"{size(component.copied_bytes)} copied"
                )
        if now.peak_bytes >= was.peak_bytes:
            raise NotEffectiveError(
                f"{self.text}: expected less than {size(was.peak_bytes)} on the device at once, "
                f"found {size(now.peak_bytes)}: all weights of a call are needed together"
            )
        steps = max(seen.steps, 1)
        per_step = {
            n: ran[n].copied_bytes / steps for n in targets_of(pipeline).denoisers if n in ran
        }
        told = ", ".join(f"{name} {size(many)}" for name, many in per_step.items())
        return Proof(
            self.name,
            f"weights of {listed(list(ran), 4)} on the device only while they ran: "
            f"{size(now.peak_bytes)} at once in place of {size(was.peak_bytes)}; "
            f"{size(now.to_device)} copied to the device and {size(now.to_host)} back in "
            f"{seen.steps} steps ({told} a step)",
            {
                "peak_bytes": now.peak_bytes,
                "peak_bytes_before": was.peak_bytes,
                "to_device_bytes": now.to_device,
                "to_device_bytes_before": was.to_device,
                "to_host_bytes": now.to_host,
                "steps": seen.steps,
                "denoiser_bytes_per_step": per_step,
                "components": {name: vars(one) for name, one in ran.items()},
            },
        )


class ModelOffload(_Offload):
    """One component at a time is on the device: diffusers' ``enable_model_cpu_offload``."""

    name: ClassVar[str] = "model_offload"
    summary: ClassVar[str] = "components wait on the host until they run"

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        if getattr(pipeline, "model_cpu_offload_seq", None) is None:
            return "its class does not say in which order its models run (`model_cpu_offload_seq`)"
        return None

    def stays(self, pipeline: DiffusionPipeline) -> frozenset[str]:
        from ...adapters.diffusers_offload import excluded_from_offloading

        return excluded_from_offloading(pipeline)

    def offload(self, pipeline: DiffusionPipeline, device: torch.device) -> None:
        from ...adapters.diffusers_offload import offload_models

        offload_models(pipeline, device)


class GroupOffload(_Offload):
    """Layers, or groups of blocks of the denoisers, are on the device while they run.

    As diffusers' own guide has it, blocks are for denoisers: of all other components single layers
    are moved.
    """

    name: ClassVar[str] = "group_offload"
    summary: ClassVar[str] = "layers or groups of blocks wait on the host until they run"
    by_place: ClassVar[int] = 1
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType(
        {
            "level": Parameter("leaf_level", "what is moved", ("leaf_level", "block_level")),
            "num_blocks_per_group": Parameter(1, "blocks that are moved together"),
        }
    )

    def read_arguments(self, given: Sequence[tuple[str | None, Value]]) -> Mapping[str, Value]:
        found = bound(self.name, given, self.parameters)
        blocks = found.get("num_blocks_per_group", 1)
        if not isinstance(blocks, int) or blocks < 1:
            raise UnknownStackError(
                f"num_blocks_per_group of {self.name!r} is how many blocks are moved together, at "
                f"least 1, not {blocks!r}"
            )
        if "num_blocks_per_group" in found and found.get("level") != "block_level":
            raise UnknownStackError(
                f"num_blocks_per_group of {self.name!r} is for blocks; write "
                f"'{self.name}(block_level, num_blocks_per_group={blocks})'"
            )
        return found

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        from ...adapters.diffusers_offload import why_no_groups
        from ...pipelines.components import modules

        reasons = (why_no_groups(part) for part in modules(pipeline).values())
        return next((why for why in reasons if why is not None), None)

    def offload(self, pipeline: DiffusionPipeline, device: torch.device) -> None:
        from ...adapters.diffusers_offload import offload_groups
        from ...pipelines.components import modules

        level: Any = self.argument("level")
        number: Any = self.argument("num_blocks_per_group")
        denoisers = {name.partition(".")[0] for name in targets_of(pipeline).denoisers}
        for name, part in modules(pipeline).items():
            if level == "block_level" and name in denoisers:
                offload_groups(part, device, level=level, blocks=number)
            else:
                offload_groups(part, device, level="leaf_level", blocks=None)


TECHNIQUES: tuple[Technique, ...] = (ModelOffload(), GroupOffload())
