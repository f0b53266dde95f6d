"""Who counts: a real GPU or the simulated one.  Both give the same events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..accelerators.accelerator import SyncCounter
from ..accelerators.registry import counting_kinds, counting_words
from ..accelerators.simulated import SimulatedSyncs
from ..common.errors import UsageError
from ..simgpu import SimulatedGpu, SimulatorError

SIMULATED = "simulated"


@contextmanager
def backend(device: str | torch.device | None) -> Iterator[SyncCounter]:
    """``None``: a real GPU if there is one, the simulated one otherwise.

    Raises:
        UsageError: a device that cannot count syncs, or CUDA where there is none.
    """
    asked = None if device is None else str(device)
    counting = counting_kinds()
    real = [kind for kind, one in counting.items() if one.is_available()]
    if asked == SIMULATED or (asked is None and not real):
        try:
            with SimulatedGpu() as gpu:
                yield SimulatedSyncs(gpu)
        except SimulatorError as error:
            raise UsageError(f"syncs cannot be counted here: {error}") from error
        return
    asked = asked or f"{real[0]}:0"
    kind = asked.partition(":")[0]
    if kind not in counting:
        choices = [repr(word) for word in (SIMULATED, *counting_words())]
        valid = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise UsageError(f"device={asked!r} cannot count GPU syncs; valid: {valid}")
    if kind not in real:
        raise UsageError(
            f"device={asked!r} was asked for, but torch {torch.__version__} finds no "
            f"{kind.upper()} device here; use device='simulated'"
        )
    counter = counting[kind].sync_counter(torch.device(asked))
    assert counter is not None, "a kind that counts syncs has a counter"
    yield counter
