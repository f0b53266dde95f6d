"""The report in GitHub's markdown: the summary of a step, or a file for a comment.

Everything that a user, a test name or a reason can put into it is shown and never obeyed: in tables
as ``<code>`` with the marks of markdown as entities (no pipe, backtick, tag, link or mention is
left), in blocks as escaped text inside ``<pre>``.  GitHub turns no ``@name`` inside these into a
mention.
"""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.files import replace_file
from ..common.text import listed, plural
from ..records.devices import Places, columns
from ..records.finished import FinishedSession
from ..records.older import axis_of
from ..records.reader import RecordedSession
from ..records.verdict import Axis, GateResult, VerdictKind
from .brief import brief
from .causes import cause_of_test, step_of_gate
from .device_matrix import GateRun, device_matrix
from .ladder import ladder_rows
from .loose import mapping, words
from .tally import VERDICTS, expected_in, tally_of, unchecked_in
from .terminal import describe, in_order, next_step

LIMIT_BYTES = 1024 * 1024
"""What GitHub takes as the summary of a step; of a longer one it shows nothing at all."""
_RESERVE = 1024
"""Bytes kept for the sentence that says what was cut."""
_LONGEST_REASON = 20_000
_LONGEST_CELL = 500
_MOST_DEVICES = 6
"""Of the headline; each has a column below."""
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


