"""What a record keeps of two GPU costs: each component by kind of kernel, and what differs.

A record is kept for years and read by reports, so it has sums by kind and the first kernels that
differ; a file in ``.diffspeed`` has all of them, and the record says where.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..common.files import replace_file
from ..common.workdir import safe_name
from ..records.verdict import Metric

if TYPE_CHECKING:
    from ..arms.gpu_cost.result import GpuCost
    from ..gpucost import Cost, CostComparison, KernelChange
    from .gate import GateContext

FOLDER = "gpu-costs"
"""In ``.diffspeed``."""
MOST_CHANGES = 40
"""Kinds of kernels in a record that are new, and as many that are gone: about 10 kB."""
MOST_LINES = 4
"""Of each of them."""

FOLLOWED = ("kernels", "bytes", "flops")
"""Figures that results tell even where none of them moved, and that the history follows."""
Unit = tuple[str, int | None]
"""What is judged, in words, and the number of the step where it is one, from 0."""


def as_recorded(
    unit: Unit, found: CostComparison, base: GpuCost, head: GpuCost, whole: str | None
) -> dict[str, Any]:
    """Plain data of one comparison; ``whole`` is where the file with all kernels is, if any."""
    name, step = unit
    return {
        "unit": name,
        "figures": {
            one.name: {
                "base": one.base,
                "head": one.head,
                "allowed": one.allowed if math.isfinite(one.allowed) else None,
            }
            for one in found.figures
        },
        "components": components(base, head, step),
        **{name: _changes(changes) for name, changes in _sides(found).items()},
        **{
            f"{name}_left_out": max(0, len(changes) - MOST_CHANGES)
            for name, changes in _sides(found).items()
        },
        "breaks": list(found.new_breaks[:MOST_CHANGES]),
        "lines": lines_of_failed(found)[:MOST_CHANGES],
        **({} if whole is None else {"whole": whole}),
    }


def _sides(found: CostComparison) -> dict[str, Sequence[KernelChange]]:
    """Kernels that the head has and the base has not, the other way around, those of both that ask
    for more, and those of both around which libraries launch more (modelled).
    """
    return {
        "new": found.more,
        "gone": found.less,
        "heavier": found.heavier,
        "hidden": found.more_hidden,
    }


_OF_KIND = {"casts": "cast", "layout": "layout", "opaque": "opaque", "h2d": "h2d", "d2h": "d2h"}
"""Figures of one kind of kernel."""
_KNOWN = 2
"""Behind the ranks of ``new_lines``."""


def lines_of_failed(found: CostComparison) -> list[str]:
    """The lines that the failed figures come from, as "file:line": of the first of them first.

    But lines of graph breaks come before all others, since other figures move with them; and behind
    them those that lead to kernels as no line of the base does, since what a compiler fuses
    otherwise next to a new line was there before.
    """
    breaks: list[str] = []
    lines: list[str] = []
    failed = [one.name for one in found.failed]
    if "breaks" in failed:
        breaks = [told.rpartition(" at ")[2] for told in found.new_breaks if " at " in told]
    for name in failed:
        more = (*found.more, *found.heavier)
        if name == "hidden":
            more = found.more_hidden
        elif name in _OF_KIND:
            more = tuple(one for one in found.more if one.kind == _OF_KIND[name])
        elif name.startswith("flops"):
            more = (*found.heavier, *found.more)
        lines += [line for one in more for line in one.lines]
    lines.sort(key=lambda line: found.new_lines.get(line, _KNOWN))
    return list(dict.fromkeys([*breaks, *lines]))


def counted_under(cost: GpuCost) -> dict[str, str]:
    """What the figures depend on beside the code; the GPU under the name that devices have."""
    return {("device" if name == "gpu" else name): value for name, value in cost.key.items()}


def metrics_of(head: GpuCost, *, per_step: bool) -> list[Metric]:
    """What history and exports carry: of this tree the last step, or the call.

    Each type of FLOPs is followed where there is none too: a series that began with the first such
    product would show no change.  Of several components each is followed, and none exported.
    """
    from ..gpucost.gpus import UNITS

    step = head.steps - 1 if per_step and head.steps else None
    whole = (head.whole if step is None else head.step(step)).figures()
    names = (*FOLLOWED, *(f"flops.{unit}" for unit in UNITS))
    found = [
        Metric(
            f"gpu_{name}" if whole[name] or name in FOLLOWED else None,
            whole[name],
            f"GPU {name}",
            series=f"GPU {name}",
        )
        for name in names
    ]
    parts = {name: _part(head, name, step) for name in head.components}
    known = {name: cost.figures() for name, cost in parts.items() if cost is not None}
    if len(known) > 1:
        found += [
            Metric(None, figures[name], f"GPU {name}", series=f"GPU {name} of {component}")
            for component, figures in known.items()
            for name in FOLLOWED
        ]
    return found


def _part(cost: GpuCost, component: str, step: int | None) -> Cost | None:
    """One component in a step or in the call; ``None`` where it does not run."""
    own = [one for one in cost.calls if one.component == component]
    if step is None:
        return cost.of(component) if own else None
    made = [one.cost.times(one.steps.count(step)) for one in own if step in one.steps]
    return sum(made[1:], made[0]) if made else None


def components(base: GpuCost, head: GpuCost, step: int | None) -> list[dict[str, Any]]:
    """Each component of either side, in one step or in the call, by kind of kernel and type.

    ``judged`` is whether it is in what was compared.  A component that is not in that step is
    there as it is in its own last step, or in the call where it is in no step.
    """
    rows = []
    for name in dict.fromkeys((*head.components, *base.components)):
        sides = {"base": _side(base, name, step), "head": _side(head, name, step)}
        known = {side: one for side, one in sides.items() if one is not None}
        where, how, _ = known.get("head") or known["base"]
        rows.append(
            {
                "component": name,
                "in": where,
                "judged": step is None or where == f"step {step + 1}",
                "how": how,
                **{side: one[2] for side, one in known.items()},
            }
        )
    return rows


def _side(
    cost: GpuCost, component: str, step: int | None
) -> tuple[str, str, dict[str, dict[str, int]]] | None:
    """Where one component was counted, how, and its sums; ``None`` where it did not run."""
    own = [one for one in cost.calls if one.component == component]
    if not own:
        return None
    steps = [number for one in own for number in one.steps]
    how = own[0].how
    if step is None or not steps:
        return "the call", how, _sums(cost.of(component))
    at = step if step in steps else max(steps)
    made = _part(cost, component, at)
    assert made is not None, "unreachable because it runs in this step"
    return f"step {at + 1}", how, _sums(made)


def _sums(cost: Cost) -> dict[str, dict[str, int]]:
    """Kernels and bytes by kind, FLOPs by type; what is zero is left out."""
    from ..gpucost.cost import TRANSFERS

    launched = [kernel for kernel in cost.kernels if kernel.kind not in TRANSFERS]
    kernels, moved, flops = Counter[str](), Counter[str](), Counter[str]()
    for kernel in launched:
        kernels[kernel.kind] += 1
        moved[kernel.kind] += kernel.bytes
        flops[kernel.unit] += kernel.flops
    return {
        name: {key: value for key, value in sums.items() if value}
        for name, sums in (("kernels", kernels), ("bytes", moved), ("flops", flops))
    }


def _changes(found: Sequence[KernelChange]) -> list[dict[str, Any]]:
    return [
        {
            "kind": one.kind,
            "name": one.name,
            "shape": list(one.shape),
            "number": one.number,
            "bytes": one.bytes,
            "lines": list(one.lines[:MOST_LINES]),
            "lines_left_out": max(0, len(one.lines) - MOST_LINES),
            **({"flops": one.flops} if one.flops else {}),
            **({"types": list(one.types)} if one.types else {}),
        }
        for one in found[:MOST_CHANGES]
    ]


def keep_whole(context: GateContext, claim: str, units: Mapping[str, CostComparison]) -> str | None:
    """Write every kernel that differs to a file, where a record has not room for all of them.

    Returns its path from the rootdir; ``None`` where the record of the first has everything.
    """
    differ = {name: found for name, found in units.items() if any(_sides(found).values())}
    if len(differ) < 2 and all(map(_fits, differ.values())):
        return None
    session = context.session
    file = session.workdir() / FOLDER / f"{safe_name(f'{context.test} {claim}')}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, "\n".join(_whole(differ)) + "\n")
    return str(file.relative_to(session.rootdir).as_posix())


def _fits(found: CostComparison) -> bool:
    return all(
        len(changes) <= MOST_CHANGES and all(len(one.lines) <= MOST_LINES for one in changes)
        for changes in _sides(found).values()
    )


def _whole(units: Mapping[str, CostComparison]) -> Iterator[str]:
    yield "new, gone, heavier, hidden: number, kind, name, shape, bytes, lines; between them a tab"
    for name, found in units.items():
        yield f"{name}:"
        for side, changes in _sides(found).items():
            for one in changes:
                shape = "×".join(map(str, one.shape))
                cells = (side, str(one.number), one.kind, one.name, shape, str(one.bytes))
                yield "\t".join((*cells, ", ".join(one.lines)))
