"""What a session says when something goes wrong in the middle, and that it says each thing once."""

import xml.etree.ElementTree as ElementTree

import pytest

from pytest_diffspeed.common.errors import UnexpectedError
from pytest_diffspeed.gates.catalog.graph_breaks import NoGraphBreaks
from pytest_diffspeed.gates.catalog.syncs import SyncGates
from pytest_diffspeed.gates.gate import Gate
from pytest_diffspeed.records.reader import read_journal

TWO_GATES = """
import pytest

@pytest.mark.diffspeed("channels_last")
@pytest.mark.no_gpu_syncs(scope="call", first_step=99, per_step=99)
@pytest.mark.no_gpu_syncs()
def test_it(optimized_pipeline):{body}
"""
RED = """
import pytest

@pytest.mark.diffspeed("channels_last")
@pytest.mark.no_gpu_syncs(device="cuda")
def test_it(optimized_pipeline): ...
"""
STEPS, CALL = "no_gpu_syncs in scheduler.step", "no_gpu_syncs in call"


@pytest.fixture
def two_gates(pytester):
    """Write a test with two gates that count, and this body."""

    def write(body=" ..."):
        pytester.makepyfile(test_it=TWO_GATES.format(body=body))

    return write


def junit(pytester):
    """Names of the failed test cases of ``junit.xml``, with what they say; what else it counts."""
    suite = ElementTree.parse(pytester.path / "junit.xml").getroot().find("testsuite")
    failed = {
        case.get("name"): case.find("failure").text
        for case in suite.iter("testcase")
        if case.find("failure") is not None
    }
    return failed, {name: int(suite.get(name)) for name in ("failures", "errors", "tests")}


# --- a gate that raises


class Raising(Gate):
    """Half of its markers raise what nobody meant to."""

    def check(self, marker, context):
        if marker.max_breaks:
            return {}[marker.max_breaks]
        return "checked"


def test_what_a_gate_raises_does_not_keep_the_next_from_being_checked():
    markers = [NoGraphBreaks.from_arguments(max_breaks=many) for many in (3, 0, 4)]
    checked = dict(Raising().check_all(markers, None))
    assert checked[markers[1]] == "checked"
    for marker in (markers[0], markers[2]):
        error = checked[marker]
        assert isinstance(error, UnexpectedError) and isinstance(error.__cause__, KeyError)
        assert str(error).startswith(f"KeyError: {marker.max_breaks} (")
        assert "test_amiss_while_it_runs.py:" in str(error)


def test_inference_mode_of_a_fixture_hides_no_sync(pytester, run_diffspeed, two_gates):
    pytester.makeconftest(
        """
        import pytest, torch
        @pytest.fixture(scope="session", autouse=True)
        def mode():
            with torch.inference_mode():
                yield
        """
    )
    two_gates()
    run_diffspeed("--diffspeed-json=r.jsonl").assert_outcomes(passed=1)
    gates = read_journal(pytester.path / "r.jsonl").gates
    found = {gate.result.claim: gate.result.figures for gate in gates}
    assert found[STEPS]["first_step"] == found[STEPS]["outside"] == 0
    assert found[CALL]["outside"] == 6  # what SDXL copies to the GPU in a call, as without it


@pytest.fixture
def raised(monkeypatch):
    """Have the gate of one scope raise this; the other one counts as ever."""
    real = SyncGates.check

    def raise_(error, scope):
        def check(self, marker, context):
            if marker.scope == scope:
                raise error
            return real(self, marker, context)

        monkeypatch.setattr(SyncGates, "check", check)

    return raise_


def test_a_gate_that_raises_is_told_with_its_traceback(pytester, run_diffspeed, two_gates, raised):
    raised(ZeroDivisionError("no such thing"), "call")
    two_gates()
    result = run_diffspeed("--diffspeed-json=r.jsonl")
    result.assert_outcomes(failed=1)
    gates = {gate.result.claim: gate for gate in read_journal(pytester.path / "r.jsonl").gates}
    assert gates[CALL].error.startswith("ZeroDivisionError: no such thing (")
    assert str(gates[STEPS].result.verdict) == "PASS"
    result.stdout.fnmatch_lines(["Traceback (most recent call last):", "ZeroDivisionError: no*"])


# --- a user who stops it


