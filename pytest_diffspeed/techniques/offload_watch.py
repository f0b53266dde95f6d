"""Where the weights of a pipeline are in a watched call, and what is moved between host and device.

*Counted*, in eager calls, on a GPU and on the simulated one alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ..adapters.attributes import replaced
from ..adapters.offload_hooks import computes_on
from ..pipelines.components import modules
from ..timing.memory import bytes_of
from .live_bytes import LiveBytes
from .module_hooks import around, hooked
from .observe import ARITHMETIC

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_COPIES = ("_to_copy", "copy_")
_METHODS = ("decode", "encode")
"""Those of a VAE, which bring its weights to the device before any of its modules runs."""


@dataclass
class Component:
    """A component in one call.  ``weight_bytes`` are all of it, ``left_bytes`` those on the device
    after the call; ``copied_bytes`` were copied to the device while it ran; ``on_device`` and
    ``on_host`` count its matrix products, convolutions and fused attentions by where they ran.
    """

    weight_bytes: int = 0
    left_bytes: int = 0
    copied_bytes: int = 0
    on_device: int = 0
    on_host: int = 0


@dataclass
class Moves:
    """A whole call.  ``peak_bytes`` are those of all tensors on the device at its highest moment,
    weights among them; ``to_device`` and ``to_host`` were copied there.
    """

    components: dict[str, Component] = field(default_factory=dict)
    peak_bytes: int = 0
    to_device: int = 0
    to_host: int = 0


@contextmanager
def watched_moves(pipeline: DiffusionPipeline) -> Iterator[Moves]:
    """What one call does with the weights; filled when the context is left."""
    parts, device = modules(pipeline), computes_on(pipeline)
    found = Moves({name: Component() for name in parts})
    resident = bytes_of(parts.values(), device)
    counter = _Counter(device.type, found)
    with ExitStack() as stack:
        for name, part in parts.items():
            for module in part.modules():
                stack.enter_context(counter.inside(name, module))
            for method in _METHODS:
                if hasattr(part, method):
                    around = counter.around(name, getattr(part, method))
                    stack.enter_context(replaced(part, method, around))
        with counter:
            yield found
    found.peak_bytes = resident + counter.peak
    for name, part in parts.items():
        component = found.components[name]
        component.left_bytes = bytes_of([part], device)
        component.weight_bytes = sum(bytes_of([part], place) for place in _places(part))


def _places(part: torch.nn.Module) -> list[torch.device]:
    kinds = Counter(t.device.type for t in (*part.parameters(), *part.buffers()))
    return [torch.device(kind) for kind in kinds]


class _Counter(LiveBytes):
    """What lies on the device at once, and copies and arithmetic by the component that runs."""

    def __init__(self, device: str, moves: Moves) -> None:
        super().__init__(device)
        self._moves = moves
        self._running: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if isinstance(result, torch.Tensor):
            self._count(getattr(func, "overloadpacket", func).__name__, args, result)
        return result

    def _count(self, name: str, args: tuple[Any, ...], result: torch.Tensor) -> None:
        on_device = result.device.type == self.device
        running = self._moves.components[self._running[-1]] if self._running else Component()
        if name in _COPIES:
            source = args[name == "copy_"]
            size = result.numel() * result.element_size()
            if on_device and source.device.type != self.device:
                self._moves.to_device += size
                running.copied_bytes += size
            elif not on_device and source.device.type == self.device:
                self._moves.to_host += size
        elif name in ARITHMETIC:
            running.on_device += on_device
            running.on_host += not on_device

    def around(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """``method``, what runs in it counting for the component ``name``."""

        def running(*args: Any, **kwargs: Any) -> Any:
            self._running.append(name)
            try:
                return method(*args, **kwargs)
            finally:
                self._running.pop()

        return running

    @contextmanager
    def inside(self, name: str, module: torch.nn.Module) -> Iterator[None]:
        """What runs in ``module`` counts for the component ``name``.

        Hooks of offloading stand in ``module.forward``, so what they copy counts for it too.
        """
        handles = around(module, lambda: self._running.append(name), self._running.pop)
        with hooked(handles):
            yield
