"""What a cache left out of a call, counted by the arithmetic that ran with and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..common.errors import NotEffectiveError
from ..common.text import listed
from .observation import Observation, PartOps


@dataclass(frozen=True)
class Skipped:
    """What ran of the wrapped modules of one denoiser in a whole call, all of it *counted*.

    ``calls`` is how often they would have computed, as they did in the call without the cache, and
    ``computed`` how often they did; ``linear_flops`` is the share of the denoiser's FLOPs in linear
    layers that was left.
    """

    modules: int
    calls: int
    computed: int
    linear_flops: float

    @property
    def skipped(self) -> int:
        return self.calls - self.computed


def skipped_in(part: str, paths: Sequence[str], before: Observation, seen: Observation) -> Skipped:
    """By the arithmetic that ran in each of ``paths``, whatever was called: a hook that is entered
    and computes nothing counts as nothing.
    """
    calls = computed = 0.0
    for path in paths:
        was, now = (_arithmetic(one.part(part), path) for one in (before, seen))
        if was:
            entered = before.part(part).entered.get(path, 0)
            calls += entered
            computed += entered * now / was
    was, now = (
        sum(one.flops for name, one in known.linears.items() if name.startswith(f"{part}."))
        for known in (before, seen)
    )
    return Skipped(len(paths), round(calls), round(computed), now / was if was else 1.0)


def _arithmetic(ops: PartOps, path: str) -> int:
    inside = f"{path}."
    return sum(n for at, n in ops.arithmetic.items() if at == path or at.startswith(inside))


def require_the_rest(text: str, before: Observation, seen: Observation) -> None:
    """What ran is of the kinds that ran without the cache, for which the others were proven.

    Raises:
        NotEffectiveError: a dtype, a kind of attention, products or weights in 8 bits came or went.
    """
    for part in before.denoisers:
        was, now = before.part(part), seen.part(part)
        new = {*now.op_dtypes, *now.attention} - {*was.op_dtypes, *was.attention}
        if new:
            raise NotEffectiveError(
                f"{text}: expected what is computed to be computed as without it, found "
                f"{listed(sorted(new))} in the {part}, for which the rest was not proven"
            )
        for kind in was.narrow_products.keys() - now.narrow_products.keys():
            raise NotEffectiveError(f"{text}: expected {kind} products in the {part}, found none")
        for kind in was.widened.keys() - now.widened.keys():
            raise NotEffectiveError(
                f"{text}: expected weights converted from {kind} in the {part}, found none"
            )
