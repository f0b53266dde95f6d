"""Pipelines, built once: what is counted on them leaves them as they were."""

import diffusers
import pytest
import torch

from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.sources import parse_source

if torch.cuda.is_available():
    collect_ignore_glob = ["test_*.py"]  # these tests say `simulated` and compare with the CPU


@pytest.fixture(scope="session")
def sdxl():
    return parse_source("random:sdxl-tiny").build()


@pytest.fixture(scope="session")
def flux():
    return parse_source("random:flux-tiny").build()


@pytest.fixture
def with_scheduler(sdxl):
    """The tiny SDXL pipeline with another scheduler."""

    def pipeline(scheduler_class):
        with third_party():
            config = sdxl.scheduler.config
            scheduler = scheduler_class.from_config(config)
            return diffusers.StableDiffusionXLPipeline(
                **{**sdxl.components, "scheduler": scheduler}, add_watermarker=False
            )

    return pipeline
