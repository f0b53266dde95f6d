"""What processes that share a device noted: when they held its lock, and what they took.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def kept_apart(notes: Sequence[Mapping[str, Any]]) -> tuple[bool, str, dict[str, Any]]:
    """Whether moments of timed calls, and of holders of the lock, exclude each other.

    Workers of a base time for their parent, which holds the lock for them.
    """
    timed = sorted((row for row in notes if row["kind"] == "timed"), key=lambda row: row["began"])
    locks = [row for row in notes if row["kind"] == "lock"]
    held = sorted((row for row in locks if not row["shared"]), key=lambda row: row["began"])
    clashes = [*_overlaps(timed), *_overlaps(held)]
    for draws in (row for row in locks if row["shared"]):
        clashes += [
            (draws, times)
            for times in held
            if draws["pid"] != times["pid"]
            and draws["began"] < times["ended"]
            and times["began"] < draws["ended"]
        ]
    outside = [
        call
        for call in timed
        if not any(
            one["pid"] == call["pid"]
            and one["began"] <= call["began"]
            and call["ended"] <= one["ended"]
            for one in held
        )
    ]
    holders = {row["pid"] for row in held}
    timers = {row["pid"] for row in timed}
    waits = [round(row["began"] - row["asked"], 3) for row in held]
    found = (
        f"{len(timed)} timed calls of {len(timers)} processes, {len(held)} locks of "
        f"{len(holders)}; {len(clashes)} overlap, {len(outside)} timed without the lock; "
        f"longest wait {max(waits, default=0):.1f} s"
    )
    ok = not clashes and not outside and len(timers) >= 2 and len(holders) >= 2
    moments = [
        {key: row[key] for key in ("pid", "worker", "shared", "asked", "began", "ended")}
        for row in locks
    ]
    figures = {"waits_s": waits, "locks": moments, "clashes": clashes[:5], "outside": outside[:5]}
    return ok, found, figures


def _overlaps(
    spans: Sequence[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Pairs of spans of different processes that share a moment; ``spans`` by their beginning."""
    clashes = []
    latest: Mapping[str, Any] | None = None
    for span in spans:
        if latest is not None and span["began"] < latest["ended"] and span["pid"] != latest["pid"]:
            clashes.append((latest, span))
        if latest is None or span["ended"] > latest["ended"]:
            latest = span
    return clashes


def most_of_each(notes: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, int]]:
    """By process: the most that torch had allocated and reserved when a call began."""
    found: dict[int, dict[str, int]] = {}
    for row in notes:
        if row["kind"] == "memory" and "reserved" in row:
            most = found.setdefault(row["pid"], {"allocated": 0, "reserved": 0})
            for name in most:
                most[name] = max(most[name], row[name])
    return found


def context_bytes(notes: Sequence[Mapping[str, Any]], before: int) -> float:
    """What a process takes beside torch's reserve: the median over moments at which a call began.

    Processes that have come by that moment are taken to be there, so it is a low estimate.
    """
    known: dict[int, int] = {}
    shares = []
    for row in sorted(notes, key=lambda row: row["at"]):
        if row["kind"] == "memory" and "used_on_device" in row:
            known[row["pid"]] = row["reserved"]
            beside = row["used_on_device"] - before - sum(known.values())
            shares.append(beside / len(known))
    return statistics.median(shares) if shares else 0.0
