"""Arms whose pairs are less than a whole call: single steps, or calls of a component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .component_calls import ComponentArms, component_arms
from .lockstep import StepArms, step_arms

if TYPE_CHECKING:
    from .prepared_arm import PreparedArm

STEP = "step"


def arms_alone(prepared: Sequence[PreparedArm], unit: str) -> ComponentArms | StepArms:
    """Arms that time ``unit`` alone, one for each of ``prepared``.

    Raises:
        NotAloneError: it must be timed in whole calls; the sentence says why.
        SourceError: a call runs none of that name.
    """
    return step_arms(prepared) if unit == STEP else component_arms(prepared, unit)
