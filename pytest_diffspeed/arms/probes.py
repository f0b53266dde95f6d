"""What is counted of an arm, in this process and in another: plain arguments in, plain data out.

A gate probes this process's arm, and a worker that of the base, by the same function, so that both
are counted alike.  The function stands in the gate's own file; a worker imports it by its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import UsageError
from .counts import Counts

if TYPE_CHECKING:
    from .prepared_arm import PreparedArm

_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Probe:
    """``name`` is for people; ``function`` takes an arm, the tree that it runs in (a path that
    places are named from), and plain arguments by name.  It stands at the top of a module of this
    package.
    """

    name: str
    function: Callable[..., Counts]

    @property
    def at(self) -> str:
        """Where another process finds the function: ``module:name``."""
        return f"{self.function.__module__}:{self.function.__qualname__}"

    def count(self, arm: PreparedArm, root: str, args: Mapping[str, Any]) -> Counts:
        """Count ``arm``, which is of this process.

        Raises:
            MeasurementError: it could not be counted.
        """
        return self.function(arm, Path(root), **args)


def probe_at(at: str) -> Probe:
    """The probe that another process named by :attr:`Probe.at`.

    Raises:
        UsageError: this package has no such function.
    """
    module, _, name = at.partition(":")
    found = None
    if module.partition(".")[0] == _PACKAGE:
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ModuleNotFoundError:
            found = None
    if not callable(found):
        raise UsageError(f"there is no probe {at!r} in this version of {_PACKAGE}")
    return Probe(name, found)
