"""Real against simulated.  The layers for a real GPU run on the simulated one here."""

import warnings
from contextlib import contextmanager
from dataclasses import replace

import diffusers
import pytest
import torch

from pytest_diffspeed import count_syncs
from pytest_diffspeed.accelerators.cuda_syncs import BLIND_SPOTS, record_cuda
from pytest_diffspeed.commands import cli
from pytest_diffspeed.commands.compare import (
    Subject,
    compare,
    compare_reports,
    subjects,
    summary,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.simgpu import SimulatedGpu
from pytest_diffspeed.syncs.backends import SIMULATED, backend


class CudaLayers:
    """Counts by what a real GPU is watched with: warnings of the sync debug mode, and wrappers."""

    blind_spots = BLIND_SPOTS
    simulated = True  # where the weights go; nothing else is
    evidence = "CUDA layers"

    def __init__(self, gpu):
        self.device, self.place = gpu.device, gpu.wrap

    def record(self, tag, *, compiled=False):
        return record_cuda(tag, watch_ops=not compiled)


@contextmanager
def real():
    with SimulatedGpu() as gpu:
        yield CudaLayers(gpu)


def run(*chosen, steps=3):
    return compare(chosen, real=real, simulated=lambda: backend(SIMULATED), steps=steps)


@pytest.mark.parametrize("source", ["random:sdxl-tiny", "random:flux-tiny"])
def test_pipelines_are_the_same_on_both(source):
    (subject,) = subjects([source], schedulers=False)
    (row,) = run(subject, steps=2)
    assert row.same, row.report()
    assert row.lines > 3
    assert row.report() == [f"{source}: the same on both: {row.syncs} syncs at {row.lines} lines"]


def test_schedulers_are_the_same_on_both():
    chosen = [one for one in subjects([], schedulers=True) if one.name.startswith("DD")]
    rows = run(*chosen)
    assert {"DDIMScheduler", "DDPMScheduler"} <= {row.name for row in rows}
    assert all(row.same for row in rows), [row.report() for row in rows]
    assert summary(rows).startswith(f"{len(rows)} compared: {len(rows)} the same on both, 0 differ")


class Hidden(diffusers.EulerDiscreteScheduler):
    """Asks the device where the sync debug mode is not heard."""

    def step(self, model_output, timestep, sample, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model_output.sum().item()  # planted
        return super().step(model_output, timestep, sample, **kwargs)


def test_a_difference_is_found_at_its_line():
    def pipeline():
        pipe = parse_source("random:sdxl-tiny").build()
        with third_party():
            pipe.scheduler = Hidden.from_config(pipe.scheduler.config)
        return pipe

    (row,) = run(Subject("hidden", pipeline))
    (difference,) = row.differences
    assert not row.same
    assert difference.place.endswith("test_comparison.py:" + difference.place.rpartition(":")[2])
    assert difference.source == "model_output.sum().item()  # planted"
    head, line = row.report()
    assert head == f"hidden: differs at 1 of {row.lines} lines"
    assert (
        "real: none; simulated: 1 in the first step, 2 in steady ones (value_read)  model_output"
        in line
    )
    assert "0 the same on both, 1 differ" in summary([row])


def test_kinds_count_unless_the_driver_does_not_say():
    def reads(x, device):
        return x.to(device).sum().item()

    report = count_syncs(reads, device=SIMULATED, steps=2, x=torch.ones(2))
    assert {site.kind for site in report.sites} == {"value_read", "blocking_h2d"}
    assert compare_reports(report, report) == (1, ())

    def told(kind):
        return replace(report, sites=tuple(replace(site, kind=kind) for site in report.sites))

    assert compare_reports(told("unclassified"), report) == (1, ())
    lines, (difference,) = compare_reports(told("synchronize"), report)
    assert lines == 1
    assert "(synchronize); simulated:" in str(difference)
    assert "(blocking_h2d and value_read)" in str(difference)


def test_what_cannot_be_run_is_a_row():
    (row,) = run(Subject("broken", lambda: 1 / 0))
    assert row.report() == [
        "broken: could not be compared: on the simulated GPU: ZeroDivisionError: division by zero"
    ]
    assert not row.same
    assert "1 could not be compared" in summary([row])


def test_the_command_without_a_gpu(capsys):
    assert cli.main(["compare", "syncs"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "finds no CUDA device here: nothing was compared" in said.err
    assert cli.main(["compare", "syncs", "--device=simulated"]) == 2
    assert "--device=simulated is not a real GPU; valid: cuda, cuda:N" in capsys.readouterr().err


def test_the_command_with_one(capsys, monkeypatch):
    monkeypatch.setattr(
        "pytest_diffspeed.commands.compare.on_this_machine",
        lambda device: (real, lambda: backend(SIMULATED)),
    )
    assert cli.main(["compare", "syncs", "random:sdxl-tiny", "--steps=2"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("random:sdxl-tiny: the same on both: ")
    assert last.startswith("1 compared: 1 the same on both, 0 differ, 0 could not be compared")
