"""Two costs against each other: a vector of figures, each with a limit of its own.

No sum: planted regressions move figures in both directions.  A graph break lowers bytes, a layer
lost to an int8 filter lowers kernels, an opaque op hides its own kernels.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .alignment import inserted
from .cost import FUSED_ATTENTION, JOINS, Cost, Kernel
from .errors import GpuCostError

TIERS = (("f64",), ("f32",), ("tf32",), ("b16",), ("i8", "f8"))
"""Types of products, the costliest first; those of one tier cost the same (data sheets)."""
FAST_ATTENTION = ("cudnn", "flash")

Allowed = int | float | str | None
Weight = tuple[int, int, int]
"""Of a kernel: how costly the type of its products is, its FLOPs, its bytes."""


@dataclass(frozen=True)
class CostLimits:
    """How much each figure may grow: a number, a share of the base such as ``"1%"``, or ``None``
    for any growth.

    ``flops`` holds for their sum and for what is computed in each type or a costlier one, so that
    FLOPs which move to a costlier type are growth.  ``attention`` is how many fused attentions may
    be lost to plain products or to the slower memory-efficient kernel.  ``hidden`` is modelled, as
    the choice of attention is: both come of fixed rules, so the same code gives the same figures.
    """

    kernels: Allowed = 0
    bytes: Allowed = "1%"
    flops: Allowed = 0
    casts: Allowed = 0
    layout: Allowed = 0
    opaque: Allowed = 0
    breaks: Allowed = 0
    graphs: Allowed = None
    attention: Allowed = 0
    h2d: Allowed = 0
    d2h: Allowed = 0
    hidden: Allowed = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _allowed(name, value, 0)


@dataclass(frozen=True)
class FigureChange:
    """One figure of both sides; ``allowed`` is the growth that its limit lets pass (``inf``: any).

    ``name`` is that of the limit, or ``flops.UNIT+``: FLOPs in that type or a costlier one.
    """

    name: str
    base: int
    head: int
    allowed: float

    @property
    def growth(self) -> int:
        return self.head - self.base

    @property
    def fails(self) -> bool:
        return self.growth > self.allowed

    @property
    def improved(self) -> bool:
        return self.growth < 0


@dataclass(frozen=True)
class KernelChange:
    """``number`` kernels of one kind, name and shape that one side has more of than the other.

    ``lines`` are those that the other side has no such kernel of; those of the user's own code that
    called a package come first.  Where lines have moved, they are those of the kernels that stand,
    in the order of launches, where the other side has none.  Of kernels that are heavier, ``flops``
    and ``bytes`` are by how much, and ``types`` are costlier ones of their products: ``b16 → f32``.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    number: int
    lines: tuple[str, ...]
    bytes: int
    flops: int = 0
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class CostComparison:
    """``figures`` in the order of the limits; ``more`` and ``less``: kernels that the head has and
    the base has not, and the other way around.  ``heavier``: kernels of both that move more bytes
    than before or multiply more or in a costlier type, with how many bytes more that is.
    ``more_hidden``: kernels of both around which libraries launch more than before, with how many
    launches and bytes more that is (modelled).  ``new_breaks``: graph breaks that the base has not.
    ``new_lines``: lines that lead to kernels as none of the base does, 0 where packages are gone
    through by other lines, else 1.
    """

    figures: tuple[FigureChange, ...]
    more: tuple[KernelChange, ...]
    less: tuple[KernelChange, ...]
    same_fingerprint: bool
    more_hidden: tuple[KernelChange, ...] = ()
    heavier: tuple[KernelChange, ...] = ()
    new_breaks: tuple[str, ...] = ()
    new_lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[FigureChange, ...]:
        return tuple(figure for figure in self.figures if figure.fails)

    @property
    def improved(self) -> tuple[FigureChange, ...]:
        return tuple(figure for figure in self.figures if figure.improved)

    @property
    def passes(self) -> bool:
        """No figure grew beyond its limit; what others fell by pays for nothing."""
        return not self.failed

    @property
    def differs_only_by_hash(self) -> bool:
        """No figure moved, yet the kernels are not the same: worth showing, no reason to fail."""
        return not self.same_fingerprint and all(not figure.growth for figure in self.figures)


def compare_costs(base: Cost, head: Cost, limits: CostLimits | None = None) -> CostComparison:
    """``head`` against ``base``, figure by figure.

    Both have to be counted under one key (:meth:`~.fake_gpu.FakeGpu.key`); that is the caller's to
    check.
    """
    limits = limits or CostLimits()
    old, new = base.figures(), head.figures()
    figures = []
    for name, limit in vars(limits).items():
        if name == "attention":
            continue
        figures.append(_figure(name, old[name], new[name], limit, name))
        if name == "flops":
            for tier in range(len(TIERS) - 1):
                label = f"flops.{TIERS[tier][0]}+"
                before, now = _costly(old, tier), _costly(new, tier)
                figures.append(_figure(label, before, now, limit, name))
    lost = lost_attentions(base, head)
    figures.append(_figure("attention lost", 0, lost, limits.attention, "attention"))
    return CostComparison(
        figures=tuple(figures),
        more=_only_in(head, base),
        less=_only_in(base, head),
        same_fingerprint=base.fingerprint() == head.fingerprint(),
        more_hidden=_more_hidden(base, head),
        heavier=_heavier(base, head),
        new_breaks=_new_breaks(base, head),
        new_lines=_new_lines(base, head),
    )


