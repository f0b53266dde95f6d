"""What a session keeps on ``config.stash`` and on each test's, so that no module has state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..arms.session import Session
    from ..arms.session_options import Options
    from ..arms.spec import ArmSpec
    from ..techniques.stacks import Stack
    from .plan import Plan
    from .state_guard import StateGuard

OPTIONS: pytest.StashKey[Options] = pytest.StashKey()
SESSION: pytest.StashKey[Callable[[], Session]] = pytest.StashKey()
"""Makes the session on first use, since that is when torch is really needed."""
STATE_GUARD: pytest.StashKey[StateGuard] = pytest.StashKey()
SPECS: pytest.StashKey[dict[tuple[str, Stack], ArmSpec]] = pytest.StashKey()
PLAN: pytest.StashKey[Plan] = pytest.StashKey()
OUTCOME: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
"""Of a test: what its gates found so far, as plain data."""


BODY_DID_NOT_END = "the body of the test did not end"
PICTURE_NOT_WRITTEN = "not written"
"""How an entry of ``images`` begins that is no path."""


def new_outcome() -> dict[str, Any]:
    """The outcome of a test that has found nothing yet; ``records`` are those written meanwhile,
    ``not_run`` claims without a verdict, and ``why_not_run`` the reason of all of these.

    ``cause`` is that of a failure before the gates, ``kinds`` says in a phrase what the block on
    the terminal explains of this test (empty: nothing), and ``has_traceback`` whether pytest shows
    how it came about.
    """
    return {
        "not_run": [],
        "why_not_run": BODY_DID_NOT_END,
        "images": [],
        "ladder": [],
        "records": [],
        "about": None,
        "cause": None,
        "kinds": "",
        "has_traceback": False,
    }


def is_red(outcome: Mapping[str, Any]) -> bool:
    """Whether a gate fails the test: its verdict, or an error in the place of one."""
    return any(one["kind"] == "gate-error" or one.get("blocking") for one in outcome["records"])


def options_of(config: pytest.Config) -> Options:
    """The session's options, read and checked once.

    Raises:
        pytest.UsageError: one of them makes no sense.
    """
    if OPTIONS not in config.stash:
        from .extension_loading import gather
        from .options import read_options

        gather(config)  # names of plug-ins are valid in options and markers
        config.stash[OPTIONS] = read_options(config)
    return config.stash[OPTIONS]
