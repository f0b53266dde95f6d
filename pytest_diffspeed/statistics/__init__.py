"""Verdicts on timings with a stated error rate. Pure Python and numpy: no torch, no pytest.

>>> from pytest_diffspeed.statistics import SpeedupGate
>>> gate = SpeedupGate(min_ratio=1.5)
>>> for _ in range(5):
...     decision = gate.update(baseline_seconds=2.0, candidate_seconds=1.0)
>>> decision
<Decision.PASS: 'PASS'>

``docs/statistics.md`` explains the method for users and shows what it does on simulated clocks.
"""

from .binomial import binomial_lower_bound, binomial_upper_bound
from .decision import (
    BadTiming,
    Decision,
    SpeedupEstimate,
    min_ratio_for_slowdown,
)
from .eprocess import MIN_PAIRS
from .gate import METHODS, SpeedupGate
from .noise import NoiseFloor, noise_floor
from .planning import (
    pairs_for_excess,
    pairs_to_finish,
    power,
    smallest_excess,
)

__all__ = [
    "METHODS",
    "MIN_PAIRS",
    "BadTiming",
    "Decision",
    "NoiseFloor",
    "SpeedupEstimate",
    "SpeedupGate",
    "binomial_lower_bound",
    "binomial_upper_bound",
    "min_ratio_for_slowdown",
    "noise_floor",
    "pairs_for_excess",
    "pairs_to_finish",
    "power",
    "smallest_excess",
]
