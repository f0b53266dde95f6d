"""Environments of a history: what one rests on, and what differs between two.

A series is of one environment: that of its sessions, or what its counts depend on where a gate says
it (what a GPU would be asked is the same on every machine).  Where it goes on in another, that
difference is what a level that moved there may come from, and no commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from ..evidence.key import EvidenceKey
from ..records.series import Difference
from .figures import counted_under
from .tables import POINT, RECORD, SERIES, SESSION

_FIRST = ("device", "driver", "threads", "python")
"""What moves figures most, before the packages."""


def digest_of(environment: Mapping[str, Any]) -> str:
    """Its name in a store: another one if anything differs."""
    return EvidenceKey(environment).digest


def environment_of(connection: Connection, machine: str) -> Mapping[str, Any]:
    """What the newest session of the environment ``machine`` (a digest) says that it rests on; of
    counts that rest on less than a session does, what their gate says.

    Empty where no session is there any more, or says nothing.
    """
    newest = (
        select(RECORD.c.content)
        .join(SESSION, SESSION.c.id == RECORD.c.session_id)
        .where(SESSION.c.machine == machine, RECORD.c.kind == "session")
        .order_by(SESSION.c.at_s.desc(), SESSION.c.id.desc())
        .limit(1)
    )
    content = connection.execute(newest).scalar()
    if content is None:
        return _counted_under(connection, machine)
    environment = json.loads(content).get("environment")
    return environment if isinstance(environment, Mapping) else {}


def _counted_under(connection: Connection, machine: str) -> Mapping[str, Any]:
    """Of the newest session that has a point in a series of this environment."""
    session = (
        select(POINT.c.session_id)
        .join(SERIES, SERIES.c.id == POINT.c.series_id)
        .where(SERIES.c.machine == machine)
        .order_by(POINT.c.at_s.desc(), POINT.c.id.desc())
        .limit(1)
    )
    gates = select(RECORD.c.content).where(
        RECORD.c.session_id == session.scalar_subquery(), RECORD.c.kind == "gate"
    )
    for content in connection.execute(gates).scalars():
        figures = json.loads(content).get("figures")
        under = counted_under(figures) if isinstance(figures, Mapping) else None
        if under is not None and digest_of(under) == machine:
            return under
    return {}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """What differs: device, driver, threads and Python first, then packages by name.

    Of things inside things, such as packages under a name of their own, each is looked at.
    """
    old, new = _flat(before), _flat(after)
    names = {**dict.fromkeys(_FIRST), **dict.fromkeys(sorted({*old, *new}))}
    return [
        Difference(name, old.get(name), new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]


def _flat(environment: Mapping[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in environment.items():
        if isinstance(value, Mapping):
            flat |= _flat(value)
        elif value is not None:
            flat[str(name)] = str(value)
    return flat
