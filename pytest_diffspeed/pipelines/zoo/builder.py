"""Makes a pipeline from its recipe: seeded weights, none of them empty or zero."""

from __future__ import annotations

import contextlib
import importlib.util
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...accelerators.registry import accelerator_of
from ...common.errors import SourceError, UsageError, nearest
from ...common.quiet import third_party
from .recipe import ZooRecipe
from .registry import recipes

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

# The standard deviation that diffusion models are commonly initialized with.
REDRAWN_STD = 0.02


def names() -> tuple[str, ...]:
    """The names that :func:`build` knows, sorted: classes of diffusers, some with a variant."""
    return tuple(recipes())


def check_name(name: str) -> None:
    """Raise :class:`~...common.errors.UsageError` (a ``ValueError``) unless there is a recipe.

    Imports neither torch nor diffusers: cheap enough for the parsing of options.
    """
    if name not in recipes():
        raise UsageError(f"there is no small pipeline {name!r}; {nearest(name, names())}")


def build(
    name: str, *, shared: Mapping[str, Any] | None = None, seed: int = 0
) -> DiffusionPipeline:
    """The pipeline ``name`` in float32 on the CPU, in eval mode, its weights drawn from ``seed``.

    Weights are the default initialization of diffusers and transformers.  Where that leaves a
    weight at zero or its memory as it was found, it is drawn (normal, standard deviation 0.02):
    behind a layer of zeros a fault in a ControlNet or in an adapter would change nothing.  They are
    the same for the same name and seed, whatever the state of torch's random generators, which is
    left as it was.  ``shared`` holds components of an earlier build to use as they are.

    Raises :class:`~...common.errors.UsageError` (a ``ValueError``) for an unknown name and
    :class:`~...common.errors.SourceError` where the installed diffusers lacks the class, or a
    package is missing that the pipeline cannot do without.
    """
    check_name(name)
    recipe = recipes()[name]
    with third_party():
        found = pipeline_class(name, recipe)
        parts = {
            part: shared[part] if shared and part in shared else _made(part, make, seed)
            for part, make in recipe.parts.items()
        }
        pipeline: DiffusionPipeline = found(**parts, **recipe.options)
        if recipe.adapted is not None:
            recipe.adapted(pipeline)
    return pipeline


def pipeline_class(name: str, recipe: ZooRecipe) -> Any:
    """The class of diffusers that ``recipe`` is of."""
    import diffusers

    wanted = recipe.pipeline_class or name
    found = getattr(diffusers, wanted, None)
    if found is None:
        raise SourceError(
            f"the installed diffusers {diffusers.__version__} has no {wanted}; install a version "
            "that has it, or take another pipeline"
        )
    for package in recipe.needs:
        if importlib.util.find_spec(package) is None:
            raise SourceError(
                f"{wanted} cannot run without {package}, which is not installed; run "
                f"`python -m pip install {package}`, or take another pipeline"
            )
    return found


def _made(part: str, make: Any, seed: int) -> Any:
    import torch

    stream = zlib.crc32(f"{part}/{seed}".encode())
    cpu = torch.device("cpu")
    with accelerator_of(cpu).seeded(stream, cpu), _empty_is_nan():
        made = make()
        if isinstance(made, torch.nn.Module):
            _redraw(made)
    return made


@contextlib.contextmanager
def _empty_is_nan() -> Iterator[None]:
    """``torch.empty`` gives NaN instead of what the memory held, so that it can be seen."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill: Any = torch.utils.deterministic  # its type hints lack the setting
    filled = fill.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    fill.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        fill.fill_uninitialized_memory = filled


def _redraw(module: torch.nn.Module) -> None:
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.is_floating_point() or not parameter.numel():
                continue
            empty = bool(parameter.isnan().any())
            if empty or (parameter.dim() > 1 and not parameter.any()):
                parameter.normal_(std=REDRAWN_STD)


__all__ = ["build", "check_name", "names", "pipeline_class"]
