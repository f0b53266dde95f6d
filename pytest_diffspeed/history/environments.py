"""Environments of a history: what one rests on, and what differs between two.

A series is of one environment.  Where it goes on in another, that difference is what a level that
moved there may come from, and no commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from .tables import RECORD, SESSION

_FIRST = ("device", "driver", "threads", "python")
"""What moves figures most, before the packages."""


@dataclass(frozen=True)
class Difference:
    """One thing that two environments do not share, as text; ``None``: it is not there."""

    name: str
    before: str | None
    after: str | None


def environment_of(connection: Connection, machine: str) -> Mapping[str, Any]:
    """What the newest session of the environment ``machine`` (a digest) says that it rests on.

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
    environment = None if content is None else json.loads(content).get("environment")
    return environment if isinstance(environment, Mapping) else {}


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
