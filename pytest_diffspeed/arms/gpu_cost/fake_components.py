"""Components that run on a GPU that is not there, inside a pipeline that really runs.

Each call of a component gets fake CUDA copies of its inputs, and the pipeline gets real zeros in
the shape, strides and dtype of what came out, so it goes on as it does with real ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from ...adapters.attributes import replaced
from ...adapters.module_calls import calls_taken_over
from ...adapters.module_tensors import TwoSets, conversions_overwrite
from ...common.errors import MeasurementError
from ...gpucost import Cost, FakeGpu
from ...pipelines.entries import FORWARD
from ...pipelines.parts import parts
from .kept_values import changed, kept_values

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

METHODS = ("decode", "encode")
"""Ways into a component that compute and are no ``forward``."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Entered:
    """A way into a component: ``function`` is what the pipeline calls, ``compilable`` what
    ``torch.compile`` would be given in its place, and ``module`` that of the component.
    """

    component: str
    entry: str
    function: Function
    compilable: Function
    module: torch.nn.Module


CountCall = Callable[[Entered, tuple[Any, ...], dict[str, Any]], tuple[Cost, Any]]
"""Counts one call: its cost, and what it returned, all of it fake."""


@dataclass(frozen=True)
class SeenCall:
    """One call of a component: ``number`` says which of the counts it has, ``at`` when it began."""

    component: str
    entry: str
    number: int
    at: int


@dataclass
class Seen:
    """The calls of one call of the pipeline; calls with equal inputs have one count together.

    ``inputs`` describes those of each count.  Counts may have equal ones where the component keeps
    values from call to call.
    """

    calls: list[SeenCall] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Known:
    """A count, and of what: the values that the component kept before it and after it."""

    number: int
    like: Any
    inputs: Any
    before: Mapping[str, str]
    after: Mapping[str, str]


class FakeComponents:
    """The components of one pipeline, on a fake GPU."""

    def __init__(self, pipeline: DiffusionPipeline, fake: FakeGpu) -> None:
        self._pipeline = pipeline
        self._fake = fake
        self._tensors = TwoSets()
        self._names: dict[int, tuple[str, str]] = {}
        self._running = False
        for name, module in parts(pipeline).items():
            self._take(name, module)

    def _take(self, name: str, module: torch.nn.Module) -> None:
        if id(module) in self._names and not self._names[id(module)][1]:
            return
        self._names[id(module)] = (name, "")
        for path, inner in module.named_modules():
            self._names.setdefault(id(inner), (name, path))
        self._tensors.add(module)
        with self._tensors.first():
            self._fake.on_device(module)

    @contextmanager
    def on_the_gpu(self) -> Iterator[None]:
        """The fake tensors stand in the components, and new tensors are fake: for techniques."""
        with self._tensors.first(), conversions_overwrite(), self._fake.tensors():
            yield

    @contextmanager
    def counted(
        self,
        count: CountCall,
        now: Callable[[], int],
        once: Callable[[Entered], bool] = lambda entered: False,
    ) -> Iterator[Seen]:
        """Every call of a component goes through ``count`` while this is open.

        But for those that cost what one before them cost.  Of components that ``once`` names,
        counts take minutes, and change what the component keeps more than one call would.

        Raises:
            MeasurementError: one of these keeps other values from each call to the next.
        """
        seen = Seen()
        known: dict[str, list[_Known]] = {}

        def run(entered: Entered, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            at = now()
            key = f"{entered.component}.{entered.entry}: {_described((args, kwargs))}"
            before = kept_values(entered.module)
            counts = known.setdefault(key, [])
            # A call that is not made leaves the values of the component as they are, so it must be
            # one that would have.
            same = (one for one in counts if one.before == one.after == before)
            found = next(same, None)
            if found is None:
                check_again(entered, counts, before)
                like = self._run(count, seen, entered, args, kwargs)
                seen.inputs.append(key)
                after = kept_values(entered.module)
                # The inputs stay alive: objects in them are told apart by their addresses.
                found = _Known(len(seen.costs) - 1, like, (args, kwargs), before, after)
                counts.append(found)
            seen.calls.append(SeenCall(entered.component, entered.entry, found.number, at))
            return mapped(_zeros, found.like)

        def check_again(
            entered: Entered, counts: Sequence[_Known], before: Mapping[str, str]
        ) -> None:
            if len(counts) > 1 and once(entered):
                what = changed(counts[-1].before, before)
                raise MeasurementError(
                    f"{entered.component} keeps other values from each call to the next "
                    f"({what}), and what is compiled is not counted for each of them: count the "
                    "stack without compiling"
                )

        def taken(
            module: torch.nn.Module, call: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            if self._running or not _has_tensors(module):
                return call(*args, **kwargs)
            name, path = self._name_of(module)
            return run(Entered(name, path or FORWARD, call, module, module), args, kwargs)

        def method(entered: Entered) -> Function:
            def enter(*args: Any, **kwargs: Any) -> Any:
                if self._running:
                    return entered.function(*args, **kwargs)
                return run(entered, args, kwargs)

            return enter

        with ExitStack() as stack:
            self._untouched = stack.enter_context(calls_taken_over(taken))
            for name, module in parts(self._pipeline).items():
                for entry in METHODS:
                    own = getattr(module, entry, None)
                    if callable(own):
                        way = method(Entered(name, entry, own, own, module))
                        stack.enter_context(replaced(module, entry, way))
            yield seen

    def _run(
        self,
        count: CountCall,
        seen: Seen,
        entered: Entered,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        fakes: dict[int, torch.Tensor] = {}

        def fake(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in fakes:
                fakes[id(tensor)] = self._fake.like(tensor)
            return fakes[id(tensor)]

        self._running = True
        try:
            with self._tensors.first(), self._untouched():
                cost, returned = count(entered, *mapped(fake, (args, kwargs)))
        finally:
            self._running = False
        seen.costs.append(cost)
        return mapped(_shape, returned)

    def _name_of(self, module: torch.nn.Module) -> tuple[str, str]:
        if id(module) not in self._names:  # one that hangs on nothing of the pipeline
            self._take(f"<{type(module).__name__}>", module)
        return self._names[id(module)]


def _shape(tensor: torch.Tensor) -> Any:
    # On `meta`, since what is mapped again must be a tensor; it takes no memory.
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _zeros(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).zero_()


def _has_tensors(module: torch.nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def mapped(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """``value`` with ``function`` of each tensor in it.

    Containers are made anew, and objects that hold tensors (the distribution that a VAE's encoder
    returns) are copied.
    """

    def leaf(found: Any) -> Any:
        if isinstance(found, torch.Tensor):
            return function(found)
        own = getattr(found, "__dict__", None)
        if (
            isinstance(found, (type, torch.nn.Module))
            or callable(found)
            or not isinstance(own, dict)
        ):
            return found
        held = {k: v for k, v in own.items() if isinstance(v, (torch.Tensor, list, tuple, dict))}
        if not held:
            return found
        same = copy.copy(found)
        same.__dict__.update({k: mapped(function, v) for k, v in held.items()})
        return same

    return pytree.tree_map(leaf, value)


def _described(inputs: Any) -> str:
    """Calls with equal descriptions ask the same of a GPU: shapes, strides, dtypes, and values of
    all that is no tensor.
    """
    leaves, structure = pytree.tree_flatten(inputs)
    return "; ".join([*map(_leaf, leaves), str(structure)])


def _leaf(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}{value.stride()}"
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None), torch.dtype)):
        return repr(value)
    if isinstance(value, Mapping):
        return _described(dict(value))
    return f"{type(value).__name__} at {id(value):#x}"
