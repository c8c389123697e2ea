"""Learning-rate schedules, all with a linear warm-up: the rate of step t is the group's own rate times factor(t).

Steps count from 0. During warm-up factor(t) = (t + 1) / (warmup + 1), so that the first step already moves.
"""

import math
from collections.abc import Callable

from .._check import need, whole


class Schedule:
    """Sets the rate of every group of `optimizer`; `step()` moves on by one."""

    def __init__(self, optimizer, factor: Callable[[int], float], last: int = 0):
        self.optimizer, self.factor, self.last = optimizer, factor, last
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.apply()

    def apply(self) -> None:
        scale = self.factor(self.last)
        self.base += [group["lr"] for group in self.optimizer.param_groups[len(self.base) :]]  # of groups added since
        for group, rate in zip(self.optimizer.param_groups, self.base):
            group["lr"] = rate * scale

    def step(self) -> None:
        """The next step's rate for every group; called after the optimizer's step."""
        self.last += 1
        self.apply()

    def get_last_lr(self) -> list[float]:
        """Every group's rate now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    @property
    def lr(self) -> float:
        """The first group's rate now."""
        return self.optimizer.param_groups[0]["lr"]

    def state_dict(self) -> dict:
        """The step it is at and the groups' own rates."""
        return {"last": self.last, "base": list(self.base)}

    def load_state_dict(self, state: dict) -> None:
        """Goes on from a saved state; ValueError for another number of groups."""
        if len(state["base"]) != len(self.base):
            raise ValueError(f"schedule state: expected {len(self.base)} groups, got {len(state['base'])}")
        self.last, self.base = int(state["last"]), [float(x) for x in state["base"]]
        self.apply()


def warmed(warmup: int, after: Callable[[int], float]) -> Callable[[int], float]:
    if whole("warmup", warmup) < 0:
        raise ValueError(f"warmup: expected at least 0 steps, got {warmup}")
    return lambda t: (t + 1) / (warmup + 1) if t < warmup else after(t)


def progress(t: int, warmup: int, total: int) -> float:
    """0 at the end of warm-up, 1 at `total` and after."""
    return min(max((t - warmup) / (total - warmup), 0.0), 1.0)


def check_span(warmup: int, total: int, minimum: float) -> None:
    need("minimum", minimum, lambda x: 0 <= x <= 1, "a fraction of the rate, from 0 to 1")
    if whole("total", total) <= whole("warmup", warmup):
        raise ValueError(f"total: expected more steps than the {warmup} of warm-up, got {total}")


def cosine(optimizer, warmup: int, total: int, minimum: float = 0.0) -> Schedule:
    """minimum + (1 - minimum) (1 + cos πs) / 2, s from 0 to 1 between `warmup` and `total`   Loshchilov and Hutter 2017 §3

    The rate as a fraction of the group's own; step t < warmup has (t + 1) / (warmup + 1).
    ValueError unless total > warmup ≥ 0 and 0 ≤ minimum ≤ 1.
    """
    check_span(warmup, total, minimum)
    curve = lambda t: minimum + (1 - minimum) * 0.5 * (1 + math.cos(math.pi * progress(t, warmup, total)))
    return Schedule(optimizer, warmed(warmup, curve))


def linear(optimizer, warmup: int, total: int, minimum: float = 0.0) -> Schedule:
    """A straight line from 1 to `minimum`, as BERT is trained. Warm-up, fractions and errors are those of `cosine`."""
    check_span(warmup, total, minimum)
    return Schedule(optimizer, warmed(warmup, lambda t: minimum + (1 - minimum) * (1 - progress(t, warmup, total))))


def inverse_sqrt(optimizer, warmup: int, total: int | None = None) -> Schedule:
    """√((warmup + 1) / (t + 1)) after `cosine`'s warm-up: Vaswani et al. 2017 §5.3, T5 §3.1.2. `total` is not used."""
    return Schedule(optimizer, warmed(warmup, lambda t: math.sqrt((warmup + 1) / (t + 1))))


def constant(optimizer, warmup: int = 0, total: int | None = None) -> Schedule:
    """1 after `cosine`'s warm-up. `total` is not used."""
    return Schedule(optimizer, warmed(warmup, lambda t: 1.0))
