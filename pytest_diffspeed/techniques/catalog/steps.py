"""Another number of denoising steps in each call of the arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from ...common.errors import NotEffectiveError, UnknownStackError
from ...common.text import first_line, plural
from ..arguments import Parameter, Value, bound
from ..technique import Family, Observation, Proof, Technique

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class Steps(Technique):
    """Calls of the arm have ``n`` steps; the pipeline and the baseline's calls stay as they are.

    That the steps really ran is counted in a whole call, since a pipeline may drop the argument, or
    loop over a schedule of its own.
    """

    name: ClassVar[str] = "steps"
    family: ClassVar[Family] = Family.STEPS
    summary: ClassVar[str] = "another number of denoising steps in each call"
    changes: ClassVar[frozenset[str] | None] = frozenset()
    undoable: ClassVar[bool] = True
    changes_schedule: ClassVar[bool] = True
    by_place: ClassVar[int] = 1
    example: ClassVar[str] = "steps(10)"
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType(
        {"n": Parameter(0, "denoising steps of a call")}
    )

    @property
    def call_steps(self) -> int | None:
        found = self.arguments.get("n")
        return found if isinstance(found, int) else None

    def read_arguments(self, given: Sequence[tuple[str | None, Value]]) -> Mapping[str, Value]:
        found = bound(self.name, given, self.parameters)
        number = found.get("n", 0)
        if not isinstance(number, int) or number < 1:
            raise UnknownStackError(
                f"{self.name!r} takes how many denoising steps a call has, at least 1; write for "
                f"example '{self.example}'"
            )
        return found

    def apply(self, pipeline: DiffusionPipeline) -> None:
        """Nothing: the call is another one, see :mod:`..call_steps`."""

    def undo(self, pipeline: DiffusionPipeline) -> None:
        """Nothing was changed."""

    def explain(self, error: Exception) -> str | None:
        """More steps than the scheduler was trained for, or fewer than it can do."""
        if not isinstance(error, (IndexError, ValueError)):
            return None
        asked = plural(self.call_steps or 0, "step")
        return f"a call of {asked} raised {type(error).__name__}: {first_line(error)}"

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        asked, now = self.call_steps, seen.call_steps
        was = None if seen.before is None else seen.before.call_steps
        if now is None or was is None:
            raise NotEffectiveError(f"{self.name}: expected whole calls to be counted, found none")
        expected = f"{self.text}: expected a call of {asked} where the baseline's has {was.ran}"
        if now.ran == was.ran == asked:
            raise NotEffectiveError(
                f"{self.text}: the baseline's calls have {plural(was.ran, 'step')} already; name "
                "another number"
            )
        if now.ran == was.ran:
            raise NotEffectiveError(
                f"{expected}, found as many: the pipeline does not heed the number it is given"
            )
        # Some run one more than they are told, or twice as many (Heun), or a part of them
        # (image to image): then the scheduler must have been told, and its table holds them.
        if now.ran != asked and not (asked in now.told and 0 < now.ran <= now.entries):
            raise NotEffectiveError(f"{expected}, found {now.ran}")
        return Proof(
            self.name,
            f"{plural(now.ran, 'step')} ran in a call, {was.ran} in the baseline's",
            {"steps": now.ran, "steps_before": was.ran, "asked": asked},
        )


TECHNIQUES: tuple[Technique, ...] = (Steps(),)
