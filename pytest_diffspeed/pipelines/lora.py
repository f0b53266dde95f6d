"""LoRA adapters in a pipeline: loading, merging, unloading, watching and swapping them.

Everything of peft's own layers is in :mod:`..adapters.lora_layers`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..common.errors import SourceError
from ..common.quiet import third_party
from ..common.text import first_line, listed, plural
from .lora_files import Places, read, words

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

EXTRA = 'pip install "pytest-diffspeed[lora]"'


def why_not(pipeline: DiffusionPipeline) -> str | None:
    """Why no adapter can be loaded into ``pipeline``, or ``None``."""
    from diffusers.utils import USE_PEFT_BACKEND

    if not USE_PEFT_BACKEND:
        return f"diffusers loads adapters by peft, 0.17 or newer, which is not installed: {EXTRA}"
    from ..adapters.lora_layers import why_unusable

    why = why_unusable()
    if why is not None:
        return why
    if not hasattr(pipeline, "load_lora_weights"):
        return "diffusers loads no LoRA into pipelines of this class"
    loaded = loaded_places(pipeline)
    if loaded:
        many = plural(sum(map(len, loaded.values())), "layer")
        return (
            f"its source has loaded an adapter already (on {many} of its {' and '.join(loaded)}); "
            "load it there or in the stack, not in both"
        )
    return None


def load(
    pipeline: DiffusionPipeline,
    path: str,
    weight_name: str = "",
    *,
    name: str,
    scale: float = 1.0,
    target_rank: int = 0,
) -> None:
    """Load an adapter under ``name``, in the dtype of the layers that it is for.

    ``scale`` multiplies what it adds.  ``target_rank``: prepared for swapping in others of at most
    that rank; 0: not prepared.

    Raises:
        SourceError: diffusers or peft cannot load it; nothing says what is left in the pipeline.
    """
    from ..adapters import lora_layers

    taking: Any = pipeline
    where, which = words(path, weight_name)
    try:
        with _quiet():
            if target_rank:
                taking.enable_lora_hotswap(target_rank=target_rank)
            taking.load_lora_weights(where, adapter_name=name, **which)
    except Exception as error:
        raise SourceError(
            f"the adapter {path} cannot be loaded: {type(error).__name__}: {first_line(error)}"
        ) from error
    for layer in _all_layers(pipeline):
        if name in lora_layers.adapters_of(layer):
            lora_layers.set_dtype(layer)
            lora_layers.scale(layer, scale)


def hot_swap(
    pipeline: DiffusionPipeline, path: str, weight_name: str = "", *, scale: float = 1.0
) -> None:
    """Put the weights of another adapter in place of those of the one that is loaded.

    Raises:
        SourceError: there is no one adapter to be swapped out, or diffusers swaps no such adapter
            in.  What it is told by names is found before anything is changed, since diffusers drops
            the adapter that is there when it fails.
    """
    from ..adapters import lora_layers

    name = _loaded_name(pipeline)
    loaded, wanted = loaded_places(pipeline), read(pipeline, path, weight_name)
    more = sorted(
        f"{component}.{place}"
        for component, places in wanted.items()
        for place in places - loaded.get(component, frozenset())
    )
    if more:
        raise SourceError(
            f"the adapter {path} cannot be swapped in: it is for {plural(len(more), 'layer')} that "
            f"the one that is loaded does not have ({listed(more)}); load first the one with most "
            "layers, or adapters of the same ones"
        )
    encoders = [component for component in wanted if "text_encoder" in component]
    if encoders:
        raise SourceError(
            f"the adapter {path} cannot be swapped in: it is for the {' and '.join(encoders)} too, "
            "and diffusers swaps adapters of denoisers only"
        )
    taking: Any = pipeline
    where, which = words(path, weight_name)
    try:
        with _quiet():
            taking.load_lora_weights(where, adapter_name=name, hotswap=True, **which)
    except Exception as error:
        # Of a higher rank: peft before 0.19 says so, later ones exchange the weights.
        step = "; prepare hot-swapping: lora(…,target_rank=N)" * ("prepare_model" in str(error))
        raise SourceError(
            f"the adapter {path} cannot be swapped in: {type(error).__name__}: {first_line(error)}"
            f"{step}"
        ) from error
    for layer in _all_layers(pipeline):
        lora_layers.scale(layer, scale)


def gradients(pipeline: DiffusionPipeline) -> dict[str, list[bool]]:
    """Which weights of each component ask for gradients: loading an adapter has none ask for them
    any more, and unloading does not change that.
    """
    from .components import modules

    return {n: [w.requires_grad for w in m.parameters()] for n, m in modules(pipeline).items()}


def unload(pipeline: DiffusionPipeline, before: Mapping[str, list[bool]]) -> None:
    """Take all adapters out; weights ask for gradients as they did ``before``."""
    from ..adapters.diffusers_internals import forget_hotswap
    from .components import modules

    unloading: Any = pipeline
    with third_party():
        unloading.unload_lora_weights()
    for name, module in modules(pipeline).items():
        forget_hotswap(module)
        for weight, asks in zip(module.parameters(), before.get(name, []), strict=False):
            weight.requires_grad_(asks)


def merge(pipeline: DiffusionPipeline, places: Places) -> list[str]:
    """Add the adapter to the weights of the layers at ``places`` and take it out; those whose
    weights are as before.
    """
    before = {name: _sums(weight) for name, weight in _weights(pipeline, places).items()}
    merging: Any = pipeline
    with third_party():
        merging.fuse_lora(components=list(places))
        merging.unload_lora_weights()
    now = {name: _sums(weight) for name, weight in _weights(pipeline, places).items()}
    return sorted(name for name in before if before[name] == now[name])


def kept(pipeline: DiffusionPipeline) -> AbstractContextManager[None]:
    """Whatever is swapped in meanwhile, the adapter that is loaded now is there afterwards."""
    from ..adapters import lora_layers

    return lora_layers.kept(_all_layers(pipeline))


def loaded_places(pipeline: DiffusionPipeline, name: str | None = None) -> Places:
    """Where adapters are loaded, or the one called ``name``."""
    from ..adapters.lora_layers import adapted_layers, adapters_of
    from .components import modules

    found: dict[str, frozenset[str]] = {}
    for component, module in modules(pipeline).items():
        places = frozenset(
            path
            for path, layer in adapted_layers(module).items()
            if name is None or name in adapters_of(layer)
        )
        if places:
            found[component] = places
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what diffusers logs of each component that a file holds nothing for: what it would
    leave out of a file :func:`read` has refused.
    """
    log = logging.getLogger("diffusers.loaders")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with third_party():
            yield
    finally:
        log.setLevel(level)


