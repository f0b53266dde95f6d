"""``diffspeed history``: list, show, publish, export, import and prune what sessions found."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Row, func, select

from ..common.errors import DiffspeedError, RecordError, UsageError
from ..common.files import check_output, replacing
from ..common.text import number, plural
from ..common.workdir import NAME
from ..history.exchange import Imported, export_lines, import_file
from ..history.prune import prune
from ..history.series import LAST, holds, in_order, iso
from ..history.tables import POINT, SERIES, SESSION
from ..history.url import DEFAULT
from ..records.series import is_part
from .history_index import index
from .history_place import HistoryPlace
from .history_show import show
from .history_site import TITLE, site
from .history_text import plain


def main(argv: Sequence[str]) -> int:
    """The exit status: 0, or 2 where what was asked could not be done."""
    arguments = _parser().parse_args(argv)
    try:
        run: Callable[[argparse.Namespace, HistoryPlace], None] = arguments.run
        run(arguments, HistoryPlace(arguments))
    except DiffspeedError as error:
        print(f"diffspeed: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--store",
        metavar="URL",
        default=DEFAULT,
        help=f"as pytest's --diffspeed-store (default: {DEFAULT})",
    )
    shared.add_argument(
        "--rootdir",
        type=Path,
        metavar="FOLDER",
        help=f"pytest's rootdir (default: the nearest folder upwards with a {NAME} in it)",
    )
    parser = argparse.ArgumentParser(prog="diffspeed history", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser(
        "list",
        parents=[shared],
        help="tests and their ratios and counts, with the last value of each",
    )
    listing.add_argument("--all", action="store_true", help="other figures too, as of images")
    listing.add_argument(
        "text", metavar="TEXT", nargs="?", help="only tests with it in their names"
    )
    listing.set_defaults(run=_list)

    showing = commands.add_parser(
        "show", parents=[shared], help="one test's series, with jumps and drift"
    )
    showing.add_argument(
        "test", metavar="TEST", help="a test's name, or a part of it: the first test that has it"
    )
    showing.add_argument("--stack", help="of this stack only")
    showing.add_argument("--environment", metavar="DIGEST", help="of this environment only")
    showing.add_argument(
        "--anchor", metavar="COMMIT", help="tell drift against this commit's level"
    )
    showing.add_argument(
        "--last", type=_whole, default=LAST, metavar="N", help=f"the newest N points ({LAST})"
    )
    showing.add_argument("--points", action="store_true", help="print every point too")
    showing.set_defaults(run=show)

    indexing = commands.add_parser(
        "index", parents=[shared], help="speed over commits, from comparisons with a base"
    )
    indexing.add_argument(
        "test", metavar="TEST", nargs="?", help="only tests with it in their names"
    )
    indexing.add_argument("--anchor", metavar="COMMIT", help="the index is 1 at this commit")
    indexing.add_argument(
        "--all", action="store_true", help="all curves of a test, where no comparison joins them"
    )
    indexing.add_argument("--points", action="store_true", help="print every commit too")
    indexing.set_defaults(run=index)

    pages = commands.add_parser(
        "site", parents=[shared], help="all of it as static pages, for a web server or a browser"
    )
    pages.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="an empty folder, or an earlier site"
    )
    pages.add_argument("--title", default=TITLE, help=f"what the pages are called ({TITLE})")
    pages.add_argument(
        "--last", type=_whole, default=LAST, metavar="N", help=f"the newest N points ({LAST})"
    )
    pages.set_defaults(run=site)

    export = commands.add_parser("export", parents=[shared], help="all records as JSON lines")
    export.add_argument("file", metavar="FILE", help="a path, or - for standard output")
    export.set_defaults(run=_export)

    importing = commands.add_parser(
        "import",
        parents=[shared],
        help="records of an export, of --diffspeed-json, or of the journal of a run",
    )
    importing.add_argument("files", metavar="FILE", nargs="+", type=Path)
    importing.set_defaults(run=_import)

    pruning = commands.add_parser("prune", parents=[shared], help="forget old sessions")
    pruning.add_argument("--keep", type=_whole, metavar="N", help="keep the newest N sessions")
    pruning.add_argument(
        "--keep-days", type=_days, metavar="DAYS", help="keep the sessions of the last DAYS days"
    )
    pruning.add_argument("--yes", action="store_true", help="do it, and do not only say what")
    pruning.set_defaults(run=_prune)
    return parser


def _list(arguments: argparse.Namespace, place: HistoryPlace) -> None:
    own = POINT.alias()
    of_series = own.c.series_id == SERIES.c.id
    many = select(func.count()).select_from(own).where(of_series).correlate(SERIES)
    newest = own.c.order_s.desc(), own.c.at_s.desc(), own.c.id.desc()
    latest = select(own.c.id).where(of_series).order_by(*newest).limit(1).correlate(SERIES)
    columns = POINT.c.value, POINT.c.verdict, POINT.c.order_s
    joined = SERIES.join(POINT, POINT.c.id == latest.scalar_subquery())
    rows = in_order(
        select(SERIES, many.scalar_subquery().label("many"), *columns).select_from(joined)
    )
    if arguments.text is not None:
        rows = rows.where(holds(SERIES.c.test, arguments.text))
    first: str | None = None
    with place.store.reading() as connection:
        sessions = connection.execute(select(func.count()).select_from(SESSION)).scalar_one()
        print(f"history in {place.name}: {sessions} session{'' if sessions == 1 else 's'}")
        where = test = None
        folded: list[str] = []
        whole = claim = ""
        for row in connection.execution_options(yield_per=1000).execute(rows):
            here = (row.machine_name, row.machine, row.condition)
            if (where, test) != (here, (row.test, row.stack)):
                _print_folded(folded)
            if here != where:
                print(
                    f"{plain(row.machine_name)} (environment {plain(row.machine[:8])}), "
                    f"{plain(row.condition)}"
                )
                where, test = here, None
            if (row.test, row.stack) != test:
                test = row.test, row.stack
                stack = "" if f"[{row.stack}]" in row.test else f", stack {plain(row.stack)}"
                print(f"  {plain(row.test)}{stack}")
            is_of_whole = row.claim == claim and is_part(row.figure, whole)
            if not is_of_whole:
                whole, claim = row.figure, row.claim
            if not (arguments.all or (_is_listed(row) and not is_of_whole)):
                folded.append(row.figure)
                first = first or row.test
                continue
            points = f"{row.many} point{'' if row.many == 1 else 's'}"
            print(
                f"    {plain(row.figure)} of {plain(row.claim)}: {points}, last "
                f"{number(row.value)} {plain(row.verdict)} ({iso(row.order_s)[:10]})"
            )
            first = first or row.test
        _print_folded(folded)
    if first is not None:
        place.then("one test over its commits", "show", first)
    elif arguments.text is not None:
        print("no test has that in its name")
        place.then("all tests", "list")
    else:
        print("no figures yet")
        place.then("an earlier run's journal can be stored", "import", f"{NAME}/records/…")


def _is_listed(row: Row[Any]) -> bool:
    """Ratios and counts are what tells a test from another; its images have dozens of figures, and
    so have the parts of a count (each type of FLOPs, each component).
    """
    return bool(row.is_counted) or str(row.figure).endswith("ratio")


def _print_folded(figures: list[str]) -> None:
    """Say in one line what was not listed, and forget it."""
    if not figures:
        return
    names = ", ".join(plain(figure) for figure in figures[:3])
    more = ", …" if len(figures) > 3 else ""
    print(f"    {plural(len(figures), 'other figure')} ({names}{more}); --all lists them")
    figures.clear()


def _export(arguments: argparse.Namespace, place: HistoryPlace) -> None:
    if arguments.file == "-":
        for line in export_lines(place.store):
            sys.stdout.write(line)
        return
    path = Path(arguments.file)
    with _replacing(path) as file:
        records = 0
        for line in export_lines(place.store):
            file.write(line)
            records += 1
    print(f"{records} records in {path}")
    place.then("into another store", "import", str(path))


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A file that takes the place of ``path`` only once all of it is written."""
    check_output(str(path), "diffspeed")
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def _import(arguments: argparse.Namespace, place: HistoryPlace) -> None:
    refused = 0
    for path in arguments.files:
        try:
            done = import_file(place.store, path, _progress())
        except RecordError as error:
            if len(arguments.files) == 1:
                raise
            print(f"diffspeed: {error}", file=sys.stderr)
            refused += 1
            continue
        if sys.stderr.isatty():
            print(file=sys.stderr)
        known = f", {done.known} there already" if done.known else ""
        print(f"{path}: {done.stored} sessions stored with {done.points} figures{known}")
        if done.left_out:
            print(f"{path}: {done.left_out} lines could not be read and count as not written")
        if done.stray:
            print(f"{path}: {done.stray} records stand before any session and were left out")
    if refused:
        many = len(arguments.files)
        raise RecordError(f"{refused} of {many} files were refused; the others are stored")
    place.then("what there is now", "list")


