"""Beside pytest-benchmark: our arms stand in its table and its JSON, and its fixture works."""

import json

SUITE = """
    import pytest

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.max_slowdown(5)
    def test_it(optimized_pipeline, diffspeed, benchmark):
        benchmark.pedantic(diffspeed.run, (optimized_pipeline,), rounds=2)
"""

WITHOUT = """
    import pytest

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.max_slowdown(5)
    def test_it(optimized_pipeline): ...
"""


def test_arms_are_in_the_table_and_the_json(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(test_it=SUITE)
    result = run_diffspeed("--benchmark-json=benchmark.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["test_it[[]channels_last[]] channels_last *", "test_it[[]channels_last[]] fp32 *"]
    )
    rows = json.loads((pytester.path / "benchmark.json").read_text())["benchmarks"]
    by_name = {row["name"]: row for row in rows}
    assert set(by_name) == {
        "test_it[channels_last]",
        "test_it[channels_last] fp32",
        "test_it[channels_last] channels_last",
    }
    ours = by_name["test_it[channels_last] channels_last"]
    assert ours["fullname"] == (
        "test_it.py::test_it[channels_last] max_slowdown over fp32 per call: channels_last"
    )
    assert ours["stats"]["median"] == 1.0
    assert ours["stats"]["rounds"] == ours["extra_info"]["diffspeed"]["pairs"] >= 5
    assert ours["extra_info"]["diffspeed"]["ratio"] == 1.0
    assert by_name["test_it[channels_last]"]["stats"]["rounds"] == 2


def test_switched_off_it_is_left_alone(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(test_it=WITHOUT)
    result = run_diffspeed("-p", "no:benchmark")
    result.assert_outcomes(passed=1)
