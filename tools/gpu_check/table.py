"""The table at the end: part, check, expected, found, verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from checks import BAD, VERDICTS, checks_of
from parts import PARTS

_WIDEST = 110
_COLUMNS = ("check", "expected", "found", "verdict")


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The results of a run, bad ones marked; long cells are cut here and whole in the file."""
    run = next((row for row in rows if row["kind"] == "run"), {})
    checks = checks_of(rows)
    lines = [f"# What the check found: {verdict_line(checks)}", ""]
    for name in ("date", "commit", "device", "cuda_driver", "python", "versions", "command"):
        if run.get(name):
            lines.append(f"- {name.replace('_', ' ')}: {_told(run[name])}")
    for entry in PARTS:
        own = [check for check in checks if check["part"] == entry.key]
        if not own:
            continue
        took = next(
            (r["seconds"] for r in rows if r["kind"] == "ended" and r["part"] == entry.key), None
        )
        after = "" if took is None else f" ({took:.0f} s)"
        lines += ["", f"## {entry.key}. {entry.title}{after}", ""]
        lines += ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
        for check in own:
            lines.append("| " + " | ".join(_cell(check, name) for name in _COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def verdict_line(checks: Sequence[Mapping[str, Any]]) -> str:
    """``41 as expected, 2 differ …``, all kinds that occurred."""
    counts = Counter(check["verdict"] for check in checks)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])


def is_red(checks: Sequence[Mapping[str, Any]]) -> bool:
    return not checks or any(check["verdict"] in BAD for check in checks)


def _cell(check: Mapping[str, Any], name: str) -> str:
    text = " ".join(str(check[name]).split()).replace("|", "\\|")
    if len(text) > _WIDEST:
        text = text[: _WIDEST - 1] + "…"
    return f"**{text}**" if name == "verdict" and text in BAD else text


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {version}" for key, version in value.items())
    return str(value)
