"""What this package uses of torch that torch does not promise to keep.

Each use names the versions in which it was seen and fails with a clear sentence when it is gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

from ..errors import DiffspeedError
from .attributes import replaced

_REGION = re.compile(r"Torch-Compiled Region: (\d+)/\d+")
_MISSING = object()


def compiled_frames_run(call: Callable[[], object]) -> Counter[int]:
    """How often each compiled frame ran during ``call()``, by dynamo's number of the frame.

    Read from a profiler trace: dynamo marks each run of compiled code as
    ``Torch-Compiled Region: frame/compilation``, seen in torch 2.13.0 and 2.14.1.  Counting *new*
    graphs instead would miss a second pipeline of the same architecture, which runs the code that
    was compiled for the first one.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    regions = (_REGION.fullmatch(event.name) for event in profile.events() or ())
    return Counter(int(region.group(1)) for region in regions if region is not None)


@contextmanager
def around_calls(
    module: torch.nn.Module, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Every ``module(...)`` goes through ``wrap(what it called before)`` while this is open.

    ``Module.__call__`` calls ``self._compiled_call_impl`` if there is one, which is where
    ``module.compile()`` puts the compiled function, and ``self._call_impl`` otherwise.  Replacing
    the former by a function that calls it leaves the module, its hooks and what was compiled of it
    alone: the compiled code begins one frame further in.  Seen in torch 2.13.0 and 2.14.1.
    """
    compiled: Any = getattr(module, "_compiled_call_impl", _MISSING)
    if compiled is _MISSING or not hasattr(module, "_call_impl"):
        raise DiffspeedError(
            f"calls of {type(module).__name__} cannot be watched: this version of torch calls "
            "modules in another way than the ones that pytest-diffspeed was tested with, 2.13 and "
            "2.14"
        )
    with replaced(module, "_compiled_call_impl", wrap(compiled or module._call_impl)):
        yield
