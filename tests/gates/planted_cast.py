"""A pipeline of a project, and a line that a change brings into it: a cast in the denoiser."""

PIPES = """
from diffusers import UNet2DConditionModel
from pytest_diffspeed.pipelines.sources import parse_source

class Careful(UNet2DConditionModel):
    def forward(self, sample, *args, **kwargs):
        hidden = sample
        return super().forward(hidden, *args, **kwargs)

def careful():
    pipeline = parse_source("random:sdxl-tiny").build()
    pipeline.unet.__class__ = Careful
    return pipeline
"""
UNPLANTED = "hidden = sample"
PLANTED = "hidden = sample.float().to(sample.dtype)  # to be on the safe side"
