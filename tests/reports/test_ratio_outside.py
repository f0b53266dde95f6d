"""A ratio outside of its own interval is said in that word, wherever the two are printed."""

import re

import pytest
from report_sessions import ladder, ratio

from pytest_diffspeed.commands.history_text import with_ends
from pytest_diffspeed.common.text import number, outside
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.reports.html import render
from pytest_diffspeed.reports.ladder import ladder_rows
from pytest_diffspeed.reports.markdown import markdown
from pytest_diffspeed.reports.red_screen import red_lines
from pytest_diffspeed.reports.terminal import gate_lines, ladder_table

TEST = "test_a.py::test_it[bf16]"
WRITTEN = "1.052× outside [0.987, 1.042]"


@pytest.fixture
def moved(tmp_path):
    """A session whose one ratio lies outside, in a gate and in the ladder."""
    start, *pairs, end = ratio(TEST, "bf16", "FAIL", need=1.2)
    end["figures"] |= {"ratio": 1.052, "low": 0.987, "high": 1.042, "method": "sign"}
    over = {"ratio": 1.052, "low": 0.987, "high": 1.042, "pairs": 12, "verdict": "INCONCLUSIVE"}
    rungs = [{**ladder()[1], "over_baseline": over}]
    return FinishedSession([start, *pairs, end, *rungs], tmp_path).session


def test_every_report_says_it(moved):
    results = [one.result for one in moved.gates]
    assert any(WRITTEN in line for _, line in gate_lines(results))
    assert any(WRITTEN in line for line in ladder_table(results))
    assert any(f"{WRITTEN} ≈" in line for line in ladder_rows(moved.ladder))
    assert any(WRITTEN in line for _, line in red_lines(moved))
    assert "1.052× outside &#91;0.987, 1.042&#93;" in markdown(moved)
    page = re.sub(r"<script.*?</script>", "", render(moved, moved.path), flags=re.S)
    assert f"{WRITTEN} ≈" in page
    assert "median 1.052×, outside interval [0.987, 1.042]" in page


def test_the_history_says_it():
    assert with_ends(1.052, 0.987, 1.042) == "1.052 outside [0.987, 1.042]"
    assert with_ends(1.012, 0.987, None) == "1.012 [0.987, open]"


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(1.0, 0.9, 1.1), (1.0, None, 1.1), (1.0, 1.0, 1.0), (None, 0.9, 1.1), (1.00001, 0.9, 1.0)],
)
def test_nothing_is_said_of_what_lies_inside_or_differs_behind_the_last_digit(value, low, high):
    assert outside(value, low, high, number) == ""
