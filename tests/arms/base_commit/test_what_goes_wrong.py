"""A base that cannot be measured: a sentence, the right verdict, and nothing left behind."""

import pytest

from pytest_diffspeed.records.reader import read_journal

TEST = """
import pytest

@pytest.mark.diffspeed("channels_last", pipeline="fast_pipeline:make")
@pytest.mark.max_slowdown(50, over="base")
@pytest.mark.no_gpu_syncs()
def test_fast(optimized_pipeline): ...
"""
TIMED = '@pytest.mark.max_slowdown(50, over="base")\n'
PIPELINE = """
from pytest_diffspeed.pipelines import random_weights

def make():
    return random_weights.build("sdxl-tiny")

make.call_defaults = {"steps": 1}
"""


def on_a_change(repository, pytester, base):
    """``base`` is what the pipeline's module holds in ``main``; ``None``: there is none."""
    pytester.makepyfile(test_fast=TEST)
    if base is not None:
        pytester.makepyfile(fast_pipeline=base)
    repository.commit("The base")
    repository.git("switch", "--quiet", "--create", "change")
    pytester.makepyfile(fast_pipeline=PIPELINE)


@pytest.mark.parametrize("base", [None, "def another(): ..."], ids=["module", "function"])
def test_a_pipeline_that_the_base_does_not_have_yet(repository, pytester, against_main, base):
    on_a_change(repository, pytester, base)
    result, gates = against_main()
    result.assert_outcomes(passed=1)
    assert {str(gate.verdict) for gate in gates.values()} == {"NOT_APPLICABLE"}
    assert len(gates) == 2
    result.stdout.fnmatch_lines(["*the base does not have this pipeline: *'fast_pipeline:make'*"])
    # Once it is known to be absent, no more workers are started for the other gate.
    result.stdout.no_fnmatch_line("*building channels_last in * worker processes*")


@pytest.mark.usefixtures("verbose")
def test_a_pipeline_that_no_worker_finds_is_not_a_new_one(repository, pytester, against_main):
    """This process knows the module, which is on no import path: it could never be compared."""
    pytester.makeconftest(
        f"""
        import sys, types
        known = types.ModuleType("fast_pipeline")
        exec({PIPELINE!r}, vars(known))
        sys.modules["fast_pipeline"] = known
        """
    )
    on_a_change(repository, pytester, None)
    (pytester.path / "fast_pipeline.py").unlink()
    pytester.makepyfile(kernel="SPEED = 2")  # so that the base is another tree
    result, _ = against_main()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"*{claim} could not be checked: worker processes do not find the pipeline in this *"
            for claim in ("no_gpu_syncs in scheduler.step against base", "over base per call")
        ]
    )
    result.stdout.no_fnmatch_line("*building channels_last in * worker processes*")


def test_a_pipeline_of_installed_packages_is_not_compared_with_itself(
    repository, pytester, against_main
):
    """Neither commit has a part in it: such a gate could never fire."""
    pytester.makepyfile(test_fast=TEST.replace("fast_pipeline:make", "random:sdxl-tiny"))
    repository.commit("The base")
    pytester.makepyfile(kernel="SPEED = 2")  # so that the base is another tree
    result, gates = against_main()
    result.assert_outcomes(passed=1)
    assert {str(gate.verdict) for gate in gates.values()} == {"NOT_APPLICABLE"}
    result.stdout.fnmatch_lines(
        ["*it would compare 'random:sdxl-tiny' with itself: the pipeline *"]
    )
    result.stdout.no_fnmatch_line("*building channels_last in * worker processes*")


def test_started_in_a_folder_that_the_base_does_not_have(
    repository, pytester, against_main, monkeypatch
):
    pytester.makeini("[pytest]")
    on_a_change(repository, pytester, PIPELINE)
    folder = pytester.mkdir("new")
    (pytester.path / "test_fast.py").unlink()
    (folder / "test_fast.py").write_text(TEST.replace(TIMED, ""))
    monkeypatch.chdir(folder)
    result, gates = against_main(f"--diffspeed-json={pytester.path / 'out.jsonl'}")
    result.assert_outcomes(passed=1)
    assert str(gates["no_gpu_syncs in scheduler.step against base"].verdict) == "PASS"


