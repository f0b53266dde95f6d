"""Images of the baseline, kept between sessions for as long as nothing that decides them changed.

A file is named by the digest of its key and carries the whole key and a checksum; one that does
not hold what it should is as good as none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .key import EvidenceKey

Array = npt.NDArray[Any]
KEPT = 16
"""Sets of images that are kept; those used longest ago go first."""


class BaselineImageCache:
    """``.npz`` files in one folder; arrays by name under an :class:`EvidenceKey`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: EvidenceKey) -> dict[str, Array] | None:
        """The arrays that were saved under this very key, or ``None``."""
        path = self._path(key)
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                held = {name: file[name] for name in file.files}
            about = json.loads(str(held.pop("about")))
            if about != {"key": _plain(key), "checksum": _checksum(held)}:
                return None
            os.utime(path)  # it was used now
        except Exception:  # a damaged archive makes zipfile and NumPy raise almost anything
            return None
        return held

    def save(self, key: EvidenceKey, arrays: Mapping[str, Array]) -> None:
        """Write them in one piece, and drop the sets that were used longest ago.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        about = json.dumps({"key": _plain(key), "checksum": _checksum(arrays)})
        part = self._path(key).with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(file, about=np.array(about), **dict(arrays))  # type: ignore[arg-type]
        part.replace(self._path(key))
        by_age = sorted(self._folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
        for old in by_age[:-KEPT]:
            old.unlink(missing_ok=True)

    def _path(self, key: EvidenceKey) -> Path:
        return self._folder / f"{key.digest}.npz"


def _plain(key: EvidenceKey) -> Any:
    """The key's parts as JSON gives them back."""
    return json.loads(json.dumps(key.parts))


def _checksum(arrays: Mapping[str, Array]) -> str:
    digest = sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # no copy
    return digest.hexdigest()
