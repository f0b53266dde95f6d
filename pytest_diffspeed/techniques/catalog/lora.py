"""LoRA adapters: the model with a small one added, beside its layers or merged into them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from ...common.errors import IncompatibleError, NotEffectiveError, SourceError, UnknownStackError
from ...common.text import listed, plural
from ..arguments import Parameter, Value, bound, canonical
from ..observation import Observation
from ..targets import targets_of
from ..technique import Family, Proof, Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ...pipelines.lora import AdapterCalls

_PATH = "path"
_MERGE = "fused=True"
_PRODUCT = re.compile(r"\.lora_[AB]\.")


class Lora(Technique):
    """``load_lora_weights`` of a file: each layer that it is for gets two products beside its own.

    An adapter makes another model and no faster one, so the baseline of a stack with one has it
    too, beside its layers and in float32.
    """

    name: ClassVar[str] = "lora"
    family: ClassVar[Family] = Family.ADAPTERS
    summary: ClassVar[str] = "a LoRA adapter from a file, which the baseline gets too"
    # What diffusers loads adapters into: denoisers, and CLIP's text encoders.
    changes: ClassVar[frozenset[str] | None] = frozenset(
        {"denoiser", "text_encoder", "text_encoder_2"}
    )
    undoable: ClassVar[bool] = True
    files: ClassVar[frozenset[str]] = frozenset({_PATH})
    by_place: ClassVar[int] = 1
    example: ClassVar[str] = "lora(adapter.safetensors)"
    contradicts: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "fused_qkv": "fused projections are made of the weights alone, without the adapter "
            f"beside them; merge it first, lora(…,{_MERGE})"
        }
    )
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType(
        {
            _PATH: Parameter("", "a file, a folder, or owner/repository of the Hub"),
            "weight_name": Parameter("", "which file of a folder or repository"),
            "scale": Parameter(1.0, "what the adapter's share is multiplied by"),
            "fused": Parameter(False, "merged into the weights: no products of its own"),
            "target_rank": Parameter(0, "the highest rank of those that are swapped in later"),
        }
    )

    def read_arguments(self, given: Sequence[tuple[str | None, Value]]) -> Mapping[str, Value]:
        found = bound(self.name, given, self.parameters)
        path = str(found.get(_PATH, "")).removeprefix("./")
        if not path:
            raise UnknownStackError(
                f"{self.name!r} takes the file of an adapter first; write for example "
                f"'{self.example}'"
            )
        if found.get("scale") == 0:
            raise UnknownStackError(f"scale of {self.name!r} cannot be 0: the adapter would be off")
        rank = found.get("target_rank", 0)
        if isinstance(rank, int) and rank < 0:
            raise UnknownStackError(f"target_rank of {self.name!r} must be at least 1, not {rank}")
        if found.get("fused") and rank:
            raise UnknownStackError(
                f"{self.name!r}: what is merged into the weights cannot be swapped for another "
                f"one; leave out target_rank or {_MERGE}"
            )
        return {**found, _PATH: path}

    def with_arguments(self, arguments: Mapping[str, Value]) -> Technique:
        kind = FusedLora() if arguments.get("fused") else self
        return super(Lora, kind).with_arguments(arguments)

    @property
    def in_baseline(self) -> str | None:
        of_the_model = (_PATH, "weight_name", "scale")
        kept = {key: value for key, value in self.arguments.items() if key in of_the_model}
        return canonical(self.name, kept, by_place=self.by_place)

    @property
    def file(self) -> tuple[str, str]:
        """Its path, and the name of the file in it or ``""``."""
        return str(self.argument(_PATH)), str(self.argument("weight_name"))

    @property
    def scale(self) -> float:
        """What the adapter's share is multiplied by."""
        return float(self.argument("scale") or 0)

    @property
    def target_rank(self) -> int:
        """The highest rank that can be swapped in; 0: not prepared."""
        return int(self.argument("target_rank") or 0)

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        from ...pipelines.lora import why_not
        from ...pipelines.lora_files import read

        why = why_not(pipeline)
        if why is not None:
            return why
        try:
            places = read(pipeline, *self.file)
        except SourceError as error:
            return str(error)
        # What a call was seen to run; before one was seen, what goes by the usual name.
        denoisers = targets_of(pipeline).denoisers
        if not places.keys() & denoisers.keys():
            return (
                f"the adapter is for its {' and '.join(places)}, and none of its denoisers "
                f"({listed(list(denoisers))})"
            )
        return None

    def apply(self, pipeline: DiffusionPipeline) -> None:
        from ...pipelines.lora import gradients, load, loaded_places, of_zeros

        notes = memory(pipeline, self.name)
        notes["gradients"] = gradients(pipeline)
        try:
            load(
                pipeline,
                *self.file,
                name=self.name,
                scale=self.scale,
                target_rank=self.target_rank,
            )
        except SourceError as error:
            raise IncompatibleError(
                f"{self.name} is incompatible with {type(pipeline).__name__}: {error}"
            ) from error
        notes["places"] = loaded_places(pipeline, self.name)
        notes["zeros"] = of_zeros(pipeline, self.name)  # now: quantized, nothing can be asked

    def watch(self, pipeline: DiffusionPipeline) -> AbstractContextManager[object]:
        from ...pipelines.lora import watching

        return watching(pipeline)

    def undo(self, pipeline: DiffusionPipeline) -> None:
        from ...pipelines.lora import unload

        unload(pipeline, memory(pipeline, self.name).get("gradients", {}))

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        from ...adapters.lora_layers import adapted_layers, adapters_of, is_scaled_to_nothing
        from ...pipelines.components import modules

        notes = memory(pipeline, self.name)
        wanted = _names(notes.get("places", {}))
        nothing: set[str] = set(notes.get("zeros", ()))
        watched: Mapping[str, AdapterCalls] = seen.own.get(self.name, {})
        ran: dict[str, AdapterCalls] = {}
        counts: dict[str, int] = {}
        for component, module in modules(pipeline).items():
            for path, layer in adapted_layers(module).items():
                place = f"{component}.{path}"
                calls = watched.get(place)
                if calls is not None and calls.layer and self.name in adapters_of(layer):
                    ran[place] = calls
                    counts[component] = counts.get(component, 0) + 1
                    if is_scaled_to_nothing(layer, self.name):
                        nothing.add(place)
        self._require_ran(pipeline, wanted, ran, nothing)
        return self._proof(pipeline, seen, ran, wanted - ran.keys(), counts)

    def _require_ran(
        self,
        pipeline: DiffusionPipeline,
        wanted: set[str],
        ran: Mapping[str, AdapterCalls],
        nothing: set[str],
    ) -> None:
        expected = f"{self.text}: expected both products of the adapter in each of its layers"
        denoisers = [n for n in targets_of(pipeline).denoisers if _of(n, wanted)]
        without = [name for name in denoisers if not _of(name, ran)]
        if not denoisers or without:
            raise NotEffectiveError(
                f"{expected}, found {'none in the ' + listed(without) if without else 'none'}"
            )
        idle = sorted(place for place, calls in ran.items() if calls.products < 2 * calls.layer)
        if idle:
            raise NotEffectiveError(
                f"{expected}, found {plural(len(idle), 'layer')} that ran without them: "
                f"{listed(idle)}"
            )
        off = [name for name in denoisers if nothing.issuperset(_of(name, ran))]
        if off:
            raise NotEffectiveError(
                f"{self.text}: expected that the adapter adds something to a layer of the "
                f"{listed(off)}, found weights or scalings of 0 in all of them"
            )

    def _proof(
        self,
        pipeline: DiffusionPipeline,
        seen: Observation,
        ran: Mapping[str, AdapterCalls],
        silent: set[str],
        counts: Mapping[str, int],
    ) -> Proof:
        products = sum(calls.products for calls in ran.values())
        touched, linears = _share(seen, ran)
        each = ", ".join(f"{many} in the {part}" for part, many in counts.items())
        prepared = f"; prepared for others up to rank {self.target_rank}" * bool(self.target_rank)
        return Proof(
            self.name,
            f"{plural(len(ran), 'layer')} with the adapter beside them ran ({each}), {products} "
            f"products of its own in {plural(seen.steps, 'step')}; {touched} of {linears} linear "
            f"layers of the denoisers{_left_out(pipeline, counts)}{_not_run(silent)}{prepared}",
            {
                "layers": len(ran),
                "layers_in": dict(counts),
                "layers_not_run": len(silent),
                "products": products,
                "linears_touched": touched,
                "linears": linears,
            },
        )


