"""What a count of host syncs can be of, by name.  Importing this imports no torch."""

from __future__ import annotations

from typing import Literal, get_args

ScopeName = Literal["scheduler.step", "denoising_loop", "call"]
SCOPES: tuple[ScopeName, ...] = get_args(ScopeName)
