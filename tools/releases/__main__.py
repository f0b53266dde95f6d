"""Count the host syncs of released versions of diffusers, as a history whose commits are versions.

    make releases                         every release below
    make releases ARGS="v0.41.0 v0.42.1"  these; the others stay as they were

Each is installed into an environment of its own under ``build/releases``, beside the torch that
runs this; ``diffspeed audit … --json`` counts there.  What it printed becomes the records of a
session in ``docs/releases/sessions.jsonl``, which ``diffspeed history import`` reads, and
``docs/releases.md`` says what differs.  Ends with 2 if a release could not be counted.
"""

from __future__ import annotations

import argparse
import sys

from counting import CannotCount, counted
from page import write_page
from sessions import read_sessions, session_of, write_sessions

RELEASES = {
    "v0.35.2": "2025-10-15T04:05:14+00:00",
    "v0.36.0": "2025-12-08T10:14:31+00:00",
    "v0.37.0": "2026-03-05T14:58:37+00:00",
    "v0.37.1": "2026-03-25T08:04:02+00:00",
    "v0.38.0": "2026-05-01T05:42:12+00:00",
    "v0.39.0": "2026-07-03T08:48:45+00:00",
    "v0.40.0": "2026-08-20T14:30:38+00:00",
    "v0.41.0": "2026-10-06T06:24:12+00:00",
    "v0.42.0": "2026-10-23T15:36:08+00:00",
    "v0.42.1": "2026-10-27T07:22:24+00:00",
}
"""Tags of diffusers and when their wheels came to the package index.  Before 0.35.2 the package has
not the classes that our counter asks for."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("releases", nargs="*", metavar="TAG", help=", ".join(RELEASES))
    parser.add_argument("--page", action="store_true", help="only write the page again")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.releases) - set(RELEASES))
    if unknown:
        parser.error(f"{unknown[0]} is no release that is known here; valid: {', '.join(RELEASES)}")
    sessions = read_sessions()
    failed = False
    for tag in () if arguments.page else arguments.releases or RELEASES:
        try:
            rows, environment = counted(tag.removeprefix("v"))
        except CannotCount as error:
            print(f"{tag}: NOT COUNTED: {error}", file=sys.stderr)
            failed = True
            continue
        sessions[tag] = session_of(tag, RELEASES[tag], rows, environment)
        print(f"{tag}: {sum(row['report'] is not None for row in rows)} of {len(rows)} counted")
        write_sessions([sessions[one] for one in RELEASES if one in sessions])
    write_page([sessions[one] for one in RELEASES if one in sessions])
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
