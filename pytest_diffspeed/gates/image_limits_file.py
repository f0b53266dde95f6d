"""Calibrated limits of image similarity: a small text file in the user's repository.

``diffspeed-image-limits.json``, by device name, pipeline source and stack, with what was measured
beside each limit, so that a review sees both.  Imports no torch.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import UsageError
from ..common.files import replace_file

NAME = "diffspeed-image-limits.json"
FORMAT = "diffspeed-image-limits/1"


def limits_for(
    rootdir: Path,
    device: str,
    source: str,
    stack: str,
    *,
    steps: int | None = None,
    options: Sequence[str] = (),
) -> dict[str, float]:
    """The limits that were calibrated for a stack on a device.

    ``steps`` are those that images are drawn with now; ``options`` are words for the command, where
    this session's calls are not the source's own.

    Raises:
        UsageError: there are none, or none for as many steps, with the command that makes them, or
            the file is broken.
    """
    entry = _read(rootdir / NAME).get(device, {}).get(source, {}).get(stack)
    again = command(source, stack, options)
    if entry is None:
        raise UsageError(
            f"{NAME} has no limits for {stack} of {source} on {device!r}; run "
            f"`{again}` on that device and commit the file"
        )
    limits = entry.get("limits") if isinstance(entry, Mapping) else None
    if (
        not isinstance(limits, Mapping)
        or not limits
        or not all(_is_number(value) for value in limits.values())
    ):
        raise UsageError(
            f"{NAME}: the entry of {stack} of {source} on {device!r} has no `limits` with numbers; "
            f"make it again with `{again}`"
        )
    if steps is not None and entry.get("steps", steps) != steps:
        raise UsageError(
            f"{NAME}: the limits for {stack} of {source} on {device!r} were calibrated with "
            f"{entry['steps']} steps, and images are drawn with {steps} now; calibrate with as "
            f"many (`{again}`), or draw with {entry['steps']}"
        )
    return {str(name): float(value) for name, value in limits.items()}


def store(rootdir: Path, device: str, source: str, stack: str, entry: Mapping[str, Any]) -> Path:
    """Write one entry into the file and leave the others as they are.

    Raises:
        UsageError: the file is broken or cannot be written.
    """
    path = rootdir / NAME
    devices = _read(path)
    devices.setdefault(device, {}).setdefault(source, {})[stack] = dict(entry)
    text = json.dumps({"format": FORMAT, "devices": devices}, indent=2, sort_keys=True)
    try:
        replace_file(path, text + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return path


def command(source: str, stack: str, options: Sequence[str] = ()) -> str:
    """The command that calibrates a stack."""
    args = ["diffspeed", "calibrate", f"--pipeline={source}", f"--stack={stack}", *options]
    return shlex.join(args)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {path}: {error}; fix or delete it") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"{path} is not of the format {FORMAT}; delete it and calibrate again")
    devices = content.get("devices")
    if not isinstance(devices, dict) or not all(
        isinstance(sources, dict) and all(isinstance(stacks, dict) for stacks in sources.values())
        for sources in devices.values()
    ):
        raise UsageError(f"{path} has no `devices`; delete it and calibrate again")
    return devices


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