def write(target: str, finished: FinishedSession) -> str | None:
    """Write the report to the file ``target``, or append it where that is the step's summary.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(target)
    summary = os.environ.get(STEP_SUMMARY)
    appends = summary is not None and path.resolve() == Path(summary).resolve()
    before = path.stat().st_size if appends and path.exists() else 0
    text = markdown(finished.session, limit=LIMIT_BYTES - before)
    if not text:
        return (
            f"markdown: not appended to {target}, which holds {before} bytes: GitHub shows no "
            f"summary of more than {LIMIT_BYTES}"
        )
    if appends and before and not path.read_bytes().endswith(b"\n"):
        text = f"\n\n{text}"  # of what another step wrote
    if appends:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)
    else:
        replace_file(path, text)
    return f"markdown: {'appended to ' if appends else ''}{target}"


@dataclass
class _Section:
    """``rows`` may be left out from the last on; ``what`` names them where that is said."""

    what: str
    head: str
    rows: Sequence[str]
    foot: str = ""


def markdown(
    session: RecordedSession, *, limit: int = LIMIT_BYTES, shown: int = LIMIT_BYTES
) -> str:
    """The report of a session in at most ``limit`` bytes; what did not fit is counted in it.

    ``shown`` is how many bytes GitHub takes where the report will stand.  Empty where ``limit`` has
    not even room for the headline.
    """
    results = in_order(gate.result for gate in session.latest)
    text = _headline(session) + _amiss(session)
    left = limit - _RESERVE - _size(text)
    if left < 0:
        return ""
    cut: Counter[str] = Counter()
    for section in _sections(session, results):
        frame = _size(section.head + section.foot)
        rows: list[str] = []
        for row in section.rows:
            if frame + _size(row) > left:
                break
            frame += _size(row)
            rows.append(row)
        if len(rows) < len(section.rows):
            cut[section.what] += len(section.rows) - len(rows)
        if rows:
            text += section.head + "".join(rows) + section.foot
            left -= frame
    if cut:
        message = ", ".join(f"{count} {what}" for what, count in cut.items())
        text += f"\nCut, since GitHub shows at most {shown // 1024} KiB: {message}.\n"
    if session.note is not None:
        text += f"\n{code(session.note)}\n"
    return text


def _amiss(session: RecordedSession) -> str:
    """What is missing of several sessions, and what else was seen when they were put together."""
    missing = "".join(f"❌ missing: {code(sentence)}\n\n" for sentence in session.missing)
    return missing + "".join(f"{code(sentence)}\n\n" for sentence in session.remarks)


def _headline(session: RecordedSession) -> str:
    tally = tally_of(session)
    many = [f"{count} {kind}" for kind, count in tally.verdicts.items() if count]
    many += [f"{tally.xfailed} xfailed"] if tally.xfailed else []
    many += [f"{tally.not_checked} not checked"] if tally.not_checked else []
    many += [f"{tally.not_run} not run"] if tally.not_run else []
    failed = tally.failed_otherwise
    many += [f"{plural(failed, 'test')} failed otherwise"] if failed else []
    message = ", ".join(many)
    about = session.about
    base = about.get("base")
    parts = []
    if isinstance(about.get("device"), dict):
        devices = [code(column.title) for column in columns(session)]
        parts.append(f"on {listed(devices, most=_MOST_DEVICES)}")
    if session.parts:
        parts.append(f"{len(session.parts)} sessions")
    if session.pipelines:
        word = "pipeline" if len(session.pipelines) == 1 else "pipelines"
        parts.append(f"{word} {listed([code(source) for source in session.pipelines])}")
    if about.get("commit"):
        dirty = " with uncommitted changes" if about.get("dirty") else ""
        parts.append(f"commit {code(str(about['commit'])[:12])}{dirty}")
    if isinstance(base, dict):
        parts.append(f"against {code(base.get('rev') or base.get('python') or 'base')}")
    lines = [f"## diffspeed: {message or 'no gate ran'}", "", ", ".join(parts), ""]
    return "\n".join(lines) + "\n"


_MARKS = {
    VerdictKind.FAIL: "❌ FAIL",
    VerdictKind.INCONCLUSIVE: "⚠️ INCONCLUSIVE",
    VerdictKind.NOT_APPLICABLE: "⏭️ NOT_APPLICABLE",
    VerdictKind.PASS: "✅ PASS",
}
_XFAILED = "☑️ xfailed"
_TABLE = "| verdict | test | gate | found |\n|---|---|---|---|\n"


def _sections(session: RecordedSession, results: Sequence[GateResult]) -> Iterable[_Section]:
    """From what matters most to what matters least: cuts begin at the end."""
    bad = (VerdictKind.FAIL, VerdictKind.INCONCLUSIVE)
    expected, unchecked = expected_in(session), unchecked_in(session)
    names = _names(session)
    loud = [r for r in results if r.verdict in bad and id(r) not in expected]
    quiet = [r for r in results if r.verdict not in bad or id(r) in expected]
    yield _Section(
        "tests that failed otherwise",
        "| failed | test | why |\n|---|---|---|\n",
        [
            f"| ❌ | {names[id(line)]} | {_why(line)} |\n"
            for part in session.sessions
            for line in part.failed_otherwise
        ],
        "\n",
    )
    yield from _by_device(session)
    marks = {id(r): "⚠️ not checked" if id(r) in unchecked else _MARKS[r.verdict] for r in loud}
    steps = {id(gate.result): step_of_gate(gate) for gate in session.latest}
    rows = [_row(r, marks[id(r)], names[id(r)]) for r in loud]
    yield _Section("gates that did not pass", _TABLE, rows, "\n")
    yield _Section(
        "reasons", "", [_reason(r, marks[id(r)], names[id(r)], steps[id(r)]) for r in loud]
    )
    lost = [
        f"| {names[id(row)]} | {code(row['claim'])} | "
        f"{code(row.get('reason') or 'the body of the test did not end')} |\n"
        for row in session.not_run
    ]
    yield _Section(
        "gates that did not run",
        "### Not run\n\n| test | gate | why |\n|---|---|---|\n",
        lost,
        "\n",
    )
    yield _Section(
        "lines of the ladder",
        "### The ladder\n\n<pre>\n",
        [f"{block(line)}\n" for line in _ladder_lines(session)],
        "</pre>\n\n",
    )
    many = Counter(r.verdict for r in quiet if id(r) not in expected)
    summary = ", ".join(
        [f"{many[kind]} {kind}" for kind in VERDICTS if many[kind]]
        + ([f"{len(expected)} xfailed"] if expected else [])
    )
    yield _Section(
        "gates that passed or do not apply",
        f"<details><summary>{summary}</summary>\n\n{_TABLE}",
        [
            _row(r, _XFAILED if id(r) in expected else _MARKS[r.verdict], names[id(r)])
            for r in quiet
        ],
        "\n</details>\n\n",
    )
    if session.parts:
        yield _Section(
            "sessions",
            f"<details><summary>{len(session.parts)} sessions</summary>\n\n{_SESSIONS}",
            _session_rows(session),
            "\n</details>\n\n",
        )
    for column in columns(session):
        environment = column.sessions[0].about.get("environment")
        known = environment.items() if isinstance(environment, dict) else ()
        of = f" of {code(column.title)}" if session.parts else ""
        yield _Section(
            "lines on the environment",
            f"<details><summary>environment{of}</summary>\n\n| what | is |\n|---|---|\n",
            [f"| {code(name)} | {code(value)} |\n" for name, value in known],
            "\n</details>\n\n",
        )


_SESSIONS = "| session | device | began | gates | records |\n|---|---|---|---|---|\n"


def _session_rows(session: RecordedSession) -> list[str]:
    places = Places(session)
    return [
        f"| {code(places.session(part))} | {code(places.device(part))} | "
        f"{code(part.about.get('at', ''))} | {len(part.latest)} | {code(part.path.name)} |\n"
        for part in session.parts
    ]


def _by_device(session: RecordedSession) -> Iterable[_Section]:
    """A row a gate, a column a device; none where there is one device."""
    matrix = device_matrix(session)
    if len(matrix.devices) < 2:
        return
    heads = " | ".join(code(device) for device in matrix.devices)
    yield _Section(
        "gates by device",
        f"### By device\n\n| test | gate | {heads} |\n|---|---|{'---|' * len(matrix.devices)}\n",
        [
            f"| {code(row.test)} | {code(row.claim)} | "
            + " | ".join(_cell(cell) for cell in row.cells)
            + " |\n"
            for row in matrix.rows
        ],
        "\n",
    )


def _cell(runs: Sequence[GateRun]) -> str:
    """The sign of each run's verdict and what it found."""
    shown = (
        f"{_XFAILED if run.is_expected else _MARKS[run.verdict].partition(' ')[0]} "
        f"{code(run.found or run.verdict)}"
        for run in runs
    )
    return "<br>".join(shown) or "not run here"


