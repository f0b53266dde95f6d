"""``--diffspeed-strict``: no gate that was collected is left without a verdict."""

import pytest

HEAD = """
import pytest
"""
GATED = """
@pytest.mark.diffspeed("channels_last")
@pytest.mark.no_gpu_syncs({restriction})
{more}
def {name}(optimized_pipeline):
    {body}
"""


def gated(name, *, restriction="", more="", body="pass"):
    return GATED.format(name=name, restriction=restriction, more=more, body=body)


def no_verdicts(result):
    """Test, claim and reason of each gate that is listed."""
    lines = result.outlines
    found = {}
    for place, line in enumerate(lines):
        if line.startswith("no verdict "):
            test = line.split()[2].partition("::")[2].partition("[")[0]
            found[test] = lines[place + 1].strip()
    return found


PASSING = gated("test_passes")
LEFT_OUT = [
    (gated("test_a", more='@pytest.mark.skip(reason="later")'), [], "skipped: Skipped: later"),
    (gated("test_a", more='@pytest.mark.xfail(run=False, reason="r")'), [], "xfailed before its"),
    (gated("test_a"), ["--deselect=test_it.py::test_a"], "deselected"),
    (gated("test_a"), ["-k", "test_passes"], "deselected"),
    (gated("test_a", restriction='device="NVIDA H100*"'), [], "NOT_APPLICABLE: "),
    (gated("test_a", body='pytest.skip("in the body")'), [], "not run: the body of the test"),
    (gated("test_a", body="assert 0"), [], "not run: the body failed: AssertionError"),
    (
        gated("test_a", more='@pytest.mark.parametrize("x", [])').replace("(opt", "(x, opt"),
        [],
        "skipped: Skipped: got empty parameter set",
    ),
]


@pytest.mark.parametrize(("test", "words", "why"), LEFT_OUT)
def test_a_gate_without_a_verdict_fails_the_session(pytester, run_diffspeed, test, words, why):
    pytester.makepyfile(test_it=HEAD + PASSING + test)
    result = run_diffspeed("--diffspeed-strict", *words)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = no_verdicts(result)
    assert list(found) == ["test_a"]
    assert found["test_a"].startswith(why)
    result.stdout.fnmatch_lines(["1 gate was collected and reached no verdict, so this session *"])


def test_gates_that_come_after_the_session_ended_are_listed(pytester, run_diffspeed):
    first = "def test_first():\n    assert 0\n"
    pytester.makepyfile(test_it=HEAD + first + PASSING)
    result = run_diffspeed("--diffspeed-strict", "-x")
    assert no_verdicts(result) == {"test_passes": "the session ended before"}


def test_a_session_without_a_test_of_ours_fails(pytester, run_diffspeed):
    pytester.makepyfile(test_it="def test_other(): ...")
    words = ("--diffspeed-strict", "--junitxml=junit.xml")
    result = run_diffspeed(*words)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = "no diffspeed test was collected, so this session fails (--diffspeed-strict)"
    result.stdout.fnmatch_lines([said])
    assert said in (pytester.path / "junit.xml").read_text("utf-8")
    assert run_diffspeed().ret == pytest.ExitCode.OK


def test_when_all_reached_one_nothing_is_said(pytester, run_diffspeed):
    pytester.makepyfile(test_it=HEAD + PASSING)
    result = run_diffspeed("--diffspeed-strict")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*strict*")


def test_in_the_ini_file(pytester, run_diffspeed):
    pytester.makeini("[pytest]\ndiffspeed_strict = true\n")
    pytester.makepyfile(test_it=HEAD + PASSING + gated("test_a"))
    assert no_verdicts(run_diffspeed("-k", "passes")) == {"test_a": "deselected"}


def test_collecting_alone_fails_nothing(pytester, run_diffspeed):
    pytester.makepyfile(test_it=HEAD + PASSING)
    assert run_diffspeed("--diffspeed-strict", "--collect-only").ret == pytest.ExitCode.OK


@pytest.mark.slow
def test_under_xdist_what_workers_left_out_is_listed_once(pytester, run_diffspeed):
    pytester.makepyfile(test_it=HEAD + PASSING + gated("test_a") + gated("test_b"))
    result = run_diffspeed("--diffspeed-strict", "-n", "1", "--deselect=test_it.py::test_a")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert no_verdicts(result) == {"test_a": "deselected"}
    result.stdout.no_fnmatch_line("no diffspeed test was collected*")
