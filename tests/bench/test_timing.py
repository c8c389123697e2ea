"""The statistics behind a ratio, on clocks that the test controls."""

import hashlib
import itertools
import math
import threading
from collections import Counter

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
    assert timing.interval_text(1.0, 1.5, 5) == "1.00–1.50 in 5 rounds"
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


@pytest.mark.parametrize("n", range(1, 8))
def test_each_comes_in_each_place_and_after_each_other_equally_often(n):
    rounds = [timing.order_of(list(range(n)), turn) for turn in range(n * (1 + n % 2))]
    assert all(sorted(order) == list(range(n)) for order in rounds)
    places = Counter((place, who) for order in rounds for place, who in enumerate(order))
    pairs = Counter(pair for order in rounds for pair in itertools.pairwise(order))
    assert set(places.values()) == {1 + n % 2} and len(pairs) == n * (n - 1) and len(set(pairs.values())) <= 1


class Clock:
    """Stands still but for what the test lets pass."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Noisy:
    """A lap whose calls take `seconds` times 0.5 and 1.5 in turns, on the clock."""

    def __init__(self, clock, seconds, spread=0.5):
        self.clock, self.seconds, self.spread, self.calls = clock, seconds, spread, 0

    def __call__(self, calls):
        took = calls * self.seconds * (1 - self.spread * (-1) ** self.calls)
        self.calls += 1
        self.clock.now += took
        return took


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


@pytest.mark.parametrize(("seconds", "rounds"), [(9.5, 10), (2.0, 5), (0.9, 3), (0.1, 1), (1e9, 400)])
def test_rounds_go_on_until_time_is_up_and_five_may_take_three_times_that(clock, seconds, rounds):
    """A round takes 1.25 and 0.75 seconds in turns, and no ratio is ever certain."""
    shares = []
    result = timing.measure({"a": Noisy(clock, 0.5, spread=0), "b": Noisy(clock, 0.5)}, seconds, shares.append)
    assert len(result.laps["a"]) == len(result.laps["b"]) == rounds
    assert shares[0] == min(1.0, 1.25 / seconds) and len(shares) == rounds


def test_who_is_alone_is_timed_until_time_is_up(clock):
    result = timing.measure({"a": Noisy(clock, 0.5, spread=0)}, 4.75)
    assert result.laps == {"a": [0.5] * 10} and not result.ratios


def test_a_time_is_that_of_one_call_however_many_make_a_lap(clock):
    quick, slow = Noisy(clock, 2e-6, spread=0), Noisy(clock, 0.5, spread=0)
    result = timing.measure({"quick": quick, "slow": slow}, 1.0)
    assert result.median("quick") == pytest.approx(2e-6) and result.median("slow") == 0.5
    assert result.ratios["slow"].ratio == pytest.approx(0.5 / 2e-6)


def test_warming_up_ends_when_its_time_is_up(clock):
    asked = []

    def lap(calls):
        asked.append(calls)
        clock.now += 1.0
        return 0.5 ** len(asked)  # faster every time

    clock.now = 100.0
    assert timing.warm_up(lap, 3.5) == 1 and asked == [1] * 4 + [1]


def test_every_round_has_every_contestant():
    order = []

    def lap(name):
        def run(calls):
            order.append(name)
            return calls * 0.01

        return run

    result = timing.measure({name: lap(name) for name in "abc"}, seconds=10)  # steady laps: it ends long before
    rounds = len(result.laps["a"])
    assert rounds == timing.SURE + 1
    timed = order[-3 * rounds :]
    assert all(timed[3 * i : 3 * i + 3] == timing.order_of(list("abc"), i) for i in range(rounds))


def test_progress_ends_at_all_of_it():
    shares = []
    timing.measure({"a": lambda calls: calls * 0.01, "b": lambda calls: calls * 0.02}, 1e-9, shares.append)
    assert set(shares) == {1.0}


def test_short_calls_are_bundled_until_the_clock_can_see_them():
    assert timing.calls_per_lap(lambda calls: calls * 1e-6) * 1e-6 >= timing.LAP_SECONDS
    assert timing.calls_per_lap(lambda calls: calls * 1.0) == 1
    assert timing.calls_per_lap(lambda calls: 0.0 if calls < 1000 else 1.0) >= 1000


def test_a_noisy_ratio_is_measured_longer_than_a_steady_one():
    rng = np.random.default_rng(0)
    steady = timing.measure({"a": lambda n: n * 0.01, "b": lambda n: n * 0.02}, seconds=0.3)
    noisy = timing.measure({"a": lambda n: n * 0.01 * rng.uniform(1, 9), "b": lambda n: n * 0.02}, seconds=0.3)
    assert steady.ratios["b"].rounds < noisy.ratios["b"].rounds


def test_a_ratio_is_the_median_over_rounds_of_their_time_over_ours():
    taken = {"ours": [1.0, 2.0, 4.0, 1.0, 1.0, 1.0, 2.0], "theirs": [3.0, 8.0, 4.0, 2.0, 5.0, 6.0, 14.0]}
    result = timing.with_ratios(taken)
    found = result.ratios["theirs"]
    assert (found.ratio, found.low, found.high, found.rounds) == (4.0, 1.0, 7.0, 7) and list(result.ratios) == ["theirs"]
    assert (result.median("ours"), result.best("ours"), result.median("theirs")) == (1.0, 1.0, 5.0)
    assert not timing.is_tight(result)
    for scale in (1, 100):
        theirs = [scale * t for t in (2.0, 2.05, 2.05, *[2.0] * 6)]
        assert timing.is_tight(timing.with_ratios({"ours": [1.0] * 9, "theirs": theirs}))


def test_long_runs_take_turns_and_are_neither_bundled_nor_warmed_up():
    order, shares = [], []
    lap = lambda name, seconds: lambda calls: order.append((name, calls)) or seconds
    result = timing.measure_runs({"a": lap("a", 2.0), "b": lap("b", 6.0)}, 4, shares.append)
    assert order == [("a", 1), ("b", 1), ("b", 1), ("a", 1)] * 2 and shares == [0.25, 0.5, 0.75, 1.0]
    assert result.laps == {"a": [2.0] * 4, "b": [6.0] * 4} and result.ratios["b"].ratio == 3.0


@pytest.mark.parametrize(("taken", "laps"), [([1.0, 0.8, 0.5, 0.49, 0.1], 4), ([1.0, 1.0], 2), ([2.0**-i for i in range(20)], 9)])
def test_warming_up_ends_when_calls_get_no_faster(taken, laps):
    """Or after eight more; one lap then says how many calls a lap needs."""
    left = iter(taken)
    asked = []

    def lap(calls):
        asked.append(calls)
        return next(left) if len(asked) <= laps else calls * 0.004

    assert timing.warm_up(lap, 1e9) == 3 and asked[: laps + 1] == [1] * (laps + 1) and asked[laps + 1 :] == [3]
    asked.clear()
    assert timing.warm_up(lambda calls: asked.append(calls) or 1 / len(asked), -1.0) == 1 and asked == [1, 1, 1], "the time is up"


def test_a_short_lap_begins_with_calls_without_the_clock(clock, monkeypatch):
    seen = []
    monkeypatch.setattr(timing, "rest", lambda: seen.append("rest"))

    def work():
        seen.append("work")
        clock.now += cost

    lap = timing.timed_lap(work, lambda: seen.append("before"))
    cost = 0.02
    assert lap(3) == pytest.approx(0.06)
    assert seen == ["before", *["work"] * (2 + 3), "rest"], "at first nobody knows how long a call takes"
    seen.clear()
    assert lap(3) == pytest.approx(0.06) and seen == ["before", *["work"] * 3, "rest"]
    seen.clear()
    assert lap(1) == pytest.approx(0.02) and seen == ["before", *["work"] * (2 + 1), "rest"]


def test_a_rest_sees_the_threads_of_this_very_system_at_work():
    """Linux counts what other threads take at its ticks alone: a look of a few milliseconds saw nothing of NumPy's pool."""
    lasted = []
    for _ in range(5):
        at_work = threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"", b"", 400_000))  # without Python's lock
        at_work.start()
        timing.rest()
        lasted.append(not at_work.is_alive())
        at_work.join()
    assert sum(lasted) >= 3, "a busy machine may keep a thread from working"


def test_a_rest_lasts_until_the_threads_sleep(clock):
    """Or for half a second, where they never do."""
    clock.process_time, clock.naps = lambda: clock.used, 0

    def sleep(seconds):
        clock.naps += 1
        clock.now += seconds
        clock.used += seconds * (1.0 if clock.naps < busy else 0.1)

    clock.sleep = sleep
    for busy, naps in ((1, 1), (4, 4), (10**6, math.ceil(timing.REST_SECONDS / timing.REST_LOOK))):
        clock.now, clock.used, clock.naps = 0.0, 0.0, 0
        timing.rest()
        assert abs(clock.naps - naps) <= (busy > 4)
