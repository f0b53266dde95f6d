"""What the decoders of a pipeline do in a watched call: on what they run, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .targets import targets_of

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class Decodes:
    """The ``decode`` of one VAE in one call of the pipeline.

    ``inputs`` are the shapes, in latents, of what its module ``decoder`` got in each of its runs;
    ``peak_bytes`` what ``decode`` made and held at once, at most (*counted*, see
    :mod:`.live_bytes`): without the weights and the latents.  ``output`` is the shape of what
    ``decode`` gave the last time.
    """

    inputs: tuple[tuple[int, ...], ...]
    peak_bytes: int
    output: tuple[int, ...] = ()

    @property
    def runs(self) -> int:
        return len(self.inputs)

    @property
    def images_at_once(self) -> int:
        return max((shape[0] for shape in self.inputs), default=0)

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width of its largest input, in latents."""
        sides = ((shape[-2], shape[-1]) for shape in self.inputs if len(shape) > 3)
        return max(sides, key=lambda side: side[0] * side[1], default=(0, 0))


@contextmanager
def watched_decodes(pipeline: DiffusionPipeline) -> Iterator[dict[str, Decodes]]:
    """By the VAE's name, what was seen; filled when the context is left.

    A VAE without a module ``decoder``, and one that did not decode, is not in it.  Not for what is
    compiled: a dispatch mode is open around ``decode``.
    """
    from ..adapters.attributes import replaced

    found: dict[str, Decodes] = {}
    watches: dict[str, _Watch] = {}
    with ExitStack() as stack:
        for name, vae in targets_of(pipeline).decoders.items():
            if getattr(vae, "decoder", None) is None:
                continue
            watch = watches[name] = _Watch()
            hook = vae.decoder.register_forward_pre_hook(watch.note, with_kwargs=True)
            stack.callback(hook.remove)
            stack.enter_context(replaced(vae, "decode", watch.around(vae.decode)))
        yield found
    for name, watch in watches.items():
        if watch.inputs:
            found[name] = Decodes(tuple(watch.inputs), watch.peak_bytes, watch.output)


class _Watch:
    def __init__(self) -> None:
        self.inputs: list[tuple[int, ...]] = []
        self.peak_bytes = 0
        self.output: tuple[int, ...] = ()

    def note(self, _: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = _first_tensor((*args, *kwargs.values()))
        if first is not None:
            self.inputs.append(tuple(first.shape))

    def around(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        from .live_bytes import LiveBytes

        def decoding(*args: Any, **kwargs: Any) -> Any:
            with LiveBytes() as counter:
                result = decode(*args, **kwargs)
            self.peak_bytes = max(self.peak_bytes, counter.peak)
            picture = _first_tensor((result, *_values(result)))
            self.output = () if picture is None else tuple(picture.shape)
            return result

        return decoding


def _values(result: Any) -> Iterable[object]:
    """Of what ``decode`` gave: a tuple, or an output class of diffusers, which is a mapping."""
    if isinstance(result, Mapping):
        return result.values()
    return result if isinstance(result, (list, tuple)) else ()


def _first_tensor(values: Iterable[object]) -> torch.Tensor | None:
    import torch

    return next((value for value in values if isinstance(value, torch.Tensor)), None)
