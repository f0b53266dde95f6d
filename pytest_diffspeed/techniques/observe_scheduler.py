"""How one call of a pipeline uses its schedulers, for :mod:`.observe`."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from ..pipelines.scheduler_watch import schedulers_of, watch_schedulers
from .observation import SchedulerCalls

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_TABLES = ("sigmas", "alphas_cumprod", "betas")


class SchedulerWatch:
    """Sees how a call uses its schedulers: the pipeline's own, copies of it, and any other."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.scheduler: Any = getattr(pipeline, "scheduler", None)
        self.table_devices: dict[str, str] = {}
        self.begin_index_after: int | None = None
        self.lookups = 0
        self.begins = 0
        self.starts_at_first: bool | None = None
        self.stepped: Counter[str] = Counter()
        self.config: Mapping[str, object] = {}
        self._pipeline = pipeline
        self._setting = False
        self._fresh: list[Any] = []  # schedulers that have not stepped since set_timesteps

    def open(self) -> AbstractContextManager[None]:
        own = {
            "set_timesteps": self._set_timesteps,
            "set_begin_index": self._set_begin_index,
            "index_for_timestep": self._index_for_timestep,
            "step": self._step,
        }

        def around(scheduler: Any, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
            return functools.partial(own[name], scheduler, method)

        return watch_schedulers(around, schedulers_of(self._pipeline).values(), own)

    def seen(self) -> SchedulerCalls | None:
        if self.scheduler is None:
            return None
        return SchedulerCalls(
            self.table_devices,
            self.begin_index_after,
            self.begins,
            self.lookups,
            self.starts_at_first,
            dict(self.stepped),
            self.config,
        )

    def _set_timesteps(
        self, scheduler: Any, method: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        self._setting = True
        try:
            result = method(*args, **kwargs)
        finally:
            self._setting = False
        self._fresh.append(scheduler)
        if scheduler is self.scheduler:
            tables = {name: getattr(scheduler, name, None) for name in _TABLES}
            self.table_devices = {
                name: str(table.device)
                for name, table in tables.items()
                if isinstance(table, torch.Tensor)
            }
            self.begin_index_after = getattr(scheduler, "begin_index", None)
        return result

    def _set_begin_index(
        self, _: Any, method: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        self.begins += not self._setting
        return method(*args, **kwargs)

    def _index_for_timestep(
        self, _: Any, method: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        self.lookups += not self._setting
        return method(*args, **kwargs)

    def _step(self, scheduler: Any, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.stepped[type(scheduler).__name__] += 1
        self.config = dict(getattr(scheduler, "config", None) or {})
        if any(scheduler is fresh for fresh in self._fresh):
            self._fresh = [fresh for fresh in self._fresh if fresh is not scheduler]
            timestep = args[1] if len(args) > 1 else kwargs.get("timestep")
            at_first = timestep is not None and float(timestep) == float(scheduler.timesteps[0])
            self.starts_at_first = at_first and self.starts_at_first is not False
        return method(*args, **kwargs)
