"""What the caches of features have in common that diffusers offers: arguments, hooks, and a proof
that work was left out.
"""

from __future__ import annotations

import inspect
import re
import weakref
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from ..adapters.diffusers_caches import (
    CacheArgument,
    PutOn,
    block_classes,
    cache_arguments,
    is_known_block,
    put_on,
    timestep_of_calls,
)
from ..common.errors import NotEffectiveError, UnknownStackError, UsageError, nearest
from ..common.quiet import third_party
from ..common.text import listed, plural
from .arguments import Value, of_kinds
from .observation import Observation
from .skipped_work import Skipped, require_the_rest, skipped_in
from .targets import denoisers, models_with, targets_of
from .technique import Family, Proof, Technique
from .undo_notes import memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_PAIR = re.compile(r"-?\d+(\.\d+)?:-?\d+(\.\d+)?")
_DTYPES = ("bfloat16", "float16", "float32", "float64")


class FeatureCache(Technique):
    """One of diffusers' caches on every denoiser that takes it.

    Its arguments are the fields of diffusers' configuration that are numbers or words, and are
    checked against the installed diffusers' source; those that only a program can give are
    supplied by :meth:`values`.
    """

    family: ClassVar[Family] = Family.CACHE
    changes: ClassVar[frozenset[str] | None] = frozenset({"denoiser"})
    undoable: ClassVar[bool] = True
    image_preset: ClassVar[str] = "cache"
    contradicts_families: ClassVar[Mapping[Family, str]] = {
        Family.COMPILE: (
            "diffusers decides in Python between blocks what to compute, which breaks the one "
            "graph that compilation asks for (fullgraph=True)"
        ),
        Family.OFFLOAD: (
            "both wrap the same modules, and what moves weights expects every block to run in its "
            "turn"
        ),
    }
    kind: ClassVar[str]
    """diffusers' name for it: ``FirstBlockCache`` of ``FirstBlockCacheConfig``."""
    wraps: ClassVar[str]
    """What it leaves out, as a noun: ``block``, ``attention``."""
    supplied: ClassVar[Mapping[str, str]] = {}
    """Fields that are not the user's to write, and why."""
    keeps_passes_apart: ClassVar[bool] = True
    """Whether it keeps the passes of a step apart, as guidance has them, by ``cache_context``."""
    asks_for_timestep: ClassVar[bool] = False
    """Whether it asks for the timestep that is denoised: a function that tells it is supplied."""
    other_names: ClassVar[str] = ""
    """How to give other names of modules, if that can be done; it goes on in a sentence."""

    def read_arguments(self, given: Sequence[tuple[str | None, Value]]) -> Mapping[str, Value]:
        known = self._fields()
        found: dict[str, Value] = {}
        for place, (key, value) in enumerate(given):
            if key is None and place >= len(known):
                raise UnknownStackError(
                    f"{self.name!r} takes {', '.join(known)}, and no {place + 1} arguments"
                )
            key = list(known)[place] if key is None else key
            if key in self.supplied:
                raise UnknownStackError(f"{self.name!r} takes no {key!r}: {self.supplied[key]}")
            if key not in known:
                raise UnknownStackError(f"{self.name!r} takes no {key!r}; {nearest(key, known)}")
            if key in found:
                raise UnknownStackError(f"{self.name!r} is given {key!r} twice")
            found[key] = _checked(f"{key} of {self.name!r}", value, known[key])
        return {
            key: found[key]
            for key, argument in known.items()
            if key in found and found[key] != argument.default
        }

    def _fields(self) -> Mapping[str, CacheArgument]:
        try:
            known = cache_arguments(f"{self.kind}Config")
        except UsageError as error:
            raise UnknownStackError(f"{self.name!r} is not to be had: {error}") from error
        return {key: one for key, one in known.items() if key not in self.supplied}

    def setting(self, name: str) -> object:
        """What was written for a field of the configuration, or diffusers' default."""
        return self.arguments.get(name, self._fields()[name].default)

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        each = {name: self.why_not(pipeline, m) for name, m in _models(pipeline).items()}
        if not each:
            return "it has no denoiser"
        reasons = [f"{name}: {why}" for name, why in each.items() if why is not None]
        return "; ".join(reasons) if len(reasons) == len(each) else None

    @abstractmethod
    def why_not(self, pipeline: DiffusionPipeline, model: Any) -> str | None:
        """Why the denoiser ``model`` cannot take it, or ``None``."""

    @property
    @abstractmethod
    def advice(self) -> str:
        """What to change where nothing was skipped."""

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        if self.keeps_passes_apart:
            return None
        for name in self._takers(pipeline):
            part, _ = targets_of(pipeline).split(name)
            most = max(before.calls_in_steps.get(part, (0,)))
            if most > 1:
                return (
                    f"its {name} runs {most} times in a step, with and without the prompt, and "
                    f"{self.kind} keeps one state for all of them, so that the one would get what "
                    "was computed for the other; it fits pipelines that run both in one batch"
                )
        return None

    def values(self, pipeline: DiffusionPipeline, name: str, model: Any) -> dict[str, Any]:
        """The fields of the configuration for the denoiser ``name``."""
        known = self._fields()
        return {k: _read(value, known[k]) for k, value in self.arguments.items()}

    def apply(self, pipeline: DiffusionPipeline) -> None:
        put: dict[str, PutOn] = {}
        notes = memory(pipeline, self.name)
        notes["put on"] = put
        for name in self._takers(pipeline):
            put[name] = self.put_on(pipeline, name)
        if not any(made.wrapped for made in put.values()):
            raise self.refusal(
                pipeline,
                f"diffusers finds no {self.wraps} in its {listed(list(put))} under the names that "
                f"it looks for{self.other_names}",
            )

    def put_on(self, pipeline: DiffusionPipeline, name: str, **more: object) -> PutOn:
        """The cache on one denoiser, with ``more`` fields of its configuration."""
        model = _models(pipeline)[name]
        values: dict[str, Any] = {**self.values(pipeline, name, model), **more}
        handles: list[Any] = []
        if self.asks_for_timestep:
            values["current_timestep_callback"], handles = timestep_of(pipeline, model)
        try:
            with third_party():
                made = put_on(model, self.kind, values)
        except BaseException:
            for handle in handles:
                handle.remove()
            raise
        made.handles += handles
        return made

    def undo(self, pipeline: DiffusionPipeline) -> None:
        for made in memory(pipeline, self.name).pop("put on", {}).values():
            made.remove()

    def _takers(self, pipeline: DiffusionPipeline) -> list[str]:
        models = _models(pipeline)
        return [name for name, m in models.items() if self.why_not(pipeline, m) is None]

    def explain(self, error: Exception) -> str | None:
        if isinstance(error, ValueError) and "context" in str(error):
            return (
                "it calls its denoiser outside of `cache_context`, by which this cache tells the "
                "passes of a step apart; FluxPipeline, WanPipeline and others do it inside"
            )
        return None

    def took_hold(self, found: Skipped) -> bool:
        return found.skipped > 0

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        before, put = seen.before, memory(pipeline, self.name).get("put on", {})
        if before is None:
            raise NotEffectiveError(f"{self.text}: expected a call without it to be seen")
        require_the_rest(self.text, before, seen)
        each: dict[str, Skipped] = {}
        for name, made in put.items():
            if made.wrapped:
                part, inner = targets_of(pipeline).split(name)
                paths = [f"{inner}.{path}" if inner else path for path in made.wrapped]
                each[name] = skipped_in(part, paths, before, seen)
        for name, found in each.items() or {"": Skipped(0, 0, 0, 1.0)}.items():
            if not self.took_hold(found):
                raise NotEffectiveError(
                    f"{self.text}: expected {self.wraps} calls to be skipped in a call of "
                    f"{plural(seen.steps, 'step')}, found that all {found.calls} in the {name} "
                    f"computed; {self.advice}"
                )
        said = [self.said_of(name, found) for name, found in each.items()]
        left = {
            name: self.why_not(pipeline, model) or f"diffusers finds no {self.wraps} there"
            for name, model in _models(pipeline).items()
            if name not in each
        }
        said += [f"not in the {name}: {why}" for name, why in left.items()]
        return Proof(
            self.name,
            f"{'; '.join(said)}; {plural(seen.steps, 'step')}",
            {
                "skipped": {n: {**asdict(f), "skipped": f.skipped} for n, f in each.items()},
                "steps": seen.steps,
                "not_in": left,
                **self.more_figures(pipeline),
            },
        )

    def said_of(self, name: str, found: Skipped) -> str:
        return (
            f"{found.skipped} of {found.calls} {self.wraps} calls of the {name} skipped "
            f"({found.skipped / max(found.calls, 1):.0%}), {found.linear_flops:.0%} of its linear "
            "FLOPs left"
        )

    def more_figures(self, pipeline: DiffusionPipeline) -> dict[str, Any]:
        """Of the proof."""
        return {}


