"""Seconds that are modelled from a count: shown, never gated.

A kernel takes the longest of its products, its bytes and the shortest kernel there is; kernels
follow each other on one stream, and the CPU may be slower than they are.  So a ratio tells where
time goes, and no more: :data:`RESOLUTION` and :data:`ERRORS` say how little that is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from .bound import products_s
from .cost import FUSED_ATTENTION, TRANSFERS, Cost, Kernel
from .errors import GpuCostError
from .gpus import Gpu
from .time_constants import constants_of, drawn

EAGER, COMPILED = "eager", "compiled"


@dataclass(frozen=True)
class PublishedError:
    """How far modelled ratios were from published ones at most, as a share, and of how many."""

    furthest: float
    pairs: int


ERRORS: Mapping[str, PublishedError] = MappingProxyType(
    {EAGER: PublishedError(0.25, 2), COMPILED: PublishedError(0.03, 3)}
)
"""Of two such stacks: the table of docs/gpu_cost_time.md, which ``make
benchmark-gpu-cost-ladders`` writes.  So few pairs may be luck; the interval is the better guess."""
RESOLUTION = 0.05
"""Differences below it cannot be told: uploads of one benchmark of two Flux stacks have ratios of
1.26 to 1.43, and three sites that published it ones of 1.49 to 1.56."""
MIXED = (
    "one of the two is eager and the other compiled: the model was 15 to 17 % off there on "
    "published ladders, so it gives no ratio; compare two eager stacks or two that compile"
)
_INTERVAL = 0.90
_OF_TYPE = {"tf32": "gemm.tf32", "f32": "gemm.tf32", "i8": "gemm.low", "f8": "gemm.low"}
# Rows and columns of the tiles that cuBLAS cuts a product into, and how well each size does.
_TILES = ((128, 256, 1.0), (128, 128, 0.92), (64, 128, 0.75), (64, 64, 0.6))
_TILE_OVERHEAD = 128
"""Of the depth of a product: what a tile's first loads and its last stores take in its place."""


@dataclass(frozen=True)
class ModelledTime:
    """Of one cost: the GPU's own seconds, and those of the CPU that launches its kernels.

    ``notes``: what was counted and has no seconds here, a sentence each.
    """

    gpu_s: float
    cpu_s: float
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The CPU runs ahead of the GPU, and the slower one decides."""
        return max(self.gpu_s, self.cpu_s)

    @property
    def is_bound_by_launches(self) -> bool:
        return self.cpu_s > self.gpu_s


@dataclass(frozen=True)
class ModelledRatio:
    """How many times as fast the head is; 90 % of the draws of the constants lie from ``low`` to
    ``high``.

    Both sides have the same draw, so what is wrong alike for both is not in it; nor is what the
    model leaves out.  ``error`` is that of :data:`ERRORS`.
    """

    ratio: float
    low: float
    high: float
    error: PublishedError

    @property
    def can_be_told(self) -> bool:
        """Beyond :data:`RESOLUTION`, and with all these draws on one side of 1."""
        far = abs(math.log(self.ratio)) > math.log1p(RESOLUTION)
        return far and not self.low <= 1 <= self.high


def mode_of(cost: Cost) -> str:
    """``compiled`` where any compiled graph ran."""
    return COMPILED if cost.graphs else EAGER


def modelled_time(
    cost: Cost, gpu: Gpu, constants: Mapping[str, float] | None = None
) -> ModelledTime:
    """Seconds of ``cost`` on ``gpu``; ``constants`` in place of the values of
    :func:`~.time_constants.constants_of`.

    Raises:
        GpuCostError: for products of a type that ``gpu`` does not have.
    """
    values = constants or {name: one.value for name, one in constants_of(gpu).items()}
    return GpuWork.of(cost, gpu).seconds(values)


def modelled_ratio(base: Cost, head: Cost, gpu: Gpu) -> ModelledRatio:
    """How many times as fast ``head`` is as ``base``: two eager costs, or two compiled ones.

    Raises:
        GpuCostError: an eager and a compiled one, an eager one in int8 or float8, nothing to
            compare, or products of a type that ``gpu`` does not have.
    """
    mode = mode_of(head)
    _check(base, head, mode)
    both = GpuWork.of(base, gpu), GpuWork.of(head, gpu)
    constants = constants_of(gpu)
    values = {name: one.value for name, one in constants.items()}
    ratios = [_ratio(both, draw) for draw in drawn(constants)]
    return ModelledRatio(_ratio(both, values), *interval(ratios), ERRORS[mode])


def without_lines(cost: Cost) -> Counter[Kernel]:
    """How many there are of each kernel, whatever line it comes from."""
    # The same objects stand in a cost again and again: of 50 steps, for example.
    numbers, kernels = Counter(map(id, cost.kernels)), {id(k): k for k in cost.kernels}
    found: Counter[Kernel] = Counter()
    for key, number in numbers.items():
        found[replace(kernels[key], site="", also=(), called_from="", route="", path="")] += number
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Between which the middle 90 % of ``values`` lie."""
    ordered = sorted(values)
    left_out = round(len(ordered) * (1 - _INTERVAL) / 2)
    return ordered[left_out], ordered[-1 - left_out]


