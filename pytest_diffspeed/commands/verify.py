"""``diffspeed verify``: whether the gates that a repository expects were really checked.

Pytest can be green without a gate: ``-k`` and ``--deselect`` leave it out, ``-p no:…`` leaves the
whole plug-in out, ``os._exit(0)`` in a body ends the session with 0.  This command is another
process: it reads what a session recorded and holds it against a list in the repository.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import RecordError, UsageError
from ..common.files import check_output, replace_file
from ..common.text import first_line, plural
from ..records.reader import RecordedSession
from ..records.verdict import GateResult, VerdictKind
from .several_records import add_records, merge_asked

HEAD = (
    "# Gates that must be checked, as `test | claim`.  Written by\n"
    "#     diffspeed verify records.jsonl --save THIS_FILE\n"
)

_RANKS = {
    VerdictKind.FAIL: 0,
    VerdictKind.INCONCLUSIVE: 1,
    VerdictKind.PASS: 2,
    VerdictKind.NOT_APPLICABLE: 3,
}
"""Which of several runs of a gate is told: the worst, and last that a device lacks something."""


@dataclass(frozen=True)
class Expected:
    """One gate: pytest's name of the test, with its stack in brackets, and what it claims."""

    test: str
    claim: str

    def __str__(self) -> str:
        return f"{self.test} | {self.claim}"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "verify",
        help="whether every gate of a list was checked and passed, for CI",
        description="Ends with 0 if each gate of the list is in the records with a PASS, with 1 if "
        "one is not, and with 2 if records or list cannot be read.  Without a list: whether any "
        "gate reached a verdict at all.",
    )
    add_records(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--expect", type=Path, metavar="FILE", help="the list to hold it against")
    what.add_argument(
        "--save", type=Path, metavar="FILE", help="write the list of the gates in these records"
    )
    parser.add_argument(
        "--commit",
        metavar="HASH",
        help="the records must be of this commit (its beginning is enough)",
    )
    parser.set_defaults(run=verify)


def verify(arguments: argparse.Namespace) -> int:
    """Hold records against a list, or write one; without a list any verdict will do.

    Raises:
        RecordError: the records cannot be read, or are of another commit.
        UsageError: the list cannot be read or written.
    """
    for path in arguments.records:
        if not path.exists():
            raise RecordError(
                f"there is no {path}: the session did not end, or did not run with --diffspeed "
                f"--diffspeed-json={path}"
            )
    session = merge_asked(arguments).session
    for part in session.sessions:
        if arguments.commit:
            _require_commit(part, arguments.commit)
    for sentence in session.missing:
        print(f"missing: {sentence}")
    if arguments.save is not None:
        return _save(session, arguments.save)
    if arguments.expect is None:
        return max(_any_verdict(session), int(bool(session.missing)))
    expected = read_expected(arguments.expect)
    problems = dict(missing(session, expected))
    for gate, why in problems.items():
        print(f"not verified: {gate}: {why}")
    more = len({Expected(g.result.test, g.result.claim) for g in session.gates} - set(expected))
    beside = f"; {more} more in the records are not in the list" if more else ""
    print(f"{len(expected) - len(problems)} of {len(expected)} gates verified{beside}")
    return 1 if problems or session.missing else 0


def read_expected(path: Path) -> tuple[Expected, ...]:
    """The gates of a list.

    Raises:
        UsageError: it cannot be read, has a line that is none of a list, or no gate.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    found: list[Expected] = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        test, bar, claim = content.rpartition(" | ")  # a test's id may have bars in it
        if not bar or not test.strip() or not claim.strip():
            raise UsageError(f"{path}:{number}: {content[:200]!r} is not `test | claim`")
        found.append(Expected(test.strip(), claim.strip()))
    if not found:
        raise UsageError(f"{path} names no gate, so nothing would be verified")
    return tuple(dict.fromkeys(found))


def missing(
    session: RecordedSession, expected: tuple[Expected, ...]
) -> Iterator[tuple[Expected, str]]:
    """Each expected gate that did not pass, with the reason.

    Of several sessions one may not be able to ask it, as a CPU a gate of a GPU; each run of it that
    looked at evidence must have passed.
    """
    found: dict[Expected, GateResult] = {}
    for gate in session.latest:
        key = Expected(gate.result.test, gate.result.claim)
        if key not in found or _RANKS[gate.result.verdict] < _RANKS[found[key].verdict]:
            found[key] = gate.result
    not_run: Mapping[Expected, str] = {
        Expected(str(line["test"]), str(line["claim"])): str(line.get("reason") or "")
        for line in session.not_run
    }
    tests: dict[str, str] = {}
    for line in session.tests:
        if tests.get(str(line["test"])) != "failed" or not session.parts:
            tests[str(line["test"])] = str(line["outcome"])
    for asked in expected:
        result = found.get(asked)
        if result is not None and result.verdict is VerdictKind.PASS:
            if tests.get(asked.test) == "failed":
                yield asked, "PASS, and its test failed all the same"
            continue
        if result is not None:
            reason = first_line(result.reason, otherwise="")
            yield asked, f"{result.verdict}: {reason}"
        elif asked in not_run:
            yield asked, f"not run: {not_run[asked] or 'the body of the test did not end'}"
        elif asked.test in tests:
            yield asked, f"its test {tests[asked.test]}, and this gate is not in the records"
        else:
            yield asked, "its test is not in the records: it was not collected, or left out"


def _require_commit(session: RecordedSession, wanted: str) -> None:
    commit = str(session.about.get("commit") or "")
    if not commit.startswith(wanted):
        raise RecordError(
            f"{session.path} is of commit {commit or '(none)'}, not of {wanted}: an earlier "
            "session left it there"
        )


def _any_verdict(session: RecordedSession) -> int:
    """1 where the records hold no verdict: a ratio without a pair is none."""
    reached = [
        gate
        for gate in session.latest
        if gate.error is None
        and gate.result.verdict.reached
        and gate.result.figures.get("pairs") != 0
    ]
    if not reached:
        print(f"not verified: no gate in {session.path} reached a verdict: nothing was checked")
        return 1
    print(f"{plural(len(reached), 'gate')} reached a verdict")
    return 0


def _save(session: RecordedSession, path: Path) -> int:
    gates = sorted({str(Expected(g.result.test, g.result.claim)) for g in session.gates})
    if not gates:
        raise RecordError(f"{session.path} has no gate, so the list would be empty")
    check_output(str(path), HEAD[:20])
    try:
        replace_file(path, HEAD + "\n".join(gates) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    print(f"{len(gates)} gates in {path}")
    return 0
