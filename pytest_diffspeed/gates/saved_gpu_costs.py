"""GPU costs that a repository keeps: a file each, with all kernels, so that a difference has lines.

One file for a source, a stack and a GPU, in ``diffspeed-gpu-costs/`` beside pytest's ini-file.  A
kernel stands on a line of its own, so git shows which ones a change brought.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import DiffspeedError, UsageError
from ..common.files import replace_file
from ..common.workdir import safe_name
from .saved_counts import UPDATE

if TYPE_CHECKING:
    from ..arms.gpu_cost.result import GpuCost
    from ..arms.spec import ArmSpec

FOLDER = "diffspeed-gpu-costs"


def file_of(rootdir: Path, spec: ArmSpec, gpu: str) -> Path:
    """Where the cost of an arm on a GPU is kept."""
    name = safe_name(f"{spec.source} {spec.stack.name} {Path(gpu).stem}")
    return rootdir / FOLDER / f"{name}.json"


def write_cost(path: Path, cost: GpuCost) -> None:
    """Replace what is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = cost.to_json()
    for unsteady in ("took_s", "peak_bytes"):
        plain.pop(unsteady)
    calls = plain.pop("calls")
    head = json.dumps(plain, indent=1, sort_keys=True)
    parts = [_lines(call) for call in calls]
    replace_file(path, head[:-2] + ',\n "calls": [\n' + ",\n".join(parts) + "\n]\n}\n")


def _lines(call: dict[str, Any]) -> str:
    """One call, a line for each kernel that differs from the others."""
    cost = dict(call["cost"])
    kernels = [json.dumps(kernel) for kernel in cost.pop("kernels")]
    rest = json.dumps({**{k: v for k, v in call.items() if k != "cost"}, **cost})
    return '{"kernels": [\n' + ",\n".join(kernels) + f'\n],\n"rest": {rest}}}'


def saved_cost(path: Path, spec: ArmSpec) -> GpuCost:
    """What is kept of an arm.

    Raises:
        UsageError: there is none, or it is that of another arm.
        DiffspeedError: it cannot be read.
    """
    cost = read_cost(path)
    if (cost.source, cost.stack) != (spec.source, spec.stack.name):
        raise UsageError(
            f"{FOLDER}/{path.name} has the GPU cost of {cost.source} with {cost.stack}, not of "
            f"{spec.source} with {spec.stack.name}; write it anew with {UPDATE}"
        )
    return cost


def read_cost(path: Path) -> GpuCost:
    """What :func:`write_cost` wrote.

    Raises:
        UsageError: there is none.
        DiffspeedError: it cannot be read.
    """
    from ..arms.gpu_cost.result import GpuCost

    if not path.is_file():
        raise UsageError(
            f"it compares with a saved GPU cost, and there is no {FOLDER}/{path.name} in "
            f"{path.parent.parent}; write it with {UPDATE}"
        )
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        calls = []
        for call in plain["calls"]:
            rest = dict(call["rest"])
            names = ("order", "graphs", "breaks", "notes", "launches_in_code")
            cost = {"kernels": call["kernels"], **{name: rest.pop(name) for name in names}}
            calls.append({**rest, "cost": cost})
        return GpuCost.from_json({**plain, "calls": calls})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DiffspeedError(
            f"{path} cannot be read as a saved GPU cost ({error!r}); where a merge left a conflict "
            f"in it, or it was edited, write it anew with {UPDATE}"
        ) from None