def _ladder_lines(session: RecordedSession) -> list[str]:
    """The ladder of each session that has one."""
    places = Places(session)
    climbed = [part for part in session.sessions if part.ladder]
    lines: list[str] = []
    for part in climbed:
        lines += [places.device(part)] if len(climbed) > 1 else []
        lines += ladder_rows(part.ladder)
    return lines


def _names(session: RecordedSession) -> dict[int, str]:
    """The test of each gate and line, by identity, with where it ran if that has to be said."""
    places = Places(session)
    names: dict[int, str] = {}
    for part in session.sessions:
        results = [gate.result for gate in part.latest]
        tests = [(id(result), result.test) for result in results]
        tests += [(id(one), str(one["test"])) for one in (*part.tests, *part.not_run)]
        for key, test in tests:
            where = places.of(part, test)
            names[key] = code(test) + (f" on {code(where)}" if where else "")
    return names


def _why(line: Mapping[str, Any]) -> str:
    """Why a test failed where no gate says so, and what to do."""
    cause = cause_of_test(line)
    return "<br>".join(map(code, (line.get("error") or cause.found, *next_step(cause))))


def _row(result: GateResult, mark: str, name: str) -> str:
    cells = (mark, name, code(result.claim), code(_found(result) or result.reason))
    return f"| {' | '.join(cells)} |\n"


def _found(result: GateResult) -> str:
    """What a cell says.

    Of images that is what was missed, and what was not looked at: the line with every metric is for
    the reason below.
    """
    if axis_of(result) is not Axis.IMAGES:
        return describe(result)
    figures = result.figures
    skipped, left_out = mapping(figures.get("skipped")), words(figures.get("not_compared"))
    told = [note for note in words(figures.get("notes")) if note not in skipped.values()]
    return "; ".join(
        filter(
            None,
            (
                brief(result)[0],
                f"not checked: {', '.join(skipped)}" if skipped else "",
                f"not compared: {', '.join(left_out)}" if left_out else "",
                *told,
            ),
        )
    )


def _reason(result: GateResult, mark: str, name: str, step: Sequence[str]) -> str:
    reason = "\n".join([result.reason, *step])
    if axis_of(result) is Axis.IMAGES:
        reason = "\n".join(filter(None, (reason, describe(result))))
    if len(reason) > _LONGEST_REASON:
        more = len(reason) - _LONGEST_REASON
        reason = f"{reason[:_LONGEST_REASON]}\n… {more} more characters"
    title = f"{mark}: {name} {code(result.claim)}"
    # A blank line before <pre> ends the block of <details>, in which nothing else would be read.
    return (
        f"<details><summary>{title}</summary>\n\n<pre>\n{block(reason)}\n</pre>\n\n</details>\n\n"
    )


def code(value: object) -> str:
    """Any text as code in one cell of a table: marks that mean something as entities, one line."""
    text = " ".join(str(value).split())
    if len(text) > _LONGEST_CELL:
        text = text[:_LONGEST_CELL] + "…"
    # GitHub makes links of these words, without any mark around them.
    marks = _MARKUP | {"."} if "www." in text.lower() else _MARKUP
    shown = (char if char.isprintable() else "\ufffd" for char in text)
    marked = "".join(f"&#{ord(char)};" if char in marks else char for char in shown)
    return f"<code>{marked}</code>" if marked else ""


_MARKUP = frozenset("\\`*_~|<>&[]!@:$^#")


def block(text: str) -> str:
    """Any text inside ``<pre>``: no tag, and no control character but the line break."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    return html.escape(shown, quote=False)


def _size(text: str) -> int:
    return len(text.encode("utf-8"))
