"""The real inputs of each component's calls in a pipeline run, to be replayed later.

Inputs are copied when the call happens: pipelines write into their tensors afterwards.  Components
are watched from outside, so nothing that is compiled is changed (see :mod:`.boundaries`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..adapters.diffusers_internals import cache_surroundings, forget_cached
from ..common.errors import MeasurementError
from ..compilation.probe import Call
from .entries import FORWARD, SCHEDULER_STEP, Entry, chosen_entries, default_entries
from .kept_call import Surroundings, kept_call
from .observed import ObservedCall, observe_call
from .scheduler_watch import ENDS_STEP, schedulers_of, watch_schedulers

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@dataclass
class Captured:
    """One component: what to call, uncompiled or not, and the inputs of its calls in order.

    ``restart`` puts a component with a state (a scheduler, caches of hooks) back to where its first
    call found it.
    """

    name: str
    fn: Callable[..., Any]
    calls: list[Call] = field(default_factory=list)
    restart: Callable[[], object] = lambda: None


def capture(
    pipeline: DiffusionPipeline,
    call: Callable[[], object],
    components: Sequence[str] | None = None,
    *,
    observed: ObservedCall | None = None,
    steps: int | None = None,
) -> list[Captured]:
    """Run ``call()``, a call of ``pipeline``, and keep the inputs of the components' calls.

    Args:
        pipeline: compiled or not.
        call: the call that was observed.
        components: words of :func:`~.entries.chosen_entries`, and ``scheduler.step`` for all
            schedulers that step; by default every denoiser, and what runs after the steps.
        observed: what ran in such a call; observed in a call of its own if left out.
        steps: of a component that ran in more steps, the inputs of so many are kept.

    Raises:
        UsageError: the call ran nothing of a name that was asked for.
        MeasurementError: nothing ran in the steps, or one was not entered where it was observed,
            so that nothing of it would be checked.
    """
    observed = observed or observe_call(pipeline, call)
    if components is None:
        if not observed.denoisers:
            raise MeasurementError(
                f"no component ran in the denoising steps of {type(pipeline).__name__}, so there "
                f"is nothing to look at by default; {observed.what_ran()}; name some in "
                "`components`"
            )
        wanted = default_entries(observed)
    else:
        words = [word for word in components if word != SCHEDULER_STEP]
        wanted = chosen_entries(observed, words, "components")
    watched = [_entry(one, _most_calls(one, steps)) for one in wanted]
    schedulers = _Schedulers(pipeline)
    with ExitStack() as stack:
        for captured, watch in watched:
            stack.enter_context(watch(captured))
        if components is not None and SCHEDULER_STEP in components:
            stack.enter_context(schedulers.watched(steps))
        call()
    found = [captured for captured, _ in watched]
    if components is not None and SCHEDULER_STEP in components:
        found += schedulers.captured() or [Captured(SCHEDULER_STEP, call)]
    silent = [captured.name for captured in found if not captured.calls]
    if silent:
        raise MeasurementError(
            f"a call of {type(pipeline).__name__} did not run {', '.join(silent)}, so there is "
            "nothing to look at; leave it out of `components`"
        )
    return found


_Watch = Callable[[Captured], AbstractContextManager[None]]


def _most_calls(entry: Entry, steps: int | None) -> int | None:
    """How many calls the first ``steps`` steps of an entry have; ``None``: all there are."""
    ran_in = len(entry.component.steps)
    return None if steps is None or ran_in <= steps else -(-entry.calls // ran_in) * steps


def _entry(entry: Entry, most: int | None) -> tuple[Captured, _Watch]:
    module, method = entry.target()
    if method != FORWARD:
        captured = Captured(entry.name, entry.function())
        return captured, lambda kept: entry.watched(_keeping(kept, most))
    captured = Captured(entry.name, module, restart=lambda: forget_cached(module))
    return captured, lambda kept: entry.watched(
        _keeping(kept, most, surroundings=lambda: cache_surroundings(module))
    )


class _Schedulers:
    """``step`` of a copy of each scheduler that steps, made inside the call or not.

    Each copy starts from the state that the first step found.
    """

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._names = {id(one): name for name, one in schedulers_of(pipeline).items()}
        self._known = tuple(schedulers_of(pipeline).values())
        self._seen: dict[int, tuple[Any, str, dict[str, Any], Captured]] = {}

    @contextmanager
    def watched(self, steps: int | None) -> Iterator[None]:
        def around(scheduler: Any, method: str, function: Callable[..., Any]) -> Callable[..., Any]:
            if id(scheduler) not in self._seen:
                name = self._names.get(id(scheduler)) or self._new_name(scheduler)
                first = {k: v for k, v in vars(scheduler).items() if k not in ENDS_STEP}
                kept = Captured(f"{name}.{method}", function)
                self._seen[id(scheduler)] = (scheduler, method, copy.deepcopy(first), kept)
            return _keeping(self._seen[id(scheduler)][3], steps)(function)

        with watch_schedulers(around, self._known, ENDS_STEP):
            yield

    def _new_name(self, scheduler: Any) -> str:
        """For one that was made in the call, of which there may be many."""
        kind = type(scheduler).__name__
        number = 1 + sum(type(seen[0]) is type(scheduler) for seen in self._seen.values())
        return f"<{kind} {number}>"

    def captured(self) -> list[Captured]:
        return [self._restarting(*seen) for seen in self._seen.values()]

    @staticmethod
    def _restarting(scheduler: Any, method: str, first: dict[str, Any], kept: Captured) -> Captured:
        working = copy.copy(scheduler)

        def restart() -> None:
            vars(working).clear()
            vars(working).update(copy.deepcopy(first))

        return Captured(kept.name, getattr(working, method), kept.calls, restart)


def _keeping(
    kept: Captured,
    most: int | None = None,
    surroundings: Callable[[], Surroundings] = lambda: nullcontext,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*args: Any, **kwargs: Any) -> Any:
            if most is None or len(kept.calls) < most:
                kept.calls.append(kept_call(args, kwargs, surroundings()))
            return function(*args, **kwargs)

        return calling

    return wrap
