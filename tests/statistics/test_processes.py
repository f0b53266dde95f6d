"""What a few processes say of others."""

import random
import statistics

import pytest
from scipy import stats  # comes with scikit-image

from pytest_diffspeed.statistics.processes import (
    LEAST_PROCESSES,
    MOST_PROCESSES,
    spread_over_processes,
    student_quantile,
)


@pytest.mark.parametrize("freedom", range(1, MOST_PROCESSES))
def test_quantiles_are_those_of_scipy(freedom):
    for probability in (0.025, 0.5, 0.6, 0.95, 0.975, 0.999):
        expected = stats.t.ppf(probability, freedom)
        assert student_quantile(freedom, probability) == pytest.approx(expected, abs=1e-9)


def test_other_processes_lie_beyond_an_end_as_often_as_was_allowed():
    random_ = random.Random(5)
    beyond = [0, 0]
    for _ in range(4000):
        found = spread_over_processes([random_.gauss(0, 0.02) for _ in range(4)], 0.025)
        beyond[0] += found.low > 0
        beyond[1] += found.high < 0
    for count in beyond:  # three standard deviations around 100
        assert 70 < count < 130


def test_more_processes_of_the_same_spread_tell_more():
    medians = [0.04, 0.01, 0.05, 0.02]
    found = spread_over_processes(medians, 0.025)
    assert found.mean == pytest.approx(0.03)
    assert found.spread == pytest.approx(statistics.stdev(medians))
    assert found.low < 0.01 < found.mean < found.high
    needed = found.processes_needed(0.03 - 0.01)
    assert needed is not None and needed > 4
    assert found.processes_needed(found.mean - 0.99 * found.low) == 4
    assert found.processes_needed(0.001) is None  # sixteen would not do


@pytest.mark.parametrize(
    ("medians", "error"), [([0.1] * (LEAST_PROCESSES - 1), 0.05), ([0.1] * 4, 0.5)]
)
def test_what_cannot_be_told(medians, error):
    with pytest.raises(ValueError, match=r"tell of others|between 0 and 0\.5"):
        spread_over_processes(medians, error)


@pytest.mark.parametrize(("freedom", "probability"), [(0, 0.9), (3, 0.0), (3, 1.0)])
def test_no_such_quantile(freedom, probability):
    with pytest.raises(ValueError, match="no quantile"):
        student_quantile(freedom, probability)
