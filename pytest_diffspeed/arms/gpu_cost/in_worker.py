"""The count itself, in a process that is of no other use afterwards."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...accelerators.registry import resolve_device
from ...common.errors import DiffspeedError, MeasurementError, SourceError, UsageError
from ...common.quiet import third_party
from ...gpucost import (
    Cost,
    FakeGpu,
    GpuCostError,
    KernelResources,
    count_compiled,
    count_eager,
    named_gpu,
)
from ...pipelines.call import PipelineCall
from ...pipelines.call_watch import CallWatch
from ...pipelines.entries import FORWARD
from ...pipelines.load_errors import explain_load_error
from ...pipelines.observed import Role
from ...pipelines.sources import parse_source
from ...techniques.apply import defined_state
from ...techniques.call_steps import call_of
from ...techniques.stacks import parse_stack
from ...techniques.targets import note_targets, proof_call
from .depth import count_few_blocks
from .fake_components import Entered, FakeComponents, Seen
from .inner_calls import InnerCall
from .order import CountOrder, Tell, silent
from .result import COMPILED, EAGER, CountedCalls, GpuCost
from .stack import CompiledParts, apply_to_fakes
from .triton_kernels import resources_of
from .weightless import build

NOT_COUNTED = (
    "the pipeline's own arithmetic around its components (guidance, scheduler.step) is not counted",
)


def count_here(order: CountOrder, tell: Tell = silent, folder: Path | None = None) -> GpuCost:
    """Count in this process, which believes from now on that it has a GPU.

    ``tell`` is told what is going on, where that takes long.  Compilers write into ``folder``.

    Raises:
        DiffspeedError: with one sentence.
    """
    started = time.perf_counter()
    try:
        gpu = named_gpu(order.gpu)
    except GpuCostError as error:
        raise UsageError(str(error)) from None
    try:
        counted = _count(order, FakeGpu(gpu, folder), tell)
    except GpuCostError as error:
        raise MeasurementError(f"{order.source!r} with {order.stack}: {error}") from error
    took_s = time.perf_counter() - started
    return GpuCost(**{**vars(counted), "took_s": took_s, "peak_bytes": _peak_bytes()})


def _count(order: CountOrder, fake: FakeGpu, tell: Tell) -> GpuCost:
    torch.set_num_threads(order.threads)
    stack = parse_stack(order.stack)
    source = parse_source(order.source)
    pipeline = build(source)
    fake.install()
    components = FakeComponents(pipeline, fake)
    counting = _Counting(fake, reduced=order.reduced)

    with components.counted(counting.eagerly, lambda: 0), third_party():
        defaults = source.defaults(pipeline).overridden(steps=order.steps, prompts=order.prompts)
        call = PipelineCall(pipeline, defaults)
        with _explained(order.source, "fp32"):
            note_targets(pipeline, call)

    def short() -> None:
        with components.counted(counting.eagerly, lambda: 0), defined_state(stack), third_party():
            proof_call(pipeline, call)()

    own_call = call_of(stack, pipeline, call)
    device = resolve_device("cuda:0")
    counting.compiled = apply_to_fakes(stack, pipeline, components, device, short)
    if order.resources and not counting.compiled.denoisers:
        raise UsageError(
            f"{stack} compiles nothing, so it has no Triton kernels whose registers could be told: "
            "add a technique that compiles, such as +compile, or leave --resources out"
        )
    watch = CallWatch(pipeline)
    with (
        components.counted(counting.count, lambda: watch.now, counting.is_compiled) as seen,
        watch.open(),
        defined_state(stack),
        third_party(),
        _explained(order.source, stack.name),
    ):
        own_call(pipeline)
    observed = watch.observed()
    ends = [end for loop in watch.loops() for end in loop.ends]
    resources = resources_of(counting.codes, tell) if order.resources else {}
    return GpuCost(
        source=order.source,
        stack=stack.name,
        gpu=fake.gpu.name,
        steps=observed.steps,
        calls=_counted_calls(
            seen, counting, ends, {c.name: c.role for c in observed.components}, resources
        ),
        key=_key(fake, counting.compiled),
        not_counted=NOT_COUNTED,
        notes=tuple(dict.fromkeys(note for cost in seen.costs for note in cost.notes)),
    )


class _Counting:
    """Counts calls of components, eagerly or as the stack compiles them."""

    def __init__(self, fake: FakeGpu, *, reduced: bool) -> None:
        self.compiled = CompiledParts()
        self.depths: list[str] = []
        self.hows: list[str] = []
        self.codes: dict[int, list[str]] = {}
        """What the compiler wrote, by the number of the call."""
        self._fake = fake
        self._reduced = reduced

    def is_compiled(self, entered: Entered) -> bool:
        return self.compiled.compiles(entered.component, entered.entry)

    def eagerly(
        self, entered: Entered, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Cost, Any]:
        return count_eager(entered.function, args, kwargs, fake=self._fake)

    def count(
        self, entered: Entered, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Cost, Any]:
        if not self.is_compiled(entered):
            self.hows.append(EAGER)
            self.depths.append("")
            return self.eagerly(entered, args, kwargs)
        code = self.codes.setdefault(len(self.hows), [])

        def compiled() -> tuple[Cost, Any]:
            return count_compiled(
                entered.compilable,
                args,
                kwargs,
                fake=self._fake,
                inductor_options=self.compiled.options,
                code=code,
            )

        def part(call: InnerCall) -> Cost:
            # Its kernels are those of the component's code too, so none is kept.
            return count_compiled(
                call.module,
                call.args,
                call.kwargs,
                fake=self._fake,
                inductor_options=self.compiled.options,
            )[0]

        def flops() -> int:
            return self.eagerly(entered, args, kwargs)[0].figures()["flops"]

        found = count_few_blocks(entered.module if self._reduced else None, compiled, flops, part)
        self.hows.append(COMPILED)
        self.depths.append(found.depth)
        return found.cost, found.returned


def _counted_calls(
    seen: Seen,
    counting: _Counting,
    ends: list[int],
    role_of: dict[str, Role],
    resources: Mapping[int, tuple[KernelResources, ...]],
) -> tuple[CountedCalls, ...]:
    found = []
    of_count = _first_alike(seen)
    for number, cost in enumerate(seen.costs):
        own = [one for one in seen.calls if of_count[one.number] == number]
        if not own:
            continue
        role = role_of[own[0].component]
        in_steps = role is Role.DENOISER and bool(ends)
        at = [sum(end <= one.at for end in ends) for one in own] if in_steps else []
        steps = tuple(step for step in at if step < len(ends))
        entry = own[0].entry
        name = own[0].component if entry == FORWARD else f"{own[0].component}.{entry}"
        # A denoiser that runs once more behind the last step is in none.
        after = len(own) - len(steps) if in_steps else 0
        for calls, of_steps in ((len(own) - after, steps), (after, ())):
            if calls:
                found.append(
                    CountedCalls(
                        name,
                        role.value,
                        counting.hows[number],
                        calls,
                        of_steps,
                        cost,
                        counting.depths[number],
                        resources.get(number, ()),
                    )
                )
    return tuple(found)


def _first_alike(seen: Seen) -> list[int]:
    """Of each count the first one with equal inputs that came to the same."""
    first: dict[tuple[object, ...], int] = {}
    return [
        first.setdefault((key, cost.fingerprint(), cost.graphs, cost.breaks), number)
        for number, (key, cost) in enumerate(zip(seen.inputs, seen.costs, strict=True))
    ]


@contextmanager
def _explained(source: str, stack: str) -> Iterator[None]:
    """What a call may raise, in one sentence."""
    try:
        yield
    except (DiffspeedError, GpuCostError):
        raise
    except Exception as error:
        raise SourceError(
            f"pipeline source {source!r} with {stack}: its call on a GPU that is not there failed: "
            f"{explain_load_error(error)}"
        ) from error


def _key(fake: FakeGpu, compiled: CompiledParts) -> dict[str, str]:
    """What the figures depend on beside the code that is counted."""
    of_ours = {name: _version(name) for name in ("diffusers", "transformers", "torchao")}
    compiles = bool(compiled.denoisers or compiled.decoders)
    return {**fake.key(compiled.options, compiles=compiles), **of_ours}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _peak_bytes() -> int:
    """Of this process; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
