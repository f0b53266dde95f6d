"""Compilation without the search of block sizes, for machines that are lent for minutes.

The guide's flags have inductor search the block sizes of each Triton kernel by coordinate descent
in all directions.  On a GPU that compiles and times a kernel for some twenty sizes, one after the
other, when it first runs: minutes for a denoiser with a hundred kernels.  The other flags stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SEARCH = ("coordinate_descent_tuning", "coordinate_descent_check_all_directions")


def quick(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags with the search off: left out, a mode such as max-autotune would switch it on."""
    return {**flags, **dict.fromkeys(SEARCH, False)}


@contextmanager
def without_search(name: str = "compile") -> Iterator[dict[str, Any]]:
    """The product's technique ``name`` has the search off; gives the flags that it then has."""
    from pytest_diffspeed.techniques.registry import techniques

    technique: Any = techniques()[name]
    flags = quick(technique.flags)
    vars(technique)["flags"] = flags
    try:
        yield flags
    finally:
        del vars(technique)["flags"]
