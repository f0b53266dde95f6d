"""Apply a stack to a pipeline and prove that each technique took hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..adapters.torch_internals import compiled_frames_run
from ..errors import DoesNotFitError, MissingHardwareError, NotEffectiveError
from ..precision import ieee_fp32
from ..quiet import third_party
from .base import Family, Observation, Proof, Technique
from .stacks import Stack, parse_stack

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ..device import Device

PROOF_STEPS = 2
"""Denoising steps of the untimed calls that prove something: what runs in the first step only is
seen, and so is what runs in each."""


@dataclass(frozen=True)
class Applied:
    """A stack on a pipeline: its proofs, and the seconds of the first whole call.

    ``first_call_s`` contains compilation where the stack compiles.
    """

    stack: Stack
    proofs: tuple[Proof, ...]
    first_call_s: float


@contextmanager
def running(stack: Stack) -> Iterator[None]:
    """The process-wide state in which every call of an arm with ``stack`` runs.

    IEEE float32 to start with, and what the stack's techniques change on top of it.
    """
    with ExitStack() as contexts:
        contexts.enter_context(ieee_fp32())
        for technique in stack.techniques():
            contexts.enter_context(technique.running())
        yield


def check_fit(stack: Stack, pipeline: DiffusionPipeline, device: Device) -> None:
    """Refuse a stack before anything is changed.

    Raises:
        MissingHardwareError: the device cannot do it.
        DoesNotFitError: the pipeline cannot take it.
    """
    for technique in stack.techniques():
        missing = technique.missing_hardware(device)
        if missing is not None:
            raise MissingHardwareError(f"{technique.name} on {device.name}: {missing}")
    for technique in stack.techniques():
        misfit = technique.does_not_fit(pipeline)
        if misfit is not None:
            raise DoesNotFitError(
                f"{technique.name} does not fit {type(pipeline).__name__}: {misfit}"
            )


def apply_stack(
    pipeline: DiffusionPipeline,
    stack: Stack | str,
    *,
    call: Callable[..., object],
    device: Device | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Applied:
    """Apply ``stack`` to ``pipeline`` in place, run it, and prove each technique.

    Args:
        pipeline: in float32 and eager, on the device where it will run.
        stack: such as ``"bf16+compile"``, in any order.
        call: runs the pipeline once: ``call(pipeline)`` whole, ``call(pipeline, steps=2)``
            shortened for the proofs that are taken before compilation.
        device: where it runs; found from the pipeline if left out.
        clock: seconds, for the first call.

    Raises:
        UnknownStackError, MissingHardwareError, DoesNotFitError: before anything is changed.
        NotEffectiveError: a technique was applied and its proof says that it did not take hold.
    """
    from ..device import resolve_device

    if isinstance(stack, str):
        stack = parse_stack(stack)
    check_fit(stack, pipeline, device or resolve_device(str(pipeline.device)))
    eager = [t for t in stack.techniques() if t.family is not Family.COMPILE]
    compiled = [t for t in stack.techniques() if t.family is Family.COMPILE]
    with running(stack), third_party():
        for technique in eager:
            technique.apply(pipeline)
        seen = Observation(op_dtypes=_observe_eager(pipeline, call))
        proofs = [technique.prove(pipeline, seen) for technique in eager]
        for technique in compiled:
            technique.apply(pipeline)
        started = clock()
        try:
            call(pipeline)
        except Exception as error:
            if not compiled or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
                raise
            raise NotEffectiveError(_compile_failure(compiled, error)) from error
        first_call_s = clock() - started
        if compiled:
            frames = compiled_frames_run(lambda: call(pipeline, steps=PROOF_STEPS))
            seen = Observation(seen.op_dtypes, compiled_frames=frames)
            proofs += [technique.prove(pipeline, seen) for technique in compiled]
    return Applied(stack, tuple(proofs), first_call_s)


def _compile_failure(compiled: list[Technique], error: Exception) -> str:
    """One sentence for what dynamo and inductor say in hundreds of lines."""
    first_line = (str(error).strip() or "no message").splitlines()[0]
    names = "+".join(technique.name for technique in compiled)
    return (
        f"{names}: expected one graph per component, but the first compiled call raised "
        f"{type(error).__name__}: {first_line}"
    )


def _observe_eager(pipeline: DiffusionPipeline, call: Callable[..., object]) -> dict[str, int]:
    from .observe import op_dtypes

    return dict(op_dtypes(pipeline, lambda: call(pipeline, steps=PROOF_STEPS)))
