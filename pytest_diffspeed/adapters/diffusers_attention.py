"""What this package uses of diffusers' attention that diffusers does not promise to keep.

All of it was seen in diffusers 0.39.0 and 0.42.1: ``attn_processors`` and ``set_attn_processor`` of
models, ``processor`` of attention modules, and what ``fuse_qkv_projections`` (marked experimental)
leaves on these: ``to_qkv``, ``to_kv``, ``to_added_qkv``, ``fused_projections``, and
``original_attn_processors`` on the model.
"""

from __future__ import annotations

import dataclasses
import inspect
from contextlib import ExitStack
from types import CodeType
from typing import Any

import torch

from ..common.errors import DiffspeedError
from .attributes import replaced
from .code_names import names_in
from .tested import DIFFUSERS

FUSED = ("to_qkv", "to_kv", "to_added_qkv")


def processors_of(model: Any) -> dict[str, Any]:
    """The attention processors of a model by path; none where it has no attention."""
    return dict(getattr(model, "attn_processors", {}))


def set_processors(model: Any, processors: dict[str, Any]) -> None:
    """Put processors back; diffusers empties the dictionary that it gets, so it gets a copy."""
    if processors:
        model.set_attn_processor(dict(processors))


def plain_processors_missing(model: Any) -> str | None:
    """Why ``model`` cannot be given attention processors without ``scaled_dot_product_attention``,
    or ``None``.

    Nothing but trying tells: ``set_default_attn_processor`` sets, in models of the newer kind, the
    processors that they have anyway.  What was set is put back.
    """
    kind = type(model).__name__
    if not hasattr(model, "set_default_attn_processor") or not hasattr(model, "set_attn_processor"):
        return f"diffusers has no attention processor without SDPA for {kind}"
    before = processors_of(model)
    try:
        model.set_default_attn_processor()
    except ValueError as error:  # processors of the user's own
        return str(error)
    try:
        dropped = _dropped(before, model)
        if dropped:
            return f"the processors of {kind} have weights of their own: {dropped}"
        fused = sorted({type(p).__name__ for p in processors_of(model).values() if _fuses(p)})
    finally:
        set_processors(model, before)
    if fused:
        return (
            f"the oldest attention processors of {kind}, {', '.join(fused)}, call SDPA themselves"
        )
    return None


def _fuses(processor: Any) -> bool:
    """Whether the code of a processor's call names SDPA, or what diffusers dispatches it by."""
    code = getattr(type(processor).__call__, "__code__", None)
    names = {"scaled_dot_product_attention", "dispatch_attention_fn"}
    return not names.isdisjoint(getattr(code, "co_names", ()))


@dataclasses.dataclass(frozen=True)
class Fusing:
    """What ``model.fuse_qkv_projections()`` would do.

    ``modules`` are the attention modules whose projections it would fuse and whose processors would
    then use them.  The others are classes of processors: ``dropped`` have weights of their own
    (IP-Adapter's) and would be replaced, ``in_vain`` read separate projections although they are
    fused (LTX-Video's); each is empty where there are none.
    """

    modules: dict[str, torch.nn.Module] = dataclasses.field(default_factory=dict)
    dropped: str = ""
    in_vain: str = ""


def fusing(model: Any) -> Fusing:
    """What fusing would do.

    ``model.fuse_qkv_projections()`` is called while the modules' own ``fuse_projections`` only note
    that they were called: in some models it passes all of them by.

    Processors that it set are put back.
    """
    if not hasattr(model, "fuse_qkv_projections"):
        return Fusing()
    attentions = {n: m for n, m in model.named_modules() if hasattr(m, "fuse_projections")}
    separate = {
        name: module
        for name, module in attentions.items()
        if getattr(module, "to_k", None) is not None
        and not getattr(module, "fused_projections", False)
    }
    called: list[str] = []
    before, dropped = processors_of(model), ""
    processors: dict[str, Any] = {}
    with ExitStack() as stack:
        for name, module in attentions.items():

            def note(*_: object, name: str = name, **__: object) -> None:
                called.append(name)

            stack.enter_context(replaced(module, "fuse_projections", note))
        original = vars(model).get("original_attn_processors")
        try:
            model.fuse_qkv_projections()
            dropped = _dropped(before, model)
            processors = {name: getattr(separate.get(name), "processor", None) for name in called}
        except ValueError:  # processors with added key and value projections
            return Fusing()
        finally:
            if processors_of(model) != before:
                set_processors(model, before)
            vars(model).pop("original_attn_processors", None)
            if original is not None:
                vars(model)["original_attn_processors"] = original
    would = [name for name in called if name in separate]
    gain = {name: separate[name] for name in would if _reads_fused(processors[name])}
    in_vain = sorted({type(processors[name]).__name__ for name in would if name not in gain})
    return Fusing(gain, dropped, ", ".join(in_vain))


