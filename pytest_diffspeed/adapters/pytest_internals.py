"""What this package uses of pytest that pytest does not promise to keep.  Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

import pytest


def fixture_module(item: Any, name: str) -> str | None:
    """The module of the function behind a fixture that a test takes; ``None`` if it is unknown.

    ``item._fixtureinfo.name2fixturedefs``, whose last definition is the closest, seen in pytest 8
    and 9.
    """
    function = _function(item, name)
    return None if function is None else function.__module__


def fixture_place(item: Any, name: str) -> str:
    """Where that function stands: ``conftest.py:12``, its file from the root of the session on."""
    code = getattr(_function(item, name), "__code__", None)
    if code is None:
        return "(unknown)"
    root = f"{item.config.rootpath}{os.sep}"
    return f"{str(code.co_filename).removeprefix(root)}:{code.co_firstlineno}"


def group_by_value(items: Sequence[Any], argname: str) -> None:
    """Have pytest order tests by what the parameter ``argname`` *is*, as it does since 9.2.

    Before, it goes by the parameter's place in the list of each test, and a fixture that lives as
    long as its parameter is made again and again.  ``item.callspec.indices``, seen in pytest 8.1
    and 9.2; where it is gone, the order is pytest's.
    """
    places: dict[int, int] = {}
    for item in items:
        callspec: Any = getattr(item, "callspec", None)
        indices = getattr(callspec, "indices", {})
        if argname in indices:
            value = id(callspec.params[argname])
            indices[argname] = places.setdefault(value, len(places))


def ini_value(config: Any, name: str) -> Any:
    """The value of an ini option, a number of a ``pytest.toml`` as text.

    Pytest 9 reads TOML's own types, and refuses ``diffspeed_steps = 2`` for an option that was
    declared as text.  ``config.inicfg`` or, where that is deprecated, ``config._inicfg``: their
    entries are values in pytest 8 and hold one in 9.
    """
    try:
        return config.getini(name)
    except (TypeError, pytest.UsageError):  # the latter since 9.2
        known = getattr(config, "_inicfg", None)
        entry = (config.inicfg if known is None else known).get(name)
        value = getattr(entry, "value", entry)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise
        return str(value)


def junit_xml(config: Any) -> Any:
    """What writes the file of ``--junitxml``; ``None`` where nobody asked for one.

    ``_pytest.junitxml.xml_key``, seen in pytest 8 and 9.
    """
    from _pytest.junitxml import xml_key

    return config.stash.get(xml_key, None)


def say_in_short_summary(report: Any, phrase: str) -> None:
    """Have pytest's short summary say ``phrase`` of a failed report.

    ``longrepr.reprcrash.message`` is what it prints, seen in pytest 8 and 9; where that is gone, it
    says what it would have said.
    """
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = phrase


def leave_out_arguments(report: Any, names: Collection[str]) -> None:
    """Have a traceback not show the values of these arguments of its functions.

    ``longrepr.chain[…][0].reprentries[…].reprfuncargs.args``, seen in pytest 8 and 9; where that is
    gone, it shows them.
    """
    for traceback, *_ in getattr(report.longrepr, "chain", ()):
        for entry in getattr(traceback, "reprentries", ()):
            shown = getattr(entry, "reprfuncargs", None)
            if shown is not None:
                shown.args = [pair for pair in shown.args if pair[0] not in names]


def asks_for_short_summary(config: Any) -> bool:
    """Whether ``-r`` was given, with other letters than those that pytest takes without it.

    ``config.option.reportchars`` is ``"fE"`` by default, seen in pytest 8 and 9.
    """
    return getattr(config.option, "reportchars", "fE") != "fE"


def _function(item: Any, name: str) -> Any:
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    definitions = known.get(name)
    return definitions[-1].func if definitions else None
