"""The examples run as their users run them, on a clock on which all arms are equally fast."""

from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_demo_suite(pytester, constant_clock):
    pytester.copy_example(str(EXAMPLES / "demo" / "test_demo.py"))
    outcome = pytester.runpytest_inprocess(
        "--diffspeed", "--diffspeed-device=cpu", "--diffspeed-steps=2", "-k", "layout"
    )
    outcome.assert_outcomes(passed=1, deselected=1)
    outcome.stdout.fnmatch_lines(
        [
            "PASS * test_demo.py::test_layout[[]channels_last[]]  no_gpu_syncs in scheduler.step *",
            "PASS * test_demo.py::test_layout[[]channels_last[]]  image_similarity*",
            "PASS * test_demo.py::test_layout[[]channels_last[]]  max_slowdown over fp32 *",
            "channels_last *fp32 *1.000× *PASS",
            "images (baseline, optimized, difference × 8): 2 in .diffspeed/images",
        ]
    )


def test_the_demo_suite_collects_as_it_stands(pytester):
    pytester.copy_example(str(EXAMPLES / "demo" / "test_demo.py"))
    outcome = pytester.runpytest_inprocess("--diffspeed", "--collect-only", "-q")
    outcome.stdout.fnmatch_lines(
        ["*test_layout[[]channels_last[]]", "*test_compilation[[]compile[]]"]
    )
