"""Whether a pipeline is as a baseline must be: eager, without hooks, nothing offloaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def why_not_bare(pipeline: DiffusionPipeline) -> str | None:
    """What somebody has done to ``pipeline`` already, with the way out, or ``None``.

    Compiled in any way (the module, a method, blocks by themselves), offloaded or hooked by
    accelerate or diffusers.  Plain forward hooks are none of it: models have them of themselves
    (``weight_norm``).
    """
    compiled = list(_compiled(pipeline))
    if compiled:
        return (
            f"it gave a pipeline that is compiled already ({_some(compiled)}); the baseline is "
            "eager, so leave compiling out of the source and ask for it in the stack, such as "
            "'bf16+compile'"
        )
    hooked = list(_hooked(pipeline))
    if hooked:
        return (
            f"it gave a pipeline with hooks already ({_some(hooked)}); the baseline is measured "
            "bare, so leave offloading, layerwise casting and caches out of the source (`enable_…`,"
            " `apply_…`, `device_map`), and make what you want to measure a technique"
        )
    return None


def _compiled(pipeline: DiffusionPipeline) -> Iterator[str]:
    from ..adapters.dynamo import original_of
    from ..compilation.targets import outermost_marks
    from .components import modules

    weighty = modules(pipeline)
    for name, part in weighty.items():
        paths = {id(module): path for path, module in part.named_modules(prefix=name)}
        for mark in outermost_marks(part):
            path = paths[id(mark.owner)]
            whole = mark.attribute in ("forward", "_compiled_call_impl")
            yield path if whole else f"{path}.{mark.attribute}"
    # A scheduler's `step`, a method of the pipeline itself.
    others = {n: p for n, p in pipeline.components.items() if n not in weighty}
    for name, owner in {**others, "pipeline": pipeline}.items():
        for attribute, value in getattr(owner, "__dict__", {}).items():
            if callable(value) and attribute not in weighty and original_of(value) is not None:
                yield f"{name}.{attribute}"


def _hooked(pipeline: DiffusionPipeline) -> Iterator[str]:
    from ..adapters.module_state import library_hooks
    from .components import modules

    for name, part in modules(pipeline).items():
        found: dict[str, int] = {}
        for module in part.modules():
            for kind in library_hooks(module):
                found[kind] = found.get(kind, 0) + 1
        for kind, count in found.items():
            yield f"{name}: {kind} on {count} {'module' if count == 1 else 'modules'}"


def _some(found: list[str]) -> str:
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{', '.join(found[:3])}{more}"
