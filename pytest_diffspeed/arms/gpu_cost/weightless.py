"""Pipelines without weights: counts need shapes, and the weights of SDXL take 14 GB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.errors import SourceError
from ...common.quiet import third_party
from ...pipelines.sources import (
    DemoSource,
    FolderSource,
    HubSource,
    PipelineSource,
    RandomSource,
)

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def build(source: PipelineSource) -> DiffusionPipeline:
    """The pipeline of ``source`` in float32, its weights on ``meta`` where the source has them in
    files or draws them itself.

    Others, a factory and the small pipelines, are built as they are; their weights are let go of
    once the shapes are known.

    Raises:
        SourceError: with the reason and the next step.
    """
    if isinstance(source, RandomSource):
        from ...pipelines import random_weights

        return _ready(random_weights.build(source.architecture, device="meta"))
    where = _configs_at(source)
    if where is None:
        return source.build()
    try:
        return _ready(_from_configs(where, source.name))
    except SourceError:
        raise
    except Exception as error:
        from ...pipelines.load_errors import explain_load_error

        raise SourceError(
            f"pipeline source {source.name!r}: {explain_load_error(error, source.NEXT_STEP)}"
        ) from error


def _configs_at(source: PipelineSource) -> str | Path | None:
    """Where its configuration files are, if it has any."""
    if isinstance(source, DemoSource):
        return source.FOLDER
    if isinstance(source, FolderSource):
        # What is no pipeline's folder, its own build says best.
        return source.folder if (source.folder / "model_index.json").is_file() else None
    return source.name if isinstance(source, HubSource) else None


def _from_configs(where: str | Path, name: str) -> Any:
    """``from_pretrained`` with models that were made of their configurations in place of loaded
    ones: tokenizers, schedulers and options are read as always.
    """
    with third_party():
        import torch
        from diffusers import DiffusionPipeline

        index = DiffusionPipeline.load_config(where)
        models = {}
        for part, entry in index.items():
            kind = _model_class(entry)
            if kind is not None:
                with torch.device("meta"):
                    models[part] = _model(kind, where, part)
        if not models:
            raise SourceError(
                f"pipeline source {name!r}: its model_index.json names no model of diffusers or "
                "transformers, so there is nothing to count"
            )
        return DiffusionPipeline.from_pretrained(where, **models)


def _model_class(entry: Any) -> Any:
    """The class that ``["library", "Class"]`` names, if it is one of models."""
    import importlib

    import torch

    if not (
        isinstance(entry, list) and len(entry) == 2 and entry[0] in ("diffusers", "transformers")
    ):
        return None
    kind = getattr(importlib.import_module(entry[0]), str(entry[1]), None)
    return kind if isinstance(kind, type) and issubclass(kind, torch.nn.Module) else None


def _model(kind: Any, where: str | Path, part: str) -> Any:
    if hasattr(kind, "load_config"):  # diffusers
        return kind.from_config(kind.load_config(where, subfolder=part))
    return kind(kind.config_class.from_pretrained(where, subfolder=part))


def _ready(pipeline: Any) -> DiffusionPipeline:
    import torch

    from ...pipelines.components import modules

    pipeline.set_progress_bar_config(disable=True)
    for part in modules(pipeline).values():
        part.eval().requires_grad_(False)
        torch.nn.Module.to(part, dtype=torch.float32)  # configurations may name another
    ready: DiffusionPipeline = pipeline
    return ready
