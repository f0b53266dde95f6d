"""A pipeline whose denoiser counts its calls on itself, as a cache does that skips some of them."""

from pytest_diffspeed.pipelines.sources import parse_source


def build():
    pipeline = parse_source("random:sdxl-tiny").build()
    pipeline.unet.register_forward_hook(_count)
    return pipeline


def _count(module, args, output):
    module.calls_so_far = getattr(module, "calls_so_far", 0) + 1
