"""What commands that read records take: one file, or those of several sessions as one."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..records.merging import Merged, merge


def add_records(parser: argparse.ArgumentParser) -> None:
    """Declare the files, and what must be true of them together."""
    parser.add_argument(
        "records",
        type=Path,
        nargs="+",
        metavar="RECORDS",
        help="what --diffspeed-json wrote, or a journal; several files, as of the shards of a "
        "suite or of GPUs of several kinds, are taken as one",
    )
    parser.add_argument(
        "--shards",
        type=_at_least_one,
        metavar="N",
        help="there must be N sessions (shards that were made with --diffspeed-shard know it "
        "themselves)",
    )
    parser.add_argument(
        "--mixed-commits",
        action="store_true",
        help="take records of several commits together, which is refused otherwise",
    )


def merge_asked(arguments: argparse.Namespace) -> Merged:
    """The files of a command line as one.

    Raises:
        RecordError: as :func:`.merging.merge`.
    """
    return merge(
        arguments.records, sessions=arguments.shards, mixed_commits=arguments.mixed_commits
    )


def _at_least_one(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text[:9]) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text[:60]!r}")
    return int(text[:9])
