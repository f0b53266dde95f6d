"""What a technique has to remember to undo itself, kept on the pipeline that it changed.

Techniques are shared objects without state, and nothing in this package lives in module globals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..pipelines.parts import OUR_NOTES

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_ATTRIBUTE = f"{OUR_NOTES}_memory"


def memory(pipeline: DiffusionPipeline, owner: str) -> dict[str, Any]:
    """The notes of ``owner`` (a technique's name) about this pipeline; empty at first."""
    notes: dict[str, dict[str, Any]] = vars(pipeline).setdefault(_ATTRIBUTE, {})
    return notes.setdefault(owner, {})


def owners(pipeline: DiffusionPipeline) -> tuple[str, ...]:
    """Who has notes about this pipeline: techniques that are applied to it, among others."""
    notes: dict[str, dict[str, Any]] = vars(pipeline).get(_ATTRIBUTE, {})
    return tuple(notes)


def forget(pipeline: DiffusionPipeline, owner: str) -> None:
    """Drop the notes of ``owner``, and the attribute with the last of them."""
    notes: dict[str, dict[str, Any]] = vars(pipeline).get(_ATTRIBUTE, {})
    notes.pop(owner, None)
    if not notes:
        vars(pipeline).pop(_ATTRIBUTE, None)


def put_back(owner: object, name: str, own: object) -> None:
    """Make ``owner.name`` what stood on the instance before, ``own``; ``None``: nothing did."""
    vars(owner).pop(name, None)
    if own is not None:
        vars(owner)[name] = own