def _reads_fused(processor: Any) -> bool:
    """Whether the code of a processor, or a function that it calls, names fused projections.

    ``True`` where that cannot be told: what ran decides then.
    """
    kind = type(processor)
    method = "forward" if isinstance(processor, torch.nn.Module) else "__call__"
    waiting: list[Any] = [getattr(kind, method, None)]
    seen: set[CodeType] = set()
    while waiting:
        function = waiting.pop()
        function = inspect.unwrap(function) if inspect.isfunction(function) else function
        code = getattr(function, "__code__", None)
        if code is None:
            return True
        if code in seen:
            continue
        seen.add(code)
        names = names_in(code, strings=True)
        if not names.isdisjoint((*FUSED, "fused_projections")):
            return True
        scopes = [function.__globals__, *map(vars, kind.__mro__)]
        called = (scope.get(name) for scope in scopes for name in names)
        waiting += [one for one in called if inspect.isfunction(one)]
    return False


def _dropped(before: dict[str, Any], model: Any) -> str:
    """Processors with weights that ``model`` had before and has no more, by class."""
    now = processors_of(model)
    kinds = {
        type(processor).__name__
        for name, processor in before.items()
        if processor is not now.get(name)
        and isinstance(processor, torch.nn.Module)
        and next(processor.parameters(), None) is not None
    }
    return ", ".join(sorted(kinds))


def adapted_projections(model: Any) -> list[str]:
    """Projections that are wrapped by an adapter (peft's LoRA): fusing reads their weights alone.

    ``base_layer`` is where the layers of peft keep the one that they wrap.
    """
    names = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
    return [
        f"{path}.{name}"
        for path, module in model.named_modules()
        if hasattr(module, "fuse_projections")
        for name in names
        if hasattr(getattr(module, name, None), "base_layer")
    ]


def added_projections(model: Any) -> bool:
    """Processors with added key and value projections, for which diffusers refuses to fuse."""
    return any("Added" in type(p).__name__ for p in processors_of(model).values())


def fused(model: Any) -> dict[str, torch.nn.Module]:
    """Attention modules that have fused projections now."""
    return {
        name: module
        for name, module in model.named_modules()
        if getattr(module, "fused_projections", False)
        and any(hasattr(module, projection) for projection in FUSED)
    }


def unfuse(model: Any, processors: dict[str, Any]) -> None:
    """Undo ``fuse_qkv_projections``.

    diffusers' own ``unfuse_qkv_projections`` leaves the fused layers and their memory behind in
    models of the older kind, ``UNet2DConditionModel`` and ``AutoencoderKL`` among them.
    """
    for module in fused(model).values():
        for projection in FUSED:
            if hasattr(module, projection):
                delattr(module, projection)
        if not hasattr(type(module), "fused_projections"):
            module.fused_projections = False  # type: ignore[assignment]
        else:
            vars(module).pop("fused_projections", None)
    set_processors(model, processors)
    vars(model).pop("original_attn_processors", None)
    left = fused(model)
    if left:
        raise DiffspeedError(
            f"{type(model).__name__} keeps fused projections in {', '.join(left)}: this version of "
            f"diffusers fuses in another way than {DIFFUSERS}, with which pytest-diffspeed was "
            "tested"
        )
