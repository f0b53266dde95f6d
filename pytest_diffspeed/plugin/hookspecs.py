"""Hooks for plug-ins of this plugin: a ``conftest.py``, or a package with entry points.

Loaded in every session, so it imports next to nothing.  See ``docs/plugins.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..extend import PipelineSource, Technique


@pytest.hookspec()
def pytest_diffspeed_techniques() -> Iterable[Technique]:  # type: ignore[empty-body]
    """Techniques to add: instances of :class:`pytest_diffspeed.extend.Technique`.

    Called once, when the first option, marker or fixture of this plugin is read; in a
    ``conftest.py`` that pytest finds later, when it is found.
    """


@pytest.hookspec()
def pytest_diffspeed_sources() -> Mapping[str, Callable[[str], PipelineSource]]:  # type: ignore[empty-body]
    """Pipeline sources to add: a prefix, and what makes a source of the text after ``prefix:``.

    The callable runs when options and markers are read: it must load nothing, and may raise
    :class:`pytest_diffspeed.extend.UsageError` for a text that makes no sense.
    """
