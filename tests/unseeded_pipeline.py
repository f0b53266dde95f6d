"""A pipeline whose weights come from wherever torch's generator stands."""

import torch

from pytest_diffspeed.pipelines.sources import parse_source


def build():
    pipeline = parse_source("random:sdxl-tiny").build()
    with torch.no_grad():
        pipeline.unet.conv_in.weight.normal_()
    return pipeline
