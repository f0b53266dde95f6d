"""A technique in one file: first-block caching of Flux-style transformers.

A transformer's blocks change little from one denoising step to the next.  After the first block of
a step, the cache compares that block's residual with that of the step before; if they differ by
less than a threshold, the other blocks are skipped and their last residual is used again.
Diffusers has the cache (``enable_cache``); this file makes it a technique that proves that blocks
were skipped.  It is the smallest that does: the package's own ``first_block_cache`` takes every
denoiser and can be undone.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pytest_diffspeed.extend import (
    Family,
    NotEffectiveError,
    Observation,
    Parameter,
    Proof,
    Technique,
    denoiser,
)


class BlockCounter:
    """How often the blocks after the first were reached, and how often one really ran."""

    def __init__(self) -> None:
        self.reached = 0
        self.ran = 0

    def watch(self, block: Any) -> None:
        """To be called before the cache is put on: what it skips is then counted as not run."""
        forward: Callable[..., Any] = block.forward

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.ran += 1
            return forward(*args, **kwargs)

        block.forward = counted
        block.register_forward_pre_hook(self._count_reached)

    def _count_reached(self, block: Any, args: Any) -> None:
        self.reached += 1


class FirstBlockCache(Technique):
    """Skip the blocks after the first where the first one says that little has changed.

    Trained models change little from step to step: thresholds of 0.05 to 0.2 are usual.
    """

    name: ClassVar[str] = "block_cache"
    family: ClassVar[Family] = Family.CACHE
    summary: ClassVar[str] = "skips transformer blocks whose input hardly changed"
    changes: ClassVar[frozenset[str] | None] = frozenset({"denoiser"})
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "threshold": Parameter(0.2, "the largest change of the first block's residual, relative")
    }

    def incompatible(self, pipeline: Any) -> str | None:
        transformer = denoiser(pipeline)
        if not hasattr(transformer, "enable_cache") or len(_blocks(transformer)) < 2:
            return "its denoiser has no transformer blocks that diffusers can cache"
        return None

    def apply(self, pipeline: Any) -> None:
        from diffusers import FirstBlockCacheConfig

        transformer = denoiser(pipeline)
        counter = BlockCounter()
        for block in _blocks(transformer)[1:]:
            counter.watch(block)
        transformer.enable_cache(FirstBlockCacheConfig(threshold=self.argument("threshold")))
        transformer.first_block_counter = counter

    def prove(self, pipeline: Any, seen: Observation) -> Proof:
        """The call before this one was whole: its later steps can reuse what the first computed."""
        counter, threshold = denoiser(pipeline).first_block_counter, self.argument("threshold")
        skipped = counter.reached - counter.ran
        if not skipped:
            raise NotEffectiveError(
                f"{self.name}: expected blocks to be skipped at threshold {threshold:g}, "
                f"found that all {counter.reached} ran: the cache never fired"
            )
        return Proof(
            self.name,
            f"{skipped} of {counter.reached} block calls skipped",
            {"reached": counter.reached, "skipped": skipped, "threshold": threshold},
        )


def _blocks(transformer: Any) -> list[Any]:
    """In the order in which they run."""
    lists = ("transformer_blocks", "single_transformer_blocks")
    return [block for name in lists for block in getattr(transformer, name, ())]


def pytest_diffspeed_techniques() -> list[Technique]:
    return [FirstBlockCache()]
