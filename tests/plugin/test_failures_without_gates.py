"""A proof that failed, a fixture that raised, a failing body: who reads a report sees why."""

import pytest

from pytest_diffspeed.records.reader import read_journal

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
"""
WHY = {
    "test_it.py::test_proof[broken]": "set-up failed: broken: expected 12 convolutions, found 0",
    "test_it.py::test_body[channels_last]": (
        "the body failed: AssertionError: <b>someone's own</b> (line 10 of test_it.py)"
    ),
    "test_it.py::test_fixture[channels_last]": (
        "set-up failed: ValueError: nothing here (line 14 of test_it.py)"
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
}
"""On the terminal: the kind, and the line below it."""


@pytest.fixture
def failed(pytester, run_diffspeed, monkeypatch):
    """A session of three red tests whose gates never ran, on GitHub."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TESTS)
    outputs = ("--diffspeed-json=r.jsonl", "--diffspeed-markdown=r.md", "--diffspeed-html=r.html")
    result = run_diffspeed(*outputs, "-rfEs", "--tb=no")
    result.assert_outcomes(failed=1, errors=2)
    return result


def test_each_reader_is_told_which_and_why(pytester, failed):
    session = read_journal(pytester.path / "r.jsonl")
    assert {str(line["test"]): line["error"] for line in session.failed_otherwise} == WHY
    assert {str(line["test"]): line["reason"] for line in session.not_run} == WHY

    lines = failed.outlines
    assert "E       AssertionError" not in failed.stdout.str()  # --tb=no, so the block has it all
    for test, (kind, second) in SHOWN.items():
        head = f"{kind:<14} {test}"
        (place,) = (n for n, line in enumerate(lines) if line.startswith(head))
        assert lines[place + 1].startswith(f"    {second}")
        assert lines[place + 2].startswith("    next: ")
        annotation = next(x for x in lines if x.startswith("::error ") and f"::{test}%0A" in x)
        assert annotation.startswith("::error file=test_it.py,line=")
        assert f"{WHY[test]}%0Anext: " in annotation
    # A proof says it in one sentence, which stands in no traceback of pytest's beside it.
    said = [line for line in lines if "expected 12 convolutions" in line]
    assert len(said) == 2, said  # and in an annotation
    # The short summary, since -r asks for one.
    assert [line for line in lines if line.startswith(("FAILED ", "ERROR "))] == [
        "FAILED test_it.py::test_body[channels_last] - TEST BODY",
        "ERROR test_it.py::test_proof[broken] - NOT EFFECTIVE",
        "ERROR test_it.py::test_fixture[channels_last] - SETUP",
    ]
    assert lines.count("1 gate was asked for and none reached a verdict, so this session") == 0
    assert f"'{next(iter(WHY))}'" in "\n".join(lines).rpartition("again, this one")[2]

    markdown = (pytester.path / "r.md").read_text("utf-8")
    assert markdown.startswith("## diffspeed: 3 not run, 3 tests failed otherwise\n")
    for piece in ("expected 12 convolutions, found 0", "someone's own", "nothing here"):
        assert piece in markdown
    assert "<b>" not in markdown

    page = (pytester.path / "r.html").read_text("utf-8")
    assert "set-up failed: broken: expected 12 convolutions, found 0" in page
    assert "&lt;b&gt;someone" in page
