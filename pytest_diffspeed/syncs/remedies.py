"""What to do about a host sync: by its kind, and by whose code the line is."""

from __future__ import annotations

import re

from ..common.paths import in_packages
from ..simgpu import SyncKind
from .report import SyncSite

# Where diffusers' schedulers look for the step of a first timestep, on the device.
_SEARCHES = ("index_for_timestep", "_init_step_index")
_SCHEDULER = re.compile(r"(^|/)scheduling_\w+\.py$")
_BY_KIND = {
    SyncKind.VALUE_READ: "keep it a tensor, or read it after the loop",
    SyncKind.DATA_DEPENDENT_SHAPE: "use a mask of fixed size (torch.where)",
    SyncKind.BLOCKING_H2D: "make it on the device, or copy it before the loop",
    SyncKind.BLOCKING_D2H: "copy it after the loop",
    SyncKind.SYNCHRONIZE: "take the call that waits out of the steps",
    SyncKind.EMPTY_CACHE: "take empty_cache() out of the steps",
    SyncKind.MAY_BLOCK: "copy from pinned memory (pin_memory()), or take strict=True off",
    SyncKind.UNCLASSIFIED: "run it with --diffspeed-device=cpu: a simulated GPU says the kind",
}


def remedy(site: SyncSite) -> str:
    """What removes the sync at ``site``, or allows it where the line is a library's own."""
    installed = in_packages(site.file)
    if installed is None:
        return _BY_KIND[SyncKind(site.kind)]
    allow = f"allow=('{installed.rpartition('/')[2]}:{site.line}  # why',)"
    if site.function in _SEARCHES:
        return f"call set_begin_index(0) (cpu_sigmas does), or {allow}"
    if _SCHEDULER.search(installed):
        return f"take another scheduler (Euler's never waits), or {allow}"
    return f"call it outside the steps, or {allow}"
