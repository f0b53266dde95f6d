"""Undo a stack, and see that the pipeline is what it was before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..common.arguments import spelt_keywords
from ..common.errors import NotUndoneError
from ..pipelines.load import require_pipeline
from .stacks import Stack, as_stack
from .targets import forget_targets
from .undo_notes import forget, memory

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from ..pipelines.pipeline_state import Habits

_NOTES = "stack"


@contextmanager
def noted_targets(pipeline: DiffusionPipeline, note: Callable[[], object]) -> Iterator[None]:
    """What ``note()`` notes of the pipeline stays as long as a stack is applied to it."""
    try:
        note()
        yield
    finally:
        if not memory(pipeline, _NOTES).get("stacks"):
            forget(pipeline, _NOTES)
            forget_targets(pipeline)


@contextmanager
def applying(pipeline: DiffusionPipeline, stack: Stack) -> Iterator[None]:
    """Note what the pipeline is before ``stack`` is applied, where it can be undone at all; undo
    what can be undone if it fails inside.
    """
    notes = memory(pipeline, _NOTES)
    notes.setdefault("stacks", []).append(stack)
    undoable = all(technique.undoable for technique in stack.techniques())
    notes.setdefault("before", []).append(snapshot(pipeline) if undoable else None)
    try:
        yield
    except BaseException:
        for technique in reversed(stack.techniques()):
            if technique.undoable:
                with suppress(Exception):  # applied in part, or not yet; the failure is what counts
                    technique.undo(pipeline)
            forget(pipeline, technique.name)
        notes["stacks"].pop()
        notes["before"].pop()
        raise


@spelt_keywords
def undo_stack(pipeline: DiffusionPipeline, stack: Stack | str) -> None:
    """Undo ``stack``, the last one that was applied to ``pipeline``, in reverse order.

    The same image comes out of the same call again: weights are put back in layout and place, and
    none was changed in value.

    Args:
        pipeline: the one that was given to :func:`~.apply.apply_stack`; changed in place.
        stack: what was applied to it last, such as ``"bf16+compile"``.

    Raises:
        WrongTypeError: something else than a pipeline or a stack.
        UnknownStackError: a stack that there is not.
        NotUndoneError: another stack was applied last, or a technique of it cannot be undone (in
            both cases nothing was changed); or the pipeline differs from what it was before.
    """
    require_pipeline("undo_stack()", pipeline)
    stack = as_stack(stack)
    notes = memory(pipeline, _NOTES)
    stacks: list[Stack] = notes.get("stacks", [])
    if not stacks or stacks[-1] != stack:
        found = f"{stacks[-1]} was" if stacks else "no stack was"
        if not stacks:
            forget(pipeline, _NOTES)
        raise NotUndoneError(
            f"{stack} cannot be undone: {found} applied last to this {type(pipeline).__name__}"
        )
    for technique in stack.techniques():
        if not technique.undoable:
            technique.undo(pipeline)  # says why not
            raise AssertionError(f"{technique.name} is not undoable, and its undo did not say so")
    for technique in reversed(stack.techniques()):
        technique.undo(pipeline)
        forget(pipeline, technique.name)
    stacks.pop()
    before: dict[str, object] = notes["before"].pop()
    habits: frozenset[str] = notes.get("habits", frozenset())
    if not stacks:
        forget(pipeline, _NOTES)
        forget_targets(pipeline)
    now = snapshot(pipeline)
    differing = sorted(key for key in {*before, *now} - habits if before.get(key) != now.get(key))
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise NotUndoneError(
            f"{stack} was undone, but the pipeline is not what it was before: "
            f"{', '.join(differing[:3])}{more}; build it again"
        )


def note_habits(pipeline: DiffusionPipeline, habits: Habits) -> None:
    """Note what calls of the pipeline change of themselves; no undo is held to it."""
    names = {
        ".".join(str(word) for word in (aspect.removesuffix("'s methods"), *place[:-1]) if word)
        for aspect, place in habits
        if aspect.endswith("'s methods") and place[-1] == "itself"
    }
    notes = memory(pipeline, _NOTES)
    notes["habits"] = notes.get("habits", frozenset()) | names


def snapshot(pipeline: DiffusionPipeline) -> dict[str, object]:
    """What can be told of a pipeline: its modules, their own callables, and every weight.

    Of each weight dtype, device, shape, strides, and the first, middle and last value; the place
    in memory may change; of a quantized weight no values.  Of the schedulers what stands on the
    instance and is a callable.
    """
    from ..pipelines.components import modules

    known: dict[str, object] = {}
    for component, part in modules(pipeline).items():
        for path, module in part.named_modules(prefix=component):
            known[path] = (type(module), id(module))
            known.update(_own_callables(path, module))
        for path, tensor in part.state_dict().items():
            known[f"{component}.{path}"] = _weight(tensor)
    for name, part in pipeline.components.items():
        if hasattr(part, "set_timesteps"):
            known[name] = id(part)
            known.update(_own_callables(name, part))
    return known


def _own_callables(path: str, owner: object) -> dict[str, object]:
    return {
        f"{path}.{name}": id(value)
        for name, value in getattr(owner, "__dict__", {}).items()
        if callable(value)
    }


def _weight(tensor: torch.Tensor) -> tuple[object, ...]:
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):  # quantized: it has no plain values
        return (type(tensor).__name__, str(tensor.dtype), str(tensor.device), tuple(tensor.shape))
    flat = tensor.detach().reshape(-1)
    spots = sorted({0, flat.numel() // 2, flat.numel() - 1}) if flat.numel() else []
    values = flat[torch.tensor(spots, dtype=torch.long, device=flat.device)]
    return (
        str(tensor.dtype),
        str(tensor.device),
        tuple(tensor.shape),
        tensor.stride(),
        tuple(values.to("cpu", torch.float64).tolist()),
    )
