"""The elementary functions of one variable: a table of calculus.

`out` is the function's value. At a kink the subgradient is 0; steps (floor, sign, ...) have the gradient 0.
"""

from __future__ import annotations

import inspect

import numpy as np

import kernels

from .op import op
from .ops_common import has_kernel, one

LN2, LN10 = float(np.log(2)), float(np.log(10))


def _elementary(function, doc, rule, *others):
    """Enter a NumPy function, and `others` that do the same, as an operation. It saves what its rule takes: x, `out` or nothing."""
    takes = tuple(inspect.signature(rule).parameters)[1:]
    if takes == ("out",):
        def forward(x):
            out = function(x)
            return out, (out,)
    elif takes == ("x",):
        def forward(x): return function(x), (x,)
    else:
        def forward(x): return function(x), ()
    forward.__name__, forward.__doc__ = function.__name__, doc
    call = op(forward, elementwise=True, numpy=(function, *others))
    call.grad_of("x")(rule)
    return call


@op(elementwise=True, numpy=np.positive)
def positive(x):
    """y = x"""
    return +x, ()

@positive.grad_of("x")
def _(g): return g


absolute = _elementary(np.absolute, "y = |x|", lambda g, x: g * np.sign(x))
square = _elementary(np.square, "y = x²", lambda g, x: g * x * 2)
sqrt = _elementary(np.sqrt, "y = √x", lambda g, out: g / (2 * out))
cbrt = _elementary(np.cbrt, "y = ³√x", lambda g, out: g / (3 * out * out))


@op(elementwise=True, numpy=np.reciprocal)
def reciprocal(x):
    """y = 1 / x; integers give floats"""
    out = np.divide(1, x)
    return out, (out,)

@reciprocal.grad_of("x")
def _(g, out): return -g * out * out


@op(elementwise=True)
def rsqrt(x):
    """y = 1 / √x"""
    out = 1 / np.sqrt(x)
    return out, (out,)

@rsqrt.grad_of("x")
def _(g, out): return g * (-0.5 * out * out * out)


# -- exponentials and logarithms ---------------------------------------------------------------------------------------


exp = _elementary(np.exp, "y = eˣ", lambda g, out: g * out)
exp2 = _elementary(np.exp2, "y = 2ˣ", lambda g, out: g * out * LN2)
log = _elementary(np.log, "y = ln x", lambda g, x: g / x)
log2 = _elementary(np.log2, "y = log₂ x", lambda g, x: g / (x * LN2))
log10 = _elementary(np.log10, "y = log₁₀ x", lambda g, x: g / (x * LN10))
log1p = _elementary(np.log1p, "y = ln(1 + x), exact near 0", lambda g, x: g / (1 + x))


@op(elementwise=True, numpy=np.expm1)
def expm1(x):
    """y = eˣ - 1, exact near 0"""
    out = kernels.expm1_forward(x) if has_kernel(x) else np.expm1(x)
    return out, (out,)

@expm1.grad_of("x")
def _(g, out): return g * (out + 1)


# -- the circle --------------------------------------------------------------------------------------------------------


sin = _elementary(np.sin, "y = sin x", lambda g, x: g * np.cos(x))
cos = _elementary(np.cos, "y = cos x", lambda g, x: -g * np.sin(x))
tan = _elementary(np.tan, "y = tan x", lambda g, out: g * (1 + out * out))
arcsin = _elementary(np.arcsin, "y = arcsin x", lambda g, x: g / np.sqrt(1 - x * x))
arccos = _elementary(np.arccos, "y = arccos x", lambda g, x: -g / np.sqrt(1 - x * x))
arctan = _elementary(np.arctan, "y = arctan x", lambda g, x: g / (1 + x * x))


@op(elementwise=True, numpy=np.arctan2)
def arctan2(a, b):
    """y = the angle of the point (b, a), in (-π, π]; the subgradient at the origin is 0"""
    return np.arctan2(a, b), (a, b)

def _squared_length(a, b):
    square = a * a + b * b
    return np.where(square == 0, 1, square)

@arctan2.grad_of("a")
def _(g, a, b): return g * b / _squared_length(a, b)

@arctan2.grad_of("b")
def _(g, a, b): return -g * a / _squared_length(a, b)


# -- the hyperbola -----------------------------------------------------------------------------------------------------


sinh = _elementary(np.sinh, "y = (eˣ - e⁻ˣ) / 2", lambda g, x: g * np.cosh(x))
cosh = _elementary(np.cosh, "y = (eˣ + e⁻ˣ) / 2", lambda g, x: g * np.sinh(x))
arcsinh = _elementary(np.arcsinh, "y = ln(x + √(x² + 1))", lambda g, x: g / np.sqrt(x * x + 1))
arccosh = _elementary(np.arccosh, "y = ln(x + √(x² - 1)), for x ≥ 1", lambda g, x: g / np.sqrt((x - 1) * (x + 1)))
arctanh = _elementary(np.arctanh, "y = ½ ln((1 + x) / (1 - x))", lambda g, x: g / (1 - x * x))


@op(elementwise=True, numpy=np.tanh)
def tanh(x):
    """y = (eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)"""
    out = kernels.tanh_forward(x) if has_kernel(x) else np.tanh(x)
    return out, (out,)

@tanh.grad_of("x")
def _(g, out): return g * (one(out) - out * out)


@op(elementwise=True)
def sigmoid(x):
    """y = 1 / (1 + e⁻ˣ), without overflow"""
    small = np.exp(-np.absolute(x))
    out = np.maximum(small, x >= 0) / (1 + small)  # a comparison as a number costs a tenth of np.where
    return out, (out,)

@sigmoid.grad_of("x")
def _(g, out): return g * out * (one(out) - out)


# -- steps -------------------------------------------------------------------------------------------------------------


def _flat(g): return np.zeros_like(g)


sign = _elementary(np.sign, "y = -1, 0 or 1", _flat)
floor = _elementary(np.floor, "y = the largest integer ≤ x", _flat)
ceil = _elementary(np.ceil, "y = the smallest integer ≥ x", _flat)
trunc = _elementary(np.trunc, "y = x without its fraction", _flat, np.fix)
rint = _elementary(np.rint, "y = the nearest integer, halves to even", _flat)


@op(numpy=(np.round, np.around))
def round(x, *, decimals=0):  # NumPy's name
    """y = x rounded to `decimals` places, halves to even"""
    return np.round(x, decimals), ()

round.grad_of("x")(_flat)
