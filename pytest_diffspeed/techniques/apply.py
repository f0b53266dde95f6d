"""Apply a stack to a pipeline and prove that each technique took hold."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ..accelerators.device import Device
from ..accelerators.registry import clock_for
from ..adapters.torch_internals import cuda_graph_skip_reasons, cuda_graph_skips
from ..common.arguments import spelt_keywords
from ..common.errors import (
    IncompatibleError,
    MissingHardwareError,
    NotEffectiveError,
)
from ..common.quiet import third_party
from ..common.text import first_line
from ..pipelines.compile_failure import explain_compile_failure
from ..pipelines.load import require_pipeline
from ..pipelines.pipeline_state import Habits, changed, pipeline_state
from .apply_cache import apply_cache
from .call_steps import check_call, counted_steps, untouched_steps, with_steps
from .global_state import preserved
from .observation import CudaGraphs
from .precision_flags import ieee_fp32
from .stacks import BASELINE_NAME, Stack, as_stack, parse_stack
from .targets import PROOF_STEPS as PROOF_STEPS
from .targets import note_targets, proof_call, targets_of
from .technique import Family, KnownSlowWarning, Observation, Proof, Technique
from .undo import applying, note_habits, noted_targets
from .undo import undo_stack as undo_stack

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class Applied:
    """A stack on a pipeline: its proofs, and the seconds of the first whole call.

    ``first_call_s`` contains compilation where the stack compiles.  ``known_slow`` are the
    sentences of the warnings that were given.  ``cuda_graph_launches`` were seen in the last call
    of the proofs.  ``habits`` is what the pipeline changes of itself in each call.  ``call_steps``
    are the denoising steps of a whole call, counted where the stack changes the schedule.
    ``compiled_before`` are the parts that ran code which this process had compiled earlier, for
    another pipeline: ``first_call_s`` is then without that compilation.
    """

    stack: Stack
    proofs: tuple[Proof, ...]
    first_call_s: float
    known_slow: tuple[str, ...] = ()
    cuda_graph_launches: int = 0
    habits: Habits = frozenset()
    call_steps: int | None = None
    compiled_before: tuple[str, ...] = ()

    @property
    def _head(self) -> str:
        return f"{self.stack}: first call {self.first_call_s:.3g} s"

    def __repr__(self) -> str:
        return f"<Applied {self._head}>"

    def __str__(self) -> str:
        """What the first call took (measured), and the proof of each technique."""
        lines = [self._head]
        lines += [f"  {proof.technique}: {proof.found}" for proof in self.proofs]
        return "\n".join([*lines, *(f"  known to be slow: {one}" for one in self.known_slow)])


@contextmanager
def running(stack: Stack) -> Iterator[None]:
    """The process-wide state of an arm's call; afterwards the process is as it was before."""
    with preserved(), defined_state(stack):
        yield


@contextmanager
def defined_state(stack: Stack) -> Iterator[None]:
    """The flags in which every call of an arm with ``stack`` runs.

    IEEE float32 to start with, and what the stack's techniques change on top of it.
    """
    with ExitStack() as contexts:
        contexts.enter_context(ieee_fp32())
        for technique in stack.techniques():
            contexts.enter_context(technique.running())
        yield


def check_compatible(stack: Stack, pipeline: DiffusionPipeline, device: Device) -> None:
    """Refuse a stack before anything is changed.

    Raises:
        MissingHardwareError: the device cannot do it.
        IncompatibleError: the pipeline cannot take it, or the stack cannot work on this device.
    """
    _check_device(stack, device)
    for technique in stack.techniques():
        reason = technique.incompatible(pipeline)
        if reason is not None:
            raise technique.refusal(pipeline, reason)


def _check_device(stack: Stack, device: Device) -> None:
    """What can be said without the pipeline."""
    for technique in stack.techniques():
        missing = technique.missing_hardware(device)
        if missing is not None:
            raise MissingHardwareError(f"{technique.name} on {device.name}: {missing}")
    for technique in stack.techniques():
        reason = technique.incompatible_with_stack(stack.by_name, device)
        if reason is not None:
            raise IncompatibleError(
                f"{technique.name} is incompatible with {stack} on {device}: {reason}"
            )


