"""What a question file is made of: cases, each with its contestants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np

from kernels._threads import cores

Timed = Callable[[], Any]
SetUp = Callable[..., Timed]
Thing = TypeVar("Thing")

OURS = "ours"

# Contestants that need a package, and the package. Any other name may be used by a question too.
PACKAGES = {
    "numpy": "numpy",
    "torch": "torch",
    "compile": "torch",
    "transformers": "transformers",
    "autograd": "autograd",
    "mygrad": "mygrad",
    "tinygrad": "tinygrad",
    "jax": "jax",
}


class Skip(Exception):
    """Raised in a contestant's set-up to stay away from this case; the reason is printed."""


@dataclass
class Options:
    """What the person asked for; every question reads the same ones."""

    threads: int = field(default_factory=cores)
    dtype: str = "float32"
    size: tuple[int, ...] = ()
    seconds: float = 10.0  # per case, warm-up not counted
    seed: int = 0

    def sizes(self, *default: int) -> tuple[int, ...]:
        """The sizes from --size, or the question's own."""
        return self.size or default

    def picked(self, things: Iterable[Thing]) -> list[Thing]:
        """Of cases that have no size those whose numbers, from 1 on, --size names: --size 1,3. All of them without it."""
        return [thing for number, thing in enumerate(things, 1) if not self.size or number in self.size]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Options:
        return cls(**{**fields, "size": tuple(fields["size"])})


@dataclass
class Case:
    """One measurement: the same work done by several contestants.

    inputs      rng -> tuple of arrays that every contestant's set-up receives; made anew from the same seed in each process
    flops       floating-point operations of one call, or a function that counts them (called where results are kept, so that no
                contestant's memory holds what it imports); bytes: memory traffic it cannot avoid; for the share of the limit
    expected    inputs -> what a call should return. Without it the first contestant that is not ours is the judge, and
                among variants of ours alone the last one
    tol         largest |difference| over largest |expected value|; None picks 1e-4 for float32 and 1e-9 for float64
    check       False where outputs legitimately differ (then say why in the question's docstring)
    unit, work  what a call produces ("token", 64), to report work per second
    fresh       give each contestant a new process for this case, so that its peak memory is this case's own
    threads     another thread count than the options', for this case; implies fresh
    runs        a call is a whole run of minutes: call each contestant this often, in turns, without warm-up, and
                validate what the last turn returned
    """

    name: str
    inputs: Callable[[np.random.Generator], tuple[Any, ...]] = lambda rng: ()
    flops: float | Callable[[], float] | None = None
    bytes: float | None = None
    expected: Callable[..., Any] | None = None
    tol: float | None = None
    check: bool = True
    unit: str | None = None
    work: float | None = None
    fresh: bool = False
    threads: int | None = None
    runs: int | None = None
    contestants: dict[str, SetUp] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("runs", "threads"):
            count = getattr(self, name)
            if count is not None and not (isinstance(count, int) and count >= 1):
                raise ValueError(f"case {self.name!r}: {name}: expected a whole number of at least 1, got {count}")
        self.fresh = self.fresh or self.threads is not None

    def contestant(self, name: str) -> Callable[[SetUp], SetUp]:
        """Register the decorated set-up: `setup(*inputs)` returns the zero-argument function that is timed."""

        def register(setup: SetUp) -> SetUp:
            if name in self.contestants:
                raise ValueError(f"case {self.name!r} already has a contestant {name!r}")
            self.contestants[name] = setup
            return setup

        return register


def randn(rng: np.random.Generator, dtype: str, *shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """One standard-normal array per shape."""
    return tuple(rng.standard_normal(shape, dtype=np.float32).astype(dtype, copy=False) for shape in shapes)


def is_ours(name: str) -> bool:
    """ "ours", and variants such as "ours int8"."""
    return name == OURS or name.startswith(OURS + " ")
