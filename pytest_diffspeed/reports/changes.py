"""A change of a series in one line, the same on the terminal and in HTML."""

from __future__ import annotations

from ..common.text import number
from ..records.series import Change, Series

SHORT = 10
"""Characters of a commit's name that people need."""


def change_line(series: Series, change: Change) -> str:
    """Such as ``jump -12.2 % (worse): 1.8 → 1.58, after 1a2b3c by 4d5e6f (subject)``."""
    judged = "worse" if series.is_worse(change) else "better"
    percent, moved = "", change.after - change.before
    if change.before:
        percent = f" {100 * moved / abs(change.before):+.1f} %"
    if series.is_counted and percent[2:] == "0.0 %":  # of many thousands one is a change too
        percent = f" {'+' if moved > 0 else '-'}{number(abs(moved))}"
    levels = f"{number(change.before)} → {number(change.after)}"
    return f"jump{percent} ({judged}): {levels}, {_place(series, change)}"


def _place(series: Series, change: Change) -> str:
    first = series.points[change.index]
    if change.after_commit is None or change.by_commit is None:
        return f"between {series.points[change.index - 1].at} and {first.at}"
    if change.after_commit == change.by_commit:
        return f"between two sessions of {short(change.by_commit)}: no commit is the cause"
    where = f"after {short(change.after_commit)} by {short(change.by_commit)}"
    subject = f" ({first.subject})" if first.subject else ""
    if first.commit == change.by_commit:
        return where + subject
    return f"{where}, most likely {short(first.commit)}{subject}"


def short(commit: str | None) -> str:
    return "no commit" if commit is None else commit[:SHORT]


def how_it_goes_on(before: Series, after: Series) -> str:
    """Of one figure in two environments: one after the other, or beside each other."""
    if after.points[0].at >= before.points[-1].at:
        return "it goes on in another environment"
    return "the same figure in another environment, in part of the same time"
