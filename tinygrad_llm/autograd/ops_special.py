"""Special functions: the error function and its inverse, the logarithm of the gamma function and its derivatives.

NumPy has none of them. float64 throughout: float32 inputs are computed in float64 and rounded once, but erf of many numbers, which
has a kernel.
"""

from __future__ import annotations

import math

import numpy as np

import kernels

from .op import op
from .ops_common import along, errstate, has_kernel

SLOPE = 2 / math.sqrt(math.pi)  # of erf at 0


def _in_float64(function, x, *rest):
    x = np.asarray(x)
    dtype = x.dtype if x.dtype.kind == "f" else np.float64
    with errstate():
        return np.asarray(function(x.astype(np.float64), *rest)).astype(dtype)


@op
def erf(x):
    """y = 2/√π ∫₀ˣ e^(-t²) dt"""
    if has_kernel(x):
        return kernels.erf_forward(x), (x,)
    return _in_float64(kernels.reference.erf, x), (x,)

@erf.grad_of("x")
def _(g, x): return g * SLOPE * np.exp(-x * x)


def _erfc(x):
    """erfc by the continued fraction of its asymptotic form where 1 - erf would cancel."""
    far = np.clip(np.abs(x), 2.0, 27.0)
    fraction = np.zeros_like(far)
    for k in range(60, 0, -1):
        fraction = (k / 2) / (far + fraction)
    tail = np.exp(-far * far) / (math.sqrt(math.pi) * (far + fraction))
    tail = np.where(np.abs(x) > 27, 0.0, tail)
    return np.where(x > 2, tail, np.where(x < -2, 2 - tail, 1 - kernels.reference.erf(np.clip(x, -2, 2)) + 0 * x))


@op
def erfc(x):
    """y = 1 - erf x, exact where it is small"""
    return _in_float64(_erfc, x), (x,)

@erfc.grad_of("x")
def _(g, x): return -g * SLOPE * np.exp(-x * x)


def _erfinv(y):
    """Newton's method with Halley's correction from Winitzki's closed approximation."""
    log = np.log1p(-y * y)
    a = 0.147
    half = 2 / (math.pi * a) + log / 2
    x = np.copysign(np.sqrt(np.sqrt(half * half - log / a) - half), y)
    for _ in range(4):
        tail = (1 - np.abs(y)) - _erfc(np.abs(x))
        miss = np.where(np.abs(y) > 0.5, np.sign(y) * tail, kernels.reference.erf(x) - y)
        step = miss / (SLOPE * np.exp(-x * x))
        x = x - step / (1 + x * step)
    x = np.where(np.abs(y) == 1, np.copysign(np.inf, y), x)
    return np.where(np.abs(y) > 1, np.nan, x)


@op
def erfinv(x):
    """y with erf y = x, for -1 < x < 1"""
    out = _in_float64(_erfinv, x)
    return out, (out,)

@erfinv.grad_of("x")
def _(g, out): return g / SLOPE * np.exp(out * out)


# -- the gamma function ------------------------------------------------------------------------------------------------

# B₂ₖ: the numbers of Stirling's series
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
SHIFT = 12  # the series is used from here on


def _lgamma(x):
    """log |Γ(x)|: element by element, with the C library's own function."""
    pole = np.isinf(x) | ((x <= 0) & (x == np.floor(x)))
    flat = [math.inf if at_pole else math.lgamma(v) for v, at_pole in zip(x.ravel().tolist(), pole.ravel().tolist())]
    return np.asarray(flat, np.float64).reshape(x.shape)


@op
def lgamma(x):
    """y = log |Γ(x)|"""
    return _in_float64(_lgamma, x), (x,)

@lgamma.grad_of("x")
def _(g, x): return g * along(digamma, x)


def _digamma(x):
    """ψ(x) = ψ(x + 1) - 1/x up to the series; below 1/2 by reflection, ψ(1 - x) - π / tan(πx)."""
    low = x < 0.5
    z = np.where(low, 1 - x, x)
    total = np.zeros_like(z)
    for _ in range(SHIFT):
        small = z < SHIFT
        total -= np.where(small, 1 / np.where(small, z, 1), 0)
        z = np.where(small, z + 1, z)
    inverse = 1 / (z * z)
    series, power = np.log(z) - 0.5 / z, inverse
    for k, b in enumerate(BERNOULLI, 1):
        series = series - b / (2 * k) * power
        power = power * inverse
    out = series + total
    pole = (x <= 0) & (x == np.floor(x))
    out = np.where(low, out - math.pi / np.tan(math.pi * (x - np.rint(x))), out)
    return np.where(pole, np.where(x == 0, -np.copysign(np.inf, x), np.nan), out)


@op
def digamma(x):
    """y = d/dx log Γ(x)"""
    return _in_float64(_digamma, x), (x,)

@digamma.grad_of("x")
def _(g, x): return g * along(polygamma, x, n=1)


def _polygamma(x, n):
    """(-1)^(n+1) n! Σₖ 1/(x + k)^(n+1): the first terms one by one, the rest by Euler and Maclaurin."""
    factor = (-1) ** (n + 1) * math.factorial(n)
    z, total = x.copy(), np.zeros_like(x)
    for _ in range(SHIFT + n):
        small = z < SHIFT + n
        total += np.where(small, np.where(small, z, 1) ** -(n + 1.0), 0)
        z = np.where(small, z + 1, z)
    rest = z ** -float(n) / n + 0.5 * z ** -(n + 1.0)
    rising = float(n + 1)  # (n+1)(n+2)...(n+2k-1)
    for k, b in enumerate(BERNOULLI, 1):
        rest = rest + b * rising / math.factorial(2 * k) * z ** -(n + 2.0 * k)
        rising *= (n + 2 * k) * (n + 2 * k + 1)
    return factor * (total + rest)


@op
def polygamma(x, *, n):
    """y = the n-th derivative of digamma, n ≥ 1, for x > 0"""
    if not isinstance(n, (int, np.integer)):
        raise TypeError(f"expected a whole number n, got {type(n).__name__}; the variable comes first: polygamma(x, n)")
    if n < 1:
        raise ValueError(f"expected n ≥ 1, got {n}")
    if np.any(x <= 0):
        raise ValueError("only x > 0 is supported")
    return _in_float64(_polygamma, x, n), (x, n)

@polygamma.grad_of("x")
def _(g, x, n): return g * along(polygamma, x, n=n + 1)