CRASHES = """
import os

def killed():
    os.kill(os.getpid(), 9)

def exits():
    os._exit(7)

def raises():
    raise RuntimeError("no such weights")
"""
SAID = {
    "killed": "it ended (killed by signal 9, as when memory runs out)*",
    "exits": "it ended (exit code 7)*",
    "raises": "the factory raised at *no such weights*",
}


def test_a_base_whose_worker_ends_fails_the_test(repository, pytester, against_main):
    """Where a gate times too, both are refused: a worker that ended may not end another time."""
    tests = [
        TEST.replace("fast_pipeline:make", f"fast_pipeline:{name}").replace(
            "test_fast", f"test_{name}"
        )
        for name in SAID
    ]
    tests[1:] = [test.replace(TIMED, "") for test in tests[1:]]
    pytester.makepyfile(fast_pipeline=CRASHES, test_fast="\n".join(tests))
    repository.commit("The base")
    repository.git("switch", "--quiet", "--create", "change")
    same = "\n".join(f"{name} = make" for name in SAID)
    pytester.makepyfile(fast_pipeline=f"{PIPELINE}\n{same}\n")
    result, _ = against_main("-v")
    result.assert_outcomes(failed=3)
    syncs = "no_gpu_syncs in scheduler.step against base could not be checked"
    for said in SAID.values():
        result.stdout.fnmatch_lines([f"*{syncs}: *{said}"])
    timed = "max_slowdown over base per call could not be checked"
    result.stdout.fnmatch_lines([f"*{timed}: *{SAID['killed']}"])


def test_a_marker_for_a_base_without_a_base(pytester, run_diffspeed):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.max_slowdown(50, over="base")
        def test_fast(optimized_pipeline): ...
        """
    )
    result = run_diffspeed("--diffspeed-json=out.jsonl")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED  # nothing reached a verdict
    (gate,) = read_journal(pytester.path / "out.jsonl").gates
    assert str(gate.result.verdict) == "NOT_APPLICABLE"
    assert gate.result.reason.endswith("give one with --diffspeed-base REV")


def test_a_base_that_is_this_very_tree_is_compared_with_nothing(repository, pytester, against_main):
    pytester.makepyfile(test_fast=TEST, fast_pipeline=PIPELINE)
    repository.commit("The base")
    result, gates = against_main()
    result.assert_outcomes(passed=1)
    assert {str(gate.verdict) for gate in gates.values()} == {"NOT_APPLICABLE"}
    assert len(gates) == 2
    result.stdout.fnmatch_lines(["*it would compare this tree with itself; name another one, *"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--diffspeed-base=mian"], "--diffspeed-base: 'mian' is no commit that *"),
        (["--diffspeed-base="], "--diffspeed-base: must not be empty"),
        (
            ["--diffspeed-base-python=/no/python"],
            "--diffspeed-base-python: '/no/python' cannot be run (No such file or directory); *",
        ),
        (
            ["--diffspeed-base-python=/bin/true"],
            "--diffspeed-base-python: '/bin/true' did not say what it has installed *",
        ),
    ],
)
def test_usage_errors(repository, pytester, run_diffspeed, words, said):
    pytester.makepyfile(test_fast=TEST)
    repository.commit("The base")
    result = run_diffspeed(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


def test_images_of_other_weights_are_told_from_a_change_of_the_code(
    repository, pytester, against_main
):
    built = 'random_weights.build("sdxl-tiny")'
    other = PIPELINE.replace(
        f"return {built}", f"pipeline = {built}\n    WIDER\n    return pipeline"
    )
    other = other.replace("WIDER", "pipeline.vae.decoder.conv_out.weight.data.mul_(-3)")
    pytester.makepyfile(fast_pipeline=other)
    repository.commit("The base")
    repository.git("switch", "--quiet", "--create", "change")
    test = TEST.replace(TIMED, "").replace("no_gpu_syncs", "image_similarity")
    pytester.makepyfile(fast_pipeline=PIPELINE, test_fast=test)
    _, gates = against_main("--diffspeed-prompts=a fox")
    images = gates["image_similarity against base"]
    assert images.reason.endswith("; the base has other weights in vae")
    assert images.cause.next_step.startswith("the base has other weights or inputs")
