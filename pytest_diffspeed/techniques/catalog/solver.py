"""Another scheduler, made of the configuration of the pipeline's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ...adapters.diffusers_schedulers import (
    SchedulerArgument,
    scheduler_arguments,
    scheduler_names,
)
from ...common.errors import NotEffectiveError, UnknownStackError, nearest
from ...common.quiet import third_party
from ...common.text import first_line, listed
from ..arguments import Value, of_kinds, written
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_CLASS = "class"
"""The first argument, which has no name; no argument of a scheduler can be called like that."""
_TRAINED_WITH = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)
"""What a configuration says of the model's training.  A scheduler that takes less would denoise
another noise than the model has learned, and draw noise without an error."""


class Scheduler(Technique):
    """The scheduler is an object of another class, of the same configuration.

    ``from_config`` of the class takes over what both have (how the model was trained); arguments
    stand above it.  The model is not asked, so how good the pictures are is for their own gate.
    """

    name: ClassVar[str] = "scheduler"
    family: ClassVar[Family] = Family.SOLVER
    summary: ClassVar[str] = "another scheduler, made of the configuration of the pipeline's own"
    changes: ClassVar[frozenset[str] | None] = frozenset({"scheduler"})
    undoable: ClassVar[bool] = True
    changes_schedule: ClassVar[bool] = True
    by_place: ClassVar[int] = 1
    example: ClassVar[str] = "scheduler(DPMSolverMultistepScheduler)"

    @property
    def kind(self) -> str:
        """The name of the class."""
        return str(self.arguments[_CLASS])

    @property
    def given(self) -> dict[str, Value]:
        """What is asked of its configuration."""
        return {key: value for key, value in self.arguments.items() if key != _CLASS}

    def read_arguments(self, given: Sequence[tuple[str | None, Value]]) -> Mapping[str, Value]:
        """Names are checked against the installed diffusers, whose source is read.

        None is left out as a default: what is not written is that of the pipeline's own scheduler.
        """
        if not given or given[0][0] is not None or not isinstance(given[0][1], str):
            raise UnknownStackError(
                f"{self.name!r} takes the class of a scheduler first; write for example "
                f"'{self.example}'"
            )
        kind = given[0][1]
        if kind not in scheduler_names():
            whole = kind if kind.endswith("Scheduler") else f"{kind}Scheduler"
            raise UnknownStackError(
                f"diffusers has no scheduler {kind!r}; {nearest(whole, scheduler_names())}"
            )
        known = scheduler_arguments(kind)
        found: dict[str, Value] = {}
        for key, value in given[1:]:
            if key is None:
                raise UnknownStackError(
                    f"{self.name!r} takes the arguments of {kind} by name, such as "
                    f"'{self.name}({kind}, {next(iter(known), 'name')}=…)'"
                )
            if key not in known:
                raise UnknownStackError(f"{kind} takes no {key!r}; {nearest(key, known)}")
            if key in found:
                raise UnknownStackError(f"{self.name!r} is given {key!r} twice")
            found[key] = _checked(kind, key, value, known[key])
        return {_CLASS: kind, **{key: found[key] for key in known if key in found}}

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        from ...pipelines.scheduler_watch import schedulers_of

        own: Any = getattr(pipeline, "scheduler", None)
        all_of_it = schedulers_of(pipeline)
        if not hasattr(own, "config") or "scheduler" not in all_of_it:
            return "it has no scheduler with a configuration"
        if len(all_of_it) > 1:
            return f"it has several schedulers ({listed(list(all_of_it))}), and one cannot be meant"
        try:
            made = self._made_of(own)
        except Exception as error:
            return (
                f"{self.kind} cannot be made of the configuration of its "
                f"{type(own).__name__}: {first_line(error)}"
            )
        if type(made) is type(own) and dict(made.config) == dict(own.config):
            return f"its scheduler is a {self.kind} with these values already"
        return _untrained(own, made)

    def apply(self, pipeline: DiffusionPipeline) -> None:
        own = pipeline.scheduler
        made = self._made_of(own)
        memory(pipeline, self.name)["own"] = own
        pipeline.scheduler = made

    def undo(self, pipeline: DiffusionPipeline) -> None:
        notes = memory(pipeline, self.name)
        if "own" in notes:
            pipeline.scheduler = notes.pop("own")

    def explain(self, error: Exception) -> str | None:
        """A pipeline may ask of its scheduler what only its own kind can do (``sigmas=``)."""
        if not isinstance(error, (AttributeError, NotImplementedError, TypeError, ValueError)):
            return None
        return f"a call with {self.kind} raised {type(error).__name__}: {first_line(error)}"

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        found = seen.scheduler
        if found is None:
            raise NotEffectiveError(f"{self.name}: expected a call to be watched, found none")
        if set(found.stepped) != {self.kind}:
            each = [f"{n} by {kind}" for kind, n in found.stepped.items()]
            raise NotEffectiveError(
                f"{self.name}: expected all steps of a call by {self.kind}, found "
                f"{listed(each) or 'none by any scheduler'}"
            )
        for key, value in self.given.items():
            if found.config.get(key) != value:
                raise NotEffectiveError(
                    f"{self.name}: expected {key}={written(value)} in the {self.kind} that "
                    f"stepped, found {found.config.get(key)!r}"
                )
        was = type(memory(pipeline, self.name)["own"]).__name__
        asked = ", ".join(f"{key}={written(value)}" for key, value in self.given.items())
        steps = None if seen.call_steps is None else seen.call_steps.ran
        return Proof(
            self.name,
            f"all steps by {self.kind}{f' with {asked}' if asked else ''} in place of {was}"
            f"{'' if steps is None else f', {steps} in a call'}",
            {"steps_by": dict(found.stepped), "steps": steps, "was": was, "asked": self.given},
        )

    def _made_of(self, own: Any) -> Any:
        import diffusers

        with third_party():
            return getattr(diffusers, self.kind).from_config(own.config, **self.given)


def _checked(kind: str, key: str, value: Value, argument: SchedulerArgument) -> Value:
    where = f"{key} of {kind}"
    if argument.choices and isinstance(value, str):
        if value not in argument.choices:
            valid = map(str, argument.choices)
            raise UnknownStackError(f"{where} cannot be {value!r}; {nearest(value, valid)}")
        return value
    return of_kinds(where, value, argument.kinds)


def _untrained(own: Any, made: Any) -> str | None:
    """Why ``made`` does not denoise what the model of the scheduler ``own`` was trained on."""
    kind, its = type(made).__name__, type(own).__name__
    if _is_flow(own) != _is_flow(made):
        if _is_flow(made):
            predicts = own.config.get("prediction_type", "noise")
            return f"its model predicts {predicts} ({its}), and {kind} takes flow predictions"
        told = "use_flow_sigmas=True,prediction_type=flow_prediction"
        able = "use_flow_sigmas" in scheduler_arguments(kind)
        return f"its model predicts flows ({its}), which {kind} does not take" + (
            f" unless it is told to: scheduler({kind},{told})" if able else ""
        )
    if type(made) in own.compatibles or type(own) in made.compatibles or _is_flow(own):
        return None
    trained = [key for key in _TRAINED_WITH if own.config.get(key) is not None]
    # A configuration keeps what its class does not take, so the class is asked.
    lacking = [key for key in trained if key not in scheduler_arguments(kind)]
    if trained and not lacking:
        return None
    others = sorted({one.__name__ for one in own.compatibles} - {its})
    can = f"; it can have {listed(others)}" if others else ""
    if lacking:
        return f"{kind} takes no {listed(lacking)}, which say how its model was trained{can}"
    return f"its {its} does not say how its model was trained in the words of {kind}{can}"


def _is_flow(scheduler: Any) -> bool:
    config: Mapping[str, object] = scheduler.config
    return (
        type(scheduler).__name__.startswith("FlowMatch")
        or config.get("prediction_type") == "flow_prediction"
        or bool(config.get("use_flow_sigmas"))
    )


TECHNIQUES: tuple[Technique, ...] = (Scheduler(),)
