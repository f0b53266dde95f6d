"""The demo pipeline doing the same work several times a call: pipeline sources for real_clocks.py.

``repeated:four`` and ``repeated:five`` differ by 1.25 times the real work, and in nothing else.
"""

from __future__ import annotations

import functools

from pytest_diffspeed.pipelines.sources import parse_source


def _repeated(times):
    pipeline = parse_source("demo").build()
    kind = type(pipeline)

    @functools.wraps(kind.__call__)  # whose signature tells what it can be called with
    def call(self, *args, **kwargs):
        for _ in range(times):
            output = kind.__call__(self, *args, **kwargs)
        return output

    pipeline.__class__ = type(kind.__name__, (kind,), {"__call__": call})
    return pipeline


def four():
    return _repeated(4)


def five():
    return _repeated(5)
