"""``diffspeed report``: a report on records that were written before."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..common.errors import RecordError, UsageError
from ..history.url import check_store, parse_store
from ..records.finished import FinishedSession
from ..records.lines import read_lines
from ..reports.formats import help_of_formats
from ..reports.report_format import format_of
from ..reports.writers import with_history, writer_of


def add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command among those of ``diffspeed``."""
    parser = commands.add_parser(
        "report", help="a report on the records of a session, of a killed one too"
    )
    parser.add_argument("records", type=Path, help="what --diffspeed-json wrote, or a journal")
    for name in _formats():
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
    parser.set_defaults(run=run_report)


def run_report(arguments: argparse.Namespace) -> int:
    """Write the reports that were asked for.

    Raises:
        RecordError: the records cannot be read.
        StoreError: the store cannot be read.
        UsageError: no report was asked for, or it cannot be written.
    """
    asked = {name: getattr(arguments, name) for name in _formats()}
    targets = {name: str(path) for name, path in asked.items() if path is not None}
    if not targets:
        options = ", ".join(f"--{name} FILE" for name in asked)
        raise UsageError(f"name what to write, one or several: {options}")
    lines = read_lines(arguments.records)
    finished = FinishedSession(lines.records, arguments.rootdir.resolve(), lines=lines)
    if not lines.records:
        note = "" if lines.note is None else f": {lines.note}"
        raise RecordError(f"{arguments.records} holds no records, and nothing was written{note}")
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
    if lines.note is not None:
        print(lines.note)
    return 0


def _formats() -> list[str]:
    return [name for name in help_of_formats() if format_of(name).from_records]
