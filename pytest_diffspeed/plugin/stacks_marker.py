"""``@pytest.mark.diffspeed``: the stacks that a test runs with.  It asserts nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..gates.marker import parse
from ..gates.marker_values import BadValueError, as_stack
from ..techniques.stacks import Stack
from .public_names import DIFFSPEED


@dataclass(frozen=True)
class Diffspeed:
    """``@pytest.mark.diffspeed(*stacks, pipeline=None)``: run the test once per stack."""

    marker: ClassVar[str] = "diffspeed"
    signature: ClassVar[str] = DIFFSPEED
    stacks: tuple[Stack, ...]
    pipeline: str | None = None

    @classmethod
    def from_arguments(cls, *stacks: str, pipeline: str | None = None) -> Diffspeed:
        if not stacks:
            raise BadValueError("stacks", "names no stack; write at least one, such as 'compile'")
        parsed = tuple(as_stack("stacks", text) for text in stacks)
        names = [stack.name for stack in parsed]
        for name in names:
            if names.count(name) > 1:
                raise BadValueError("stacks", f"names the stack {name!r} twice")
        if pipeline is not None and not (isinstance(pipeline, str) and pipeline.strip()):
            raise BadValueError("pipeline", f"must be a pipeline source, not {pipeline!r}")
        return cls(parsed, pipeline)


def parse_diffspeed(args: Iterable[Any], kwargs: Mapping[str, Any]) -> Diffspeed:
    """Parse the arguments of ``@pytest.mark.diffspeed``; raises :class:`UsageError`."""
    return parse(Diffspeed, args, kwargs)
