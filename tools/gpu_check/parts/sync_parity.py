"""Does the simulated GPU count the host syncs of a real one?  Line by line.

This decides the product's central claim.  Three kinds of checks:

- ``op: …``: single ops, as the sync debug mode of CUDA and our wrappers see them (*real*), as the
  simulated GPU does (*simulated*), and as the profiler does, which sees CUDA's own calls: what
  waits there and nowhere else, ``profiler: blind spots`` collects;
- ``pipeline: …`` and ``scheduler: …``: what ``diffspeed compare syncs`` compares (the same
  functions), all lines of both sides in the figures;
- what the comparison rests on: the command itself, kinds that are told, pinned memory.

In a dry run *real* are the layers that watch a real GPU on a simulated one called ``cuda``, and
*simulated* is one called ``simgpu``, as on a machine with a GPU.

Planted: ``EulerDiscreteScheduler`` and the row ``kernels`` read one value more on the real side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import sync_grounds
import sync_pipelines
import sync_rows
import torch
from checks import NoMeaning, Part
from sync_sides import Sides, sides_of

if TYPE_CHECKING:
    from pytest_diffspeed.syncs.scope_names import ScopeName

SCHEDULERS = "scheduler: (all of diffusers)"
KINDS = "kinds are told"
PINNED = "pinned memory, after a simulated GPU"
COMPILED = "waits of compiled code"
COMMAND = "diffspeed compare syncs"
BLIND = "profiler: blind spots"
CALL = "profiler: waits of a whole call"
SAME = "the same lines, counts and kinds"


def run(part: Part) -> None:
    # Tensors here are tiny, and other parts run beside: threads would only wait for each other.
    torch.set_num_threads(1)
    part.plan([f"op: {name}" for name in sync_rows.names()] + [BLIND])
    part.plan([f"pipeline: {name}" for name in sync_pipelines.FIRST])
    part.plan([COMMAND, CALL, SCHEDULERS])
    part.plan([f"pipeline: {name}" for name in sync_pipelines.OTHERS] + [KINDS, COMPILED, PINNED])
    sides = sides_of(part)
    told: list[Any] = []
    _ops(part, sides)
    for name, kind in sync_pipelines.FIRST.items():
        _pipeline(part, sides, name, kind, told)
    with part.check(COMMAND, sync_grounds.command_expected(part)) as check:
        check.expect(*sync_grounds.command(part))
    with part.check(CALL, "as many as the syncs counted") as check:
        sync_grounds.whole_call(part, check)
    _schedulers(part, sides, told)
    for name, kind in sync_pipelines.OTHERS.items():
        _pipeline(part, sides, name, kind, told)
    with part.check(KINDS, "all but what torch reads below its dispatcher") as check:
        sync_grounds.kinds(told, check)
    with part.check(COMPILED, "1 sync, as in eager code") as check:
        sync_grounds.compiled(part, check)
    with part.check(PINNED) as check:
        sync_grounds.pinned(part, check)


# -- single ops


def _ops(part: Part, sides: Sides) -> None:
    """The real side first: what torch says of pinned memory changes with a simulated GPU."""
    names = sync_rows.names()
    real = _column(names, lambda: _real(part, sides))
    work = _column(names if part.device == "cuda" else (), lambda: _profiled(part))
    simulated = _column(names, lambda: _simulated(sides))
    problem = next((one for one in work.values() if isinstance(one, Exception)), None)
    found = [
        sync_rows.Row(name, real[name], simulated[name], None if problem else work.get(name))
        for name in names
    ]
    for row in found:
        with part.check(f"op: {row.name}", SAME) as check:
            check.figures |= row.figures()
            check.expect(row.same, row.told())
    with part.check(
        BLIND, "no wait that neither the sync debug mode nor our wrappers see"
    ) as check:
        if part.device != "cuda":
            raise NoMeaning("without a GPU no call of CUDA waits, so a profiler sees none")
        if problem is not None:
            raise problem
        hidden = {row.name: row.only_profiler for row in found if row.only_profiler}
        unseen = [row.name for row in found if _counted_only(row)]
        check.expect(
            not hidden,
            f"{len(hidden)} of {len(found)} ops wait unseen: {', '.join(hidden) or 'none'}; "
            f"{len(unseen)} are counted and no call of CUDA waits",
            hidden=hidden,
            counted_only=unseen,
        )


def _column(names: Sequence[str], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """One column of all rows; what raised stands in each of them, and the others go on."""
    if not names:
        return {}
    try:
        return make()
    except Exception as error:
        return dict.fromkeys(names, error)


def _real(part: Part, sides: Sides) -> dict[str, Any]:
    with sides.real() as counter:
        return dict(sync_rows.real(counter.device, "kernels" if part.planted else None))


def _simulated(sides: Sides) -> dict[str, Any]:
    with sides.simulated() as counter:
        return dict(sync_rows.watched(counter.device, lambda: counter.record(lambda: None)))


def _profiled(part: Part) -> dict[str, Any]:
    return dict(sync_rows.profile(torch.device("cuda:0"), part.work))


def _counted_only(row: sync_rows.Row) -> bool:
    """Counted by the layers, and the profiler saw no wait."""
    if row.profiled is None or isinstance(row.real, Exception):
        return False
    return any(kind != "may_block" for kind in row.real) and not row.profiled.waits


# -- pipelines and schedulers


def _pipeline(
    part: Part, sides: Sides, name: str, kind: sync_pipelines.Kind, told: list[Any]
) -> None:
    with part.check(f"pipeline: {name}", SAME) as check:
        given = sync_pipelines.arguments(name, kind)
        _compare(check, sides, lambda: sync_pipelines.make(kind), "call", told, given)


def _schedulers(part: Part, sides: Sides, told: list[Any]) -> None:
    from pytest_diffspeed.commands.compare import subjects

    with part.check(SCHEDULERS, "some were found") as check:
        chosen = list(subjects([], schedulers=True))
        check.expect(len(chosen) > 20, f"{len(chosen)} schedulers to compare")
        part.plan([f"scheduler: {subject.name}" for subject in chosen])
    for subject in chosen:
        make = subject.make
        if part.planted and subject.name == "EulerDiscreteScheduler":
            make = _reads_more
        with part.check(f"scheduler: {subject.name}", SAME) as check:
            _compare(check, sides, make, subject.scope, told, {})


def _reads_more() -> Any:
    """What is planted: a scheduler that waits where the simulated GPU does not see it."""
    import diffusers

    class EulerDiscreteScheduler(diffusers.EulerDiscreteScheduler):
        def step(self, model_output: Any, timestep: Any, sample: Any, **kwargs: Any) -> Any:
            if model_output.device.type == "cuda":
                model_output.sum().item()  # planted
            return super().step(model_output, timestep, sample, **kwargs)

    return EulerDiscreteScheduler()


def _compare(
    check: Any,
    sides: Sides,
    make: Callable[[], Any],
    scope: ScopeName,
    told: list[Any],
    given: dict[str, Any],
) -> None:
    """What ``diffspeed compare syncs`` does for one subject, and keeps both reports."""
    from pytest_diffspeed.commands.compare import compare_reports
    from pytest_diffspeed.common.quiet import third_party
    from pytest_diffspeed.syncs.count import count_on

    reports, seconds = [], []
    for device in (sides.simulated, sides.real):  # as there: weights start on the CPU
        started = time.perf_counter()
        with third_party():
            target = make()
        with device() as counter:
            reports.append(count_on(counter, target, scope, sync_grounds.STEPS, call_kwargs=given))
        seconds.append(round(time.perf_counter() - started, 2))
    simulated, real = reports
    lines, differences = compare_reports(real, simulated)
    told += real.sites
    check.figures |= {
        "simulated": _figures(simulated),
        "real": _figures(real),
        "differences": [str(difference) for difference in differences],
        "seconds_simulated_real": seconds,
    }
    syncs = real.total + real.may_block
    if differences:
        head = f"differs at {len(differences)} of {lines} lines"
        text = f"{head}: {'; '.join(str(one) for one in differences)}"
    else:
        text = f"the same: {syncs} syncs at {lines} lines"
    check.expect(not differences, text)


def _figures(report: Any) -> dict[str, Any]:
    """The report without what repeats itself in each line."""
    return {
        "first_step": report.first_step,
        "per_step": list(report.per_step),
        "outside": report.outside,
        "may_block": report.may_block,
        "evidence": report.evidence,
        "sites": [str(site) for site in report.sites],
        "by_site": [
            [site.kind, site.op, site.first_step, site.steady_steps, site.outside]
            for site in report.sites
        ],
    }
