"""Feature caches of the installed diffusers: what each can be given, putting one on a model, taking
it off.

Arguments are read from diffusers' source: they are checked when tests are collected, and importing
diffusers imports torch.  Seen in diffusers 0.39.0 and 0.42.1: dataclasses in files of
``diffusers/hooks``, ``apply_…`` functions that put hooks into ``_diffusers_hook`` of modules and
wrap their ``forward``, the list ``_child_registries_cache`` of whom a ``cache_context`` reaches,
``TransformerBlockRegistry`` of block classes, and MagCache's ``state_manager._state_cls`` with
``calibration_ratios``.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..common.errors import UsageError
from .annotations import plain_kinds
from .code_names import names_in
from .tested import DIFFUSERS

if TYPE_CHECKING:
    import torch

_PAIR = re.compile(r"^[Tt]uple\[(int|float), \1\]$")
_WORDS = re.compile(r"\b([Ll]ist\[str\]|[Tt]uple\[str, \.\.\.\])")
_DTYPE = "torch.dtype"
UNKNOWN = ...
"""The default of an argument whose source is no plain value."""


@dataclass(frozen=True)
class CacheArgument:
    """One field of a cache's configuration, by its annotation.

    ``kinds`` are the plain types that it may have.  ``form`` says how a word is read: ``"pair"`` as
    two numbers, ``"words"`` as a list of one, ``"dtype"`` as a dtype of torch; empty where it is
    taken as it is.  ``default`` is written in the same way, :data:`UNKNOWN` where the source does
    not say it.
    """

    kinds: frozenset[type]
    form: str
    default: object


@functools.cache
def cache_arguments(config: str) -> Mapping[str, CacheArgument]:
    """The fields of the class ``config`` that can be written as a number or a word.

    Raises:
        UsageError: the installed diffusers has no such class.
    """
    spec = importlib.util.find_spec("diffusers")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("diffusers is not installed, so no cache is known; install it")
    folder = Path(next(iter(spec.submodule_search_locations))) / "hooks"
    for file in sorted(folder.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        if f"\nclass {config}" in text:
            for made in ast.parse(text).body:
                if isinstance(made, ast.ClassDef) and made.name == config:
                    return MappingProxyType(dict(_fields(made)))
    raise UsageError(
        f"the installed diffusers has no {config}; this was tested with diffusers {DIFFUSERS}"
    )


def _fields(made: ast.ClassDef) -> Iterator[tuple[str, CacheArgument]]:
    for line in made.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            name, annotation = line.target.id, ast.unparse(line.annotation)
            if not name.startswith("_") and "Callable" not in annotation:
                yield name, _argument(annotation, line.value)


def _argument(annotation: str, value: ast.expr | None) -> CacheArgument:
    kinds = plain_kinds(annotation)
    default: object = UNKNOWN
    try:
        default = UNKNOWN if value is None else ast.literal_eval(value)
    except ValueError:
        if value is not None and ast.unparse(value).startswith("torch."):
            default = ast.unparse(value).removeprefix("torch.")
    optional = kinds & {type(None)}
    if _PAIR.match(annotation):
        default = ":".join(map(str, default)) if isinstance(default, tuple) else default
        return CacheArgument(frozenset({str}), "pair", default)
    if _DTYPE in annotation:
        return CacheArgument(frozenset({str}) | optional, "dtype", default)
    if _WORDS.search(annotation):
        return CacheArgument(frozenset({str}) | optional, "words", default)
    return CacheArgument(frozenset(kinds), "", default)


@dataclass
class PutOn:
    """A cache on a model: the paths of the modules that it wraps, and what was there before."""

    model: Any
    wrapped: tuple[str, ...] = ()
    before: list[tuple[Any, Any, Any, dict[str, Any]]] = field(default_factory=list)
    handles: list[Any] = field(default_factory=list)

    def remove(self) -> None:
        """Everything is on the modules as it was; twice does nothing."""
        for handle in self.handles:
            handle.remove()
        for module, forward, registry, hooks in self.before:
            _put(module, "forward", forward)
            _put(module, "_diffusers_hook", registry)
            if registry is not None:
                vars(registry).update(hooks)
        if self.before:
            for name in ("_cache_config", "_reset_stateful_cache"):
                vars(self.model).pop(name, None)
            _forget_whom_contexts_reach(self.model)
        self.handles, self.before = [], []


def put_on(model: Any, kind: str, values: Mapping[str, Any]) -> PutOn:
    """Put the cache ``kind`` (``"FirstBlockCache"``) on ``model``, configured with ``values``.

    A model whose class has no cache of its own, a UNet, is reset at the end of a call like one
    that has: pipelines ask each component whether it can be.

    Raises:
        Exception: whatever diffusers raises; the model is as it was.
    """
    import diffusers.hooks

    config = getattr(diffusers.hooks, f"{kind}Config")(**values)
    known = {id(m): len(_hooks(m)) for m in model.modules()}
    made = PutOn(model)
    made.before = [_as_it_is(module) for module in model.modules()]
    try:
        if hasattr(model, "enable_cache"):
            model.enable_cache(config)
        else:
            getattr(diffusers.hooks, _APPLY[kind])(model, config)
            vars(model)["_reset_stateful_cache"] = functools.partial(_reset, model)
    except BaseException:
        made.remove()
        raise
    _forget_whom_contexts_reach(model)
    made.wrapped = tuple(
        path for path, m in model.named_modules() if path and len(_hooks(m)) > known[id(m)]
    )
    return made


_APPLY = {
    "FirstBlockCache": "apply_first_block_cache",
    "FasterCache": "apply_faster_cache",
    "MagCache": "apply_mag_cache",
    "TaylorSeerCache": "apply_taylorseer_cache",
    "PyramidAttentionBroadcast": "apply_pyramid_attention_broadcast",
}


def _hooks(module: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(vars(module).get("_diffusers_hook"), "hooks", {})
    return found


def _as_it_is(module: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
    """The module, its own ``forward``, its registry of hooks, and what is registered there."""
    registry = vars(module).get("_diffusers_hook")
    kept = {} if registry is None else {k: copy.copy(v) for k, v in vars(registry).items()}
    kept.pop("_module_ref", None)
    return module, vars(module).get("forward"), registry, kept


def _put(owner: Any, name: str, own: Any) -> None:
    vars(owner).pop(name, None)
    if own is not None:
        vars(owner)[name] = own


def _reset(model: Any, recurse: bool = True) -> None:
    for module in model.modules():
        registry = vars(module).get("_diffusers_hook")
        if registry is not None:
            registry.reset_stateful_hooks(recurse=False)


def _forget_whom_contexts_reach(model: Any) -> None:
    """A call before hooks came or went has left a list of those that it found.

    diffusers 0.39 and 0.40 never make it anew, and a cache that is put on later hears of no
    context.
    """
    for module in model.modules():
        registry = vars(module).get("_diffusers_hook")
        if registry is not None and hasattr(registry, "_child_registries_cache"):
            registry._child_registries_cache = None


def block_classes(model: Any) -> tuple[type, ...]:
    """The classes of the blocks in the lists that block caches look for, in their order."""
    from diffusers.hooks._common import _ALL_TRANSFORMER_BLOCK_IDENTIFIERS
    from torch.nn import ModuleList

    lists = (
        blocks
        for name, blocks in model.named_children()
        if name in _ALL_TRANSFORMER_BLOCK_IDENTIFIERS and isinstance(blocks, ModuleList)
    )
    return tuple(type(block) for blocks in lists for block in blocks)


def is_known_block(block: type) -> bool:
    """Whether diffusers knows what such a block takes and returns, so that it can be skipped."""
    from diffusers.hooks._helpers import TransformerBlockRegistry

    try:
        TransformerBlockRegistry.get(block)
    except ValueError:
        return False
    return True


def opens_cache_context(pipeline: Any) -> bool:
    """Whether the call of a pipeline tells its denoiser which of several passes of a step it is."""
    called = inspect.unwrap(type(pipeline).__call__)
    return "cache_context" in names_in(called.__code__)


def timestep_of_calls(model: Any) -> tuple[Callable[[], float], Any]:
    """What gives the timestep that ``model`` was last called with, and the handle of its watch."""
    last = [0.0]
    names = list(inspect.signature(type(model).forward).parameters)[1:]
    place = names.index("timestep")

    def note(_: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given: torch.Tensor | float = kwargs["timestep"] if "timestep" in kwargs else args[place]
        last[0] = float(given if isinstance(given, (int, float)) else given.flatten()[0])

    return lambda: last[0], model.register_forward_pre_hook(note, with_kwargs=True)


@contextmanager
def measured_ratios(made: PutOn) -> Iterator[list[list[float]]]:
    """While a MagCache that calibrates runs: the ratios that it measures, of each context a list.

    diffusers prints them, after a number of steps that it has to be told, and keeps them nowhere.
    """
    found: list[list[float]] = []
    managers = {
        id(hook.state_manager): hook.state_manager
        for module in made.model.modules()
        for hook in _hooks(module).values()
        if hasattr(hook, "state_manager")
    }

    def keeping(kind: Any) -> Any:
        class Kept(kind):  # type: ignore[misc]
            def reset(self) -> None:
                found.append(list(self.calibration_ratios))
                super().reset()

        return Kept

    for manager in managers.values():
        manager._state_cls = keeping(manager._state_cls)
    yield found
    for manager in managers.values():  # of a pipeline that does not reset them itself
        manager.reset()
