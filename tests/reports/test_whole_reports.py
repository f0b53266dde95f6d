"""Every sentence of every report, once: what each makes of one session stands in ``whole/``.

Other tests assert facts. Where wording changes, ``make renew-texts`` writes these files again, and
the difference is reviewed like any other.
"""

import html
import io
import os
import re
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter
from report_sessions import ladder
from whole_session import SHOWN_ABOVE, green_session, whole_session

from pytest_diffspeed.plugin.terminal_block import TerminalBlock
from pytest_diffspeed.records.reader import recorded_session
from pytest_diffspeed.records.schema import fits
from pytest_diffspeed.reports.exports import formats
from pytest_diffspeed.reports.exports.export_format import Exported
from pytest_diffspeed.reports.exports.figures import figures_of
from pytest_diffspeed.reports.exports.junit import properties
from pytest_diffspeed.reports.github import annotation_lines
from pytest_diffspeed.reports.html import render
from pytest_diffspeed.reports.ladder import ladder_rows
from pytest_diffspeed.reports.markdown import markdown
from pytest_diffspeed.reports.narrow import WIDTH
from pytest_diffspeed.reports.terminal import failure

WHOLE = Path(__file__).parent / "whole"
RENEW = "DIFFSPEED_RENEW_TEXTS"
PLACE = Path("/project")


def expect(file, text):
    """That ``text`` is what ``file`` holds; written where :data:`RENEW` asks for that."""
    if os.environ.get(RENEW) == "1":
        (WHOLE / file).write_text(text, encoding="utf-8")
    assert text == (WHOLE / file).read_text(encoding="utf-8"), "if that is meant: make renew-texts"


def session(records):
    return recorded_session(records, PLACE)


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    """What the block on the terminal says of records, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PY_COLORS", "0")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.chdir(tmp_path)  # the root folder, where names of tests begin

    def terminal_(records, verbose=0):
        config = pytest.Config.fromdictargs({"verbose": verbose}, [str(tmp_path)])
        file = io.StringIO()
        say = TerminalReporter(config, file)
        block = TerminalBlock(say, config, session(records), SHOWN_ABOVE)
        block.ladder()
        block.verdicts(None)
        written = ["history: 4 figures in /project/h.sqlite; see diffspeed history list"]
        block.closing([*written, "markdown: r.md"], [], records=None)
        return file.getvalue()

    return terminal_


def test_the_records_are_records():
    for record in [*whole_session(), *ladder()]:
        assert fits(record["kind"], record), record


def test_a_red_terminal(terminal):
    said = terminal(whole_session())
    assert max(map(len, said.splitlines())) <= WIDTH
    expect("red_terminal.txt", said)


def test_a_red_terminal_with_v(terminal):
    expect("red_terminal_v.txt", terminal(whole_session(), verbose=1))


def test_a_green_terminal(terminal):
    said = terminal(green_session())
    assert not any(line.startswith("FAIL") for line in said.splitlines())
    expect("green_terminal.txt", said)


def test_the_ladder():
    expect("ladder.txt", "".join(f"{line}\n" for line in ladder_rows(session(ladder()).ladder)))


def test_markdown():
    expect("markdown.md", markdown(session(whole_session())))


def test_annotations():
    lines = annotation_lines(session(whole_session()))
    expect("annotations.txt", "".join(f"{line}\n" for line in lines))


def test_html():
    expect("html.txt", seen_in(render(session(whole_session()), PLACE)))


def test_the_html_of_a_ladder():
    expect("html_ladder.txt", seen_in(render(session(ladder()), PLACE)))


def test_properties_in_junits_xml():
    known = (gate.result for gate in session(whole_session()).latest if gate.finished)
    lines = (f"{of} = {value}\n" for of, value in properties(list(known)))
    expect("junit_properties.txt", "".join(lines))


def test_failures_in_junits_xml():
    known = (gate.result for gate in session(whole_session()).latest if gate.result.blocking)
    expect("junit_failures.txt", "".join(f"{failure(result)}\n" for result in known))


@pytest.mark.parametrize("format_name", formats())
def test_an_export(format_name):
    told_of = session(whole_session())
    chosen = formats()[format_name]
    figures = [one for one in figures_of(told_of, milliseconds=True) if one.kind in chosen.kinds]
    files = chosen.render(Exported(told_of, figures, milliseconds=True))
    for part, text in files.items():
        expect(f"export-{format_name}{f'-{part}' if part else ''}.txt", text)
    assert files


def test_no_text_is_left_of_a_report_that_is_gone():
    """Each file is one that a test above reads."""
    source = Path(__file__).read_text(encoding="utf-8")
    known = {*re.findall(r'expect\("([^"]+)"', source)}
    left = {path.name for path in WHOLE.iterdir()} - known
    assert {file.split("-", 1)[0] for file in left} <= {"export"}
    names = tuple(f"export-{of}" for of in formats())
    assert all(file.startswith(names) for file in left)


def seen_in(page):
    """The words of a page, a line for each element that stands on one."""
    page = re.sub(r"<(script|style|template|title)\b.*?</\1>", "", page, flags=re.S)
    page = re.sub(r"\s+", " ", page)
    ends = r"</?(?:p|div|section|h\d|li|tr|table|summary|details|pre|header|footer|dt)\b[^>]*>"
    page = re.sub(r"</t[dh]>", " | ", re.sub(ends, "\n", page))
    plain = (html.unescape(re.sub(r"<[^>]*>", " ", line)) for line in page.split("\n"))
    lines = (" ".join(line.split()) for line in plain)
    return "".join(f"{line}\n" for line in lines if line)
