"""Change points and drift: found where they were planted, and not where nothing is."""

import itertools

import numpy as np
import pytest

from pytest_diffspeed.statistics.binomial import binomial_lower_bound
from pytest_diffspeed.statistics.changes import ALPHA, _log_p, _null, find_jumps
from pytest_diffspeed.statistics.drift import ALPHA as DRIFT_ALPHA
from pytest_diffspeed.statistics.drift import find_drift


def gauss(shuffle, count):
    return shuffle.normal(size=count)


def heavy(shuffle, count):
    """Student's t with 2 degrees of freedom: no variance."""
    return shuffle.standard_t(2, size=count)


def spikes(shuffle, count):
    """A noisy neighbour in one session of 14."""
    return shuffle.normal(size=count) - (shuffle.random(count) < 0.07) * shuffle.exponential(
        15, count
    )


def skewed(shuffle, count):
    return shuffle.lognormal(size=count)


def two_levels(shuffle, count):
    """What differs between processes, such as an allocator that lands well or badly."""
    return shuffle.normal(size=count) + 4 * (shuffle.random(count) < 0.3)


def rounded(shuffle, count):
    """Ties: the fourth digit is not kept."""
    return np.round(shuffle.normal(size=count))


NOISES = (gauss, heavy, spikes, skewed, two_levels, rounded)


@pytest.mark.parametrize("noise", NOISES)
def test_flat_series_have_no_changes(noise):
    """20 series of two hundred commits, with 2 % of noise."""
    shuffle = np.random.default_rng(20)
    series = [1.8 * (1 + 0.02 * noise(shuffle, 200)) for _ in range(20)]
    assert [find_jumps(values) for values in series] == [[]] * 20
    assert not any(find_drift(values).is_shown for values in series)


@pytest.mark.parametrize("count", [12, 40, 150])
def test_false_alarms_are_as_rare_as_promised(count):
    """The lower bound of the rate, 99.9 % sure, must not lie above what is promised."""
    shuffle = np.random.default_rng(count)
    runs = 600
    jumped = drifted = 0
    for run in range(runs):
        values = NOISES[run % len(NOISES)](shuffle, count)
        jumped += bool(find_jumps(values))
        drifted += find_drift(values).is_shown
    assert binomial_lower_bound(jumped, runs, 0.001) <= ALPHA
    assert binomial_lower_bound(drifted, runs, 0.001) <= DRIFT_ALPHA


@pytest.mark.parametrize("noise", NOISES)
def test_planted_jumps_are_found_at_their_commits(noise):
    """Two jumps of 12 % in 1 % of noise, forty times.

    An outlier beside a jump may hide it by a commit or two; then the range holds the right one.
    """
    exact = held = others = 0
    for seed in range(40):
        values = 1.8 * (1 + 0.01 * noise(np.random.default_rng(seed), 160))
        values[60:] *= 1.12
        values[110:] *= 0.88
        jumps = find_jumps(values)
        others += len(jumps) - 2
        first, second = (
            min(jumps, key=lambda jump, at=at: abs(jump.index - at)) for at in (60, 110)
        )
        assert abs(first.index - 60) <= 2
        assert abs(second.index - 110) <= 2
        assert first.after / first.before == pytest.approx(1.12, rel=0.05)
        exact += (first.index, second.index) == (60, 110)
        held += first.first <= 60 <= first.last and second.first <= 110 <= second.last
        assert first.last - first.first <= 6
    assert exact >= (40 if noise in (gauss, rounded) else 30)
    assert held >= 36
    assert others <= 1


def correlated(shuffle, count, of):
    steps = shuffle.normal(size=count + 50)
    for index in range(1, len(steps)):
        steps[index] += of * steps[index - 1]
    return steps[50:]


def season(shuffle, count):
    """As large as the noise, and back after 30 commits."""
    phase = 30 * shuffle.random()
    return shuffle.normal(size=count) + np.sin(2 * np.pi * (np.arange(count) + phase) / 30)


@pytest.mark.parametrize(
    ("noise", "most"),
    [
        (lambda shuffle, count: correlated(shuffle, count, 0.3), 0.05),
        (lambda shuffle, count: correlated(shuffle, count, 0.6), 0.10),
        (season, 0.10),
    ],
    ids=["correlated-0.3", "correlated-0.6", "season-of-30"],
)
def test_series_whose_neighbours_resemble_each_other_are_not_full_of_jumps(noise, most):
    """4, 58 and 62 % of them had one; benchmarks/change_points.py counts more of them."""
    shuffle, runs = np.random.default_rng(3), 120
    jumped = sum(bool(find_jumps(noise(shuffle, 120))) for _ in range(runs))
    assert binomial_lower_bound(jumped, runs, 0.05) <= most


def with_intervals(values, share=0.03):
    return find_jumps(values, lows=values * (1 - share), highs=values * (1 + share))


def test_a_cliff_at_the_fifth_of_eight_commits_is_a_jump():
    for seed in range(20):
        values = 1.8 * (1 + 0.01 * np.random.default_rng(seed).normal(size=8))
        values[4:] *= 0.8
        (jump,) = with_intervals(values)
        assert (jump.index, jump.first, jump.last) == (4, 4, 4)
        # What the sessions' own intervals do not tell apart is none.
        assert with_intervals(values, share=0.2) == []


