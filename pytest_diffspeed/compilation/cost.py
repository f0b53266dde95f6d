"""What compiling costs: whether caches were warm, and after how many images it has paid off."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Compilation:
    """What was compiled while an arm was built and called for the first time; counted.

    ``cache_hits`` and ``cache_misses`` are those of inductor's cache of compiled graphs: hits alone
    mean that somebody has paid earlier; ``paid_here`` are those that this session has paid.
    """

    graphs: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    paid_here: int = 0
    cudagraph_skips: tuple[str, ...] = ()

    @property
    def cache(self) -> str:
        """``cold``, ``warm``, ``partly warm``; ``unused`` where no graph asked for the cache."""
        if self.cache_hits and self.cache_misses:
            return "partly warm"
        if self.cache_hits:
            return "warm"
        return "cold" if self.cache_misses else "unused"


class CompilationWatch:
    """``seen`` is filled when the context closes."""

    def __init__(self) -> None:
        self.seen = Compilation()


@contextmanager
def watching_compilation(*, compiles: bool, paid: set[str]) -> Iterator[CompilationWatch]:
    """Count graphs and cache hits meanwhile.

    ``paid`` are the keys of graphs that were missing from inductor's cache before, when another
    stack was watched; those that are missing now are added.
    With ``compiles=False`` nothing is counted and dynamo, which is slow to import, is left alone.
    """
    watch = CompilationWatch()
    if not compiles:
        yield watch
        return
    from ..adapters.dynamo import cudagraph_skip_reasons, inductor_counters, unique_graphs
    from ..adapters.graph_cache import cache_lookups

    found: list[str] = []
    missing: list[str] = []
    graphs, counts = unique_graphs(), inductor_counters()
    skips = len(cudagraph_skip_reasons())
    try:
        with cache_lookups(lambda key, hit: (found if hit else missing).append(key)):
            yield watch
    finally:
        own = sum(key in paid for key in found)
        paid.update(missing)
        new: Counter[str] = inductor_counters() - counts
        watch.seen = Compilation(
            unique_graphs() - graphs,
            new["fxgraph_cache_hit"],
            new["fxgraph_cache_miss"],
            own,
            tuple(cudagraph_skip_reasons()[skips:]),
        )


@dataclass(frozen=True)
class ColdStart:
    """Seconds of the first call with its compilation, and of a call afterwards.

    ``baseline_s`` is a call of the arm that is compared with; ``cache`` says whether an earlier
    process has paid already.
    """

    first_call_s: float
    steady_s: float
    baseline_s: float
    cache: str

    @property
    def compile_s(self) -> float:
        """What the first call takes longer than a later one."""
        return max(0.0, self.first_call_s - self.steady_s)

    @property
    def break_even_images(self) -> float:
        """After how many images compiling has paid off; infinite where no image gets faster."""
        saved = self.baseline_s - self.steady_s
        return math.inf if saved <= 0 else self.compile_s / saved

    def sentence(self) -> str:
        """``first call 62.1 s (cold cache), then 0.39 s; pays off after 520 images``."""
        images = self.break_even_images
        if math.isinf(images):
            pays = f"never pays off: the baseline takes {self.baseline_s:.3g} s"
        else:
            pays = f"pays off after {math.ceil(images):,} images"
        return (
            f"first call {self.first_call_s:.3g} s ({self.cache} cache), then "
            f"{self.steady_s:.3g} s; {pays}"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "compile_s": self.compile_s,
            "break_even_images": self.break_even_images,
        }
