"""What this package uses of torch that torch does not promise to keep.

Each use names the versions in which it was seen and fails with a clear sentence when it is gone.
"""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

from ..errors import DiffspeedError


def graphs_compiled() -> int:
    """How many graphs dynamo has handed to a backend in this process so far.

    ``torch._dynamo.utils.counters["stats"]["unique_graphs"]``, seen in torch 2.13.0 and 2.14.1.
    (``counters["frames"]`` would be the nearer name, but ``fullgraph=True`` does not count there.)
    """
    try:
        from torch._dynamo.utils import counters
    except ImportError as error:
        raise DiffspeedError(
            "this version of torch has no dynamo counters where pytest-diffspeed looks for "
            "them, so it cannot prove that a compiled pipeline is compiled; it was tested with "
            "torch 2.13 and 2.14"
        ) from error
    return int(counters["stats"]["unique_graphs"])
