"""Many gates at once: which rejections also hold at a false discovery rate."""

from __future__ import annotations

import math
from collections.abc import Sequence


def benjamini_hochberg_e(e_values: Sequence[float], level: float) -> tuple[bool, ...]:
    """Return which hypotheses e-BH rejects, in the order of ``e_values``.

    With ``K`` e-values sorted downwards, the ``k`` largest are selected for the largest ``k``
    with ``e_(k) >= K / (level * k)``. The expected share of true nulls among the selected is at
    most ``level``, however the e-values depend on one another: gates that share a baseline, a
    machine or pairs are allowed.

    Source: R. Wang, A. Ramdas, *False discovery rate control with e-values*, JRSS B 2022.

    Raises ValueError if ``level`` is not in (0, 1) or an e-value is negative or NaN.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level!r}")
    for e in e_values:
        if math.isnan(e) or e < 0:
            raise ValueError(f"an e-value must be a number of at least 0, not {e!r}")
    count = len(e_values)
    order = sorted(range(count), key=lambda index: -e_values[index])
    selected = 0
    for k, index in enumerate(order, start=1):
        if e_values[index] * level * k >= count:
            selected = k
    chosen = set(order[:selected])
    return tuple(index in chosen for index in range(count))
