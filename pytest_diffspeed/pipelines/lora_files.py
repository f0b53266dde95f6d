"""What a LoRA file holds: which layers of a pipeline it is for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..common.errors import SourceError
from ..common.quiet import third_party
from ..common.text import first_line, listed, plural

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_OF_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_PRODUCT = re.compile(r"\.(lora_[AB]|lora_magnitude_vector|lora\.(up|down)|lora_(up|down))\b.*")

Places = Mapping[str, frozenset[str]]
"""Paths of layers by component: ``{"unet": {"mid_block.attentions.0.proj_in"}}``."""


def words(path: str, weight_name: str) -> tuple[str, dict[str, Any]]:
    """The file as functions of diffusers take it: where it is, and words for which one it is."""
    named = {"weight_name": weight_name} if weight_name else {}
    return os.path.expanduser(path), {"use_safetensors": True, **named}


def read(pipeline: DiffusionPipeline, path: str, weight_name: str = "") -> Places:
    """Which layers of ``pipeline`` the adapter in the file is for.

    ``path`` is a file, a folder, or ``owner/repository`` of the Hugging Face Hub; ``weight_name``
    the file in one of the latter two.  Files of pickles, which can run code, are not read.

    Raises:
        SourceError: there is no such file, it is no LoRA's, or it is for layers that the pipeline
            does not have.
    """
    _require_there(path)
    kind: Any = type(pipeline)
    where, which = words(path, weight_name)
    try:
        with third_party():
            read_of_it: Any = kind.lora_state_dict(where, **which)
    except Exception as error:
        raise SourceError(
            f"the adapter {path} cannot be read: {type(error).__name__}: {first_line(error)}"
        ) from error
    state = read_of_it[0] if isinstance(read_of_it, tuple) else read_of_it
    found = _places(pipeline, state)
    if not found:
        raise SourceError(f"{path} holds no LoRA: no weight in it is one of an adapter's")
    lacking = [
        f"{component}.{place}"
        for component, places in found.items()
        for place in sorted(places - _layers(pipeline, component))
    ]
    if lacking:
        raise SourceError(
            f"the adapter {path} is for {plural(len(lacking), 'layer')} that the pipeline does not "
            f"have ({listed(lacking)}), so diffusers would leave out what it holds for them; use "
            f"an adapter of this model"
        )
    return found


def _require_there(path: str) -> None:
    if os.path.exists(os.path.expanduser(path)):
        return
    if _OF_THE_HUB.fullmatch(path) and not path.endswith(_FILES):
        return
    raise SourceError(
        f"there is no adapter {path}: no such file or folder in {os.getcwd()}, and no "
        "'owner/repository' of the Hugging Face Hub either"
    )


def _places(pipeline: DiffusionPipeline, state: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Components and layers that the keys of a file name, as diffusers reads them."""
    from diffusers.utils import (
        convert_state_dict_to_diffusers,
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )

    by_component: dict[str, dict[str, Any]] = {}
    for key, value in state.items():
        component, _, rest = key.partition(".")
        by_component.setdefault(component, {})[rest] = value
    found: dict[str, frozenset[str]] = {}
    for component, weights in by_component.items():
        if "text_encoder" in component:
            weights = convert_state_dict_to_peft(convert_state_dict_to_diffusers(weights))
            if not hasattr(getattr(pipeline, component, None), "text_model"):
                weights = {key.removeprefix("text_model."): v for key, v in weights.items()}
        elif not any("lora_A" in key for key in weights):
            weights = convert_unet_state_dict_to_peft(weights)
        cut = {_PRODUCT.sub("", key) for key in weights if _PRODUCT.search(key)}
        if cut:
            found[component] = frozenset(cut)
    return found


def _layers(pipeline: DiffusionPipeline, component: str) -> frozenset[str]:
    """Paths of a component, those of wrapped layers included; none of what diffusers does not load
    adapters into.
    """
    from ..adapters.diffusers_internals import takes_adapters

    module = getattr(pipeline, component, None)
    if component not in takes_adapters(pipeline) or module is None:
        return frozenset()
    return frozenset(path for path, _ in module.named_modules())
