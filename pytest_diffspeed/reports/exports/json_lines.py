"""Each figure as a JSON object on a line of its own: for ``jq``, a spreadsheet or a notebook."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...records.devices import device_name
from .export_format import Exported, Format
from .figures import ExportedFigure


def render(exported: Exported) -> dict[str, str]:
    """One file; commit, time and machine stand on each line, so that files can be put together."""
    sessions = exported.session.sessions
    lines = [json.dumps(_line(one, sessions[one.place].about)) for one in exported.figures]
    return {"": "".join(f"{line}\n" for line in lines)} if lines else {}


def _line(figure: ExportedFigure, about: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in vars(figure).items() if name not in ("where", "place")}
    session = {name: about.get(name) for name in _OF_SESSION}
    return {**own, **session, "device": device_name(about)}


_OF_SESSION = ("at", "commit", "committed_at", "dirty", "machine")


FORMATS = (Format("jsonlines", "each figure as a JSON object a line", render),)