def _figure(name: str, base: int, head: int, limit: Allowed, limit_name: str) -> FigureChange:
    return FigureChange(name, base, head, _allowed(limit_name, limit, base))


def _allowed(name: str, limit: Allowed, base: int) -> float:
    """Growth that ``limit`` lets pass over ``base``."""
    if limit is None:
        return math.inf
    number: object = limit
    share = isinstance(limit, str) and limit.endswith("%")
    if share:
        try:
            number = float(str(limit).removesuffix("%"))
        except ValueError:
            number = None
    if isinstance(number, (int, float)) and not isinstance(number, bool) and 0 <= number < math.inf:
        return base * number / 100 if share else float(number)
    raise GpuCostError(
        f"{name}={limit!r} is not a limit: give the growth that is allowed, as a number from 0 or "
        'as a share such as "1%"'
    )


def _costly(figures: dict[str, int], tier: int) -> int:
    """FLOPs of a tier and of all costlier ones."""
    return sum(figures[f"flops.{unit}"] for units in TIERS[: tier + 1] for unit in units)


def lost_attentions(base: Cost, head: Cost) -> int:
    """How many fast fused attentions became slower ones or plain products.

    Those that are simply gone, as with half of the guidance, are not lost: there are no more slow
    ones and batched products then.  Two batched products are one attention.
    """
    fewer = _fast(base) - _fast(head)
    slower = max(0, _attentions(head) - _fast(head) - _attentions(base) + _fast(base))
    products = max(0, _batched(head) - _batched(base))
    return max(0, min(fewer, slower + math.ceil(products / 2))) + max(
        0, min(_attentions(base) - _attentions(head) - max(0, fewer), math.ceil(products / 2))
    )


def _attentions(cost: Cost) -> int:
    return sum(kernel.kind == "attention" for kernel in cost.kernels)


def _fast(cost: Cost) -> int:
    return sum(
        kernel.kind == "attention" and FUSED_ATTENTION.get(kernel.name) in FAST_ATTENTION
        for kernel in cost.kernels
    )


def _batched(cost: Cost) -> int:
    return sum(kernel.kind == "gemm" and kernel.shape[:1] > (1,) for kernel in cost.kernels)


def _only_in(one: Cost, other: Cost) -> tuple[KernelChange, ...]:
    """What ``one`` has more of, by kind, name and shape; the most bytes first."""
    here, there = Counter(k.what for k in one.kernels), Counter(k.what for k in other.kernels)
    surplus = here - there
    put_in = (inserted(other.kernels, one.kernels) or ()) if surplus else ()
    found = []
    for what, number in surplus.items():
        mine = [kernel for kernel in one.kernels if kernel.what == what]
        theirs = [kernel for kernel in other.kernels if kernel.what == what]
        new = _new_ones(mine, theirs, [k for k in put_in if k.what == what])
        nbytes = sum(_heaviest(number, mine, theirs))
        found.append(KernelChange(*what, number, _own_first(new), nbytes))
    return tuple(sorted(found, key=lambda change: (-change.bytes, change.kind, change.name)))


def _new_lines(base: Cost, head: Cost) -> dict[str, int]:
    """By way, whatever the kernel is: what else the compiler fuses a kernel with renames it."""
    routes = {mark for kernel in base.kernels for mark in kernel.route.split(JOINS)}
    paths = {mark for kernel in base.kernels for mark in kernel.path.split(JOINS)}
    found: dict[str, int] = {}
    for kernel in head.kernels:
        line = kernel.called_from or kernel.site
        if not routes.issuperset(kernel.route.split(JOINS)):
            found[line] = 0
        elif not paths.issuperset(kernel.path.split(JOINS)):
            found.setdefault(line, 1)
    return found


def _new_breaks(base: Cost, head: Cost) -> tuple[str, ...]:
    """Where there are more than before; of as many the lines have moved."""
    new = Counter(head.breaks) - Counter(base.breaks)
    return tuple(new.elements()) if len(head.breaks) > len(base.breaks) else ()


def _heavier(base: Cost, head: Cost) -> tuple[KernelChange, ...]:
    """Kernels of both that ask for more than before, each held against one; most bytes first."""
    old, found = _by_what(base), []
    for what, mine in _by_what(head).items():
        now, was = Counter(map(_weight, mine)), Counter(map(_weight, old.get(what, [])))
        pairs = zip(
            sorted((now - was).elements(), reverse=True),
            sorted((was - now).elements(), reverse=True),
            strict=False,  # what one side has more of is told by number
        )
        grown = [(after, before) for after, before in pairs if _is_heavier(after, before)]
        if grown:
            lines = _lines_of({after for after, _ in grown}, mine, old[what])
            flops, nbytes = (sum(now[n] - was[n] for now, was in grown) for n in (1, 2))
            types = _costlier_types(grown, (*old[what], *mine))
            found.append(KernelChange(*what, len(grown), lines, nbytes, flops, types))
    return tuple(sorted(found, key=lambda change: (-change.bytes, change.kind, change.name)))


