"""The form of a declaration: one operation, its NumPy reference, and inputs to try it on. NumPy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Generator = np.random.Generator
MARGIN = 1e-2  # how far samples stay away from kinks


@dataclass(frozen=True)
class Sample:
    """One call: `args` in the order of the op's inputs (float64 arrays are differentiated), `params` its statics."""

    args: tuple[Any, ...]
    params: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{a.dtype}{list(a.shape)}" if isinstance(a, np.ndarray) else repr(a) for a in self.args)
        return f"({shapes}{''.join(f', {k}={v!r}' for k, v in self.params.items())})"


@dataclass(frozen=True)
class Declaration:
    """What the tests of one op need to know.

    `reference(*args, **params)` computes the value in plain NumPy, written independently of the op.
    `makers` build samples from a random generator. `domains` is given for elementwise ops: one (low, high) for
    each input, for tests that draw shapes and values themselves. `kinks` are input values at or
    near which there is no derivative: samples stay away from them by `MARGIN`.
    """

    name: str
    reference: Callable[..., Any]
    makers: tuple[Callable[[Generator], Sample], ...]
    domains: tuple[tuple[float, float], ...] = ()
    kinks: tuple[float, ...] = ()
    second: bool = True  # second derivatives exist and are checked
    complex_step: bool = False  # the op and its reference take complex numbers analytically
    float32_error: float = 4e-6  # of the largest value, float32 against the float64 reference
    differentiable: bool = True

    def samples(self, seed: int = 0) -> list[Sample]:
        """The declared samples, the same for the same seed."""
        return [maker(np.random.default_rng([seed, i])) for i, maker in enumerate(self.makers)]


#: every declaration by the op's name
table: dict[str, Declaration] = {}


def declare(declaration: Declaration) -> Declaration:
    """Enter a declaration in the table."""
    if declaration.name in table:
        raise ValueError(f"declaration of {declaration.name}: the table has one of that name")
    table[declaration.name] = declaration
    return declaration


def draw(rng: Generator, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0, kinks: Any = ()) -> np.ndarray:
    """Uniform float64 values in [low, high), pushed away from the kinks."""
    return away_from(np.asarray(rng.uniform(low, high, shape)), kinks, MARGIN, rng)


def away_from(x: np.ndarray, kinks: Any, margin: float, rng: Generator) -> np.ndarray:
    """x with what is nearer than `margin` to a kink moved to between one and two margins from it, on its own side."""
    for kink in kinks:
        near = np.abs(x - kink) < margin
        x = np.where(near, kink + np.where(x < kink, -1, 1) * margin * rng.uniform(1, 2, x.shape), x)
    return x


def unary(name: str, reference: Callable[..., Any], low: float = -2.0, high: float = 2.0, **flags: Any) -> Declaration:
    """An elementwise op of one input: `unary("log", np.log, 0.1, 5)`, `unary("abs", np.abs, kinks=(0,))`."""
    make = lambda shape: lambda rng: Sample((draw(rng, shape, low, high, flags.get("kinks", ())),))
    makers = (make((2, 3)), make(()), make((0, 3)))
    return declare(Declaration(name, reference, makers, ((low, high),), **flags))


def binary(
    name: str,
    reference: Callable[..., Any],
    a: tuple[float, float] = (-2.0, 2.0),
    b: tuple[float, float] = (-2.0, 2.0),
    **flags: Any,
) -> Declaration:
    """A broadcasting op of two inputs: `binary("divide", np.divide, b=(0.5, 2))`."""
    make = lambda left, right: lambda rng: Sample((draw(rng, left, *a), draw(rng, right, *b)))
    makers = (make((2, 3), (2, 3)), make((2, 3), (3,)), make((), (2, 1)), make((2, 1, 3), (4, 1)), make((0, 3), (1, 3)))
    return declare(Declaration(name, reference, makers, (a, b), **flags))


def general(
    name: str, reference: Callable[..., Any], *makers: Callable[[Generator], Sample], **flags: Any
) -> Declaration:
    """Any op, with its own samples: `general("sum", np.sum, call((2, 3)), call((0, 3), axis=0))`."""
    return declare(Declaration(name, reference, makers, **flags))


def call(*inputs: Any, **params: Any) -> Callable[[Generator], Sample]:
    """A sample maker: `call((2, 3), lambda rng: rng.integers(0, 3, (2, 1)), axis=1)`.

    A tuple of ints stands for a normal float64 array of that shape; a function gets the generator; anything else is
    passed as it is.
    """

    def maker(rng: Generator) -> Sample:
        return Sample(tuple(_value(i, rng) for i in inputs), params)

    return maker


def _value(given: Any, rng: Generator) -> Any:
    if isinstance(given, tuple) and all(isinstance(n, int) for n in given):
        return np.asarray(rng.standard_normal(given))
    return given(rng) if callable(given) else given
