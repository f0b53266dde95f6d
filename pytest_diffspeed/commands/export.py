"""``diffspeed export``: records in the format of another tool."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..common.errors import RecordError, UsageError, nearest
from ..common.files import check_output, replace_file
from ..common.text import listed
from ..records.shard import shard_of
from ..reports.exports import formats
from ..reports.exports.export_format import Exported
from ..reports.exports.figures import figures_of, without_figures
from .several_records import add_records, merge_asked


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "export",
        help="write records in the format of another tool",
        description="Ratios, counts and similarity are exported; durations only with "
        "--milliseconds, since those of two machines must not be compared.",
        epilog="formats: " + "; ".join(f"{one.name} ({one.about})" for one in formats().values()),
    )
    add_records(parser)
    parser.add_argument("--format", required=True, metavar="FORMAT", help=", ".join(formats()))
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help="where to (default: the terminal)"
    )
    parser.add_argument("--milliseconds", action="store_true", help="durations too")
    parser.set_defaults(run=export)


def export(arguments: argparse.Namespace) -> int:
    """Write the export, and say on stderr what is not in it; 1 where a part of several is missing.

    Raises:
        UsageError: the format is not known, or writes two files and there is one place for both.
        RecordError: the records cannot be read, or the export cannot be written.
    """
    chosen = formats().get(arguments.format)
    if chosen is None:
        raise UsageError(
            f"--format: no format is called {arguments.format!r}; "
            f"{nearest(arguments.format, formats())}"
        )
    output: Path | None = arguments.output
    if output is not None:
        check_output(str(output), "")
    if output is None and len(chosen.parts) > 1:
        raise UsageError(
            f"--format={chosen.name} writes {len(chosen.parts)} files; name them with -o PATH.json"
        )
    session = merge_asked(arguments).session
    found = figures_of(session, milliseconds=arguments.milliseconds)
    figures = tuple(figure for figure in found if figure.kind in chosen.kinds)
    files = chosen.render(Exported(session, figures, arguments.milliseconds))
    for sentence in (session.note, *session.remarks, *session.missing):
        if sentence is not None:
            _say(sentence)
    left_out = without_figures(session, figures)
    if left_out:
        many = "1 gate has" if len(left_out) == 1 else f"{len(left_out)} gates have"
        message = f"{many} no figure that {chosen.name} can carry:"
        _say("\n    ".join([message, *left_out]))
    if not files:
        raise RecordError(
            f"{listed(list(map(str, arguments.records)))} holds nothing that {chosen.name} can "
            f"carry, and nothing was written: {chosen.about}"
        )
    for word in chosen.parts:
        _write(files.get(word), output, word)
    is_of_many = session.parts or arguments.shards or shard_of(session.about)
    return 1 if is_of_many and session.missing else 0


def _write(text: str | None, output: Path | None, word: str) -> None:
    if output is None:
        sys.stdout.write(text or "")
        return
    path = output.with_name(f"{output.stem}.{word}{output.suffix}") if word else output
    try:
        if text is None:  # what an earlier export left there is not this session's
            path.unlink(missing_ok=True)
            _say(f"{path}: not written, since it would be empty")
        else:
            replace_file(path, text)
            _say(f"written: {path}")
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror}") from error


def _say(sentence: str) -> None:
    print(f"diffspeed export: {sentence}", file=sys.stderr)
