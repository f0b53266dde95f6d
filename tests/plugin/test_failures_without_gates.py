"""A proof that failed, a fixture that raised, a failing body: who reads a report sees why."""

import re

import pytest
from markupsafe import escape

from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.reports.github import message_text

CONFTEST = """
from pytest_diffspeed.extend import NotEffectiveError
from pytest_diffspeed.techniques.catalog.layout import ChannelsLast

class Broken(ChannelsLast):
    name = "broken"

    def prove(self, pipeline, seen):
        raise NotEffectiveError("broken: expected 12 convolutions, found 0")

def pytest_diffspeed_techniques():
    return [Broken()]
"""
TESTS = """
import pytest

@pytest.mark.diffspeed("broken")
@pytest.mark.no_gpu_syncs()
def test_proof(optimized_pipeline): ...

@pytest.mark.diffspeed("channels_last")
@pytest.mark.no_gpu_syncs()
def test_body(optimized_pipeline):
    assert False, "<b>someone's own</b>"

@pytest.fixture
def raising():
    raise ValueError("nothing here")

@pytest.mark.diffspeed("channels_last")
@pytest.mark.no_gpu_syncs()
def test_fixture(optimized_pipeline, raising): ...

@pytest.fixture
def lingering():
    yield
    raise OSError("still in use")

@pytest.mark.diffspeed("channels_last")
@pytest.mark.no_gpu_syncs()
def test_teardown(optimized_pipeline, lingering): ...

@pytest.mark.diffspeed("channels_last")
def test_no_gate(optimized_pipeline):
    assert False, "no gate"

@pytest.mark.diffspeed("channels_last")
@pytest.mark.no_gpu_syncs()
@pytest.mark.xfail(strict=True, reason="it once read a value")
def test_fixed(optimized_pipeline): ...
"""
BEFORE_GATES = {
    "test_it.py::test_proof[broken]": "set-up failed: broken: expected 12 convolutions, found 0",
    "test_it.py::test_body[channels_last]": (
        "the body failed: AssertionError: <b>someone's own</b> (line 10 of test_it.py)"
    ),
    "test_it.py::test_fixture[channels_last]": (
        "set-up failed: ValueError: nothing here (line 14 of test_it.py)"
    ),
}
WHY = {
    **BEFORE_GATES,
    "test_it.py::test_teardown[channels_last]": (
        "teardown failed: OSError: still in use (line 23 of test_it.py)"
    ),
    "test_it.py::test_no_gate[channels_last]": (
        "the body failed: AssertionError: no gate (line 31 of test_it.py)"
    ),
    "test_it.py::test_fixed[channels_last]": (
        "it failed beside its gates: [XPASS(strict)] it once read a value"
    ),
}


SHOWN = {
    "test_it.py::test_proof[broken]": (
        "NOT EFFECTIVE",
        "broken: expected 12 convolutions, found 0",
    ),
    "test_it.py::test_body[channels_last]": (
        "TEST BODY",
        """test_it.py:10  assert False, "<b>someone's own</b>\"""",
    ),
    "test_it.py::test_fixture[channels_last]": (
        "SETUP",
        'test_it.py:14  raise ValueError("nothing here")',
    ),
    "test_it.py::test_teardown[channels_last]": (
        "TEARDOWN",
        'test_it.py:23  raise OSError("still in use")',
    ),
    "test_it.py::test_no_gate[channels_last]": (
        "TEST BODY",
        'test_it.py:31  assert False, "no gate"',
    ),
    "test_it.py::test_fixed[channels_last]": (
        "TEST FAILED",
        "[XPASS(strict)] it once read a value",
    ),
}
"""On the terminal: the kind, and the line below it."""


@pytest.fixture
def failed(pytester, run_diffspeed, monkeypatch):
    """A session of red tests none of which has a gate that says why, on GitHub."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TESTS)
    outputs = ("--diffspeed-json=r.jsonl", "--diffspeed-markdown=r.md", "--diffspeed-html=r.html")
    result = run_diffspeed(*outputs, "-rfEs", "--tb=no")
    result.assert_outcomes(failed=3, passed=1, errors=3)
    return result


def test_each_reader_is_told_which_and_why(pytester, failed):
    session = read_journal(pytester.path / "r.jsonl")
    told = {str(line["test"]): line["error"] for line in session.failed_otherwise}
    assert told.keys() == WHY.keys()
    assert all(told[test].startswith(why) for test, why in WHY.items()), told
    assert {str(line["test"]): line["reason"] for line in session.not_run} == BEFORE_GATES

    lines = failed.outlines
    assert "E       AssertionError" not in failed.stdout.str()  # --tb=no, so the block has it all
    for test, (kind, second) in SHOWN.items():
        head = f"{kind:<14} {test}"
        (place,) = (n for n, line in enumerate(lines) if line.startswith(head))
        assert lines[place + 1].startswith(f"    {second}")
        assert lines[place + 2].startswith("    next: ")
        annotation = next(x for x in lines if x.startswith("::error ") and f"::{test}%0A" in x)
        assert annotation.startswith("::error file=test_it.py,line=")
        assert message_text(WHY[test]) in annotation and "%0Anext: " in annotation
    # A proof says it in one sentence, which stands in no traceback of pytest's beside it.
    said = [line for line in lines if "expected 12 convolutions" in line]
    assert len(said) == 2, said  # and in an annotation
    # The short summary, since -r asks for one.
    assert [line for line in lines if line.startswith(("FAILED ", "ERROR "))] == [
        "FAILED test_it.py::test_body[channels_last] - TEST BODY",
        "FAILED test_it.py::test_no_gate[channels_last] - TEST BODY",
        "FAILED test_it.py::test_fixed[channels_last] - [XPASS(strict)] it once read a...",
        "ERROR test_it.py::test_proof[broken] - NOT EFFECTIVE",
        "ERROR test_it.py::test_fixture[channels_last] - SETUP",
        "ERROR test_it.py::test_teardown[channels_last] - TEARDOWN",
    ]
    assert lines.count("1 gate was asked for and none reached a verdict, so this session") == 0
    assert f"'{next(iter(WHY))}'" in "\n".join(lines).rpartition("again, this one")[2]

    markdown = (pytester.path / "r.md").read_text("utf-8")
    headline = "2 PASS, 3 not run, 6 tests failed otherwise"
    assert markdown.startswith(f"## diffspeed: {headline}\n")
    pieces = ("expected 12 convolutions, found 0", "someone's own", "nothing here")
    for piece in (*pieces, "still in use", "it once read a value"):
        assert piece in markdown
    failed_rows = [line for line in markdown.splitlines() if line.startswith("| ❌ ")]
    assert len(failed_rows) == 6 and all("next&#58; see its" in row for row in failed_rows[1:])
    assert "<b>" not in markdown

    page = (pytester.path / "r.html").read_text("utf-8")
    assert "set-up failed: broken: expected 12 convolutions, found 0" in page
    assert "&lt;b&gt;someone" in page
    blocks = re.findall(r'<div class="failure">(.*?)</div>', page, re.S)
    assert len(blocks) == 6
    for test, (kind, second) in SHOWN.items():
        (one,) = (block for block in blocks if escape(WHY[test][:60]) in block)
        assert f"<strong>{kind}</strong>" in one and '<p class="next">next: ' in one
        place, _, source = second.partition("  ")
        assert not source or escape(source) in one
