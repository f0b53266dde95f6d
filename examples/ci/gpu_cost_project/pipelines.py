"""The pipeline that this project ships; a pull request that edits it is gated by tests/."""

from pytest_diffspeed.pipelines.sources import parse_source


def small():
    """Random weights: a count reads none."""
    return parse_source("random:sdxl-tiny").build()