def of_zeros(pipeline: DiffusionPipeline, name: str) -> set[str]:
    """Layers to which the adapter called ``name`` adds nothing, since its weights for them are 0.

    A few may be: the last layer of CLIP, whose output nothing reads, learns nothing.
    """
    from ..adapters.lora_layers import adapted_layers, ends_in_zeros
    from .components import modules

    return {
        f"{component}.{path}"
        for component, paths in loaded_places(pipeline, name).items()
        for path, layer in adapted_layers(modules(pipeline)[component]).items()
        if path in paths and ends_in_zeros(layer, name)
    }


@dataclass
class AdapterCalls:
    """A layer that a LoRA wraps, in a call of the pipeline: how often the layer itself ran, and how
    many ``products`` of adapters beside it, two for each adapter and run.
    """

    layer: int = 0
    products: int = 0


@contextmanager
def watching(pipeline: DiffusionPipeline) -> Iterator[dict[str, AdapterCalls]]:
    """What adapters do meanwhile, by ``component.path.of.the.layer``, in all components."""
    from ..adapters.lora_layers import adapted_layers, products_of
    from .components import modules

    found: dict[str, AdapterCalls] = {}
    # What raised did not run, so these are hooks for afterwards.
    with ExitStack() as hooks:
        for component, module in modules(pipeline).items():
            for path, layer in adapted_layers(module).items():
                seen = found[f"{component}.{path}"] = AdapterCalls()

                def ran(*_: object, seen: AdapterCalls = seen) -> None:
                    seen.layer += 1

                def multiplied(*_: object, seen: AdapterCalls = seen) -> None:
                    seen.products += 1

                hooks.callback(layer.base_layer.register_forward_hook(ran).remove)
                for product in products_of(layer):
                    hooks.callback(product.register_forward_hook(multiplied).remove)
        yield found


def _loaded_name(pipeline: DiffusionPipeline) -> str:
    from ..adapters.lora_layers import adapters_of

    names = sorted({name for layer in _all_layers(pipeline) for name in adapters_of(layer)})
    if len(names) != 1:
        raise SourceError(
            f"one adapter can be swapped for another, and {listed(names) or 'none'} "
            f"{'is' if len(names) < 2 else 'are'} loaded; load one, by lora(…) in the stack or in "
            "the source"
        )
    return names[0]


def _all_layers(pipeline: DiffusionPipeline) -> list[Any]:
    from ..adapters.lora_layers import adapted_layers
    from .components import modules

    return [one for part in modules(pipeline).values() for one in adapted_layers(part).values()]


def _weights(pipeline: DiffusionPipeline, places: Places) -> dict[str, torch.Tensor]:
    found: dict[str, Any] = {}
    for component, paths in places.items():
        module: torch.nn.Module = getattr(pipeline, component)
        for path in paths:
            layer: Any = module.get_submodule(path)
            found[f"{component}.{path}"] = getattr(layer, "base_layer", layer).weight
    return found


def _sums(weight: torch.Tensor) -> tuple[float, float]:
    """Two sums over a tensor that differ where any few values do."""
    exact = weight.detach().double()
    return float(exact.sum()), float(exact.square().sum())
