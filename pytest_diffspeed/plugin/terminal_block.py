"""What is printed when a session ends: the ladder, each gate, and the next command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pytest

from ..gates.many_gates import over_many_gates
from ..records.reader import RecordedGate, RecordedSession
from ..records.verdict import GateResult, VerdictKind
from ..reports.ladder import ladder_rows
from ..reports.narrow import WIDTH, near, wrapped
from ..reports.red_screen import headline, is_red, red_lines
from ..reports.terminal import gate_lines, ladder_table
from .next_command import github_lines, next_command
from .stash import BODY_DID_NOT_END, PICTURE_NOT_WRITTEN

_COLOURS: Mapping[VerdictKind | None, Mapping[str, bool]] = {
    None: {},
    VerdictKind.PASS: {"green": True},
    VerdictKind.FAIL: {"red": True, "bold": True},
    VerdictKind.INCONCLUSIVE: {"yellow": True},
    VerdictKind.NOT_APPLICABLE: {"light": True},
}


def is_verbose(config: pytest.Config) -> bool:
    return config.get_verbosity() > 0


class TerminalBlock:
    """Prints one session: all of it with ``-v``, and where nothing failed; of a red session its
    failures, each once in three lines of at most a hundred columns, and one line for all else.
    """

    def __init__(
        self,
        say: pytest.TerminalReporter,
        config: pytest.Config,
        session: RecordedSession,
        shown_above: Collection[str],
    ) -> None:
        self._say = say
        self._config = config
        self._session = session
        self._shown_above = shown_above
        self._is_verbose = is_verbose(config)
        self._is_short = is_red(session) and not self._is_verbose

    def ladder(self) -> None:
        """The rows of the suite without a test file, where it ran."""
        if self._session.ladder:
            self._say.write_sep("=", "diffspeed: the ladder")
            for line in ladder_rows(self._session.ladder):
                self._say.write_line(line)

    def verdicts(self, nothing_checked: str | None) -> None:
        """Each gate, and the sentence that none reached a verdict, where that is so."""
        say, session = self._say, self._session
        say.write_sep("=", headline(session) if self._is_short else "diffspeed")
        if self._is_short:
            for verdict, line in red_lines(session, self._shown_above):
                say.write_line(line, **_COLOURS[verdict])
        else:
            self._all_gates()
        if nothing_checked is not None:
            self._line(nothing_checked, red=True, bold=True)
        if not self._is_short:
            self._ratios()

    def _all_gates(self) -> None:
        for gate in _unchecked(self._session):
            test, claim = gate.result.test, gate.result.claim
            self._say.write_line(f"not checked     {test}  {claim}", red=True, bold=True)
            for line in str(gate.error).splitlines():
                self._say.write_line(f"                {line}", red=True)
        results, xfailed = results_of(self._session), self._session.xfailed
        for verdict, line in gate_lines(results, verbose=self._is_verbose, xfailed=xfailed):
            self._say.write_line(line, **_COLOURS[verdict])
        for lost in self._session.not_run:
            self._say.write_line(f"not run         {lost['test']}  {lost['claim']}", yellow=True)
            self._say.write_line(
                f"                {lost.get('reason', BODY_DID_NOT_END)}", yellow=True
            )

    def _ratios(self) -> None:
        results = results_of(self._session)
        table = ladder_table(results)
        if table:
            self._say.write_line("")
            self._say.write_line("whole calls:")
        for line in table:
            self._say.write_line(line)
        many = over_many_gates(results)
        if many is not None:
            self._line(many)

    def closing(
        self, sentences: Sequence[str], problems: Sequence[str], *, records: Path | None
    ) -> None:
        """Pictures, what was written and could not be, and what to run next."""
        session = self._session
        if self._is_short:
            self._written(sentences)
        else:
            self._pictures()
            for line in sentences:
                self._say.write_line(line)
        for line in problems:
            self._say.write_line(line, red=True, bold=True)
        for line in github_lines(session):
            self._say.write_line(line)
        unchecked = [gate.result.test for gate in _unchecked(session)]
        failed = [str(line["test"]) for line in session.failed_otherwise]
        expected = session.xfailed
        results = [r for r in results_of(session) if r.test not in expected]
        again = next_command(self._config, results, unchecked, records, failed)
        for line in [again] if self._is_verbose else _folded(again):
            self._say.write_line(line)

    def _written(self, sentences: Sequence[str]) -> None:
        """What is where, in one line; what to do with it stands below a green session."""
        images = _images(self._session)
        lost = [image for image in images if image.startswith(PICTURE_NOT_WRITTEN)]
        drawn = [image for image in images if image not in lost]
        pictures = [f"images: {len(drawn)} in {_folder(drawn)}"] if drawn else []
        files = (sentence.partition("; ")[0] for sentence in sentences)
        text = near("; ".join([*pictures, *lost, *files]), self._session.path)
        for line in wrapped(text):
            self._say.write_line(line)

    def _pictures(self) -> None:
        """Each of them with ``-v`` or if it is the only one, else their folder."""
        images = _images(self._session)
        if not images:
            return
        head = "images (baseline, optimized, difference × 8):"
        if self._is_verbose or len(images) == 1:
            for line in ("", head, *(f"    {image}" for image in images)):
                self._say.write_line(line)
            return
        self._say.write_line(f"{head} {len(images)} in {_folder(images)}")

    def _line(self, text: str, **colour: bool) -> None:
        for line in [text] if self._is_verbose else wrapped(text):
            self._say.write_line(line, **colour)


def _folded(text: str) -> list[str]:
    """A sentence that ends with a command, in lines that a shell reads as one."""
    if len(text) <= WIDTH:
        return [text]
    sentence, _, command = text.partition(": ")
    lines = [f"{sentence}:"]
    for word in map(shlex.quote, shlex.split(command)):
        longer = f"{lines[-1]} {word}"
        if len(longer) > WIDTH - 2:  # room for the sign that it goes on
            lines.append(f"    {word}")
        else:
            lines[-1] = longer
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def results_of(session: RecordedSession) -> list[GateResult]:
    """The verdicts of the gates, each of its last run; none of one that did not end."""
    return [gate.result for gate in session.latest if gate.finished]


def _unchecked(session: RecordedSession) -> list[RecordedGate]:
    """Gates that were tried and could not be checked."""
    return [gate for gate in session.latest if gate.error is not None]


def _folder(images: Sequence[str]) -> str:
    """Where all of them are."""
    return os.path.commonpath([image.rpartition("/")[0] for image in images])


def _images(session: RecordedSession) -> list[str]:
    """The pictures of each test; of one that was stopped, those that its gates had drawn."""
    of_tests = (test.get("images") or [] for test in session.tests)
    of_gates = ((g.figures.get("pictures") or [])[:1] for g in results_of(session))
    return list(dict.fromkeys(image for some in (*of_tests, *of_gates) for image in some))
