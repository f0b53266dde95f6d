"""Which kernels of a count were put in between those of another, by their order.

Lines alone cannot tell: one line more at the top of a file moves all lines below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from .cost import Kernel

_MOST_PAIRS = 1_000_000
"""Beyond (two counts of which 1000 kernels each lie between the first and the last change) aligning
takes seconds, and its answer says little."""


def inserted(base: Sequence[Kernel], head: Sequence[Kernel]) -> list[Kernel] | None:
    """Kernels of ``head`` that stand where ``base`` has none or another one; ``None`` where the two
    differ too much to tell.
    """
    old, new = [kernel.what for kernel in base], [kernel.what for kernel in head]
    shorter = min(len(old), len(new))
    start = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    left = shorter - start
    end = next((i for i in range(left) if old[-1 - i] != new[-1 - i]), left)
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    if len(old) * len(new) > _MOST_PAIRS:
        return None
    found: list[Kernel] = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for tag, _, _, first, last in matcher.get_opcodes():
        if tag in ("insert", "replace"):
            found += head[start + first : start + last]
    return found