def _costlier_types(
    grown: Sequence[tuple[Weight, Weight]], kernels: Iterable[Kernel]
) -> tuple[str, ...]:
    """From which type of products to which, where that is what grew."""
    unit = {_weight(kernel): kernel.unit for kernel in kernels}
    return tuple(sorted({f"{unit[was]} → {unit[now]}" for now, was in grown if now[0] > was[0]}))


def _lines_of(
    heavy: set[Weight], head: Sequence[Kernel], base: Sequence[Kernel]
) -> tuple[str, ...]:
    """Where ``head`` has more such kernels."""
    mine, theirs = ([k for k in kernels if _weight(k) in heavy] for kernels in (head, base))
    return _own_first(_new_ones(mine, theirs))


_SIGNS: tuple[Callable[[Kernel], object], ...] = (
    lambda kernel: kernel.path,
    lambda kernel: kernel.route,
    lambda kernel: (kernel.called_from, kernel.site),
)
"""By what a kernel is known again, each where those before it fail: moved lines keep their texts,
and a wrapper around a package's call keeps the lines of the package."""


def _new_ones(
    mine: Sequence[Kernel], theirs: Sequence[Kernel], put_in: Sequence[Kernel] = ()
) -> Sequence[Kernel]:
    """Those of ``mine`` that ``theirs``, which are fewer, have not; more where nothing tells them
    apart.

    ``put_in``: those that the order of launches says are new, which is trusted last.
    """
    if not theirs:
        return mine
    for sign in _SIGNS:
        here, there = _grouped(mine, sign), _grouped(theirs, sign)
        grown = [key for key in here if len(here[key]) > len(there[key])]
        surplus = sum(len(here[key]) - len(there[key]) for key in grown)
        if surplus == len(mine) - len(theirs) and len(here) > 1:
            return [k for key in grown for k in _new_ones(here[key], there[key], put_in)]
    return [kernel for kernel in mine if kernel in put_in] or mine


def _grouped(
    kernels: Iterable[Kernel], sign: Callable[[Kernel], object]
) -> defaultdict[object, list[Kernel]]:
    found: defaultdict[object, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        found[sign(kernel)].append(kernel)
    return found


def _own_first(kernels: Iterable[Kernel]) -> tuple[str, ...]:
    """Their lines; those of the user's own code that called a package before all others."""
    own, sites = {k.called_from for k in kernels}, {k.site for k in kernels}
    return (*sorted(filter(None, own)), *sorted(filter(None, sites - own)))


def _weight(kernel: Kernel) -> Weight:
    tiers = [number for number, units in enumerate(reversed(TIERS), 1) if kernel.unit in units]
    return (*tiers, 0)[0], kernel.flops, kernel.bytes


def _is_heavier(one: Weight, other: Weight) -> bool:
    return any(mine > theirs for mine, theirs in zip(one, other, strict=True))


def _more_hidden(base: Cost, head: Cost) -> tuple[KernelChange, ...]:
    """Kernels of which both have as many, and ``head`` more launches around them; most first."""
    old, new = _by_what(base), _by_what(head)
    found = []
    for what, mine in new.items():
        theirs = old.get(what, [])
        launches, moved = (
            now - was for now, was in zip(_around(mine), _around(theirs), strict=True)
        )
        if len(mine) == len(theirs) and launches > 0:
            lines = _lines_with_more(theirs, mine)
            found.append(KernelChange(*what, launches, lines, moved))
    return tuple(sorted(found, key=lambda change: (-change.number, change.kind, change.name)))


def _lines_with_more(base: Sequence[Kernel], head: Sequence[Kernel]) -> tuple[str, ...]:
    """Where ``head`` has more hidden launches; where lines have moved, all that have any."""
    before, now = Counter[str](), Counter[str]()
    for kernels, of_line in ((base, before), (head, now)):
        for kernel in kernels:
            of_line[kernel.site] += kernel.hidden_launches
    more = now - before if set(before) == set(now) else now
    return tuple(sorted(line for line, number in more.items() if line and number))


def _by_what(cost: Cost) -> dict[tuple[str, str, tuple[int, ...]], list[Kernel]]:
    found: dict[tuple[str, str, tuple[int, ...]], list[Kernel]] = {}
    for kernel in cost.kernels:
        found.setdefault(kernel.what, []).append(kernel)
    return found


def _around(kernels: Sequence[Kernel]) -> tuple[int, int]:
    """Launches and bytes around them that no graph shows."""
    return sum(k.hidden_launches for k in kernels), sum(k.hidden_bytes for k in kernels)


def _heaviest(number: int, mine: Sequence[Kernel], theirs: Sequence[Kernel]) -> list[int]:
    """Bytes of as many of ``mine``, of those first of which the other side has none as heavy."""
    only = Counter(k.bytes for k in mine) - Counter(k.bytes for k in theirs)
    return sorted(only.elements(), reverse=True)[:number]
