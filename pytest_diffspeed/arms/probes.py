"""What is counted of an arm, by name: plain arguments in, plain data out.

A gate looks at this process's arm, and a worker at that of the base, by the same functions, so that
both are counted alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accelerators.registry import accelerator_of
from ..common.errors import DiffspeedError, MeasurementError, UsageError
from ..common.paths import path_in_tree
from .counts import Counts, Site

if TYPE_CHECKING:
    from ..compilation.recompiles import RecompileReport
    from ..compilation.report import GraphBreakReport
    from ..syncs.report import SyncReport
    from .prepared_arm import PreparedArm

SIMULATED_STEPS = 6
"""Enough for the warm-up of multistep schedulers, some steady steps and the last one."""


def probe(arm: PreparedArm, at: str, root: str, how: Mapping[str, Any]) -> Counts:
    """What is seen of ``arm`` by the probe called ``at``; ``root`` is the tree that it runs in.

    Raises:
        UsageError: there is no such probe.
        MeasurementError: it could not be counted.
    """
    if at not in _PROBES:
        raise UsageError(f"there is no probe {at!r}; valid: {', '.join(sorted(_PROBES))}")
    return _PROBES[at](arm, Path(root), **how)


def graph_breaks(
    arm: PreparedArm, components: tuple[str, ...] | None
) -> tuple[GraphBreakReport, ...]:
    """A look at each of the components of an arm's pipeline; kept for the next gate.

    By default at all that run in the steps and after them.

    Raises:
        MeasurementError: one of them could not be looked at; the sentence names them all.
    """
    from ..compilation.probe import probe_breaks
    from ..pipelines.capture import capture
    from ..techniques.apply import PROOF_STEPS

    key = ("graph breaks", components)
    if key not in arm.memo:
        reports: list[GraphBreakReport] = []
        problems: list[str] = []
        observed, steps = arm.observed()
        with arm.running():
            captured = capture(
                arm.pipeline,
                lambda: arm.call(arm.pipeline, steps=steps),
                components,
                observed=observed,
                steps=PROOF_STEPS,
            )
            for one in captured:
                try:
                    reports.append(
                        probe_breaks(one.fn, one.calls, name=one.name, restart=one.restart)
                    )
                except DiffspeedError as error:
                    problems.append(str(error))
        if problems:
            raise MeasurementError("; ".join(problems))
        arm.memo[key] = tuple(reports)
    found: tuple[GraphBreakReport, ...] = arm.memo[key]
    return found


def not_looked_at(arm: PreparedArm, looked_at: Iterable[str]) -> tuple[str, ...]:
    """What ran in a call of ``arm`` and is not among the names in ``looked_at``, and denoisers that
    did not run at all: ``"controlnet (ran 4 ×)"``, ``"transformer_2 (did not run in 4 steps)"``.
    """
    from ..compilation.report import plural
    from ..pipelines.entries import entries

    observed, _ = arm.observed()
    names = set(looked_at)
    ran = [entry.ran for entry in entries(observed) if entry.name not in names]
    steps = plural(observed.steps, "step")
    return (*ran, *(f"{name} (did not run in {steps})" for name in observed.silent_denoisers))


def recompiles(
    arm: PreparedArm,
    *,
    sizes: Sequence[tuple[int, int]] = (),
    batch_sizes: Sequence[int] = (),
    prompts: Sequence[str] = (),
    guidance: Sequence[float] = (),
) -> RecompileReport:
    """What compiles again after warm-up: over a repeated call, and one of each kind asked for.

    Raises:
        MeasurementError: nothing of a denoiser is compiled, so it was not looked at.
    """
    from ..compilation.recompiles import find_recompiles
    from ..pipelines.compile_failure import explain_compile_failure
    from ..pipelines.parts import parts
    from ..pipelines.variants import variants

    observed, steps = arm.observed()
    calls = variants(
        arm.pipeline,
        arm.call,
        steps=steps,
        sizes=sizes,
        batch_sizes=batch_sizes,
        prompts=prompts,
        guidance=guidance,
    )
    with arm.running():
        report = find_recompiles(
            parts(arm.pipeline),
            calls,
            warm_up=lambda: arm.call(arm.pipeline, steps=steps),
            cuda_graphs=accelerator_of(arm.pipeline.device).has_graphs,
            skipped_before=arm.compilation.cudagraph_skips,
            explain=lambda call, error: explain_compile_failure(
                arm.pipeline, lambda pipeline, steps: call(), error
            ),
        )
    left_out = [one.ran for one in observed.denoisers if not _covers(report.components, one.name)]
    if left_out:
        raise MeasurementError(
            f"nothing of {', '.join(left_out)} is compiled, so whether it compiles again cannot be "
            f"said; compiled: {', '.join(report.components)}; compile it in the stack too"
        )
    return report


def _covers(compiled: Iterable[str], name: str) -> bool:
    """Whether something of the component ``name`` is among what is compiled."""
    return any(one == name or one.startswith(f"{name}.") for one in compiled)


def syncs(
    arm: PreparedArm, *, scope: str | Callable[..., Any], allow: Sequence[str] = ()
) -> SyncReport:
    """Host syncs of one call: on the arm's GPU, or on a simulated one if it has none."""
    from ..syncs.count import count_syncs

    device = arm.pipeline.device
    on_gpu = accelerator_of(device).counts_syncs
    # Nothing is timed: a call of one step would say nothing of the steady ones.
    steps = max(2, arm.call.defaults.steps)
    if not on_gpu:
        steps = min(steps, SIMULATED_STEPS)
    whole = scope != "scheduler.step"
    output = "pt" if whole else "latent"
    arguments = arm.call.arguments(arm.pipeline, output=output, steps=steps)
    # That of a timed call is a CPU generator, whose noise a stochastic scheduler would copy to the
    # device in each step; without one the device draws.
    arguments.pop("generator", None)
    with arm.running():
        return count_syncs(
            arm.pipeline,
            scope=scope,
            device=str(device) if on_gpu else "simulated",
            steps=steps,
            allow=tuple(allow),
            **arguments,
        )


