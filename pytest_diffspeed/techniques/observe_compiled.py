"""Watch one untimed call of a compiled pipeline, without touching what was compiled.

A profiler trace shows which compiled code ran inside each denoiser and inside ``vae.decode``, and
which arithmetic ran there outside of compiled code.  Where a denoiser is not compiled as a whole
and blocks of it are, it shows the same of each block.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..adapters.attributes import replaced
from ..adapters.module_state import COMPILED_CALL
from ..adapters.torch_internals import Trace, around_calls, marked, trace
from ..compilation.targets import outermost_marks
from .observation import FUSED_ATTENTION, CompiledBlock, CompiledPart
from .observe import ARITHMETIC, FLOAT8_GEMMS, INT8_GEMMS
from .targets import targets_of

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


def observe_compiled(
    pipeline: DiffusionPipeline, call: Callable[[], object]
) -> tuple[dict[str, CompiledPart], int]:
    """What ran in each part in ``call()``, and how many CUDA graphs were launched in it."""
    targets = targets_of(pipeline)
    blocks = {name: _blocks(model) for name, model in targets.denoisers.items()}
    shapes: dict[str, set[str]] = {}
    parts = [*targets.denoisers]
    with ExitStack() as stack:
        for name, model in targets.denoisers.items():
            stack.enter_context(around_calls(model, _mark(name)))
            for path, block in blocks[name].items():
                given = shapes.setdefault(f"{name}.{path}", set())
                stack.enter_context(around_calls(block, _mark(f"{name}.{path}", block, given)))
        for name, decoder in targets.decoders.items():
            part = f"{name}.decode"
            parts.append(part)
            stack.enter_context(replaced(decoder, "decode", _mark(part)(decoder.decode)))
        # On CUDA, fused attention calls the kernel as an op of its own.
        seen = trace(call, outermost=FUSED_ATTENTION)
    of_blocks = {
        name: {
            path: CompiledBlock(
                **vars(_part(seen, f"{name}.{path}")),
                kind=type(block).__name__,
                shapes=frozenset(shapes[f"{name}.{path}"]),
            )
            for path, block in inner.items()
        }
        for name, inner in blocks.items()
    }
    found = {part: _part(seen, part, of_blocks.get(part)) for part in parts}
    return found, seen.cuda_graph_launches


def _blocks(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """By their paths, what of a model is compiled by itself (``block.compile()``); nothing where
    the model is compiled as a whole.
    """
    marks = outermost_marks(model)
    if any(mark.is_whole(model) for mark in marks):
        return {}
    compiled = {id(mark.owner) for mark in marks if mark.attribute == COMPILED_CALL}
    return {path: module for path, module in model.named_modules() if id(module) in compiled}


def _mark(
    part: str, block: torch.nn.Module | None = None, shapes: set[str] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Calls show as ``part`` in the trace; what ``block`` is given is added to ``shapes``."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def marked_call(*args: Any, **kwargs: Any) -> Any:
            if block is not None and shapes is not None:
                shapes.add(_given(block, args, kwargs))
            with marked(part):
                return function(*args, **kwargs)

        return marked_call

    return wrap


def _given(block: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """What a compilation for this call may be bound to: sizes and strides of tensors, whole
    numbers and words, and the shapes of the block's weights.
    """
    from ..adapters.torch_internals import tree_leaves

    weights = [tuple(weight.shape) for weight in block.parameters()]
    return repr([*map(_bound_to, tree_leaves((args, kwargs))), weights])


def _bound_to(value: Any) -> object:
    if hasattr(value, "stride"):
        return tuple(value.shape), tuple(value.stride()), str(value.dtype)
    return value if isinstance(value, (str, int, type(None))) else type(value).__name__


def _part(
    seen: Trace, part: str, blocks: Mapping[str, CompiledBlock] | None = None
) -> CompiledPart:
    narrow = INT8_GEMMS | FLOAT8_GEMMS
    arithmetic = ARITHMETIC | narrow
    eager = Counter(seen.outside.get(part, {}))
    if seen.graph_calls[part]:  # other backends do not mark their graphs
        eager.update(seen.between.get(part, {}))
    ops = Counter(seen.all_ops.get(part, {}))
    for block in (blocks or {}).values():
        ops.update(block.attention)
        ops.update(block.narrow_products)
    return CompiledPart(
        calls=seen.calls[part],
        frames=dict(seen.frames.get(part, {})),
        compilations=frozenset(seen.compilations.get(part, ())),
        resumed=seen.resumed[part],
        graph_calls=seen.graph_calls[part],
        eager_ops={name: n for name, n in sorted(eager.items()) if name in arithmetic},
        attention={n: count for n, count in sorted(ops.items()) if n in FUSED_ATTENTION},
        narrow_products={n: count for n, count in sorted(ops.items()) if n in narrow},
        blocks=blocks or {},
    )