def test_eight_flat_commits_have_no_cliff():
    shuffle = np.random.default_rng(12)
    found = sum(
        bool(with_intervals(1.8 * (1 + 0.02 * noise(shuffle, 8)), share=0.001))
        for _ in range(200)
        for noise in NOISES
    )
    assert found <= 12  # of 1200, with intervals that exclude nothing


@pytest.mark.parametrize("commits", [4, 5, 6, 8])
def test_a_regression_that_was_fixed_stays_with_both_commits(commits):
    """It was shown as long as it lasted, and in 8 % of the cases after the fix."""
    found = 0
    for seed in range(20):
        values = 1.8 * (1 + 0.01 * np.random.default_rng(seed).normal(size=120))
        values[60 : 60 + commits] *= 0.9
        jumps = with_intervals(values)
        found += len(jumps) == 2 and all(
            jump.first <= at <= jump.last
            for jump, at in zip(jumps, (60, 60 + commits), strict=True)
        )
    assert found >= 18


def test_a_difference_of_no_size_is_none():
    assert find_jumps([1.0] * 40 + [1.0000001] * 40) == []
    assert len(find_jumps([1.0] * 40 + [1.001] * 40)) == 1


def test_drift_cannot_be_told_in_a_few_points():
    assert not find_drift([1.0, 1.1, 1.0, 1.2]).could_be_shown
    assert not find_drift(list(range(9))).could_be_shown
    assert find_drift([1.0, 1.1] * 10).could_be_shown
    # A jump between each two points leaves no stretch to drift in.
    assert not find_drift(list(range(12)), list(range(1, 12))).could_be_shown


def test_five_sessions_show_a_large_jump():
    shuffle = np.random.default_rng(4)
    values = shuffle.normal(size=45)
    values[40:] += 8
    assert [jump.index for jump in find_jumps(values)] == [40]
    assert find_jumps(values[:42]) == []  # two could be chance


def test_one_outlier_or_a_few_are_no_jump():
    values = np.random.default_rng(5).normal(size=80)
    values[30:33] -= 50
    values[79] += 50
    assert find_jumps(values) == []


def test_slow_drift_is_drift_and_no_jump():
    shuffle = np.random.default_rng(6)
    values = 2 + 0.02 * shuffle.normal(size=120) - 0.002 * np.arange(120)
    assert find_jumps(values) == []
    drift = find_drift(values)
    assert drift.is_shown
    assert drift.drifted == pytest.approx(-0.24, abs=0.03)
    assert drift.anchor == pytest.approx(2, abs=0.03)


def test_a_jump_is_no_drift_and_both_are_told_apart():
    shuffle = np.random.default_rng(7)
    values = 2 + 0.02 * shuffle.normal(size=120)
    values[50:] -= 0.5
    (jump,) = find_jumps(values)
    drift = find_drift(values, [jump.index])
    assert (jump.index, drift.is_shown) == (50, False)
    assert (drift.anchor, drift.now) == pytest.approx((2, 1.5), abs=0.03)
    values -= 0.001 * np.arange(120)
    (jump,) = find_jumps(values)
    drift = find_drift(values, [jump.index])
    assert (jump.index, drift.is_shown) == (50, True)
    assert drift.drifted == pytest.approx(-0.12, abs=0.04)


def test_drift_starts_at_the_anchor():
    values = [*range(10), *[10.0] * 40]
    assert find_drift(values).is_shown
    late = find_drift(values, anchor=10)
    assert (late.anchor, late.now, late.drifted, late.is_shown) == (10, 10, 0, False)
    assert find_drift(values, anchor=49) is None


def test_counts_change_exactly():
    jumps = find_jumps([0, 0, 0, 13, 13, 0], is_counted=True)
    assert [(j.index, j.before, j.after) for j in jumps] == [(3, 0, 13), (5, 13, 0)]
    assert find_jumps([4] * 9, is_counted=True) == []


def test_long_series_are_looked_at_in_blocks():
    """A jump at the border of two blocks, in windows that reach into both."""
    shuffle = np.random.default_rng(8)
    for place in (1020, 1024, 1030):
        values = shuffle.normal(size=2100)
        values[place:] += 6
        assert [jump.index for jump in find_jumps(values)] == [place]


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 7, [1.0] * 300])
def test_too_few_and_equal_values(values):
    assert find_jumps(values) == []


def test_a_figure_without_noise_jumps_too():
    """A similarity repeats to the last digit until something moves it."""
    (jump,) = find_jumps([34.1] * 20 + [33.9] * 10)
    assert (jump.index, jump.first, jump.last, jump.before, jump.after) == (20, 20, 20, 34.1, 33.9)


@pytest.mark.parametrize(("left", "right"), [(1, 1), (2, 3), (4, 4), (5, 3)])
def test_the_null_distribution_is_that_of_all_orders(left, right):
    counts = [0] * (left * right + 1)
    for lower in itertools.combinations(range(left + right), left):
        rest = set(range(left + right)) - set(lower)
        counts[sum(i < j for i in lower for j in rest)] += 1
    assert _null(left, right).tolist() == counts


def test_p_values_agree_with_scipy():
    from scipy import stats  # comes with scikit-image

    shuffle = np.random.default_rng(9)
    for left, right in ((5, 12), (8, 8), (18, 27)):
        a, b = shuffle.normal(size=left), shuffle.normal(size=right) + 1
        wins = 2 * int((a[:, None] < b[None, :]).sum())
        ours = np.exp(_log_p(left, right)[min(wins, 2 * left * right - wins)])
        theirs = stats.mannwhitneyu(a, b, method="exact").pvalue
        assert ours == pytest.approx(theirs)