def peak_bytes(arm: PreparedArm) -> int:
    """Of one call: as the device's allocator counts, or on a simulated GPU if there is none."""
    device = arm.pipeline.device
    accelerator = accelerator_of(device)
    allocator = accelerator.allocator(accelerator.device(str(device), device.index))
    if allocator is None:
        return arm.simulated_peak().allocated_bytes
    return arm.peak_memory(allocator).allocated_bytes


def _probe_graph_breaks(
    arm: PreparedArm, root: Path, *, components: Sequence[str] | None
) -> Counts:
    reports = graph_breaks(arm, None if components is None else tuple(components))
    counts = {r.name: {"breaks": len(r.breaks), "graphs": r.graphs} for r in reports}
    return Counts(
        counts,
        tuple(
            Site(
                report.name,
                found.reason,
                path_in_tree(found.file, root),
                found.line,
                found.function,
                found.source,
                found.runs or 1,
            )
            for report in reports
            for found in report.breaks
        ),
    )


def _probe_recompiles(arm: PreparedArm, root: Path, **over: Any) -> Counts:
    report = recompiles(arm, **over)
    # The guard's text names objects by address and sizes by value; the function is what stays.
    again = Counter(
        (one.component, path_in_tree(one.file, root), one.line, one.function)
        for one in report.recompiles
    )
    counts: dict[str, dict[str, int]] = {
        name: {"recompiles": count} for name, count in report.by_component().items()
    }
    counts["pipeline"] = {
        "parts that run eagerly": len(report.eager),
        "CUDA graphs skipped": len(report.cudagraph_skips),
    }
    sites = tuple(
        Site(component, "compiled again", file, line, function, "", count)
        for (component, file, line, function), count in again.items()
    )
    return Counts(counts, sites, (*map(str, report.recompiles), *report.eager))


def _probe_syncs(
    arm: PreparedArm, root: Path, *, scope: str, allow: Sequence[str], strict: bool
) -> Counts:
    report = syncs(arm, scope=scope, allow=allow)
    counts = {
        "first step": report.first_step + report.outside,
        "steady step": max(report.per_step, default=0),
    }
    if strict:
        counts["may block"] = report.may_block
    return Counts(
        {report.scope: counts},
        tuple(
            Site(
                report.scope,
                f"{site.kind} {site.op}",
                path_in_tree(site.file, root),
                site.line,
                site.function,
                site.source,
                site.count,
            )
            for site in report.sites
            if site.allowed is None and (strict or site.kind != "may_block")
        ),
    )


def _probe_memory(arm: PreparedArm, root: Path) -> Counts:
    return Counts({"call": {"peak bytes": peak_bytes(arm)}})


def _draw_images(arm: PreparedArm, root: Path, *, cases: Iterable[Any], path: str) -> Counts:
    """Draw ``cases`` into the file ``path``: ``N × …``, as outputs are.

    Each is a name, a prompt (``None`` where it has none) and a seed.
    """
    import numpy as np
    import torch

    drawn = []
    for name, prompt, seed in cases:
        case = arm.call.for_case(name, prompt, seed)
        with arm.running():
            output = arm.call.of(case).draw(arm.pipeline).output.data
        drawn.append(output.to("cpu", torch.float32).numpy())
    np.save(Path(path), np.stack(drawn))
    return Counts({"images": {"drawn": len(drawn)}})


_PROBES: Mapping[str, Callable[..., Counts]] = {
    "graph breaks": _probe_graph_breaks,
    "recompiles": _probe_recompiles,
    "syncs": _probe_syncs,
    "memory": _probe_memory,
    "images": _draw_images,
}
