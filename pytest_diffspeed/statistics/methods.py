"""The ways in which a speedup gate weighs its pairs, by name."""

from __future__ import annotations

from typing import Literal

Method = Literal["sign", "bet"]
"""``sign`` holds for the median of the ratio, whatever the tails; ``bet`` has more power and
another null."""
