"""What this library refuses, each in one sentence."""

from __future__ import annotations


class GpuCostError(RuntimeError):
    """The cost cannot be counted here: what is wrong, where, and what to do next."""


class ValueDependentError(GpuCostError):
    """The code asks for a value that only a GPU could have computed; ``site`` is its line."""

    def __init__(self, message: str, site: str) -> None:
        super().__init__(message)
        self.site = site
