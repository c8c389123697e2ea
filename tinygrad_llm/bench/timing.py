"""Turns: contestants run one after another, round by round, until the ratio's interval is tight or time is up.

A round gives one time per contestant, taken within moments of each other, so a busy spell of the machine hits all of them.
The ratio is the median over rounds of (their time / our time); its 95% interval is the distribution-free one for a median,
from order statistics, which assumes nothing about the noise.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Lap = Callable[[int], float]  # calls -> seconds for all of them

MIN_ROUNDS, MAX_ROUNDS = 5, 400
CONFIDENCE = 0.95
SURE = 6  # rounds from which on some interval covers the median with 95%
TIGHT = 0.03  # stop when the interval's width is under this share of the ratio
LAP_SECONDS = 0.01  # short calls are repeated until a lap takes this long
SHORT, WARM_SECONDS = 0.05, 0.03  # a lap shorter than that is begun with calls for so long without the clock
REST_SECONDS = 0.5  # at most, after a lap, for threads that look for work
REST_LOOK = 0.02  # seconds of a look at them: Linux counts the time of other threads at its ticks alone, 4 to 10 ms apart


@dataclass
class Ratio:
    """Their time over ours: above 1, ours is faster."""

    ratio: float
    low: float
    high: float
    rounds: int


@dataclass
class Timing:
    """Seconds per call of each contestant, and each one's ratio to the first ("ours")."""

    laps: dict[str, list[float]]
    ratios: dict[str, Ratio]

    def median(self, name: str) -> float:
        return statistics.median(self.laps[name])

    def best(self, name: str) -> float:
        return min(self.laps[name])


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Order-statistic interval for the median: the narrowest symmetric one that covers it with at least 95%.

    (x_(k), x_(n+1-k)) covers with probability 1 - 2 P(Binomial(n, 1/2) < k). With fewer than six values
    no pair reaches 95%, and the range of all values is what can be said.
    """
    ordered, n = sorted(values), len(values)
    k, tail = 0, 0.5**n
    while 2 * tail <= 1 - CONFIDENCE:
        k += 1
        tail += math.comb(n, k) / 2**n
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def interval_text(low: float, high: float, rounds: int, to: str = "–") -> str:
    """The interval; with too few rounds for 95% their number, which says how little the range of all is worth."""
    if rounds == 1:
        return "one round"
    return f"{low:.2f}{to}{high:.2f}" + (f" in {rounds} rounds" if rounds < SURE else "")


def ratio_of(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Median over rounds of theirs / ours, with its interval."""
    values = [t / o for t, o in zip(theirs, ours, strict=True)]
    low, high = median_interval(values)
    return Ratio(statistics.median(values), low, high, len(values))


def calls_per_lap(lap: Lap) -> int:
    """How many calls make a lap long enough for the clock: 1 for anything over LAP_SECONDS."""
    calls = 1
    while (took := lap(calls)) < LAP_SECONDS:
        calls *= 2 if took <= 0 else min(16, math.ceil(LAP_SECONDS / took))
    return calls


def warm_up(lap: Lap, budget: float) -> int:
    """Call until a call is no longer faster than those before (compilers, caches, page faults); calls per lap."""
    start, best = time.perf_counter(), lap(1)
    for _ in range(8):
        took = lap(1)
        if took > 0.9 * best or time.perf_counter() - start > budget:
            break
        best = took
    return calls_per_lap(lap)


def table_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table; names may have any characters."""
    return "| " + " | ".join(" ".join(cell.split("\n")).replace("|", "\\|") for cell in cells) + " |"


Progress = Callable[[float], Any]
silent: Progress = lambda share: None


def measure_runs(laps: dict[str, Lap], runs: int, progress: Progress = silent) -> Timing:
    """Each contestant `runs` times in turns, nothing before and nothing bundled: for calls that take minutes."""
    taken: dict[str, list[float]] = {name: [] for name in laps}
    for turn in range(runs):
        for name in order_of(list(laps), turn):
            taken[name].append(laps[name](1))
        progress((turn + 1) / runs)
    return with_ratios(taken)


def measure(laps: dict[str, Lap], seconds: float, progress: Progress = silent) -> Timing:
    """Interleave the contestants for `seconds`, or up to three times that for a few rounds; the first is the one compared with.

    No one always follows the same neighbour: who gives gigabytes back to the system slows down the next one for seconds.
    """
    names = list(laps)
    calls = {name: warm_up(laps[name], seconds) for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    start = time.perf_counter()
    for turn in range(MAX_ROUNDS):
        for name in order_of(names, turn):
            taken[name].append(laps[name](calls[name]) / calls[name])
        elapsed = time.perf_counter() - start
        progress(min(1.0, elapsed / seconds))
        if turn + 1 < MIN_ROUNDS and elapsed < 3 * seconds:
            continue
        timing = with_ratios(taken)
        if elapsed > seconds or (timing.ratios and turn + 1 > SURE and is_tight(timing)):
            break
    return with_ratios(taken)


def order_of(names: list[str], turn: int) -> list[str]:
    """The order of a round. Over n rounds (2n where n is odd) each comes in each place, and after each other, equally often.

    Williams 1949, Experimental designs balanced for the estimation of residual effects of treatments.
    """
    n = len(names)
    order = [names[(turn + (-1) ** i * ((i + 1) // 2)) % n] for i in range(n)]  # 0, -1, 1, -2, 2, ...
    return order[::-1] if n % 2 and turn % 2 else order


def with_ratios(taken: dict[str, list[float]]) -> Timing:
    """Add each contestant's ratio to the first."""
    first, *others = taken
    return Timing(taken, {name: ratio_of(taken[name], taken[first]) for name in others})


def is_tight(timing: Timing) -> bool:
    return all(r.high - r.low < TIGHT * r.ratio for r in timing.ratios.values())


def timed_lap(function: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> Lap:
    """The lap of a function in this process: `before`, some calls without the clock if calls are short, those with it, rest."""
    last = 0.0

    def lap(calls: int) -> float:
        nonlocal last
        before()
        if calls * last < SHORT:
            call_for(function, WARM_SECONDS)
        start = time.perf_counter()
        for _ in range(calls):
            function()
        seconds = time.perf_counter() - start
        last = seconds / calls
        rest()
        return seconds

    return lap


def call_for(function: Callable[[], Any], seconds: float) -> None:
    """Call at least once: after someone else's turn, caches and threads come back."""
    end = time.perf_counter() + seconds
    while True:
        function()
        if time.perf_counter() >= end:
            return


def rest() -> None:
    """Wait until this process's threads sleep, so that the next contestant has the cores to itself.

    The pools of OpenMP and OpenBLAS look for work for 10 to 200 ms after their last call; a turn begun meanwhile
    would be timed on the cores that they leave.
    """
    end = time.perf_counter() + REST_SECONDS
    while time.perf_counter() < end:
        used, start = time.process_time(), time.perf_counter()
        time.sleep(REST_LOOK)
        if time.process_time() - used < 0.2 * (time.perf_counter() - start):
            return
