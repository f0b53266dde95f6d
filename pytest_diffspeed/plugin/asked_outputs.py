"""Which files and stores a session was asked to write when it ends."""

from __future__ import annotations

from ..arms.session_options import Options
from ..reports.writers import Target


def asked_outputs(options: Options) -> dict[str, Target]:
    """The outputs that a session was asked for: option name and its value."""
    targets: dict[str, Target] = {name: str(path) for name, path in options.reports.items()}
    # First, so that reports can show this session in its history; and not as text, which would hold
    # a password.
    return targets if options.store is None else {"store": options.store, **targets}
