"""What a pipeline is at one moment, to see later whether somebody changed it.

Some pipelines change a few things in each call of their own accord: attention processors set anew,
a scheduler's noise sampler made anew.  What a call that nobody else had a hand in changes is such a
habit (:func:`changed`), and is held against nobody; what kind of thing stands there still is.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .parts import parts

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

_PLAIN = (bool, int, float, str)

State = Mapping[str, Mapping[tuple[object, ...], object]]
"""By what it is of (``"unet's hooks"``), by place in it, something that differs after a change."""
Habits = frozenset[tuple[str, tuple[object, ...]]]
"""Aspects and places that a call of a pipeline changes by itself."""


def pipeline_state(pipeline: DiffusionPipeline) -> State:
    """What ``pipeline`` is now, to be compared by :func:`changed` and :func:`changed_aspects`.

    Of each component, and of other modules that hang on the pipeline: which modules it has;
    pointers, dtypes, shapes and strides of weights and buffers, and how often each weight was
    written to in place; hooks; plain public attributes (``training``, ``use_tiling``); and
    callables on the instances themselves (a compiled or replaced ``forward``, attention
    processors).  Of each scheduler: its configuration and
    replaced methods, but not where it is in a call.  Values are not read.
    """
    known: dict[str, dict[tuple[object, ...], object]] = {}
    for name, part in parts(pipeline).items():
        for aspect, entries in _of_component(part).items():
            known[f"{name}'s {aspect}"] = entries
    for name, part in pipeline.components.items():
        if hasattr(part, "set_timesteps"):
            known.update(_of_scheduler(name, part))
    return known


def changed(before: State, now: State) -> Habits:
    """Where the two differ; between calls of one's own, the pipeline's habits."""
    found: set[tuple[str, tuple[object, ...]]] = set()
    for aspect in before.keys() | now.keys():
        was, is_now = before.get(aspect, {}), now.get(aspect, {})
        found.update((aspect, place) for place in was if was[place] != is_now.get(place))
        found.update((aspect, place) for place in is_now.keys() - was.keys())
    return frozenset(found)


def changed_aspects(before: State, now: State, habits: Habits = frozenset()) -> list[str]:
    """The aspects in which the two differ in more than ``habits``, in order of their names."""
    return sorted({aspect for aspect, _ in changed(before, now) - habits})


class _Same:
    """Equal to itself as long as what it was made of lives; it keeps nothing alive.

    An ``id`` would not do: what a call replaces is often made anew at the same address.
    """

    def __init__(self, value: object) -> None:
        self._id = id(value)
        try:
            self._ref: Any = weakref.ref(value)
        except TypeError:  # a kind that has no weak references
            self._ref = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same) or self._id != other._id:
            return False
        if self._ref is None or other._ref is None:
            return self._ref is other._ref
        own = self._ref()
        return own is not None and own is other._ref()

    def __hash__(self) -> int:
        return self._id


def _of_component(part: torch.nn.Module) -> dict[str, dict[tuple[object, ...], object]]:
    from ..adapters.diffusers_layerwise import cast_layers
    from ..adapters.module_state import edits, is_hooks, pieces, require_hook_tables, walked
    from ..adapters.offload_hooks import offload_hooks

    require_hook_tables(part)
    # Each call leaves these weights wherever memory was free.
    moved, cast = bool(offload_hooks(part)), cast_layers(part)
    aspects = ("modules", "hooks", "settings", "methods", "weights", "buffers")
    found: dict[str, dict[tuple[object, ...], object]] = {aspect: {} for aspect in aspects}
    for path, module in walked(part):
        found["modules"][path,] = _Same(module)
        for key, value in vars(module).items():
            if isinstance(value, dict):
                if value and is_hooks(key, value):
                    hooks = tuple((number, _Same(hook)) for number, hook in value.items())
                    found["hooks"][path, key] = hooks
            elif _is_setting(key, value):
                found["settings"][path, key] = value
            elif callable(value):
                found["methods"].update(_callable(value, path, key))
                for name, own in _own_settings(value):
                    found["settings"][path, key, name] = own
    for aspect, tensors in (
        ("weights", part.named_parameters()),
        ("buffers", part.named_buffers()),
    ):
        for key, tensor in tensors:
            for number, piece in enumerate(pieces(tensor) if aspect == "weights" else (tensor,)):
                found[aspect][key, number, "layout"] = _layout(piece)
                if moved or key.rpartition(".")[0] in cast:
                    continue
                edited = edits(piece) if aspect == "weights" else None
                found[aspect][key, number, "place"] = (piece.data_ptr(), edited)
    return found


def _callable(value: Any, *place: object) -> dict[tuple[object, ...], object]:
    """Which one it is, and apart from that of what kind: one that each call makes anew stays of
    one kind.
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    kind = (getattr(named, "__module__", None), named.__qualname__)
    return {(*place, "itself"): _Same(value), (*place, "kind"): kind}


def _is_setting(name: str, value: object) -> bool:
    """Plain and public.  What a model notes under a leading underscore is its own affair, and
    may change in a call.
    """
    if name.startswith("_"):
        return False
    return isinstance(value, _PLAIN) or (
        isinstance(value, tuple) and all(isinstance(item, _PLAIN) for item in value)
    )


def _own_settings(value: Any) -> Iterator[tuple[str, object]]:
    """Of an attention processor: its backend and the like."""
    if type(value).__name__ == "function":
        return
    for key, own in getattr(value, "__dict__", {}).items():
        if isinstance(own, _PLAIN):
            yield key, own


def _layout(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.dtype, tuple(tensor.shape), tensor.stride()


def _of_scheduler(name: str, scheduler: Any) -> dict[str, dict[tuple[object, ...], object]]:
    own = getattr(scheduler, "__dict__", {})
    config = getattr(scheduler, "config", None) or {}
    # `shift` of the configuration is in force as `_shift`, which `set_shift` writes.
    in_force: dict[tuple[object, ...], object] = {
        (key,): own[key]
        for option in config
        for key in (option, f"_{option}")
        if isinstance(own.get(key), _PLAIN)
    }
    methods: dict[tuple[object, ...], object] = {}
    for key, value in own.items():
        if callable(value):
            methods.update(_callable(value, key))
    return {
        name: {("itself",): _Same(scheduler), ("class",): type(scheduler)},
        f"{name}'s configuration": {**in_force, ("config",): repr(config)},
        f"{name}'s methods": methods,
    }
