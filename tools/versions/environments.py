"""The environments that the test suite runs in, as data.

``lowest`` is what the bounds in ``pyproject.toml`` promise; the others are what people have.  The
newest versions on another Python are what the ordinary suite runs on, so no environment repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Environment:
    """One environment.

    ``resolution`` is uv's word for which versions of the runtime dependencies to take: ``highest``
    or ``lowest-direct``.  Tools that only tests need are always the newest that fit.  ``pins`` are
    constraints of both; ``words`` are given to pytest.
    """

    name: str
    python: str
    what: str
    resolution: str = "highest"
    pins: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


ENVIRONMENTS = (
    Environment(
        "lowest",
        python="3.10",
        what="the lowest versions that `pyproject.toml` allows",
        resolution="lowest-direct",
        # The lowest of the extra [lora]; tools are the newest, and 0.19 refuses that torchao.
        pins=("peft==0.17.0",),
    ),
    Environment(
        "torch-2.11",
        python="3.12",
        what="torch 2.11 and the torchao made for it, the rest newest",
        # torchao has a release for each torch; a newer one only says that it leaves out its own
        # kernels.
        pins=("torch==2.11.0", "torchao==0.17.0", "transformers==5.17.0"),
    ),
    Environment(
        "newest",
        python="3.13",
        what="the newest of the day",
        # Python 3.13.0 alone: torch warns whenever it compiles that guards are slower there.
        words=("-W", "ignore:Guards may run slower on Python 3.13.0:RuntimeWarning"),
    ),
)

ORDINARY_PYTHON = "3.11"
"""Of ``make test``, with the newest torch; ``docs/versions.md`` says so too."""

# What a row of the table names: what the plugin stands on, and where bounds are likely to be felt.
SHOWN = (
    "torch",
    "diffusers",
    "transformers",
    "torchao",
    "peft",
    "pytest",
    "pytest-benchmark",
    "accelerate",
    "numpy",
)
