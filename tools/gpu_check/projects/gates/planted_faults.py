"""Pipelines with one fault each.  A line that a gate must name carries ``# PLANTED word``."""

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

from pytest_diffspeed.pipelines.sources import parse_source

_TINY = "random:sdxl-tiny"


class BreakingDenoiser(UNet2DConditionModel):
    def forward(self, sample, *rest, **more):
        torch._dynamo.graph_break()  # PLANTED break
        return super().forward(sample, *rest, **more)


class SyncingScheduler(EulerDiscreteScheduler):
    def step(self, model_output, timestep, sample, **rest):
        float(sample.mean())  # PLANTED sync
        return super().step(model_output, timestep, sample, **rest)


class RecompilingDenoiser(UNet2DConditionModel):
    """Compiled for one size; the test asks for another."""

    def forward(self, sample, *rest, **more):  # PLANTED recompile
        return super().forward(sample, *rest, **more)


def breaking():
    pipe = parse_source(_TINY).build()
    pipe.unet.__class__ = BreakingDenoiser
    return pipe


def syncing():
    pipe = parse_source(_TINY).build()
    pipe.scheduler = SyncingScheduler.from_config(pipe.scheduler.config)
    return pipe


def recompiling():
    pipe = parse_source(_TINY).build()
    pipe.unet.__class__ = RecompilingDenoiser
    return pipe
