"""What the simulated GPU writes down: a host sync, its kind, and the line that caused it."""

from __future__ import annotations

import functools
import linecache
import os
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import CodeType

import torch

from . import torch_private as private


class SyncKind(str, Enum):
    """Why the CPU waits for the device."""

    VALUE_READ = "value_read"
    """The CPU needs a number: ``item()``, ``bool()``, ``format()``, ``tensor in …``."""
    DATA_DEPENDENT_SHAPE = "data_dependent_shape"
    """The size of the result is only known on the device: ``nonzero``, boolean masks."""
    BLOCKING_H2D = "blocking_h2d"
    """A copy to the device that returns when it is done."""
    BLOCKING_D2H = "blocking_d2h"
    """A copy from the device that returns when it is done."""
    SYNCHRONIZE = "synchronize"
    """The program asks for it: ``synchronize()`` of device, stream or event."""
    EMPTY_CACHE = "empty_cache"
    """The program gives the allocator's cache back: ``cudaFree`` waits for the device, and what is
    made next is allocated anew."""
    MAY_BLOCK = "may_block"
    """A ``non_blocking`` copy between the device and *pageable* memory: the driver stages it, and
    whether the call waits depends on its size.  No sync in PyTorch's own count."""
    UNCLASSIFIED = "unclassified"
    """Seen on a real GPU, where the driver does not say what waited."""

    def __str__(self) -> str:
        return self.value

    @property
    def is_sync(self) -> bool:
        """Whether the CPU certainly waits."""
        return self is not SyncKind.MAY_BLOCK

    @property
    def is_asked_for(self) -> bool:
        """Whether the program calls for it by name, which the sync debug mode does not warn of."""
        return self in (SyncKind.SYNCHRONIZE, SyncKind.EMPTY_CACHE)


@dataclass(frozen=True)
class CallSite:
    """A line of code; ``code`` is the code object that ran, for questions of scope."""

    file: str
    line: int
    function: str
    code: CodeType | None = field(default=None, repr=False)

    @property
    def source(self) -> str:
        """The line's text, or ``""`` where there is no file."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class SyncEvent:
    """One host sync.  ``stack`` holds the frames that are not torch's, innermost first.

    ``tag`` is whatever the recording's ``tag()`` answered at that moment.
    """

    kind: SyncKind
    op: str
    stack: tuple[CallSite, ...]
    tag: object = None

    @property
    def site(self) -> CallSite:
        """The innermost line of user or library code."""
        return self.stack[0] if self.stack else CallSite("<unknown>", 0, "<unknown>")


class SyncLog:
    """The syncs of one recording, in order."""

    def __init__(
        self, tag: Callable[[], object] | None = None, *, skip: Sequence[str] = ()
    ) -> None:
        """``skip`` names files of whoever records, whose lines cause nothing."""
        self.events: list[SyncEvent] = []
        self.device_ops = 0
        """Operations that ran on the device meanwhile; the simulated one alone counts them."""
        self._tag = tag
        self._skip = frozenset(skip)

    def add(self, kind: SyncKind, op: str) -> None:
        tag = None if self._tag is None else self._tag()
        self.events.append(SyncEvent(kind, op, call_sites(self._skip), tag))

    @property
    def syncs(self) -> list[SyncEvent]:
        """All but those that only *may* block."""
        return [event for event in self.events if event.kind.is_sync]

    @property
    def may_block(self) -> list[SyncEvent]:
        return [event for event in self.events if not event.kind.is_sync]

    def __iter__(self) -> Iterator[SyncEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)


def call_sites(skip: frozenset[str] = frozenset()) -> tuple[CallSite, ...]:
    """The frames of this call that belong neither to torch, the standard library nor this
    library, innermost first; ``skip`` names more files to leave out.
    """
    sites: list[CallSite] = []
    frame = private.calling_frame()
    while frame is not None:
        code = frame.f_code
        if code.co_filename not in skip and not _is_machinery(code.co_filename):
            sites.append(CallSite(code.co_filename, frame.f_lineno, code.co_name, code))
        frame = frame.f_back
    return tuple(sites)


_MACHINERY = tuple(
    os.path.realpath(Path(file).parent) + os.sep for file in (torch.__file__, __file__)
)
_STANDARD_LIBRARY = os.path.realpath(sysconfig.get_paths()["stdlib"]) + os.sep
_INSTALLED = ("site-packages", "dist-packages")


@functools.cache
def _is_machinery(filename: str) -> bool:
    if filename.startswith("<"):  # generated code has no line that anybody could change
        return True
    # Code is named by the path that it was imported by, which may lead over a link: to a virtual
    # environment elsewhere, for instance.
    real = os.path.realpath(filename)
    if real.startswith(_MACHINERY):
        return True
    return real.startswith(_STANDARD_LIBRARY) and not any(part in real for part in _INSTALLED)
