"""Running a test again: a FAIL stays one for the same tree, and each further attempt is counted.

On the constant clock every ratio is 1, so ``min_speedup(2.0)`` FAILs, ``min_speedup(0.5)`` PASSes,
and with a budget of 5 s, in which no verdict fits, both are INCONCLUSIVE.
"""

import json
import subprocess

import pytest

from pytest_diffspeed.records.lines import read_lines
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.records.verdict import VerdictKind
from tests.journals import journal_path, journaled

GATED = """
import pytest

@pytest.mark.diffspeed("channels_last")
@pytest.mark.min_speedup({ratio})
def test_speed(optimized_pipeline): pass
"""
ALREADY = (
    "*FAILed already on 20??-??-?? ??:??:?? UTC, attempt {attempt} for this tree (shown to be *; "
    "--diffspeed-fresh asks for another attempt"
)


@pytest.fixture(autouse=True)
def no_real_time(constant_clock): ...


@pytest.fixture
def measured_pairs(pytester):
    """How many pairs were measured since this was asked last."""
    seen = 0

    def count():
        nonlocal seen
        before, seen = seen, len(journaled(pytester, "pair"))
        return seen - before

    return count


@pytest.fixture
def failed(constant_clock, pytester, run_diffspeed, measured_pairs):
    """A project whose gate has FAILed once, with a kernel that nobody committed."""
    subprocess.run(["git", "init", "--quiet"], cwd=pytester.path, check=True)
    pytester.makepyfile(test_it=GATED.format(ratio=2.0), kernel="SPEED = 1")
    run_diffspeed().assert_outcomes(failed=1)
    assert measured_pairs() == 5


@pytest.mark.usefixtures("failed", "verbose")
@pytest.mark.parametrize("word", ["-v", "--lf", "--cache-clear"])
def test_a_rerun_says_at_once_what_failed(run_diffspeed, measured_pairs, pytester, word):
    result = run_diffspeed(word)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([ALREADY.format(attempt=1)])
    assert measured_pairs() == 0
    figures = journaled(pytester, "gate")[-1]["figures"]
    assert figures["attempt"] == 1
    assert figures["remembered_from"].endswith("+00:00")
    assert (figures["ratio"], figures["pairs"]) == (1.0, 5)


@pytest.mark.usefixtures("failed")
@pytest.mark.usefixtures("verbose")
def test_an_edited_uncommitted_kernel_is_measured(run_diffspeed, measured_pairs, pytester):
    pytester.makepyfile(kernel="SPEED = 2")
    run_diffspeed("--lf").stdout.no_fnmatch_line("*FAILed already*")
    assert measured_pairs() == 5
    assert journaled(pytester, "gate")[-1]["figures"]["attempt"] == 1
    # Taking the edit back gives the tree that FAILed.
    pytester.makepyfile(kernel="SPEED = 1")
    run_diffspeed("--lf").stdout.fnmatch_lines([ALREADY.format(attempt=1)])
    assert measured_pairs() == 0


@pytest.mark.usefixtures("failed")
@pytest.mark.usefixtures("verbose")
def test_committing_the_tree_does_not_forget(run_diffspeed, measured_pairs, pytester):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for words in (["add", "kernel.py", "test_it.py"], [*who, "commit", "--quiet", "-m", "it"]):
        subprocess.run(["git", *words], cwd=pytester.path, check=True)
    run_diffspeed().stdout.fnmatch_lines([ALREADY.format(attempt=1)])
    assert measured_pairs() == 0


@pytest.mark.usefixtures("failed")
@pytest.mark.usefixtures("verbose")
def test_reports_of_the_run_itself_do_not_forget(run_diffspeed, measured_pairs):
    for _ in range(2):
        result = run_diffspeed("--diffspeed-json=out.json", "--junitxml=out.xml")
        result.stdout.fnmatch_lines([ALREADY.format(attempt=1)])
    assert measured_pairs() == 0


