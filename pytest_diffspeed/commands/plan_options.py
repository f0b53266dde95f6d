"""What ``diffspeed plan`` takes; apart from the command, which imports pytest."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..history.url import DEFAULT
from ..records.shard import MOST


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.add_argument("--shards", type=_shards, required=True, metavar="N", help="how many")
    parser.add_argument(
        "--records",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="take seconds from these files of --diffspeed-json, and not from the history",
    )
    parser.add_argument(
        "--store", metavar="URL", default=DEFAULT, help=f"the history (default: {DEFAULT})"
    )
    parser.add_argument("--rootdir", type=Path, metavar="FOLDER", help="pytest's rootdir")
    parser.add_argument(
        "--device",
        metavar="PATTERN",
        help="take seconds of this device only: cpu, cuda, or a pattern of its name",
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FOLDER",
        help="write the words of each shard to FOLDER/shard-I-of-N.txt, and do not print them",
    )
    parser.add_argument(
        "words", nargs="*", metavar="TEST", help="as pytest takes them; after --, its options too"
    )


def _shards(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= MOST:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {MOST}, not {text[:60]!r}"
        )
    return int(text)
