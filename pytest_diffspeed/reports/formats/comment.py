"""``--diffspeed-comment``: the text of a pull request's comment, which a later run replaces.

Its first line is an HTML comment, which GitHub does not show: by it whoever posts the text finds
the comment of the run before.  The rest is the report of
:mod:`pytest_diffspeed.reports.markdown`, cut to what a comment may hold.
"""

from __future__ import annotations

from pathlib import Path

from ...common.files import replace_file
from ...records.finished import FinishedSession
from ..markdown import markdown

HELP = "write the text of a pull request's comment to PATH, with a hidden mark for replacing it"
MARK = "<!-- diffspeed"
HIDDEN = f"{MARK} -->\n"
LIMIT = 65536
"""Characters of a comment that GitHub takes; a longer one is refused.  Counted in bytes here, of
which no text has fewer."""
_FOR_OTHERS = 2048
"""Bytes left for whoever posts the text: a name in the mark, a link to the run."""


def write(target: str, finished: FinishedSession) -> str | None:
    """Write the text to the file ``target``."""
    limit = LIMIT - _FOR_OTHERS
    replace_file(Path(target), HIDDEN + markdown(finished.session, limit=limit, shown=LIMIT))
    return f"comment: {target}"