@pytest.mark.usefixtures("failed")
@pytest.mark.usefixtures("verbose")
def test_fresh_asks_for_another_attempt_and_counts_it(run_diffspeed, measured_pairs, pytester):
    for attempt in (2, 3):
        result = run_diffspeed("--diffspeed-fresh")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"*; attempt {attempt} for this tree"])
        result.stdout.no_fnmatch_line("*FAILed already*")
        assert measured_pairs() == 5
        assert journaled(pytester, "gate")[-1]["figures"]["attempt"] == attempt
        run_diffspeed().stdout.fnmatch_lines([ALREADY.format(attempt=attempt)])
        assert measured_pairs() == 0


RUN_TWICE = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):  # as pytest-rerunfailures does it
    for _ in range(2):
        item._initrequest()
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


@pytest.mark.usefixtures("verbose")
def test_a_plugin_that_reruns_failures_gets_one_measurement(
    pytester, run_diffspeed, measured_pairs
):
    pytester.makeconftest(RUN_TWICE)
    pytester.makepyfile(GATED.format(ratio=2.0))
    result = run_diffspeed("--diffspeed-json=out.jsonl")
    result.stdout.fnmatch_lines([ALREADY.format(attempt=1)])
    assert len(read_journal(pytester.path / "out.jsonl").gates) == 1  # one gate, twice run
    assert measured_pairs() == 5
    run_diffspeed("--diffspeed-fresh").stdout.fnmatch_lines([ALREADY.format(attempt=2)])
    assert measured_pairs() == 5


FAILS_ONCE = """
import pytest
calls = []

@pytest.mark.diffspeed("channels_last")
@pytest.mark.max_memory(2.0)
def test_it(optimized_pipeline):
    calls.append(1)
    assert len(calls) {of} 2, "the other run of the body fails"
"""


@pytest.mark.parametrize(
    ("of", "there", "gone"), [("==", "PASS  *", "TEST BODY *"), ("!=", "TEST BODY  *", "PASS  *")]
)
def test_of_a_gate_that_ran_again_only_the_last_run_is_told(
    pytester, run_diffspeed, of, there, gone
):
    """It was told as PASS and as "not run" at once."""
    pytester.makeconftest(RUN_TWICE)
    pytester.makepyfile(FAILS_ONCE.replace("{of}", of))
    result = run_diffspeed("--diffspeed-json=out.jsonl")
    result.stdout.fnmatch_lines([f"{there}::test_it[[]*"])
    result.stdout.no_fnmatch_line(f"{gone}::test_it[[]*")
    session = read_journal(pytester.path / "out.jsonl")
    assert (len(session.gates), len(session.not_run)) == ((1, 0) if of == "==" else (0, 1))


@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize("change", ["--diffspeed-steps=2", "--diffspeed-prompts=a fox"])
def test_other_inputs_are_another_key(run_diffspeed, measured_pairs, change):
    run_diffspeed(change)
    assert measured_pairs() == 5


@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize("argument", ["over='fp32', alpha=0.01", "over='bf16'", "method='bet'"])
def test_another_claim_is_another_key(run_diffspeed, measured_pairs, pytester, argument):
    pytester.makepyfile(test_it=GATED.format(ratio=f"2.0, {argument}"))
    run_diffspeed().stdout.no_fnmatch_line("*FAILed already*")
    assert measured_pairs() >= 5


def test_a_pass_is_measured_again(pytester, run_diffspeed, measured_pairs):
    pytester.makepyfile(GATED.format(ratio=0.5))
    for _ in range(2):
        run_diffspeed().assert_outcomes(passed=1)
        assert measured_pairs() == 5
    assert journaled(pytester, "gate")[-1]["figures"]["attempt"] == 1


@pytest.mark.usefixtures("verbose")
def test_inconclusive_continues_as_a_new_instance(pytester, run_diffspeed, measured_pairs):
    pytester.makepyfile(GATED.format(ratio=0.5))
    too_short = "--diffspeed-budget=5"
    run_diffspeed(too_short).stdout.no_fnmatch_line("*earlier run*")
    result = run_diffspeed(too_short)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*; 1 earlier run *"])
    result = run_diffspeed()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*; 2 earlier runs *"])
    assert measured_pairs() == 5
    figures = journaled(pytester, "gate")[-1]["figures"]
    assert (figures["undecided_before"], figures["instances"]) == (2, 1)


