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

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import sync_pipelines
import sync_rows
from checks import NoMeaning, Part
from profiler_traces import profiled
from sync_sides import Sides, sides_of

STEPS = 4
SCHEDULERS = "scheduler: (all of diffusers)"
KINDS = "kinds are told"
PINNED = "pinned memory, after a simulated GPU"
COMMAND = "diffspeed compare syncs"
BLIND = "profiler: blind spots"
CALL = "profiler: waits of a whole call"
SAME = "the same lines, counts and kinds"


def run(part: Part) -> None:
    part.plan([f"op: {name}" for name in sync_rows.names()] + [BLIND])
    part.plan([f"pipeline: {name}" for name in sync_pipelines.FIRST])
    part.plan([COMMAND, CALL, SCHEDULERS])
    part.plan([f"pipeline: {name}" for name in sync_pipelines.OTHERS] + [KINDS, PINNED])
    sides = sides_of(part)
    told: list[Any] = []
    _ops(part, sides)
    for name, kind in sync_pipelines.FIRST.items():
        _pipeline(part, sides, name, kind, told)
    with part.check(COMMAND, _command_expected(part)) as check:
        check.expect(*_command(part))
    with part.check(CALL, "as many as the syncs counted") as check:
        _whole_call(part, check)
    _schedulers(part, sides, told)
    for name, kind in sync_pipelines.OTHERS.items():
        _pipeline(part, sides, name, kind, told)
    with part.check(KINDS, "all but what torch reads below its dispatcher") as check:
        _kinds(told, check)
    with part.check(PINNED, "torch pins memory as before, and knows it") as check:
        _pinned(part, check)


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
    import torch

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
    from pytest_diffspeed.syncs.comparison import subjects

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
    scope: str,
    told: list[Any],
    given: dict[str, Any],
) -> None:
    """What ``diffspeed compare syncs`` does for one subject, and keeps both reports."""
    from pytest_diffspeed.quiet import third_party
    from pytest_diffspeed.syncs.comparison import compare_reports
    from pytest_diffspeed.syncs.count import count_on

    reports, seconds = [], []
    for device in (sides.simulated, sides.real):  # as there: weights start on the CPU
        started = time.perf_counter()
        with third_party():
            target = make()
        with device() as counter:
            reports.append(count_on(counter, target, scope, STEPS, call_kwargs=given))
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


# -- what the comparison rests on


def _command_expected(part: Part) -> str:
    return "exit status 0" if part.device == "cuda" else "a refusal: there is no GPU"


def _command(part: Part) -> tuple[bool, str]:
    from pytest_diffspeed import cli

    out, err = io.StringIO(), io.StringIO()
    words = ["compare", "syncs", "random:sdxl-tiny", "--steps=2"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(words)
    lines = (out.getvalue() + err.getvalue()).strip().splitlines() or ["nothing said"]
    text = f"exit status {status}: {lines[-1]}"
    if part.device == "cuda":
        return status == 0, text
    return status == 2 and "nothing was compared" in text, text


def _whole_call(part: Part, check: Any) -> None:
    """CUDA's own calls beside the count of the same call: what both layers of ours would miss."""
    if part.device != "cuda":
        raise NoMeaning("without a GPU no call of CUDA waits, so a profiler sees none")
    import torch

    from pytest_diffspeed.quiet import third_party
    from pytest_diffspeed.syncs.count import count_syncs

    pipeline = sync_pipelines.make(sync_pipelines.FIRST["random:sdxl-tiny"])
    report = count_syncs(pipeline, scope="call", device="cuda:0", steps=STEPS)
    pipeline.to("cuda:0")
    call = {"prompt": "a red apple", "num_inference_steps": STEPS, "output_type": "pt"}
    with third_party():
        pipeline(**call)
        torch.cuda.synchronize()
        with (
            profiled(part.work / "call.json", "cuda") as recording,
            torch.profiler.record_function("whole call"),
        ):
            pipeline(**call)
    (label,) = recording.trace.named("whole call")
    work = recording.trace.work_of(label)
    waits = sum(work.waits.values())
    check.expect(
        waits == report.total,
        f"profiler {dict(work.waits)}; counted {report.total}, {report.may_block} may block",
        calls=dict(work.calls),
        copies=work.copies,
        sites=[str(site) for site in report.sites],
    )


def _kinds(told: Sequence[Any], check: Any) -> None:
    """Of the real side's lines: a warning of CUDA does not say which op it is about."""
    unknown = [site for site in told if site.kind == "unclassified"]
    # These go through lists in C++, where no dispatch mode sees the reads.
    below = [site for site in unknown if "torch.tensor(" in site.source or "tolist" in site.source]
    text = f"{len(unknown)} of {len(told)} lines have no kind, {len(below)} of these by lists"
    sites = [str(site) for site in unknown]
    check.expect(told and len(unknown) == len(below), text, unknown=sites)


def _pinned(part: Part, check: Any) -> None:
    """Torch asks *the* accelerator of a process to pin, and a named spare device comes first."""
    if part.device != "cuda":
        raise NoMeaning("memory is pinned for a GPU, and there is none")
    import torch

    pinned = torch.empty(4, pin_memory=True)
    said = f"pin_memory=True: {pinned.is_pinned()}"
    moved = pinned.to("cuda:0", non_blocking=True)
    again = torch.ones(4).pin_memory()
    check.expect(
        pinned.is_pinned() and again.is_pinned(),
        f"{said}; .pin_memory(): {again.is_pinned()}; copied to {moved.device}",
        accelerator=str(torch.accelerator.current_accelerator()),
    )