def _check(base: Cost, head: Cost, mode: str) -> None:
    if mode_of(base) != mode:
        raise GpuCostError(MIXED)
    if not base.kernels or not head.kernels:
        raise GpuCostError("one of the two has no kernels, so there is no ratio of times")
    if mode == EAGER and any(k.unit in ("i8", "f8") for k in (*base.kernels, *head.kernels)):
        raise GpuCostError(
            "eager products in int8 or float8 are slower than any model of bytes and FLOPs says (a "
            "published eager int8 Flux took 20 times as long as bfloat16), so there is no ratio; "
            "compare two stacks that compile"
        )


def _ratio(both: tuple[GpuWork, GpuWork], values: Mapping[str, float]) -> float:
    base, head = (work.seconds(values).seconds for work in both)
    return base / head


@dataclass(frozen=True)
class _Kernels:
    """``number`` equal kernels: seconds of their products at the peak, before any share."""

    number: int
    bytes: int
    hidden_launches: int
    hidden_bytes: int
    products_s: float
    share: str
    of_type: str
    memory: str
    fits_l2: bool

    def seconds(self, values: Mapping[str, float], bytes_per_s: float) -> float:
        rate = bytes_per_s * values[self.memory]
        moved = self.bytes / (rate * values["l2_gain"] if self.fits_l2 else rate)
        products = 0.0
        if self.products_s:
            products = self.products_s / values[self.share]
            if self.of_type:
                products /= values[self.of_type]
        own = max(moved, products, values["floor_s"]) + values["gap_s"]
        hidden = self.hidden_bytes / rate + self.hidden_launches * values["gap_s"]
        return self.number * (own + hidden)


@dataclass(frozen=True)
class GpuWork:
    """A cost on a GPU with all that no constant changes: made once for many draws."""

    kernels: tuple[_Kernels, ...]
    bytes_per_s: float
    launches: int
    hidden_launches: int
    launch: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, cost: Cost, gpu: Gpu) -> GpuWork:
        for kernel in {id(kernel): kernel for kernel in cost.kernels}.values():
            products_s(kernel, gpu)  # a refusal names the line, which is gone below
        kinds = without_lines(cost).items()
        launched = Counter({kernel: n for kernel, n in kinds if kernel.kind not in TRANSFERS})
        return cls(
            kernels=tuple(_kernels(kernel, n, gpu) for kernel, n in launched.items()),
            bytes_per_s=gpu.bytes_per_s,
            launches=launched.total(),
            hidden_launches=sum(n * kernel.hidden_launches for kernel, n in launched.items()),
            launch=f"{mode_of(cost)}_launch_s",
            notes=tuple(_notes(cost)),
        )

    def seconds(self, values: Mapping[str, float]) -> ModelledTime:
        gpu_s = sum(kernel.seconds(values, self.bytes_per_s) for kernel in self.kernels)
        # A library launches what it adds from its own code, with no Python in between.
        hidden_s = self.hidden_launches * values["compiled_launch_s"]
        cpu_s = self.launches * values[self.launch] + hidden_s
        return ModelledTime(gpu_s, cpu_s, self.notes)


def _notes(cost: Cost) -> Iterator[str]:
    kinds = Counter(kernel.kind for kernel in cost.kernels)
    if kinds["opaque"]:
        yield f"{kinds['opaque']} opaque ops have the time of their bytes alone"
    copies = kinds["h2d"] + kinds["d2h"]
    if copies:
        yield f"{copies} copies between host and device have no time here"


def _kernels(kernel: Kernel, number: int, gpu: Gpu) -> _Kernels:
    generated = kernel.kind.startswith("triton")
    products = products_s(kernel, gpu)
    if kernel.kind == "gemm" and products:
        products /= tiling(kernel.shape, gpu.multiprocessors)
    return _Kernels(
        number=number,
        bytes=kernel.bytes,
        hidden_launches=kernel.hidden_launches,
        hidden_bytes=kernel.hidden_bytes,
        products_s=products,
        share=_share(kernel),
        of_type=_OF_TYPE.get(kernel.unit, ""),
        memory="memory.triton" if generated else "memory.aten",
        fits_l2=kernel.bytes < gpu.l2_bytes / 2,
    )


def _share(kernel: Kernel) -> str:
    if kernel.kind == "attention":
        return f"attention.{FUSED_ATTENTION.get(kernel.name, 'efficient')}"
    return "conv" if kernel.kind == "conv" else "gemm"


def tiling(shape: Sequence[int], multiprocessors: int) -> float:
    """The share of a GPU that a product keeps busy: whole waves of whole tiles, by the best tile.

    ``shape``: batch, rows, columns and depth.
    """
    batch, rows, columns, depth = shape
    best = 0.0
    for tall, wide, quality in _TILES:
        down, across = math.ceil(rows / tall), math.ceil(columns / wide)
        filled = rows * columns / (down * tall * across * wide)
        tiles = batch * down * across
        waves = math.ceil(tiles / multiprocessors)
        best = max(best, quality * filled * tiles / (waves * multiprocessors))
    return best * depth / (depth + _TILE_OVERHEAD)