def timestep_of(pipeline: DiffusionPipeline, model: Any) -> tuple[Callable[[], Any], list[Any]]:
    """What gives the current timestep of the schedule, and handles to be removed with the cache.

    Pipelines that do not show it (``current_timestep``) have it from what their denoiser is given.
    """
    if hasattr(type(pipeline), "current_timestep"):
        here: Any = weakref.ref(pipeline)  # the pipeline has the hooks that hold this function
        return lambda: here().current_timestep, []
    give, handle = timestep_of_calls(model)
    return give, [handle]


def why_no_timestep(pipeline: DiffusionPipeline, model: Any) -> str | None:
    """Why :func:`timestep_of` cannot tell it, or ``None``."""
    forward = inspect.signature(type(model).forward).parameters
    if hasattr(type(pipeline), "current_timestep") or "timestep" in forward:
        return None
    return "neither the pipeline nor what its denoiser is given tells the timestep"


def why_no_blocks(model: Any, least: int) -> str | None:
    """Why a cache of blocks does not fit ``model``, which must have ``least`` of them."""
    if not hasattr(model, "enable_cache"):
        return (
            f"a {type(model).__name__} has no cache of blocks in diffusers; transformers have, "
            "such as Flux's, Wan's and CogVideoX's"
        )
    blocks = block_classes(model)
    unknown = sorted({one.__name__ for one in blocks if not is_known_block(one)})
    if unknown:
        return f"diffusers does not know how to skip its blocks ({listed(unknown)})"
    if len(blocks) < least:
        return f"it has {plural(len(blocks), 'block')}, and {least} are needed"
    return None


def _models(pipeline: DiffusionPipeline) -> dict[str, Any]:
    return models_with(denoisers(pipeline), "enable_cache")


def _checked(where: str, value: Value, argument: CacheArgument) -> Value:
    value = of_kinds(where, value, argument.kinds)
    if argument.form == "pair" and not _PAIR.fullmatch(str(value)):
        raise UnknownStackError(f"{where} must be two numbers, such as '100:800', not {value!r}")
    if argument.form == "dtype" and isinstance(value, str) and value not in _DTYPES:
        raise UnknownStackError(f"{where} cannot be {value!r}; {nearest(value, _DTYPES)}")
    return value


def _read(value: Value, argument: CacheArgument) -> Any:
    if not isinstance(value, str):
        return value
    if argument.form == "pair":
        return tuple(float(number) for number in value.split(":"))
    if argument.form == "words":
        return [value]
    if argument.form == "dtype":
        import torch

        return getattr(torch, value)
    return value
