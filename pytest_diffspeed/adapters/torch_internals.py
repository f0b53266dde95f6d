"""What this package uses of torch that torch does not promise to keep.

Each use names the versions in which it was seen and fails with a clear sentence when it is gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode


_REGION = re.compile(r"Torch-Compiled Region: (\d+)/\d+")


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
