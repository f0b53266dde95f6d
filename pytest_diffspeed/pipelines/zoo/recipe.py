"""What a small pipeline is made of and called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .parts import Part


@dataclass(frozen=True)
class ZooRecipe:
    """One pipeline of diffusers with random weights.

    ``kind`` is what goes in and what comes out, ``parts`` the components by the pipeline's own
    names, ``options`` what its constructor takes beside them.  ``call`` holds the arguments of a
    call beside prompt, generator and output type, by the pipeline's own names; a value that can be
    called is a function of the case.  ``prompted`` is false for a pipeline that takes no text.
    ``pipeline_class`` is the class's name where the recipe has another one, and ``adapted`` is run
    on the finished pipeline, to load an adapter into it.  ``needs`` names packages that the
    pipeline cannot do without though diffusers does not require them.
    """

    kind: str
    parts: Mapping[str, Part]
    call: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 3
    prompted: bool = True
    pipeline_class: str | None = None
    adapted: Callable[[Any], object] | None = None
    needs: tuple[str, ...] = ()
