"""Pipelines whose weights hooks move.

The simulated GPU refuses them by name; on a real one they are left to their hooks.
"""

import pytest
import torch
from accelerate import cpu_offload
from diffusers.hooks import apply_group_offloading

from pytest_diffspeed import count_syncs
from pytest_diffspeed.accelerators.catalog.cuda import CudaSyncs
from pytest_diffspeed.common.errors import SourceError
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.simgpu import SimulatedGpu
from pytest_diffspeed.syncs.count import count_on

FITS = torch.backends.cuda.is_built() and not torch.cuda.is_available()
pytestmark = pytest.mark.skipif(not FITS, reason="accelerate offloads to a device called `cuda`")


def by_model(pipeline):
    pipeline.enable_model_cpu_offload(device="cuda")


def by_layer(pipeline):
    cpu_offload(pipeline.unet, torch.device("cpu"))


def in_groups(pipeline):
    apply_group_offloading(pipeline.unet, torch.device("cpu"), offload_type="leaf_level")


@pytest.mark.parametrize(
    ("offload", "said"),
    [
        (by_model, "unet (accelerate's CpuOffload)"),
        (by_layer, "offloaded: unet (accelerate's AlignDevicesHook); "),
        (in_groups, "offloaded: unet (diffusers' hook 'group_offloading'); "),
    ],
    ids=["by model", "by layer", "in groups"],
)
def test_hooks_that_move_weights_are_refused_by_name(offload, said):
    pipeline = parse_source("random:sdxl-tiny").build()
    offload(pipeline)
    with pytest.raises(SourceError) as refused:
        count_syncs(pipeline, device="simulated", steps=2)
    assert said in str(refused.value)
    assert "built without offloading" in str(refused.value)


def test_on_a_gpu_its_hooks_place_it():
    """The layer for a real GPU, on the simulated one."""
    pipeline = parse_source("random:sdxl-tiny").build()
    with SimulatedGpu("cuda") as gpu:
        pipeline.enable_model_cpu_offload(device=gpu.device)
        with gpu.record() as moved:
            report = count_on(CudaSyncs(gpu.device), pipeline, "scheduler.step", 2)
    assert (report.first_step, report.per_step) == (0, (0,))
    copies = [event for event in moved if event.kind == "blocking_h2d"]
    assert len(copies) > 100  # each weight is copied when its model runs
