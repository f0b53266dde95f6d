"""``--diffspeed-markdown``; see :mod:`pytest_diffspeed.reports.markdown`."""

from __future__ import annotations

from ..markdown import write as write

HELP = "write a report to PATH in GitHub's markdown; appended where PATH is $GITHUB_STEP_SUMMARY"
MARK = "## diffspeed"