class FusedLora(Lora):
    """The same merged into the weights: one product where there were three.

    Layers may be fused with others afterwards, so which of them a call runs is seen before.
    """

    watches: ClassVar[bool] = True
    undoable: ClassVar[bool] = False
    why_not_undoable: ClassVar[str] = "it rounded the weights when the adapter was added to them"
    contradicts: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def apply(self, pipeline: DiffusionPipeline) -> None:
        from ...pipelines.lora import merge

        super().apply(pipeline)
        notes = memory(pipeline, self.name)
        notes["as before"] = merge(pipeline, notes["places"])

    def undo(self, pipeline: DiffusionPipeline) -> None:
        Technique.undo(self, pipeline)

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        notes = memory(pipeline, self.name)
        as_before: Sequence[str] = notes.get("as before", ())
        places = _names(notes.get("places", {}))
        expected = f"{self.text}: expected the adapter in the weights of each layer that it is for"
        beside = sorted(seen.own.get(self.name, {}))
        if beside:
            raise NotEffectiveError(f"{expected}, found it beside {listed(beside)}")
        if as_before or not places:
            raise NotEffectiveError(
                f"{expected}, found {plural(len(as_before), 'layer')} with the weights of before: "
                f"{listed(as_before) or 'it was loaded into none'}"
            )
        before = seen.before or seen
        ran = {place for place in places if place in before.linears or _convolved(before, place)}
        denoisers = [name for name in targets_of(pipeline).denoisers if _of(name, places)]
        without = [name for name in denoisers if not _of(name, ran)]
        if without:
            raise NotEffectiveError(f"{expected}, found that none ran in the {listed(without)}")
        counts = {name: len(_of(name, ran)) for name in denoisers}
        watched = {place for name in denoisers for place in _of(name, places)}
        unwatched = len(places) - len(watched)
        touched, linears = _share(before, places)
        each = ", ".join(f"{many} in the {part}" for part, many in counts.items())
        others = f"; {unwatched} more in text encoders, whose calls are not watched"
        return Proof(
            self.name,
            f"{plural(sum(counts.values()), 'layer')} ran with the adapter in their weights "
            f"({each}), no products of its own in {plural(seen.steps, 'step')}; {touched} of "
            f"{linears} linear layers of the denoisers"
            f"{_left_out(pipeline, counts)}{_not_run(watched - ran)}{others * bool(unwatched)}",
            {
                "layers": sum(counts.values()),
                "layers_in": counts,
                "layers_not_run": len(places) - len(ran) - unwatched,
                "layers_not_watched": unwatched,
                "products": 0,
                "linears_touched": touched,
                "linears": linears,
            },
        )


