"""Verdicts on timings with a stated error rate. Pure Python and numpy: no torch, no pytest.

>>> from pytest_diffspeed.statistics import SpeedupGate
>>> gate = SpeedupGate(min_ratio=1.5)
>>> for _ in range(5):
...     decision = gate.update(baseline_seconds=2.0, candidate_seconds=1.0)
>>> decision
<Decision.PASS: 'PASS'>

``docs/statistics.md`` explains the method for users and shows what it does on simulated clocks.

The names below are resolved on first use, so that the methods can be read without NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .binomial import binomial_lower_bound as binomial_lower_bound
    from .binomial import binomial_upper_bound as binomial_upper_bound
    from .decision import BadTiming as BadTiming
    from .decision import Decision as Decision
    from .decision import SpeedupEstimate as SpeedupEstimate
    from .decision import min_ratio_for_slowdown as min_ratio_for_slowdown
    from .eprocess import MIN_PAIRS as MIN_PAIRS
    from .gate import METHODS as METHODS
    from .gate import SpeedupGate as SpeedupGate
    from .methods import Method as Method
    from .noise import NoiseFloor as NoiseFloor
    from .noise import noise_floor as noise_floor
    from .planning import pairs_for_excess as pairs_for_excess
    from .planning import pairs_to_finish as pairs_to_finish
    from .planning import power as power
    from .planning import smallest_excess as smallest_excess

_PUBLIC = {
    "binomial_lower_bound": "binomial",
    "binomial_upper_bound": "binomial",
    "BadTiming": "decision",
    "Decision": "decision",
    "SpeedupEstimate": "decision",
    "min_ratio_for_slowdown": "decision",
    "MIN_PAIRS": "eprocess",
    "METHODS": "gate",
    "SpeedupGate": "gate",
    "Method": "methods",
    "NoiseFloor": "noise",
    "noise_floor": "noise",
    "pairs_for_excess": "planning",
    "pairs_to_finish": "planning",
    "power": "planning",
    "smallest_excess": "planning",
}

__all__ = [
    "METHODS",
    "MIN_PAIRS",
    "BadTiming",
    "Decision",
    "Method",
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


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
