"""Watch one untimed call of a compiled pipeline, without touching what was compiled.

A profiler trace shows which compiled code ran inside each denoiser and inside ``vae.decode``, and
which arithmetic ran there outside of compiled code.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..adapters.attributes import replaced
from ..adapters.torch_internals import Trace, around_calls, marked, trace
from .observation import FUSED_ATTENTION, CompiledPart
from .observe import ARITHMETIC, INT8_GEMMS
from .targets import targets_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def observe_compiled(
    pipeline: DiffusionPipeline, call: Callable[[], object]
) -> tuple[dict[str, CompiledPart], int]:
    """What ran in each part in ``call()``, and how many CUDA graphs were launched in it."""

    def mark(part: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def marked_call(*args: Any, **kwargs: Any) -> Any:
                with marked(part):
                    return function(*args, **kwargs)

            return marked_call

        return wrap

    targets = targets_of(pipeline)
    parts = [*targets.denoisers]
    with ExitStack() as stack:
        for name, model in targets.denoisers.items():
            stack.enter_context(around_calls(model, mark(name)))
        for name, decoder in targets.decoders.items():
            part = f"{name}.decode"
            parts.append(part)
            stack.enter_context(replaced(decoder, "decode", mark(part)(decoder.decode)))
        # On CUDA, fused attention calls the kernel as an op of its own.
        seen = trace(call, outermost=FUSED_ATTENTION)
    return {part: _part(seen, part) for part in parts}, seen.cuda_graph_launches


def _part(seen: Trace, part: str) -> CompiledPart:
    arithmetic = ARITHMETIC | INT8_GEMMS
    eager = Counter(seen.outside.get(part, {}))
    if seen.graph_calls[part]:  # other backends do not mark their graphs
        eager.update(seen.between.get(part, {}))
    return CompiledPart(
        calls=seen.calls[part],
        frames=dict(seen.frames.get(part, {})),
        resumed=seen.resumed[part],
        graph_calls=seen.graph_calls[part],
        eager_ops={name: n for name, n in sorted(eager.items()) if name in arithmetic},
        attention={
            name: count
            for name, count in sorted(seen.all_ops.get(part, {}).items())
            if name in FUSED_ATTENTION
        },
    )
