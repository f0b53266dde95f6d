"""Graph breaks, recompilations and host syncs: tables of places in somebody's source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...common.paths import short_path
from ...common.text import plural
from ..loose import count, mapping, mappings, sequence, word

MOST_SITES = 60
"""Of one table; a compiler that fails everywhere is not understood by reading on."""


@dataclass(frozen=True)
class SiteView:
    """One place.  ``notes`` are sentences, ``allowed`` says by which allowance it may be there."""

    where: str
    function: str
    what: str
    source: str = ""
    how_often: str = ""
    notes: tuple[str, ...] = ()
    allowed: str = ""


@dataclass(frozen=True)
class Sites:
    """``left_out`` of them are not shown."""

    title: str
    sites: tuple[SiteView, ...]
    left_out: int = 0


def sites_of(figures: Mapping[str, Any]) -> tuple[Sites, ...]:
    """All tables of one gate; empty where it found no place."""
    tables: list[Sites] = []
    for name, component in mapping(figures.get("components")).items():
        entry = mapping(component)
        breaks = [_graph_break(found) for found in mappings(entry.get("breaks"))]
        graphs, ops = count(entry.get("graphs")), count(entry.get("ops"))
        title = f"{name}: {plural(len(breaks), 'graph break')}"
        if graphs is not None:
            title += f", {plural(graphs, 'graph')}"
        if ops is not None:
            title += f", {plural(ops, 'operation')}"
        tables.append(_table(title, breaks))
    report = mapping(figures.get("report"))
    again = [_recompile(found) for found in mappings(report.get("recompiles"))]
    tables.append(_table(plural(len(again), "recompilation"), again))
    syncs = [_sync(found) for found in mappings(figures.get("sites"))]
    scope = word(figures.get("scope"))
    inside = "" if scope is None else f" in {scope}"
    tables.append(_table(f"{plural(len(syncs), 'line')} that made the CPU wait{inside}", syncs))
    for key, title in (
        ("new_sites", "New against the base"),
        ("gone_sites", "Gone since the base"),
    ):
        found = [_either(one) for one in sequence(figures.get(key))]
        tables.append(_table(title, [site for site in found if site is not None]))
    return tuple(table for table in tables if table.sites)


def _table(title: str, sites: list[SiteView]) -> Sites:
    return Sites(title, tuple(sites[:MOST_SITES]), max(0, len(sites) - MOST_SITES))


def _where(found: Mapping[str, Any]) -> str:
    file = short_path(word(found.get("file")) or "")
    line = count(found.get("line"))
    return f"{file}:{line}" if line else file


def _graph_break(found: Mapping[str, Any]) -> SiteView:
    notes: list[str] = []
    skipped, remedy = word(found.get("skipped")), word(found.get("remedy"))
    if found.get("disabled") is True:
        notes.append("somebody asked for it, by torch.compiler.disable")
    if skipped is not None:
        notes.append(
            f"all of {skipped} runs without compilation because of it, and breaks further on in it "
            "cannot be seen yet"
        )
    if remedy is not None:
        notes.append(f"remedy: {remedy}")
    runs = count(found.get("runs"))
    return SiteView(
        where=_where(found),
        function=word(found.get("function")) or "",
        what=word(found.get("reason")) or "",
        source=word(found.get("source")) or "",
        how_often="" if runs is None else f"runs {runs} × a call",
        notes=tuple(notes),
    )


def _recompile(found: Mapping[str, Any]) -> SiteView:
    return SiteView(
        where=_where(found),
        function=word(found.get("function")) or "",
        what=word(found.get("why")) or "",
        how_often=word(found.get("when")) or "",
    )


def _sync(found: Mapping[str, Any]) -> SiteView:
    parts = [
        (count(found.get("first_step")), "in the first step"),
        (count(found.get("steady_steps")), "in steady steps"),
        (count(found.get("outside")), "outside the steps"),
    ]
    message = ", ".join(f"{many} {where}" for many, where in parts if many)
    total = count(found.get("count"))
    return SiteView(
        where=_where(found),
        function=word(found.get("function")) or "",
        what=" · ".join(filter(None, (word(found.get("kind")), word(found.get("op"))))),
        source=word(found.get("source")) or "",
        how_often=message or ("" if total is None else f"{total} ×"),
        allowed=word(found.get("allowed")) or "",
    )


def _either(found: Any) -> SiteView | None:
    """A place of a comparison with the base: an object of any of the kinds above, or a sentence."""
    if isinstance(found, str):
        return SiteView(where=found, function="", what="")
    entry = mapping(found)
    if not entry:
        return None
    if "reason" in entry:
        return _graph_break(entry)
    if "what" not in entry:
        return _sync(entry)
    many = count(entry.get("count"))
    return SiteView(
        where=_where(entry),
        function=word(entry.get("function")) or "",
        what=": ".join(filter(None, (word(entry.get("component")), word(entry.get("what"))))),
        source=word(entry.get("source")) or "",
        how_often="" if many is None else f"{many} ×",
    )
