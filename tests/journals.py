"""What sessions of a test wrote: the records of a file, and of the project's journals.

Raw lines, not :mod:`pytest_diffspeed.records.reader`: what is written is the subject here.
"""

import json

import pytest


def records_in(path, kind=None):
    """The objects of a file of JSON lines, or those of one kind; no NaN and no infinity."""
    lines = path.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    return [record for record in records if kind in (None, record["kind"])]


def journal_path(pytester):
    """The journal of the one session that a project has had."""
    (path,) = (pytester.path / ".diffspeed" / "records").glob("*.jsonl")
    return path


def journaled(pytester, kind=None):
    """What all sessions of a project have journaled so far."""
    paths = sorted((pytester.path / ".diffspeed" / "records").glob("*.jsonl"))
    return [record for path in paths for record in records_in(path, kind)]
