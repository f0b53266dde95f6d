"""What a gate's luck does to its median, and that it is gone."""

import itertools
import math
import statistics
from random import Random

import pytest

from pytest_diffspeed.statistics.gate import SpeedupGate
from pytest_diffspeed.statistics.unstopped import unstopped_median

ALPHA = BETA = 0.05


def stopped(shuffle, true, noise, most=40):
    """Pairs of a gate, in units of log(ratio) - log(min_ratio), up to its verdict or budget."""
    gate = SpeedupGate(1.0, ALPHA, BETA, max_pairs=most)
    xs = []
    while gate.decision is None:
        xs.append(shuffle.gauss(true, noise))
        gate.update(math.exp(xs[-1]), 1.0)
    return xs


@pytest.mark.parametrize(("true", "bias"), [(0.05, 0.009), (-0.05, -0.009), (0.0, 0.0)])
def test_the_mean_over_many_gates_is_the_truth(true, bias):
    """500 gates whose noise is twice the distance from the threshold; standard error 0.0015."""
    shuffle = Random(4)
    gates = [stopped(shuffle, true, 0.1) for _ in range(500)]
    plain = statistics.fmean(statistics.median(xs) - true for xs in gates)
    assert plain == pytest.approx(bias, abs=0.0035)
    without = statistics.fmean(unstopped_median(xs, ALPHA, BETA) - true for xs in gates)
    assert without == pytest.approx(0, abs=0.0035)


def test_it_is_the_mean_over_all_orders_with_the_same_stop():
    """Of all orders of nine pairs, those at whose end the gate stops and not before."""
    xs = [-0.2, -0.1, 0.1, 0.3, 0.4, 0.5, 0.7, 0.9, 1.1]

    def stop(order):
        gate = SpeedupGate(1.0, ALPHA, BETA)
        for number, x in enumerate(order, start=1):
            if gate.update(math.exp(x), 1.0) is not None:
                return number
        return None

    # By signs alone, since a gate sees no more; then every way to deal the values out.
    orders = [
        signs
        for lost_at in itertools.combinations(range(len(xs)), 2)
        for signs in [[place not in lost_at for place in range(len(xs))]]
        if stop([1.0 if sign else -1.0 for sign in signs]) in (len(xs), None)
    ]
    won, lost = [x for x in xs if x > 0], [x for x in xs if x < 0]
    medians = []
    for signs in orders:
        wins = sum(signs[:5])
        medians.append(
            statistics.fmean(
                statistics.median([*some, *others])
                for some in itertools.combinations(won, wins)
                for others in itertools.combinations(lost, 5 - wins)
            )
        )
    expected = statistics.fmean(medians)
    first = max(orders)  # any of them
    pools = iter(won), iter(lost)
    ordered = [next(pools[0] if sign else pools[1]) for sign in first]
    assert unstopped_median(ordered, ALPHA, BETA) == pytest.approx(expected)


def test_pairs_after_the_verdict_do_not_count_and_few_say_nothing():
    unanimous = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert unstopped_median(unanimous, ALPHA, BETA) == pytest.approx(0.3)
    assert unstopped_median([*unanimous, 9.0, 9.0], ALPHA, BETA) == pytest.approx(0.3)
    assert unstopped_median([-x for x in unanimous], ALPHA, BETA) == pytest.approx(-0.3)
    assert unstopped_median(unanimous[:4], ALPHA, BETA) is None
    assert unstopped_median([*unanimous[:4], 0.0, 0.3], ALPHA, BETA) is None  # a tie is no loss
    # Thousands of pairs are no matter.
    many = [0.1 if n % 2 else -0.1 for n in range(3000)]
    assert abs(unstopped_median(many, ALPHA, BETA)) < 0.1
