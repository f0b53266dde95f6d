"""The names of our fixtures, and what tells our tests from others.

Loaded in every pytest session of an environment that has this package: it imports next to nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ..adapters.pytest_internals import fixture_module
from ..gates.signatures import signatures as of_gates

DIFFSPEED = "diffspeed(*stacks, pipeline=None): run the test once per stack"
"""The marker that parametrizes a test; all others are those of gates."""
FIXTURES = ("technique", "baseline_pipeline", "optimized_pipeline", "diffspeed")
STACK_FIXTURE = "_arm_spec"
"""In the closure of every test that runs once per stack."""
GATED_FIXTURE = "_prepared"
"""In the closure of every test with a pipeline that gates can look at."""
PIPELINE_FIXTURE = "optimized_pipeline"
OUR_FIXTURES = f"{__package__}.fixtures"
NEEDS_OPTION = "needs --diffspeed"


@functools.cache
def signatures() -> Mapping[str, str]:
    """Our markers by name, each with its arguments as ``pytest --markers`` shows them."""
    return {"diffspeed": DIFFSPEED, **of_gates()}


def our_marks(item: Any) -> tuple[Any, ...]:
    """The marks (``pytest.Mark``) of a test that are this package's, closest first."""
    return tuple(mark for mark in item.iter_markers() if mark.name in signatures())


def is_ours(item: Any) -> bool:
    """Whether a test (a ``pytest.Item``) carries a marker or uses a fixture of this package.

    A fixture of the user's own that happens to be called like one of ours does not count.
    """
    names = getattr(item, "fixturenames", ())
    return (
        STACK_FIXTURE in names
        or bool(our_marks(item))
        or any(name in names and fixture_module(item, name) == OUR_FIXTURES for name in FIXTURES)
    )