def lora_scale(techniques: Iterable[Technique]) -> float:
    """What an adapter's share is multiplied by in a stack of these; 1 in one that loads none."""
    return next((one.scale for one in techniques if isinstance(one, Lora)), 1.0)


def _names(places: Mapping[str, frozenset[str]]) -> set[str]:
    return {f"{component}.{path}" for component, paths in places.items() for path in paths}


def _of(component: str, places: Iterable[str]) -> list[str]:
    return [place for place in places if place.startswith(f"{component}.")]


def _share(seen: Observation, places: Iterable[str]) -> tuple[int, int]:
    """How many of the linear layers that ran in denoisers the adapter is for, and of how many."""
    own = [name for part in seen.denoisers for name in _of(part, seen.linears)]
    layers = {name.removesuffix(".base_layer") for name in own if not _PRODUCT.search(name)}
    return len(layers & set(places)), len(layers)


def _convolved(seen: Observation, place: str) -> bool:
    """Whether the layer at ``place`` multiplied anything in a part that was watched."""
    return any(
        place == f"{part}.{path}"
        for part, ops in seen.parts.items()
        for paths in ops.op_places.values()
        for path in paths
    )


def _left_out(pipeline: DiffusionPipeline, counts: Mapping[str, int]) -> str:
    without = [name for name in targets_of(pipeline).denoisers if name not in counts]
    return f"; none in the {' and '.join(without)}, by the file" if without else ""


def _not_run(places: Iterable[str]) -> str:
    silent = sorted(places)
    return f"; {plural(len(silent), 'more layer')} did not run: {listed(silent)}" * bool(silent)


TECHNIQUES: tuple[Technique, ...] = (Lora(),)
