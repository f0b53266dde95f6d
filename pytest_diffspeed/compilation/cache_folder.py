"""Compile caches that outlive a session: a folder that CI carries from job to job.

``torch.compiler.save_cache_artifacts()`` would be one file instead, and holds inductor's Python
code and Triton's kernels, but none of the C++ libraries that inductor builds on a CPU: a first call
of 171 s took 106 s with its artifacts and 5.9 s with the folder (``benchmarks/compile_cache.py``,
torch 2.14.1, one thread of a busy machine).  So what is kept is inductor's own folder, one for each
set of conditions.

Torch finds out by itself which graphs of a folder fit.  The conditions are what it does not look
at, or what would make it load what this machine cannot run: C++ is built for the processor at hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..accelerators.registry import accelerator_of

if TYPE_CHECKING:
    from ..accelerators.device import Device

CONDITIONS_FILE = "conditions.json"
FOLDER_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Read by inductor whenever it looks for its folder, in processes that we start too."""


def conditions(device: Device, triton: str | None) -> dict[str, str]:
    """What must be the same for a cache to be valid, with its value here.

    ``triton`` is its version, ``None`` where it is absent.
    """
    import torch

    processor, instructions = _processor()
    found = {
        "torch": f"{torch.__version__} ({(torch.version.git_version or 'unknown')[:10]})",
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor,
        "instructions": instructions,
    }
    found |= accelerator_of(device).compiled_for(device)
    return found if triton is None else {**found, "triton": triton}


def _processor() -> tuple[str, str]:
    """The processor's model, and its instruction sets in short; compilers build for both."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""
    lines = dict(line.partition(":")[::2] for line in reversed(text.splitlines()))
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    model = fields.get("model name") or platform.processor() or platform.machine()
    flags = " ".join(sorted((fields.get("flags") or fields.get("Features") or model).split()))
    return model, hashlib.sha256(flags.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class CompileCache:
    """The cache for ``conditions`` in ``root``, a folder that may hold those of others too."""

    root: Path
    conditions: Mapping[str, str]

    @property
    def key(self) -> str:
        """A name for the conditions, short and different where any of them differs."""
        plain = json.dumps(dict(self.conditions), sort_keys=True)
        torch = re.sub(r"[^A-Za-z0-9.+-]+.*", "", self.conditions.get("torch", ""))
        return f"torch-{torch}-{hashlib.sha256(plain.encode()).hexdigest()[:12]}"

    @property
    def folder(self) -> Path:
        return self.root / self.key

    def size_bytes(self) -> int:
        """Of all files; 0 where nothing was kept yet."""
        files = (path for path in self.folder.rglob("*") if path.name != CONDITIONS_FILE)
        return sum(path.stat().st_size for path in files if path.is_file())

    @contextmanager
    def used(self) -> Iterator[None]:
        """What inductor compiles inside is taken from the folder and kept in it.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        plain = json.dumps(dict(self.conditions), indent=1, sort_keys=True)
        (self.folder / CONDITIONS_FILE).write_text(plain + "\n", encoding="utf-8")
        before = os.environ.get(FOLDER_VARIABLE)
        os.environ[FOLDER_VARIABLE] = str(self.folder.absolute())
        try:
            yield
        finally:
            if before is None:
                del os.environ[FOLDER_VARIABLE]
            else:
                os.environ[FOLDER_VARIABLE] = before

    def found(self) -> str:
        """``9.3 MB from earlier sessions``, or why there is nothing, for people."""
        size = self.size_bytes()
        if size:
            return f"{megabytes(size)} from earlier sessions"
        nearest = min(self._others(), key=len, default=None)
        if nearest is None:
            return "nothing kept yet"
        differences = ", ".join(nearest)
        return f"nothing kept yet for this environment; the nearest one has {differences}"

    def _others(self) -> Iterator[list[str]]:
        """How the caches of other conditions differ."""
        for path in sorted(self.root.glob(f"*/{CONDITIONS_FILE}")):
            try:
                theirs = json.loads(path.read_text(encoding="utf-8"))
                differing = [
                    f"{name} {theirs.get(name, 'none')} (here {self.conditions.get(name, 'none')})"
                    for name in sorted({*theirs, *self.conditions})
                    if theirs.get(name) != self.conditions.get(name)
                ]
            except (OSError, ValueError, AttributeError):
                continue  # whatever it is, it is not used
            if differing:
                yield differing


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
