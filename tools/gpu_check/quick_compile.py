"""``compile`` without the search of block sizes, for machines that are lent for minutes.

The guide's flags have inductor search the block sizes of each Triton kernel by coordinate descent
in all directions.  On a GPU that compiles and times a kernel for some twenty sizes, one after the
other, when it first runs: minutes for a denoiser with a hundred kernels.  The other flags stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SEARCH = ("coordinate_descent_tuning", "coordinate_descent_check_all_directions")


@contextmanager
def without_search() -> Iterator[dict[str, Any]]:
    """The product's technique ``compile`` has its other flags only; gives those that it has."""
    from pytest_diffspeed.techniques.registry import techniques

    technique = techniques()["compile"]
    quick = {name: value for name, value in technique.flags.items() if name not in SEARCH}
    vars(technique)["flags"] = quick
    try:
        yield quick
    finally:
        del vars(technique)["flags"]