@spelt_keywords
def apply_stack(
    pipeline: DiffusionPipeline,
    stack: Stack | str,
    *,
    call: Callable[..., object],
    device: Device | str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Applied:
    """Apply ``stack`` to ``pipeline`` in place, run it, and prove each technique.

    With ``steps(n)`` the pipeline stays as it is: whoever calls it afterwards asks for ``n`` steps.

    Args:
        pipeline: in float32 and eager, on the device where it will run.
        stack: such as ``"bf16+compile"``, in any order.
        call: runs the pipeline once: ``call(pipeline)`` whole, ``call(pipeline, steps=2)``
            shortened for the proofs that are taken before compilation.
        device: where it runs, such as ``"cuda"``; found from the pipeline if left out.
        clock: seconds, for the first call.

    Returns:
        The proof of each technique, and the seconds of the first whole call.

    Raises:
        WrongTypeError: something else than a pipeline, a stack or a call; before anything is
            changed.
        UnknownStackError, MissingHardwareError, IncompatibleError: before anything is changed;
            UsageError too, where ``call`` cannot be called as said above.
        NotEffectiveError: a technique was applied and its proof says that it did not take hold.
            Whatever is raised, what can be undone is undone: of a stack whose techniques all can
            (:func:`undo_stack`), the pipeline is as it was.

    Warns:
        KnownSlowWarning: the stack is known to be slow.
    """
    from ..accelerators.registry import resolve_device

    stack = as_stack(stack)
    check_call(call)
    require_pipeline("apply_stack()", pipeline)
    device = device or str(pipeline.device)
    if not isinstance(device, Device):
        device = resolve_device(str(device))
    _check_device(stack, device)
    with noted_targets(pipeline, lambda: _note_targets(pipeline, call)):
        check_compatible(stack, pipeline, device)
        each = stack.by_name
        slow = tuple(s for t in each.values() if (s := t.known_slow(each)) is not None)
        for sentence in slow:
            warnings.warn(sentence, KnownSlowWarning, stacklevel=2)
        own = with_steps(stack, pipeline, call)
        with running(stack), third_party():
            before = _watch_untouched(stack, pipeline, own)
            if stack.changes_schedule:
                counted = untouched_steps(pipeline, call)
                before = replace(before or Observation(), call_steps=counted)
            with applying(pipeline, stack):
                applied = _apply_and_prove(pipeline, stack, own, device, clock, before)
    return replace(applied, known_slow=slow)


def _note_targets(pipeline: DiffusionPipeline, call: Callable[..., object]) -> None:
    with running(parse_stack(BASELINE_NAME)), third_party():
        note_targets(pipeline, call)


def _apply_and_prove(
    pipeline: DiffusionPipeline,
    stack: Stack,
    call: Callable[..., object],
    device: Device,
    clock: Callable[[], float],
    before: Observation | None,
) -> Applied:
    each = stack.techniques()
    compiled = [t for t in each if t.family is Family.COMPILE]
    caches = [t for t in each if t.family is Family.CACHE]
    eager = [t for t in each if t.family not in (Family.CACHE, Family.COMPILE)]
    for technique in eager:
        technique.apply_seen(pipeline, lambda: _observe((), pipeline, call))
    seen = replace(_observe_applied(stack, pipeline, call), before=before)
    proofs = {t.name: t.prove(pipeline, seen) for t in eager}
    proofs |= {t.name: apply_cache(t, pipeline, lambda: call(pipeline)) for t in caches}
    with cuda_graph_skip_reasons() as reasons:
        skips = cuda_graph_skips() if compiled else None
        begun = _compilations_begun() if compiled else {}
        for technique in compiled:
            technique.apply(pipeline)
        untouched = pipeline_state(pipeline)
        first_call_s = _first_call(pipeline, compiled, call, device, clock)
        if skips is None:
            habits = changed(untouched, pipeline_state(pipeline))
        else:
            _settle(compiled, pipeline, call)
            untouched = pipeline_state(pipeline)
            seen = _observe_compiled(seen, pipeline, call)
            habits = changed(untouched, pipeline_state(pipeline))
            graphs = _cuda_graphs(skips.count, reasons, seen.cuda_graphs.launches)
            seen = replace(seen, cuda_graphs=graphs)
            for technique in compiled:
                proofs[technique.name] = technique.prove(pipeline, seen)
            for technique in (*eager, *caches):
                more = technique.prove_compiled(pipeline, seen)
                proof = proofs[technique.name]
                proofs[technique.name] = replace(proof, figures={**proof.figures, **(more or {})})
    note_habits(pipeline, habits)
    return Applied(
        stack,
        tuple(proofs[t.name] for t in each),
        first_call_s,
        cuda_graph_launches=seen.cuda_graphs.launches,
        habits=habits,
        call_steps=None if seen.call_steps is None else seen.call_steps.ran,
        compiled_before=tuple(
            name for name, part in (seen.compiled or {}).items() if part.ran_older_code(begun)
        ),
    )


def _first_call(
    pipeline: DiffusionPipeline,
    compiled: list[Technique],
    call: Callable[..., object],
    device: Device,
    clock: Callable[[], float],
) -> float:
    """Seconds of the first whole call, which compiles."""
    _finish(device)
    started = clock()
    try:
        call(pipeline)
    except Exception as error:
        if not compiled or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            raise
        why = explain_compile_failure(pipeline, proof_call(pipeline, call), error)
        raise NotEffectiveError(f"{_compile_failure(compiled, error)}\n{why}") from error
    _finish(device)
    return clock() - started


def _finish(device: Device) -> None:
    """Wait until the device has done what it was asked: a GPU's call returns before that."""
    clock_for(device).prepare()


def _watch_untouched(
    stack: Stack, pipeline: DiffusionPipeline, call: Callable[..., object]
) -> Observation | None:
    """See what the pipeline does of itself, and ask those who need to know whether they fit."""
    if not any(technique.watches for technique in stack.techniques()):
        return None
    before = _observe(stack.techniques(), pipeline, call)
    check_compatible_with_call(stack, pipeline, before)
    return before


def observe_untouched(pipeline: DiffusionPipeline, call: Callable[..., object]) -> Observation:
    """What a short call of the fp32 pipeline does; for :func:`check_compatible_with_call`."""
    with running(parse_stack(BASELINE_NAME)), third_party():
        return _observe((), pipeline, call)


def check_compatible_with_call(
    stack: Stack, pipeline: DiffusionPipeline, before: Observation
) -> None:
    """Refuse a stack by what the untouched pipeline does in a call.

    Raises:
        IncompatibleError: a technique would have nothing to do in it.
    """
    for technique in stack.techniques():
        if technique.watches:
            reason = technique.incompatible_with_call(pipeline, before)
            if reason is not None:
                raise technique.refusal(pipeline, reason)


def _observe(
    watching: Iterable[Technique], pipeline: DiffusionPipeline, call: Callable[..., object]
) -> Observation:
    from .observe import observe

    with ExitStack() as watches:
        own = {t.name: watches.enter_context(t.watch(pipeline)) for t in watching}
        seen = observe(pipeline, proof_call(pipeline, call), steps=targets_of(pipeline).steps)
    return replace(seen, own={name: found for name, found in own.items() if found is not None})


def _observe_applied(
    stack: Stack, pipeline: DiffusionPipeline, call: Callable[..., object]
) -> Observation:
    try:
        seen = _observe(stack.techniques(), pipeline, call)
        if not stack.changes_schedule:
            return seen
        counted = counted_steps(pipeline, call)
        # A proof that takes a whole call has as many steps as the arm's own.
        steps = counted.ran if targets_of(pipeline).whole else seen.steps
        return replace(seen, steps=steps, call_steps=counted)
    except Exception as error:
        for technique in stack.techniques():
            why = technique.explain(error)
            if why is not None:
                raise technique.refusal(pipeline, why) from error
        raise


def _compilations_begun() -> Mapping[int, int]:
    from ..adapters.dynamo import compilations_begun  # slow to import, and for those who compile

    return compilations_begun()


def _settle(
    compiled: list[Technique], pipeline: DiffusionPipeline, call: Callable[..., object]
) -> None:
    short = proof_call(pipeline, call)
    for _ in range(max(technique.extra_warmup_calls for technique in compiled)):
        short()


def _observe_compiled(
    seen: Observation, pipeline: DiffusionPipeline, call: Callable[..., object]
) -> Observation:
    from .observe_compiled import observe_compiled

    parts, launches = observe_compiled(pipeline, proof_call(pipeline, call))
    return replace(seen, compiled=parts, cuda_graphs=CudaGraphs(launches=launches))


def _cuda_graphs(skips_before: int, reported: list[str], launches: int) -> CudaGraphs:
    """Skips since ``skips_before`` with the reasons reported meanwhile."""
    skips = cuda_graph_skips()
    new = skips.count - skips_before
    reasons = tuple(dict.fromkeys(reported or skips.reasons)) if new else ()
    return CudaGraphs(new, reasons, launches)


def _compile_failure(compiled: list[Technique], error: Exception) -> str:
    """One sentence for what dynamo and inductor say in hundreds of lines."""
    message = first_line(error)
    names = "+".join(technique.name for technique in compiled)
    units = " and ".join(dict.fromkeys(technique.compiled_unit for technique in compiled))
    return (
        f"{names}: expected one graph per {units}, but the first compiled call raised "
        f"{type(error).__name__}: {message}"
    )
