"""A pipeline whose weights come from a seed that was set when this module was imported."""

import torch

from pytest_diffspeed.pipelines.sources import parse_source

torch.manual_seed(7)


def build():
    pipeline = parse_source("random:sdxl-tiny").build()
    with torch.no_grad():
        pipeline.unet.conv_in.weight.normal_()
    return pipeline
