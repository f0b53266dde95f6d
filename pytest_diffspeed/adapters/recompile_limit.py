"""How often dynamo compiles one function for other shapes, before it gives up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def recompiling_up_to_its_cap() -> Iterator[None]:
    """Dynamo compiles a function as often as it ever may, and no longer only eight times.

    ``recompile_limit`` (8) guards against one function that is compiled for each size.  A block of
    which a model has many of different widths is meant to be compiled for each of them, and all
    pipelines of a process share its code.  ``accumulated_recompile_limit`` (256) stays: past it,
    ``fullgraph=True`` raises.  Both are read when something compiles and are in no guard; seen in
    torch 2.11 to 2.15.
    """
    from torch._dynamo import config

    most = max(config.recompile_limit, config.accumulated_recompile_limit)
    with config.patch(recompile_limit=most):
        yield
