"""Third parties warn while they are imported, loaded and compiled; our users did nothing wrong.

A session that runs with ``-W error`` would turn those warnings into failures, so everything that
only calls into torch, diffusers or transformers runs inside :func:`third_party`.  Code of the
user's (test bodies, factories) never does.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def third_party() -> Iterator[None]:
    """Ignore warnings inside; the filters are restored afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