def _progress() -> Callable[[Imported], None]:
    if not sys.stderr.isatty():
        return lambda done: None

    def tell(done: Imported) -> None:
        count = done.stored + done.known
        print(f"\r{count} sessions", end="", file=sys.stderr, flush=True)

    return tell


def _prune(arguments: argparse.Namespace, place: HistoryPlace) -> None:
    keep, days = arguments.keep, arguments.keep_days
    if keep is None and days is None:
        raise UsageError("prune needs --keep N or --keep-days DAYS (with both, either keeps)")
    done = prune(place.store, keep=keep, keep_days=days, really=arguments.yes)
    what = f"{done.sessions} sessions with {done.records} records"
    if arguments.yes:
        print(f"forgot {what}; {done.kept} are kept in {place.name}")
        place.then("what there is now", "list")
        return
    print(f"would forget {what} and keep {done.kept}; nothing was changed")
    if not done.sessions:
        place.then("what there is now", "list")
        return
    args = [] if keep is None else ["--keep", str(keep)]
    args += [] if days is None else ["--keep-days", f"{days:g}"]
    place.then("a copy first", "export", "history.jsonl")
    place.then("do it", "prune", *args, "--yes")


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 < days < 1e6:
        raise argparse.ArgumentTypeError(f"must be a positive number of days, not {text!r}")
    return days
