"""``--diffspeed-outputs``: what a later step of a CI job asks for, one ``name=value`` a line.

The form of ``$GITHUB_OUTPUT`` and of GitLab's dotenv reports.  Each value is a verdict's word or a
number, so nothing that a test is called can add a line.
"""

from __future__ import annotations

from pathlib import Path

from ...common.files import replace_file
from ...records.finished import FinishedSession
from ...records.reader import RecordedSession
from ...records.verdict import VerdictKind
from ..red_screen import is_red
from ..tally import Tally, tally_of

HELP = "write the verdict and the number of gates of each kind to PATH, a name=value a line"
MARK = "verdict="


def write(target: str, finished: FinishedSession) -> str | None:
    """Write the lines to the file ``target``."""
    tally = tally_of(finished.session)
    values = {
        "verdict": _verdict(finished.session, tally),
        **{kind.lower(): count for kind, count in tally.verdicts.items()},
        "xfailed": tally.xfailed,
        "not_checked": tally.not_checked,
        "not_run": tally.not_run,
        "failed_otherwise": tally.failed_otherwise,
    }
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    replace_file(Path(target), text)
    return f"outputs: {target}"


def _verdict(session: RecordedSession, tally: Tally) -> str:
    """``FAIL`` where a test failed, whatever its gates say, or where a part is missing; else the
    worst one, and ``NONE`` where no gate reached a verdict.
    """
    if is_red(session) or session.missing:
        return VerdictKind.FAIL.value
    reached = (VerdictKind.INCONCLUSIVE, VerdictKind.PASS)
    return next((kind.value for kind in reached if tally.verdicts[kind]), "NONE")
