"""Which blocks of a denoiser repeat: by diffusers' word, or by their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_LEAST_LAYERS = 2
"""Linear layers and convolutions of a block: a layer by itself is none."""


@dataclass(frozen=True)
class RepeatedBlocks:
    """Blocks of one denoiser, by their paths in it, outermost ones only.

    ``named_by``: ``"diffusers"``, whose model names classes (``_repeated_blocks``, what
    ``compile_repeated_blocks`` compiles), or ``"weights"``: blocks of one class whose weights have
    the same names and shapes.
    """

    named_by: str
    blocks: dict[str, torch.nn.Module] = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, int]:
        """How many there are of each class, in the order in which they stand in the model."""
        return dict(Counter(type(block).__name__ for block in self.blocks.values()))


def repeated_blocks(denoiser: torch.nn.Module) -> RepeatedBlocks:
    """Those that the model names, or else those that repeat; none where nothing does."""
    from ..adapters.diffusers_internals import repeated_block_names

    names = repeated_block_names(denoiser)
    named = dict(_outermost(denoiser, lambda module: type(module).__name__ in names))
    if named:
        return RepeatedBlocks("diffusers", named)
    return RepeatedBlocks("weights", dict(_repeating(denoiser)))


def _repeating(denoiser: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    import torch

    from ..adapters.diffusers_internals import is_model

    layers = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    never_called = (torch.nn.ModuleList, torch.nn.ModuleDict)

    def is_block(module: torch.nn.Module) -> bool:
        if is_model(module) or isinstance(module, never_called):
            return False  # two ControlNets of one kind are two models, not two blocks
        return sum(isinstance(inner, layers) for inner in module.modules()) >= _LEAST_LAYERS

    alike = Counter(_weights_of(module) for module in denoiser.modules() if is_block(module))
    found = list(_outermost(denoiser, lambda m: is_block(m) and alike[_weights_of(m)] > 1))
    # The feed-forward of a last block that is another: the others like it are inside of blocks.
    taken = Counter(_weights_of(module) for _, module in found)
    return ((path, module) for path, module in found if taken[_weights_of(module)] > 1)


def _weights_of(module: torch.nn.Module) -> tuple[type, tuple[tuple[str, tuple[int, ...]], ...]]:
    shapes = ((name, tuple(weight.shape)) for name, weight in module.named_parameters())
    return type(module), tuple(shapes)


def _outermost(
    module: torch.nn.Module, wanted: Callable[[torch.nn.Module], bool], path: str = ""
) -> Iterator[tuple[str, torch.nn.Module]]:
    """The modules inside of ``module`` that are ``wanted``, without those inside of such ones."""
    for name, child in module.named_children():
        here = f"{path}.{name}" if path else name
        if wanted(child):
            yield here, child
        else:
            yield from _outermost(child, wanted, here)
