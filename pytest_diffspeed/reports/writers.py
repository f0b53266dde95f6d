"""What a session writes when it ends: each kind of output is one function, imported when asked for.

A writer gets the whole session as records and the folder that paths in them start from; it never
sees a pipeline or a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..common.errors import DiffspeedError
from ..history.url import StoreUrl
from ..records.finished import FinishedSession
from .report_format import format_of

Target = str | StoreUrl
"""A path, or where the history is kept."""


def writer_of(name: str) -> Callable[[Any, FinishedSession], str | None]:
    """What writes the output of that name, imported now: a format's report, or the history."""
    if name == "store":
        from ..history.record import write

        return write
    return format_of(name).write


def write_outputs(
    asked: Mapping[str, Target], finished: FinishedSession
) -> tuple[list[str], list[str]]:
    """Write every output in ``asked``, by option name.

    Returns lines for the terminal, and what went wrong: an output that cannot be written costs the
    others nothing.
    """
    lines: list[str] = []
    problems: list[str] = []
    for name, target in asked.items():
        if name != "store" and format_of(name).shows_history:
            try:
                finished = with_history(finished, asked.get("store"))
            except DiffspeedError as error:
                problems.append(f"--diffspeed-{name}: without the history: {error}")
        try:
            line = writer_of(name)(target, finished)
        except DiffspeedError as error:
            problems.append(f"--diffspeed-{name}: {error}")
        except Exception as error:
            problems.append(f"--diffspeed-{name}: not written: {type(error).__name__}: {error}")
        else:
            lines += [] if line is None else [line]
    return lines, problems


def with_history(finished: FinishedSession, store: Target | None) -> FinishedSession:
    """The same session with the history of its tests: series of the environments that it ran in and
    of those that it counted under, and speed indexes of its kinds of devices, of each the newest
    curve.

    Raises:
        StoreError: the store cannot be read.
    """
    from ..history.environments import digest_of
    from ..history.figures import counted_under
    from ..history.series import series_of
    from ..history.speed_index import indexes_of

    sessions = [part for part in finished.session.sessions if part.about.get("machine")]
    if store is None or not sessions:
        return finished
    tests = {gate.result.test for gate in finished.session.gates}
    under = (counted_under(gate.result.figures) for gate in finished.session.gates)
    machines = dict.fromkeys(
        (
            *(part.about["machine"] for part in sessions),
            *(digest_of(one) for one in under if one is not None),
        )
    )
    known = [
        one
        for environment in machines
        for one in series_of(store, finished.rootdir, machine=environment)
    ]
    kinds = {part.about["device"].get("kind") for part in sessions}
    newest = {
        index.curve: index.as_series()
        for index in indexes_of(store, finished.rootdir)
        if index.device_kind in kinds
    }
    shown = [one for one in (*known, *newest.values()) if one.test in tests]
    return replace(finished, series=shown)
