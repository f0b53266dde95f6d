"""Each test runs on every simulated device that this build of torch allows."""

import pytest
import torch

from pytest_diffspeed.simgpu import SimulatedGpu

KINDS = (["cuda"] if torch.backends.cuda.is_built() else []) + ["simgpu"]


@pytest.fixture(params=KINDS)
def kind(request):
    if request.param == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a real GPU, and `cuda` means that one")
    return request.param


@pytest.fixture
def gpu(kind):
    with SimulatedGpu(kind) as gpu, torch.no_grad():
        yield gpu