def test_ctrl_c_names_the_gates_that_have_no_verdict(pytester, two_gates, raised):
    raised(KeyboardInterrupt(), "scheduler.step")
    two_gates()
    words = ("--diffspeed", "--diffspeed-device=cpu", "--diffspeed-steps=1")
    result = pytester.runpytest_inprocess(
        *words, "--diffspeed-pipeline=random:sdxl-tiny", no_reraise_ctrlc=True
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    place = result.outlines.index(f"not run         test_it.py::test_it[channels_last]  {STEPS}")
    assert result.outlines[place + 1].strip() == "stopped by the user before it was measured"
    assert any(CALL in line and line.startswith("PASS") for line in result.outlines)


# --- plugins that report a test several times


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest has subtests since 9")
def test_subtests_leave_one_line_a_gate(pytester, run_diffspeed, two_gates):
    two_gates("\n    for n in range(3):\n        with subtests.test(n=n): assert n != {bad}")
    path = pytester.path / "test_it.py"
    code = path.read_text().replace("optimized_pipeline)", "optimized_pipeline, subtests)")
    path.write_text(code.replace("{bad}", "9"))
    result = run_diffspeed("--diffspeed-json=r.jsonl")
    assert result.ret == pytest.ExitCode.OK
    assert not any("not run" in line for line in result.outlines)
    session = read_journal(pytester.path / "r.jsonl")
    assert [gate.result.claim for gate in session.gates] == [CALL, STEPS]
    assert not session.not_run and not session.failed_otherwise

    path.write_text(code.replace("{bad}", "1"))
    result = run_diffspeed("--diffspeed-json=r.jsonl")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not any("not run" in line for line in result.outlines)
    session = read_journal(pytester.path / "r.jsonl")
    (line,) = session.failed_otherwise
    assert "assert 1 != 1" in line["error"]


# --- sessions that call no test


@pytest.mark.parametrize("option", ["--setup-plan", "--setup-only"])
def test_what_shows_fixtures_only_fails_nothing_and_keeps_earlier_records(
    pytester, run_diffspeed, two_gates, option
):
    two_gates()
    mark = '{"schema": "diffspeed/1", "kind": "session"'  # by which it is known as one of ours
    (pytester.path / "r.jsonl").write_text(mark)
    result = run_diffspeed(option, "--diffspeed-json=r.jsonl", "--diffspeed-strict")
    assert result.ret == pytest.ExitCode.OK
    assert "optimized_pipeline" in result.stdout.str()
    assert not any("verdict" in line for line in result.outlines)
    assert (pytester.path / "r.jsonl").read_text() == mark


# --- what JUnit's XML says of a session that failed as a whole


def test_a_session_without_a_verdict_is_red_in_junit(pytester, run_diffspeed):
    pytester.makepyfile(test_it=RED)
    result = run_diffspeed("--junitxml=junit.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    failed, counts = junit(pytester)
    assert counts == {"failures": 1, "errors": 0, "tests": 2}
    assert "none reached a verdict" in failed["every session reaches a verdict"]


def test_a_strict_session_names_the_gate_in_junit(pytester, run_diffspeed, two_gates):
    two_gates()
    path = pytester.path / "test_it.py"
    path.write_text(path.read_text() + RED.replace("import pytest", "").replace("_it", "_other"))
    result = run_diffspeed("--junitxml=junit.xml", "--diffspeed-strict")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    failed, counts = junit(pytester)
    assert counts == {"failures": 1, "errors": 0, "tests": 3}
    assert "test_it.py::test_other[channels_last]" in failed["every gate reaches a verdict"]


# --- the repository, and TOML


def test_a_repository_that_git_refuses_is_said_with_the_remedy(
    pytester, run_diffspeed, two_gates, monkeypatch
):
    pytester.run("git", "init", "--quiet", str(pytester.path))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own, for tests of this
    two_gates()
    result = run_diffspeed("--setup-plan")
    (line,) = [line for line in result.outlines if "git does not tell the commit" in line]
    assert f"git config --global --add safe.directory '{pytester.path}'" in line
    result = run_diffspeed("--diffspeed-base=HEAD~1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "safe.directory" in "\n".join(result.errlines)


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest.toml came with pytest 9")
def test_toml_may_hold_numbers_and_says_what_it_may_not_hold(pytester, run_diffspeed, two_gates):
    two_gates()
    toml = pytester.path / "pytest.toml"
    toml.write_text("[pytest]\ndiffspeed_budget = 3.5\ndiffspeed_instances = 1\n")
    result = run_diffspeed("--setup-plan")
    assert result.ret == pytest.ExitCode.OK
    assert any("budget 3.5 s" in line for line in result.outlines)
    toml.write_text('[pytest]\ndiffspeed_budget = ["3.5"]\n')
    result = run_diffspeed("--setup-plan")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = "\n".join(result.errlines)
    assert "diffspeed_budget" in text and "write it as text, in quotes" in text
