"""``diffspeed report``: one report on records that were written before, of one session or many."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..common.errors import UsageError
from ..common.text import plural
from ..history.url import check_store, parse_store
from ..records.finished import FinishedSession
from ..records.outcome import red_reasons
from ..records.reader import RecordedSession
from ..records.verdict import VerdictKind
from ..reports.formats import help_of_formats
from ..reports.writers import with_history, writer_of
from .several_records import add_records, merge_asked


def add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command among those of ``diffspeed``."""
    parser = commands.add_parser(
        "report",
        help="a report on the records of a session, of a killed one too, or of several as one",
        description="Ends with 0 if all that is reported is green, with 1 if a gate or a session "
        "of it is red or something is missing, and with 2 if nothing could be written.",
    )
    add_records(parser)
    for name in help_of_formats():
        help_text = help_of_formats()[name].replace("PATH", "FILE", 1)
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=help_text)
    parser.add_argument(
        "--rootdir",
        type=Path,
        default=Path(),
        help="the folder that paths of pictures start from (default: the current one)",
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="show the history of these tests too, from a store named as for --diffspeed-store",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="every gate must have reached a verdict on one of the devices, as with "
        "--diffspeed-strict",
    )
    parser.set_defaults(run=run_report)


def run_report(arguments: argparse.Namespace) -> int:
    """Write the reports that were asked for; 1 where what they report is red.

    Raises:
        RecordError: the records cannot be read, or are of several commits.
        StoreError: the store cannot be read.
        UsageError: no report was asked for, or it cannot be written.
    """
    asked = {name: getattr(arguments, name) for name in help_of_formats()}
    targets = {name: str(path) for name, path in asked.items() if path is not None}
    if not targets:
        options = ", ".join(f"--{name} FILE" for name in asked)
        raise UsageError(f"name what to write, one or several: {options}")
    merged = merge_asked(arguments)
    finished = FinishedSession(merged.records, arguments.rootdir.resolve(), read=merged.session)
    if arguments.store is not None:
        try:
            store = parse_store(arguments.store)
            if store is not None:
                check_store(store, finished.rootdir)
        except UsageError as error:
            raise UsageError(f"--store: {error}") from None
        finished = with_history(finished, store)
    for name, target in targets.items():
        try:
            print(writer_of(name)(target, finished))
        except OSError as error:
            raise UsageError(f"cannot write {target}: {error.strerror}") from error
    for remark in merged.session.remarks:
        print(remark)
    reasons = red_reasons(merged.session, strict=arguments.strict)
    for reason in reasons:
        print(f"red: {reason}")
    if not reasons:
        print(f"green: {_what_is_green(merged.session)}")
    return 1 if reasons else 0


def _what_is_green(session: RecordedSession) -> str:
    passed = sum(gate.result.verdict is VerdictKind.PASS for gate in session.latest)
    many = len(session.sessions)
    return f"{plural(passed, 'gate')} PASS{f' in {many} sessions' if many > 1 else ''}"
