"""What was counted: the cost of each call of each component, and sums of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...common.errors import UsageError, nearest
from .calls import CountedCalls as CountedCalls
from .text import head_line, table_lines

if TYPE_CHECKING:
    from ...gpucost import Cost, KernelResources

EAGER = "eager"
COMPILED = "compiled"


@dataclass(frozen=True)
class GpuCost:
    """What one call of a pipeline with a stack asks of a GPU.

    Args:
        source: as it was given.
        stack: its canonical name.
        gpu: the GPU's full name.
        steps: denoising steps of the call.
        calls: all calls of components, in the order in which they first ran.
        key: versions and settings that the figures depend on.
        not_counted: what ran, or would, and is in no figure, a sentence each.
        notes: what was counted otherwise than asked, a sentence each.
        took_s: seconds of counting, and ``peak_bytes`` of the process that counted (measured).
    """

    source: str
    stack: str
    gpu: str
    steps: int
    calls: tuple[CountedCalls, ...]
    key: Mapping[str, str]
    not_counted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    took_s: float = 0.0
    peak_bytes: int = 0

    def __repr__(self) -> str:
        return f"<GpuCost {head_line(self)}>"

    def __str__(self) -> str:
        """The table that ``diffspeed cost`` prints (counted), with the three costliest lines."""
        return "\n".join(table_lines(self, most=3))

    @property
    def components(self) -> tuple[str, ...]:
        """Names, in the order in which they first ran."""
        return tuple(dict.fromkeys(one.component for one in self.calls))

    def of(self, component: str) -> Cost:
        """All calls of one component in one call of the pipeline.

        Raises:
            UsageError: no such component ran.
        """
        own = [one for one in self.calls if one.component == component]
        if not own:
            raise UsageError(
                f"no call of {component!r} was counted; {nearest(component, self.components)}"
            )
        return _total([(one.cost, one.calls) for one in own])

    def step(self, number: int) -> Cost:
        """All components in one denoising step, from 0.

        Raises:
            UsageError: the call has no such step.
        """
        if not 0 <= number < self.steps:
            raise UsageError(f"the call has {self.steps} steps, from 0: there is no step {number}")
        return _total(
            [(one.cost, one.steps.count(number)) for one in self.calls if number in one.steps]
        )

    @property
    def outside(self) -> Cost:
        """All calls that are in no denoising step: encoders and decoders."""
        return _total([(one.cost, one.calls) for one in self.calls if not one.steps])

    @property
    def whole(self) -> Cost:
        """The whole call of the pipeline."""
        return _total([(one.cost, one.calls) for one in self.calls])

    def to_json(self) -> dict[str, Any]:
        """JSON's types only."""
        plain = {**asdict(self), "key": dict(self.key), "calls": []}
        plain["calls"] = [
            {
                **vars(one),
                "cost": one.cost.to_json(),
                "resources": [asdict(kernel) for kernel in one.resources],
            }
            for one in self.calls
        ]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> GpuCost:
        """What :meth:`to_json` gave."""
        from ...gpucost import Cost

        calls = tuple(
            CountedCalls(
                **{
                    **one,
                    "steps": tuple(one["steps"]),
                    "cost": Cost.from_json(one["cost"]),
                    "resources": _resources(one.get("resources", ())),
                }
            )
            for one in plain["calls"]
        )
        tuples = {name: tuple(plain[name]) for name in ("not_counted", "notes")}
        return cls(**{**plain, **tuples, "calls": calls})


def _resources(plain: Sequence[Mapping[str, Any]]) -> tuple[KernelResources, ...]:
    from ...gpucost import KernelResources

    ranges = ("registers", "stack_bytes", "shared_bytes")
    return tuple(
        KernelResources(**{**one, **{name: tuple(one[name]) for name in ranges}}) for one in plain
    )


def _total(costs: Sequence[tuple[Cost, int]]) -> Cost:
    from ...gpucost import Cost

    total = Cost()
    for cost, number in costs:
        total = total + cost.times(number)
    return total
