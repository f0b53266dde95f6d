"""What one ``--diffspeed`` session holds: its device, its records, and the arms built so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accelerators.clock import Clock
from ..accelerators.device import Device
from ..accelerators.registry import clock_for
from ..common.workdir import workdir
from ..evidence.key import environment
from ..evidence.loaded_code import CodeBesideTheTree
from ..evidence.tree import working_tree
from ..evidence.verdict_store import EvidenceMemory
from ..records.journal import Journal
from ..timing.lock import device_lock
from .base_commit.base import Base
from .builder import Builder
from .session_options import Options
from .session_record import about_session
from .store import ArmStore
from .workers import Workers

if TYPE_CHECKING:
    from ..common.progress import Progress


ArmListener = Callable[[str, str, str, Sequence[float], Mapping[str, Any]], None]
"""Told each timed arm once its gate is decided: test, claim, name of the arm, seconds of each call
that counts, and the gate's figures."""


class Session:
    """One per pytest process: ``arms`` live in it, those of ``workers`` in processes they start."""

    def __init__(
        self,
        options: Options,
        device: Device,
        rootdir: Path,
        progress: Progress,
        base: Base | None = None,
    ) -> None:
        self.options = options
        self.base = base
        self.device = device
        self.rootdir = rootdir
        self.progress = progress
        self.clock: Clock = clock_for(device)
        self.journal = Journal.in_folder(self.workdir() / "records")
        # Now, and not when a gate asks: an edit made meanwhile is not what is measured.
        self.tree = working_tree(rootdir, leave_out=options.written)
        self.about = about_session(options, device, rootdir, self.tree, base)
        self.journal.write("session", **self.about)
        self.code_beside_the_tree = CodeBesideTheTree(rootdir)
        self.evidence = EvidenceMemory(rootdir, fresh=options.fresh)
        self.arm_listeners: list[ArmListener] = []
        self.memo: dict[object, Any] = {}
        """What gates and the ladder found out in this session and need not find out again."""
        self.arms = ArmStore(
            Builder(device, steps=options.steps, prompts=options.prompts), self.journal, progress
        )
        self.workers = Workers(
            options, device, base, self.arms.source_weights, self.journal, progress
        )

    def workdir(self) -> Path:
        return workdir(self.rootdir)

    def environment(self) -> dict[str, Any]:
        """What a measurement of this session rests on beside the tree."""
        import torch

        return environment(self.device.name, torch.get_num_threads(), self.device.driver)

    def exclusive_device(self) -> AbstractContextManager[None]:
        """Hold the device's lock: nobody else times or draws on it meanwhile."""
        return self._device_lock(shared=False)

    def shared_device(self) -> AbstractContextManager[None]:
        """Use the device beside others that do not time on it, and beside nobody who does."""
        return self._device_lock(shared=True)

    @contextmanager
    def _device_lock(self, *, shared: bool) -> Iterator[None]:
        with device_lock(
            self.device.key,
            shared=shared,
            on_wait=lambda: self.progress.line(
                f"waiting: another process is timing on {self.device}"
            ),
        ):
            yield
