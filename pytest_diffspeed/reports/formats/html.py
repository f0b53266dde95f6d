"""``--diffspeed-html``: one page; see :mod:`pytest_diffspeed.reports.html`."""

from __future__ import annotations

from ..html import write as write

HELP = "write a report to PATH: one file that opens without a network"
MARK = "diffspeed"
SHOWS_HISTORY = True
