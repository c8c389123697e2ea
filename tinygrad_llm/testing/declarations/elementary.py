"""Declarations of ops_elementary.py and ops_special.py."""

import math

import numpy as np

from .forms import call, draw, general, unary

unary("positive", np.positive, complex_step=True)
unary("absolute", np.abs, kinks=(0,))
unary("square", np.square, complex_step=True)
unary("reciprocal", lambda x: 1 / x, 0.5, 2, complex_step=True)
unary("sqrt", np.sqrt, 0.1, 4, complex_step=True)
unary("rsqrt", lambda x: 1 / np.sqrt(x), 0.1, 4, complex_step=True)
unary("cbrt", np.cbrt, 0.1, 4)
unary("exp", np.exp, complex_step=True)
unary("exp2", np.exp2, complex_step=True)
unary("expm1", np.expm1, complex_step=True)
unary("log", np.log, 0.1, 5, complex_step=True)
unary("log2", np.log2, 0.1, 5, complex_step=True)
unary("log10", np.log10, 0.1, 5, complex_step=True)
unary("log1p", np.log1p, -0.9, 5, complex_step=True)
unary("sin", np.sin, complex_step=True)
unary("cos", np.cos, complex_step=True)
unary("tan", np.tan, -1.2, 1.2, complex_step=True)
unary("arcsin", np.arcsin, -0.9, 0.9)
unary("arccos", np.arccos, -0.9, 0.9)
unary("arctan", np.arctan)
unary("sinh", np.sinh, complex_step=True)
unary("cosh", np.cosh, complex_step=True)
unary("tanh", np.tanh, complex_step=True)
unary("arcsinh", np.arcsinh)
unary("arccosh", np.arccosh, 1.2, 4)
unary("arctanh", np.arctanh, -0.9, 0.9)
unary("sinc", np.sinc)
unary("sigmoid", lambda x: 1 / (1 + np.exp(-x)), -8, 8)
for _name in ("sign", "floor", "ceil", "trunc", "rint"):
    unary(_name, getattr(np, _name), kinks=(-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5))

general("round", np.round, call((3, 4)), call(lambda rng: np.array([0.126, -1.374]), decimals=2))
general(
    "arctan2", np.arctan2, call((3, 4), lambda rng: draw(rng, (3, 4), 0.5, 2)), call((4,), lambda rng: draw(rng, (3, 1), 0.5, 2)),
    call((0, 4), lambda rng: draw(rng, (4,), 0.5, 2)),
)

unary("erf", np.vectorize(math.erf, otypes=[float]), -4, 4)
unary("erfc", np.vectorize(math.erfc, otypes=[float]), -4, 4)
unary("lgamma", np.vectorize(math.lgamma, otypes=[float]), 0.2, 6)


def _inverse_erf(y):
    """Bisection on the C library's erf."""
    low, high = -6.0, 6.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle) < y else (low, middle)
    return (low + high) / 2


def _polygamma(x, n):
    """The series Σ 1/(x + k)^(n+1), cut at 2000 terms, and its tail to third order."""
    k = np.arange(2000).reshape((-1,) + (1,) * np.ndim(x))
    m, end = n + 1, x + 2000
    total = (1.0 / (x + k) ** m).sum(axis=0) + end**-n / n + end ** -float(m) / 2 + m * end ** -float(m + 1) / 12
    return (-1) ** m * math.factorial(n) * total


def _digamma(x):
    """-γ + Σ (1/(k + 1) - 1/(k + x)), by the same cut and tail."""
    k = np.arange(2000).reshape((-1,) + (1,) * np.ndim(x))
    end = x + 2000
    return np.log(end) - 0.5 / end - 1 / (12 * end**2) - (1.0 / (x + k)).sum(axis=0)


unary("erfinv", np.vectorize(_inverse_erf, otypes=[float]), -0.95, 0.95)
unary("digamma", _digamma, 0.2, 6)
general(
    "polygamma", _polygamma, call(lambda rng: draw(rng, (2, 3), 0.2, 6), n=1), call(lambda rng: draw(rng, (4,), 0.2, 6), n=3),
    float32_error=1e-5,
)
