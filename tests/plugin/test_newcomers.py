"""What a newcomer stumbled over: each mistake is told, and costs nothing that was there before."""

import pytest

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.records.reader import read_journal

TEST = """
import pytest

@pytest.mark.diffspeed("channels_last")
@pytest.mark.{marker}
def test_it(optimized_pipeline): ...
"""

EARLIER = '## diffspeed {"schema": "diffspeed/1"}'
"""Of an earlier session, whatever the output."""


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no_gpu_sync()", "no_gpu_syncs"),
        ("no_graph_break()", "no_graph_breaks"),
        ("min_speed_up(2)", "min_speedup"),
        ("image_similarty()", "image_similarity"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnknownMarkWarning")
def test_a_misspelt_gate_is_a_usage_error(pytester, run_diffspeed, written, meant):
    pytester.makepyfile(TEST.format(marker=written))
    result = run_diffspeed()
    result.assert_outcomes(errors=1)
    name = written.partition("(")[0]
    result.stdout.fnmatch_lines(
        [f"*test_it: no marker is called '{name}', so it would check nothing; did you mean *"]
    )
    result.stdout.fnmatch_lines([f"*did you mean '{meant}'?*"])


def test_a_registered_marker_may_be_called_so(pytester, run_diffspeed):
    pytester.makeini("[pytest]\nmarkers = no_gpu_sync: our own\n")
    pytester.makepyfile(TEST.format(marker="no_gpu_sync()"))
    run_diffspeed().assert_outcomes(passed=1)


def test_collecting_overwrites_no_report(pytester, run_diffspeed):
    pytester.makepyfile(TEST.format(marker="no_gpu_syncs()"))
    written = {"json": "r.jsonl", "html": "r.html", "markdown": "r.md"}
    for name in written.values():
        (pytester.path / name).write_text(EARLIER)
    words = [f"--diffspeed-{option}={name}" for option, name in written.items()]
    result = run_diffspeed("--collect-only", *words)
    assert result.ret == pytest.ExitCode.OK
    for name in written.values():
        assert (pytester.path / name).read_text() == EARLIER
    result.stdout.no_fnmatch_line("*keeping the records*")


def test_one_step_is_counted_with_two(pytester, run_diffspeed):
    pytester.makepyfile(TEST.format(marker="no_gpu_syncs()"))
    run_diffspeed("--diffspeed-steps=1", "--diffspeed-json=r.jsonl").assert_outcomes(passed=1)
    (gate,) = read_journal(pytester.path / "r.jsonl").gates
    assert gate.result.figures["per_step"] == [0]


@pytest.mark.parametrize(
    "option",
    [
        "--diffspeed-base=main",
        "--diffspeed-base-python=python",
        "--diffspeed-json=r.jsonl",
        "--diffspeed-budget=3",
        "--diffspeed-prompts=a cat",
        "--diffspeed-fresh",
        "--diffspeed-save-counts",
    ],
)
def test_an_option_without_diffspeed_is_no_green_run(pytester, libraries, option):
    pytester.makepyfile(TEST.format(marker="no_gpu_syncs()"))
    result = pytester.runpytest_inprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *without it every diffspeed test is skipped; add --diff*"])
    assert f"ERROR: {option.partition('=')[0]} was given without --diffspeed" in str(result.stderr)


def test_in_ci_pytest_without_diffspeed_is_no_green_run(pytester, libraries, monkeypatch):
    pytester.makepyfile(TEST.format(marker="no_gpu_syncs()"))
    monkeypatch.setenv("DIFFSPEED_CI", "0")
    assert pytester.runpytest_inprocess().ret == pytest.ExitCode.OK
    monkeypatch.setenv("DIFFSPEED_CI", "1")
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: DIFFSPEED_CI=1 was given without --diffspeed*"])


def test_what_the_ini_file_sets_may_always_stand_there(pytester, libraries):
    pytester.makepyfile(TEST.format(marker="no_gpu_syncs()"))
    pytester.makeini("[pytest]\ndiffspeed_device = cpu\n")
    pytester.runpytest_inprocess().assert_outcomes(skipped=1)


@pytest.mark.parametrize("content", ["", "not json\n", "[1, 2]\n", '{"schema": "x"}\n'])
def test_a_report_of_nothing_is_refused(tmp_path, capsys, content):
    (tmp_path / "r.jsonl").write_text(content)
    words = [str(tmp_path / "r.jsonl"), "--html", str(tmp_path / "r.html")]
    assert main(["report", *words]) == 2
    said = capsys.readouterr().err
    assert "r.jsonl holds no records" in said and "nothing was written" in said
    assert not (tmp_path / "r.html").exists()


def test_a_warning_policy_does_not_make_nothing_green(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(TEST.format(marker="max_slowdown(60)"))
    result = run_diffspeed("--diffspeed-budget=0.2", "--diffspeed-inconclusive=warn")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "NOT DECIDED    *::test_it?channels_last?",
            "    no pair was timed, which fails whatever the policy: a budget of 0.2 s *",
            "    next: --diffspeed-budget=21 can be expected to decide it",
        ]
    )
    # The command that runs it again has that budget, and not the one that was too small.
    assert "--diffspeed-budget=21" in result.stdout.str().rpartition("again, this one only")[2]
    assert "--diffspeed-budget=0.2" not in result.stdout.str()


@pytest.mark.parametrize("takes", ["optimized_pipeline", ""])
def test_gates_never_look_at_another_pipeline_than_the_body(pytester, run_diffspeed, takes):
    """A fixture of the same name, around ours or in place of it, gave the body another object."""
    pytester.makeconftest(
        f"""
        import pytest

        @pytest.fixture
        def optimized_pipeline({takes}):
            return object()
        """
    )
    pytester.makepyfile(TEST.format(marker="no_gpu_syncs()"))
    result = run_diffspeed()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*: test_it: `optimized_pipeline` is overridden at conftest.py:3: gates look at the *"]
    )
