"""What ran in a call of a pipeline: plain data, made by :mod:`.observed`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from ..common.errors import MeasurementError, nearest

if TYPE_CHECKING:
    import torch


class Role(str, Enum):
    """When a component runs."""

    ENCODER = "encoder"
    """Before a first step, and in none."""
    DENOISER = "denoiser"
    """In the steps, in some of them at least."""
    DECODER = "decoder"
    """After the last step, and in none."""
    CHECKER = "checker"
    """Before or after the steps, and it makes nothing: a ``safety_checker`` judges prompts or
    images."""


@dataclass(frozen=True)
class ObservedComponent:
    """A component that ran.

    Args:
        name: the pipeline's own dotted name: ``unet``, ``transformer_2``, ``prior_pipe.prior``.
            ``<Name>`` for a module with weights of class ``Name`` that does not hang on the
            pipeline.
        role: when it ran; a component that runs in the steps is a denoiser, whatever else it does.
        calls: how often it was entered.
        steps: the indices of the denoising steps that it ran in, from 0.
        entries: by what it was entered and how often: ``{"forward": 4}``, ``{"decode": 1}``,
            ``{"text_model.final_layer_norm": 1}`` for a module inside it that was called alone.
        aliases: other names of the same module.
        module: the module itself.
    """

    name: str
    role: Role
    calls: int
    steps: tuple[int, ...]
    entries: Mapping[str, int]
    aliases: tuple[str, ...] = ()
    module: torch.nn.Module | None = field(default=None, compare=False, repr=False)

    @property
    def ran(self) -> str:
        """``"controlnet (ran 4 ×)"``, for a sentence."""
        return f"{self.name} (ran {self.calls} ×)"

    def as_dict(self) -> dict[str, object]:
        """For a record."""
        return {
            "role": self.role.value,
            "calls": self.calls,
            "steps": list(self.steps),
            "entries": dict(self.entries),
        }


@dataclass(frozen=True)
class ObservedScheduler:
    """A scheduler that stepped, with the number of its steps.

    ``name`` is the pipeline's own dotted name; those that do not hang on the pipeline, copies that
    the call made, go together by their class: ``<EulerDiscreteScheduler>``.
    """

    name: str
    kind: str
    steps: int


@dataclass(frozen=True)
class ObservedCall:
    """What ran in one call, in the order in which it first ran.

    Args:
        components: all that ran.
        schedulers: all that stepped.
        steps: how many denoising steps the call had, over all its loops.
        silent: names of components that did not run.
        silent_denoisers: those of them that take a timestep, as denoisers do.
    """

    components: tuple[ObservedComponent, ...]
    schedulers: tuple[ObservedScheduler, ...]
    steps: int
    silent: tuple[str, ...] = ()
    silent_denoisers: tuple[str, ...] = ()

    @property
    def encoders(self) -> tuple[ObservedComponent, ...]:
        return self._of(Role.ENCODER)

    @property
    def denoisers(self) -> tuple[ObservedComponent, ...]:
        return self._of(Role.DENOISER)

    @property
    def decoders(self) -> tuple[ObservedComponent, ...]:
        return self._of(Role.DECODER)

    @property
    def checkers(self) -> tuple[ObservedComponent, ...]:
        return self._of(Role.CHECKER)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(component.name for component in self.components)

    def component(self, name: str) -> ObservedComponent:
        """By its name or an alias.

        Raises:
            MeasurementError: it did not run; the sentence says what did.
        """
        for component in self.components:
            if name == component.name or name in component.aliases:
                return component
        if name in self.silent:
            raise MeasurementError(f"{name} did not run in the call; {self.what_ran()}")
        raise MeasurementError(
            f"no component is called {name!r}; {nearest(name, self.names)}; {self.what_ran()}"
        )

    def what_ran(self) -> str:
        """``"what ran: text_encoder (2 ×), unet (4 ×), vae (1 ×)"``."""
        ran = ", ".join(f"{c.name} ({c.calls} ×)" for c in self.components)
        return f"what ran: {ran or 'nothing'}"

    def _of(self, role: Role) -> tuple[ObservedComponent, ...]:
        return tuple(component for component in self.components if component.role is role)
