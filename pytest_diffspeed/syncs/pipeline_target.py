"""Counting in one call of a pipeline: weights on the device, every scheduler and module watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..accelerators.accelerator import SyncCounter
from ..accelerators.simulated import keep_on_the_cpu, weights_replaced
from ..adapters.module_state import is_compiled
from ..adapters.offload_hooks import offload_hooks
from ..common.arguments import require_known
from ..common.errors import SourceError
from ..common.lazy_results import refuse_unfinished
from ..common.quiet import third_party
from ..pipelines.call_watch import CallWatch
from ..pipelines.components import modules
from ..pipelines.scheduler_watch import schedulers_of, state_restored
from ..pipelines.signature import CallSignature, call_signature
from .function_calls import watch_calls
from .position import Position, Timeline
from .report import Counted, SteppedScheduler
from .scopes import OWN_ARGUMENTS, Scope, code_of, locate, require_called, require_loop

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ..simgpu import SyncLog

_PROMPT = "a red apple on a wooden table"
# `latent` leaves out the decoder, which is no part of a step; `pt` leaves the images on the device.
_OUTPUTS = {True: ("pt", "np"), False: ("latent", "pt", "np")}


@dataclass(frozen=True)
class _Run:
    """What one call showed."""

    log: SyncLog
    watch: CallWatch
    called: bool | None


def count_pipeline(
    counter: SyncCounter,
    pipeline: DiffusionPipeline,
    scope: Scope,
    steps: int,
    given: Mapping[str, Any],
) -> Counted:
    """Call ``pipeline`` once; afterwards it is as it was.

    Raises:
        SourceError: the pipeline cannot run with these arguments, or no loop was seen.
        UsageError: nothing ran in the scope.
    """
    kind = type(pipeline).__name__
    own = schedulers_of(pipeline)
    run, remark = _with_an_output(counter, pipeline, scope, steps, given)
    timeline = Timeline(run.watch.loops())
    require_loop(scope, timeline, kind, (type(s).__name__ for s in own.values()))
    located = locate(run.log, scope, timeline)
    if callable(scope):
        require_called(scope, bool(located) or run.called, kind)
    stepped = tuple(
        SteppedScheduler(one.name, one.kind, one.steps) for one in run.watch.observed().schedulers
    )
    kinds = list(dict.fromkeys(one.kind for one in stepped))
    name = f"{kind} with {' and '.join(kinds)}" if kinds else kind
    return Counted(tuple(located), name, timeline.steps, stepped, remark)


def _with_an_output(
    counter: SyncCounter,
    pipeline: DiffusionPipeline,
    scope: Scope,
    steps: int,
    given: Mapping[str, Any],
) -> tuple[_Run, str]:
    """One call, with the first ``output_type`` that the pipeline takes, and a remark where that is
    not the one that was wanted.
    """
    accepted = call_signature(pipeline)
    defaults = {
        "prompt": None if "prompt_embeds" in given else _PROMPT,
        "num_inference_steps": steps,
        "return_dict": False,
    }
    arguments = {
        **{k: v for k, v in defaults.items() if accepted.may_take(k) and v is not None},
        **given,
    }
    _require_arguments(accepted, arguments)
    if not accepted.takes("output_type") or "output_type" in given:
        return _run(counter, pipeline, scope, arguments), ""
    wanted = _OUTPUTS[scope != "scheduler.step"]
    for output in wanted:
        try:
            run = _run(counter, pipeline, scope, {**arguments, "output_type": output})
        except Exception as error:
            if not _is_about_the_output(error):
                raise
        else:
            return run, "" if output == wanted[0] else _took(output, wanted[0])
    run = _run(counter, pipeline, scope, arguments)
    return run, _took(accepted.default("output_type"), wanted[0])


def _took(output: object, wanted: str) -> str:
    return f"called with output_type={output!r}, since the pipeline takes no {wanted!r}"


def _is_about_the_output(error: Exception) -> bool:
    """Pipelines raise a ValueError that lists what they support, in many wordings."""
    text = str(error).lower()
    return isinstance(error, (ValueError, NotImplementedError, KeyError)) and (
        "output_type" in text or "output type" in text
    )


def _require_arguments(accepted: CallSignature, arguments: Mapping[str, Any]) -> None:
    """Refuse a call that lacks an argument, or has one that would not arrive, before anything is
    placed on the device.
    """
    who = f"count_syncs() of a {accepted.pipeline}"
    if not accepted.open:
        require_known(who, arguments, [*OWN_ARGUMENTS, *accepted.parameters])
    missing = accepted.missing(arguments)
    if missing:
        words = ", ".join(f"{name}=…" for name in missing)
        raise SourceError(
            f"a call of {accepted.pipeline} needs {', '.join(map(repr, missing))}; "
            f"give it: count_syncs(pipeline, {words})"
        )


def _run(
    counter: SyncCounter, pipeline: DiffusionPipeline, scope: Scope, arguments: Mapping[str, Any]
) -> _Run:
    watch = CallWatch(pipeline)

    def here() -> Position:
        return Position(watch.now, watch.in_scheduler)

    with ExitStack() as stack:
        stack.enter_context(third_party())  # before the recording, which listens to warnings
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(_placed(counter, pipeline))
        stack.enter_context(state_restored(schedulers_of(pipeline).values()))
        stack.enter_context(watch.open())
        compiled = not counter.simulated and any(map(is_compiled, modules(pipeline).values()))
        log = stack.enter_context(counter.record(here, compiled=compiled))
        was_called = None
        if callable(scope):
            was_called = stack.enter_context(watch_calls(code_of(scope)))
        result = pipeline(**arguments)
        called = was_called() if was_called is not None else True
    refuse_unfinished(result, f"a call of {type(pipeline).__name__}")
    return _Run(log, watch, called)


@contextmanager
def _placed(counter: SyncCounter, pipeline: DiffusionPipeline) -> Iterator[None]:
    """The pipeline's weights on the device, for a while."""
    if counter.simulated:
        try:
            with weights_replaced(modules(pipeline), counter.place):
                yield
        finally:
            keep_on_the_cpu([pipeline])
        return
    if any(offload_hooks(part) for part in modules(pipeline).values()):
        yield  # its hooks place it, and diffusers refuses to move it
        return
    before = pipeline.device
    pipeline.to(counter.device)
    try:
        yield
    finally:
        pipeline.to(before)