@pytest.mark.usefixtures("verbose")
def test_a_run_that_is_stopped_counts_and_its_pairs_are_kept(pytester, run_diffspeed, monkeypatch):
    pytester.makepyfile(GATED.format(ratio=2.0))

    class StoppedClock:
        """Stops in the fourth pair."""

        def time(self, call):
            if len(journaled(pytester, "pair")) == 3:
                raise KeyboardInterrupt
            return 1.0, call()

    with monkeypatch.context() as stopped:
        stopped.setattr("pytest_diffspeed.arms.session.clock_for", lambda device: StoppedClock())
        with pytest.raises(KeyboardInterrupt):
            run_diffspeed()
    (gate,) = read_journal(journal_path(pytester)).gates
    assert gate.finished
    assert gate.result.verdict is VerdictKind.INCONCLUSIVE
    assert gate.result.reason.endswith("; stopped by the user")
    assert gate.result.figures["pairs"] == len(gate.pairs) == 3
    assert gate.result.figures["candidate_first_call_s"] > 0

    run_diffspeed().stdout.fnmatch_lines(["*; 1 earlier run *its 3 pairs count here"])
    figures = journaled(pytester, "gate")[-1]["figures"]
    assert (figures["pairs"], figures["earlier_pairs"], figures["instances"]) == (5, 3, 2)


@pytest.mark.usefixtures("verbose")
def test_evidence_that_a_later_version_wrote_fails_the_gate(pytester, run_diffspeed):
    pytester.makepyfile(GATED.format(ratio=0.5))
    run_diffspeed().assert_outcomes(passed=1)
    (path,) = (pytester.path / ".diffspeed" / "evidence").iterdir()
    path.write_text(path.read_text().replace("diffspeed/1", "diffspeed/2"))
    result = run_diffspeed()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*could not be checked: *holds records of schema diffspeed/2 and this version of *"]
    )


def test_a_fix_outside_the_tree_is_measured(
    constant_clock, pytester, run_diffspeed, measured_pairs, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    factory = tmp_path / "factory_elsewhere.py"
    program = (
        "from pytest_diffspeed.pipelines import random_weights\n"
        "def make():\n"
        "    return random_weights.build('sdxl-tiny')\n"
    )
    factory.write_text(f"{program}SLOW = True\n")
    pytester.makepyfile(test_it=GATED.format(ratio=2.0))
    run = ("--diffspeed-pipeline=factory_elsewhere:make", "--diffspeed-steps=1")
    run_diffspeed(*run).assert_outcomes(failed=1)
    assert measured_pairs() == 5
    run_diffspeed(*run).assert_outcomes(failed=1)
    assert measured_pairs() == 0
    factory.write_text(program)
    run_diffspeed(*run).assert_outcomes(failed=1)
    assert measured_pairs() == 5


@pytest.mark.usefixtures("verbose")
def test_pairs_on_disk_make_no_pass(pytester, run_diffspeed, measured_pairs):
    """Whoever can write to `.diffspeed` could have them say anything."""
    pytester.makepyfile(GATED.format(ratio=2.0))
    run_diffspeed().assert_outcomes(failed=1)
    assert measured_pairs() == 5
    (path,) = (pytester.path / ".diffspeed" / "evidence").iterdir()
    start, pair = [
        next(line for line in read_lines(path).records if line["kind"] == kind)
        for kind in ("instance-start", "instance-pair")
    ]
    forged = {**pair, "baseline_s": 10.0, "candidate_s": 0.1}
    path.write_text("".join(f"{json.dumps(line)}\n" for line in (start, *[forged] * 40)))
    result = run_diffspeed()
    result.assert_outcomes(failed=1)
    assert measured_pairs() == 5
    result.stdout.fnmatch_lines(["*left out: 40 pairs of earlier runs*"])
    figures = journaled(pytester, "gate")[-1]["figures"]
    assert (figures["pairs"], figures["earlier_pairs"], figures["ratio"]) == (5, 0, 1.0)
