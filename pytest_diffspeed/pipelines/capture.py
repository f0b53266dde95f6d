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

import torch
from torch.utils import _pytree as pytree

from ..adapters.attributes import replaced
from ..adapters.diffusers_internals import cache_surroundings, forget_cached
from ..adapters.torch_internals import around_calls
from ..common.errors import MeasurementError, SourceError, UsageError, nearest
from ..compilation.probe import Call
from .components import denoiser, denoiser_name, modules, vae
from .scheduler_watch import is_scheduler, watch_schedulers

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

DEFAULT_COMPONENTS = ("denoiser", "vae.decode")


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
) -> list[Captured]:
    """Run ``call()``, a call of ``pipeline``, and keep the inputs of the components' calls.

    Args:
        pipeline: compiled or not.
        call: short, two denoising steps: what the first step does differently is in it.
        components: ``denoiser`` (also ``unet`` or ``transformer``), ``vae.decode``,
            ``text_encoder`` (all of them), ``scheduler.step``; denoiser and VAE by default.

    Raises:
        SourceError: the pipeline lacks one that was asked for.
        MeasurementError: the call did not run one of them, so nothing would be checked.
    """
    watched = [
        (captured, watch)
        for name in components or default_components(pipeline)
        for captured, watch in _component(pipeline, name)
    ]
    with ExitStack() as stack:
        for captured, watch in watched:
            stack.enter_context(watch(captured))
        call()
    silent = [captured.name for captured, _ in watched if not captured.calls]
    if silent:
        raise MeasurementError(
            f"a call of {type(pipeline).__name__} did not run {', '.join(silent)}, so there is "
            "nothing to look at; leave it out of `components`"
        )
    return [captured for captured, _ in watched]


def default_components(pipeline: DiffusionPipeline) -> tuple[str, ...]:
    """Denoiser and VAE; the denoiser alone in a pipeline without a VAE."""
    return DEFAULT_COMPONENTS if vae(pipeline) is not None else DEFAULT_COMPONENTS[:1]


_Watch = Callable[[Captured], Any]


def _component(pipeline: DiffusionPipeline, name: str) -> Iterator[tuple[Captured, _Watch]]:
    kind = type(pipeline).__name__
    if name in ("denoiser", "unet", "transformer"):
        if name not in ("denoiser", denoiser_name(pipeline)):
            raise SourceError(
                f"components: {kind} has no {name!r}; its denoiser is {denoiser_name(pipeline)!r}"
            )
        yield _module(denoiser_name(pipeline), denoiser(pipeline))
    elif name == "vae.decode":
        decoder = vae(pipeline)
        if not hasattr(decoder, "decode"):
            raise SourceError(f"components: {kind} has no `vae` with a `decode`")
        yield Captured(name, decoder.decode), lambda kept: _attribute(decoder, "decode", kept)
    elif name == "text_encoder":
        encoders = {n: part for n, part in modules(pipeline).items() if n.startswith(name)}
        if not encoders:
            raise SourceError(f"components: {kind} has no `text_encoder`")
        for encoder, module in encoders.items():
            yield _module(encoder, module)
    elif name == "scheduler.step":
        scheduler = getattr(pipeline, "scheduler", None)
        if not is_scheduler(scheduler):
            raise SourceError(f"components: {kind} has no scheduler with a `step`")
        yield _stateful(scheduler)
    else:
        valid = ("denoiser", "vae.decode", "text_encoder", "scheduler.step")
        raise UsageError(f"components: there is no {name!r}; {nearest(name, valid)}")


def _module(name: str, module: torch.nn.Module) -> tuple[Captured, _Watch]:
    captured = Captured(name, module, restart=lambda: forget_cached(module))
    return captured, lambda kept: around_calls(
        module, _keeping(kept, surroundings=lambda: cache_surroundings(module))
    )


@contextmanager
def _attribute(owner: Any, name: str, kept: Captured) -> Iterator[None]:
    with replaced(owner, name, _keeping(kept)(getattr(owner, name))):
        yield


def _stateful(scheduler: Any) -> tuple[Captured, _Watch]:
    """``step`` of a copy, which starts from the state that the first call found."""
    working = copy.copy(scheduler)
    first: dict[str, Any] = {}

    def restart() -> None:
        vars(working).clear()
        vars(working).update(copy.deepcopy(first))

    captured = Captured("scheduler.step", working.step, restart=restart)

    def remember() -> None:
        if not first:
            first.update(copy.deepcopy({k: v for k, v in vars(scheduler).items() if k != "step"}))

    def watch(kept: Captured) -> AbstractContextManager[None]:
        keeping = _keeping(kept, remember)

        def around(stepping: Any, _: str, step: Callable[..., Any]) -> Callable[..., Any]:
            # Copies of it, which some pipelines make in a call, run the same code on other inputs.
            return keeping(step) if stepping is scheduler else step

        return watch_schedulers(around, [scheduler], ("step",))

    return captured, watch


def _keeping(
    kept: Captured,
    before: Callable[[], object] = lambda: None,
    surroundings: Callable[[], Callable[[], AbstractContextManager[Any]]] = lambda: nullcontext,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*args: Any, **kwargs: Any) -> Any:
            before()
            args_kept, kwargs_kept = _copied((args, kwargs))
            grad = torch.is_grad_enabled()
            kept.calls.append(Call(args_kept, kwargs_kept, grad, surroundings()))
            return function(*args, **kwargs)

        return calling

    return wrap


def _copied(inputs: Any) -> Any:
    """Tensors copied with their layout; everything else (generators, flags) as it is."""
    return pytree.tree_map(
        lambda leaf: leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf, inputs
    )
