"""The statistics behind a ratio, on clocks that the test controls."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm.bench import timing


@given(st.integers(6, 60))
def test_median_interval_covers_at_least_95_percent(n):
    """Exact: of n draws, the number below the median is Binomial(n, 1/2)."""
    low, high = timing.median_interval(range(n))
    covered = sum(math.comb(n, below) for below in range(low + 1, high + 1)) / 2**n
    assert covered >= 0.95
    assert low + high == n - 1, "symmetric about the middle"


@pytest.mark.parametrize("n", [10, 25, 60])
def test_median_interval_is_the_narrowest(n):
    low, high = timing.median_interval(range(n))
    narrower = sum(math.comb(n, below) for below in range(low + 2, high)) / 2**n
    assert narrower < 0.95


def test_too_few_rounds_for_95_percent_are_said():
    assert timing.interval_text(1.0, 1.5, 6) == "1.00–1.50" and timing.interval_text(1.0, 1.5, 6, " to ") == "1.00 to 1.50"
    assert timing.interval_text(1.0, 1.5, 2) == "1.00–1.50 in 2 rounds"
    assert timing.interval_text(1.5, 1.5, 1) == "one round"


def test_few_values_give_their_range():
    assert timing.median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


class Machine:
    """A clock for laps: each contestant takes its own time, and every third round the machine is busy."""

    def __init__(self):
        self.order = []

    def lap(self, name, seconds):
        def run(calls):
            self.order.append(name)
            busy = 5.0 if (len(self.order) // 2) % 3 == 0 else 1.0
            return calls * seconds * busy

        return run


def test_interleaving_takes_the_machines_mood_out_of_the_ratio():
    machine = Machine()
    result = timing.measure({"ours": machine.lap("ours", 0.01), "theirs": machine.lap("theirs", 0.025)}, seconds=0.02)
    assert result.ratios["theirs"].ratio == pytest.approx(2.5)
    assert result.ratios["theirs"].low <= 2.5 <= result.ratios["theirs"].high
    assert result.best("ours") == pytest.approx(0.01)


def test_every_round_has_every_contestant_and_the_start_rotates():
    order = []

    def lap(name):
        def run(calls):
            order.append(name)
            return calls * 0.01

        return run

    result = timing.measure({name: lap(name) for name in "abc"}, seconds=10)  # steady laps: it ends long before
    rounds = len(result.laps["a"])
    assert rounds >= timing.MIN_ROUNDS
    timed = order[-3 * rounds :]
    starts = [timed[3 * i] for i in range(rounds)]
    assert all(sorted(timed[3 * i : 3 * i + 3]) == list("abc") for i in range(rounds))
    assert starts[:3] == list("abc")


def test_short_calls_are_bundled_until_the_clock_can_see_them():
    assert timing.calls_per_lap(lambda calls: calls * 1e-6) * 1e-6 >= timing.LAP_SECONDS
    assert timing.calls_per_lap(lambda calls: calls * 1.0) == 1
    assert timing.calls_per_lap(lambda calls: 0.0 if calls < 1000 else 1.0) >= 1000


def test_a_noisy_ratio_is_measured_longer_than_a_steady_one():
    rng = np.random.default_rng(0)
    steady = timing.measure({"a": lambda n: n * 0.01, "b": lambda n: n * 0.02}, seconds=0.3)
    noisy = timing.measure({"a": lambda n: n * 0.01 * rng.uniform(1, 9), "b": lambda n: n * 0.02}, seconds=0.3)
    assert steady.ratios["b"].rounds < noisy.ratios["b"].rounds
