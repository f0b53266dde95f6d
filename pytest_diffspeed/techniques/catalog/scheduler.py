"""The scheduler: no value is read from the device to find the first step."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any, ClassVar

from ...common.errors import IncompatibleError, NotEffectiveError
from ..technique import Family, Observation, Proof, Technique
from ..undo_notes import memory, put_back

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


class CpuSigmas(Technique):
    """Tables of sigmas stay on the CPU, and each call begins at index 0 without looking it up.

    A scheduler whose pipeline never calls ``set_begin_index`` searches the first timestep among
    those on the device (``index_for_timestep``: ``nonzero`` and ``item``, and both wait for the
    GPU).  ``set_timesteps`` clears the begin index, so it is set again after each.
    """

    name: ClassVar[str] = "cpu_sigmas"
    family: ClassVar[Family] = Family.SCHEDULER
    summary: ClassVar[str] = "sigmas on the CPU and the first step's index set, not looked up"
    changes: ClassVar[frozenset[str] | None] = frozenset({"scheduler"})
    undoable: ClassVar[bool] = True
    watches: ClassVar[bool] = True

    def incompatible(self, pipeline: DiffusionPipeline) -> str | None:
        import torch

        scheduler: Any = getattr(pipeline, "scheduler", None)
        kind = type(scheduler).__name__
        if not hasattr(scheduler, "set_begin_index") or not hasattr(scheduler, "set_timesteps"):
            return f"its scheduler, a {kind}, has no begin index"
        if not isinstance(getattr(scheduler, "sigmas", None), torch.Tensor):
            return f"its scheduler, a {kind}, does not index a table of sigmas"
        return None

    def incompatible_with_call(
        self, pipeline: DiffusionPipeline, before: Observation
    ) -> str | None:
        seen = before.scheduler
        if seen is None or seen.starts_at_first is None:
            return "no step of its scheduler ran"
        if seen.pipeline_sets_begin:
            return "it sets the begin index itself, so there is nothing to gain"
        if not seen.starts_at_first:
            return "its call does not start at the first timestep"
        return None

    def apply(self, pipeline: DiffusionPipeline) -> None:
        reason = self.incompatible(pipeline)  # of the scheduler that the stack has put there
        if reason is not None:
            raise IncompatibleError(f"{self.name} is incompatible with this stack: {reason}")
        scheduler: Any = pipeline.scheduler
        original = scheduler.set_timesteps
        memory(pipeline, self.name)["set_timesteps"] = vars(scheduler).get("set_timesteps")
        vars(scheduler)["set_timesteps"] = _on_the_cpu(scheduler, original)

    def undo(self, pipeline: DiffusionPipeline) -> None:
        notes = memory(pipeline, self.name)
        if "set_timesteps" in notes:
            put_back(pipeline.scheduler, "set_timesteps", notes.pop("set_timesteps"))

    def prove(self, pipeline: DiffusionPipeline, seen: Observation) -> Proof:
        found = seen.scheduler
        was = None if seen.before is None else seen.before.scheduler
        if found is None or was is None:
            raise NotEffectiveError(f"{self.name}: expected a call to be watched, found none")
        elsewhere = {n: d for n, d in found.table_devices.items() if d != "cpu"}
        if elsewhere or found.begin_index_after != 0:
            raise NotEffectiveError(
                f"{self.name}: expected tables on the CPU and begin index 0 after set_timesteps, "
                f"found tables on {elsewhere or 'the CPU'} and begin index "
                f"{found.begin_index_after}"
            )
        if found.index_lookups or not found.starts_at_first:
            raise NotEffectiveError(
                f"{self.name}: expected calls that start at the first timestep and look no index "
                f"up, found {found.index_lookups} look-ups"
                f"{'' if found.starts_at_first else ' and another start'}"
            )
        return Proof(
            self.name,
            f"begin index 0 after set_timesteps, {was.index_lookups} look-ups of an index became "
            f"{found.index_lookups}, tables on the CPU",
            {
                "index_lookups_before": was.index_lookups,
                "index_lookups": found.index_lookups,
                "table_devices_before": dict(was.table_devices),
                "table_devices": dict(found.table_devices),
            },
        )


def _on_the_cpu(scheduler: Any, set_timesteps: Any) -> Any:
    """``set_timesteps``, after which tables are on the CPU and the begin index is 0.

    A method that is bound to the scheduler stays one: that of a copy, which some pipelines make in
    each call, is then bound to the copy.
    """
    is_method = isinstance(set_timesteps, types.MethodType) and set_timesteps.__self__ is scheduler
    original = set_timesteps.__func__ if is_method else set_timesteps

    @functools.wraps(original)  # pipelines read its signature
    def set_timesteps_on_the_cpu(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        _bring_to_the_cpu(args[0] if is_method else scheduler)
        return result

    if is_method:
        return types.MethodType(set_timesteps_on_the_cpu, scheduler)
    return set_timesteps_on_the_cpu


def _bring_to_the_cpu(scheduler: Any) -> None:
    import torch

    for name in ("sigmas", "alphas_cumprod", "betas"):
        table = getattr(scheduler, name, None)
        if isinstance(table, torch.Tensor):
            setattr(scheduler, name, table.to("cpu"))
    type(scheduler).set_begin_index(scheduler, 0)


TECHNIQUES: tuple[Technique, ...] = (CpuSigmas(),)
