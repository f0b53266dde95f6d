"""Count one call: eagerly, or as ``torch.compile`` would run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from . import sites
from . import torch_private as private
from .cost import Cost, Kernel
from .eager import EagerCounter
from .errors import GpuCostError, ValueDependentError
from .fake_gpu import FakeGpu


def count_eager(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    fake: FakeGpu,
) -> tuple[Cost, Any]:
    """The cost of ``fn(*args, **kwargs)`` as eager mode runs it, and its fake answer.

    ``fn``'s modules and arguments are on ``fake`` (:meth:`FakeGpu.on_device`,
    :meth:`FakeGpu.like`).

    Raises:
        ValueDependentError: where the code asks for a value, with the line.
    """
    kernels: list[Kernel] = []
    with fake.tensors(), refusals(), EagerCounter(kernels) as counter:
        out = fn(*args, **(kwargs or {}))
        _all_was_seen(counter, fake)
    return Cost(kernels=tuple(kernels)), out


_NOT_COMPILED = (
    "torch.compile left all of the code as it is, so there is no compiled cost: unset "
    "TORCHDYNAMO_DISABLE and TORCH_COMPILE_DISABLE, leave out torch.compiler.set_stance, or count "
    "the eager cost"
)


def count_compiled(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    fake: FakeGpu,
    inductor_options: Mapping[str, Any] | None = None,
    fullgraph: bool = False,
    code: list[str] | None = None,
) -> tuple[Cost, Any]:
    """The cost of ``torch.compile(fn, dynamic=False)(*args, **kwargs)``, and its fake answer.

    The real compiler runs until it has written its code; nothing is built from it.  What runs
    eagerly between graphs is counted too.  ``inductor_options`` that only a GPU could answer
    (``max_autotune``) are counted as off, and the cost's ``notes`` say so.  ``code`` gets what
    Inductor wrote, one text for each graph that ran (for :func:`~.resources.triton_resources`).

    Raises:
        ValueDependentError: where the code asks for a value, with the line.
        GpuCostError: for code that does not compile, or of which nothing is compiled; options that
            Inductor does not know; and a graph break under ``fullgraph``.
    """
    from . import compiled, inductor_private

    inductor_private.require()
    on = inductor_private.switched_on(compiled.NOT_COUNTED)
    options, notes = compiled.countable({**on, **(inductor_options or {})})
    options = {**dict.fromkeys(on, False), **options}
    unknown = [name for name in options if not inductor_private.knows_option(name)]
    if unknown:
        raise GpuCostError(f"Inductor has no option {', '.join(sorted(unknown))}")
    kernels: list[Kernel] = []
    graphs: list[inductor_private.Graph] = []

    def called(graph: inductor_private.Graph) -> None:
        graphs.append(graph)
        if code is not None:
            code.append(graph.code)
        kernels.extend(map(compiled.kernel_of, graph.kernels))

    inductor_private.reset()
    try:
        with (
            fake.tensors(),
            refusals(),
            _compile_refusals(),
            inductor_private.code_is_written_only(options, called),
            EagerCounter(kernels) as counter,
        ):
            out = torch.compile(fn, dynamic=False, fullgraph=fullgraph)(*args, **(kwargs or {}))
            _all_was_seen(counter, fake)
        breaks = inductor_private.breaks()
        if kernels and not graphs and not breaks:
            raise GpuCostError(_NOT_COMPILED)
        notes += compiled.unlike_its_code(graphs)
    finally:
        inductor_private.reset()
    cost = Cost(
        kernels=tuple(kernels),
        graphs=len(graphs),
        breaks=breaks,
        notes=notes,
        launches_in_code=sum(graph.launches_in_code for graph in graphs),
    )
    return cost, out


def _all_was_seen(counter: EagerCounter, fake: FakeGpu) -> None:
    """Code may catch the error of an op that needs a GPU, where a GPU would have raised none, and
    may compute in other threads.
    """
    if counter.refused is not None:
        raise counter.refused
    if fake.elsewhere:
        raise GpuCostError(
            f"{fake.elsewhere[0] or 'the code'} computes in a thread of its own, which no count "
            "sees: call it in the thread that calls the pipeline"
        )


@contextmanager
def refusals() -> Iterator[None]:
    """What torch raises of code that cannot be counted becomes a sentence with the user's line."""
    try:
        yield
    except RuntimeError as error:
        site = _line(error)
        if private.is_of_values(error):
            raise ValueDependentError(
                f"{site or 'the code'} asks for a value that only a GPU could have computed "
                f"({_op(error)}): what runs after it cannot be counted; move it out of the step, "
                "or see it with count_syncs",
                site,
            ) from error
        if private.is_without_fake(error):
            raise GpuCostError(_without_fake(site, error)) from error
        if private.is_of_the_driver(error):
            raise GpuCostError(_of_the_driver(site, error)) from error
        raise


def _of_the_driver(site: str, error: BaseException) -> str:
    said = _first_line(error).partition(". ")[0]
    return (
        f"{site or 'the code'} asks the CUDA driver itself ({said}), as gradients, recurrent "
        "layers, sparse tensors, generators, streams and events on a GPU do, and what is compiled "
        "inside of eager code: there is no driver here, so what runs after it cannot be counted"
    )


def _without_fake(site: str, error: Exception) -> str:
    said = _first_line(private.about_fake(error)).partition(". ")[0]
    return (
        f"{site or 'the code'} calls an op that does not say what it returns ({said}); register a "
        "fake for it with `torch.library.register_fake`"
    )


@contextmanager
def _compile_refusals() -> Iterator[None]:
    """The same, of code that the compiler does not take."""
    from . import inductor_private

    try:
        yield
    except inductor_private.NO_ONE_GRAPH as error:
        site, what = inductor_private.line_of(error) or _line(error), _first_line(error)
        if inductor_private.is_of_values(error):
            raise ValueDependentError(
                f"{site or 'the code'} asks for a value that only a GPU could have computed: "
                f"{what}; move it out of the step, or see it with count_syncs",
                site,
            ) from error
        raise GpuCostError(
            f"{site or 'the code'} does not compile into one graph, as fullgraph asks: {what}"
        ) from error
    except inductor_private.COMPILE_ERRORS as error:
        site = inductor_private.line_of(error) or _line(error)
        if private.is_without_fake(error):
            raise GpuCostError(_without_fake(site, error)) from error
        if private.is_of_the_driver(_root(error)):
            raise GpuCostError(_of_the_driver(site, _root(error))) from error
        raise GpuCostError(
            f"{site or 'the code'} does not compile for the fake GPU: {_first_line(_root(error))}"
        ) from error


def _root(error: BaseException) -> BaseException:
    """The error that the compiler met."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _line(error: BaseException) -> str:
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return sites.innermost(reversed(frames))


def _op(error: BaseException) -> str:
    return str(getattr(error, "func", "")) or _first_line(error)
