"""The simulated GPU: it counts where the device of a session cannot, and nothing is timed on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from ..adapters.module_state import is_compiled
from ..adapters.module_tensors import tensors_replaced
from ..adapters.offload_hooks import offload_hooks
from ..common.errors import SourceError

if TYPE_CHECKING:
    import torch

    from ..simgpu import SimulatedGpu, SyncLog


@contextmanager
def weights_replaced(
    parts: Mapping[str, torch.nn.Module], place: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Every parameter and buffer of ``parts`` is ``place(it)``; afterwards all are as before, and
    what the parts kept of the device is on the CPU.

    Raises:
        SourceError: a part is compiled or offloaded, or its weights are no plain tensors on the
            CPU.
    """
    import torch

    _refuse_offloaded(parts)
    for name, part in parts.items():
        if is_compiled(part):
            raise SourceError(
                f"{name} is compiled, and a compiled module would run eagerly on a simulated GPU "
                "(on some versions of torch for good); count syncs before compiling"
            )
        for key, tensor in part.state_dict(keep_vars=True).items():
            if not isinstance(tensor, torch.Tensor):
                continue
            if type(tensor.data) is not torch.Tensor or tensor.device.type != "cpu":
                raise SourceError(
                    f"{name}.{key} is {type(tensor.data).__name__} on {tensor.device}; the "
                    "simulated GPU takes plain tensors on the CPU, so count syncs before "
                    "quantizing or moving the pipeline"
                )
    try:
        with tensors_replaced(parts.values(), place):
            yield
    finally:
        keep_on_the_cpu(parts.values())


def keep_on_the_cpu(kept_by: Iterable[object]) -> None:
    """Tensors that were made on the simulated GPU and are kept by these become those of the CPU."""
    from ..simgpu import bring_home

    bring_home(kept_by)


def _refuse_offloaded(parts: Mapping[str, torch.nn.Module]) -> None:
    moved = {name: offload_hooks(part) for name, part in parts.items()}
    offloaded = [f"{name} ({', '.join(hooks)})" for name, hooks in moved.items() if hooks]
    if offloaded:
        raise SourceError(
            f"offloaded: {', '.join(offloaded)}; what these hooks move between host and device in "
            "each call is not counted on a simulated GPU, so count the pipeline built without "
            "offloading, or count it on a real GPU"
        )


class SimulatedSyncs:
    """Counts on a simulated GPU that is open."""

    blind_spots: Sequence[str] = ()
    simulated = True

    def __init__(self, gpu: SimulatedGpu) -> None:
        import torch

        self._gpu = gpu
        self.device = gpu.device
        self.evidence = f"simulated GPU, torch {torch.__version__}"

    def record(
        self, tag: Callable[[], object], *, compiled: bool = False
    ) -> AbstractContextManager[SyncLog]:
        return self._gpu.record(tag)

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._gpu.wrap(tensor)
