"""Each figure as a JSON object on a line of its own: for ``jq``, a spreadsheet or a notebook."""

from __future__ import annotations

import json
from typing import Any

from .export_format import Exported, Format


def render(exported: Exported) -> dict[str, str]:
    """One file; commit, time and machine stand on each line, so that files can be put together."""
    about = exported.session.about
    session: dict[str, Any] = {
        name: about.get(name) for name in ("at", "commit", "committed_at", "dirty", "machine")
    }
    lines = [json.dumps({**vars(figure), **session}) for figure in exported.figures]
    return {"": "".join(f"{line}\n" for line in lines)} if lines else {}


FORMATS = (Format("jsonlines", "each figure as a JSON object a line", render),)
