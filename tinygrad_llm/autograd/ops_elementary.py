"""The elementary functions of one variable: a table of calculus.

`out` is the function's value. At a kink the subgradient is 0; steps (floor, sign, ...) have the gradient 0.
"""

from __future__ import annotations

import numpy as np

import kernels

from .op import op
from .ops_common import has_kernel, one

LN2, LN10 = float(np.log(2)), float(np.log(10))


@op(elementwise=True, numpy=np.positive)
def positive(x):
    """y = x"""
    return +x, ()

@positive.grad_of("x")
def _(g): return g


@op(elementwise=True, numpy=np.absolute)
def absolute(x):
    """y = |x|"""
    return np.absolute(x), (x,)

@absolute.grad_of("x")
def _(g, x): return g * np.sign(x)


@op(elementwise=True, numpy=np.square)
def square(x):
    """y = x²"""
    return np.square(x), (x,)

@square.grad_of("x")
def _(g, x): return g * x * 2


@op(elementwise=True, numpy=np.reciprocal)
def reciprocal(x):
    """y = 1 / x; integers give floats"""
    out = np.divide(1, x)
    return out, (out,)

@reciprocal.grad_of("x")
def _(g, out): return -g * out * out


@op(elementwise=True, numpy=np.sqrt)
def sqrt(x):
    """y = √x"""
    out = np.sqrt(x)
    return out, (out,)

@sqrt.grad_of("x")
def _(g, out): return g / (2 * out)


@op(elementwise=True)
def rsqrt(x):
    """y = 1 / √x"""
    out = 1 / np.sqrt(x)
    return out, (out,)

@rsqrt.grad_of("x")
def _(g, out): return g * (-0.5 * out * out * out)


@op(elementwise=True, numpy=np.cbrt)
def cbrt(x):
    """y = ³√x"""
    out = np.cbrt(x)
    return out, (out,)

@cbrt.grad_of("x")
def _(g, out): return g / (3 * out * out)


# -- exponentials and logarithms ---------------------------------------------------------------------------------------


@op(elementwise=True, numpy=np.exp)
def exp(x):
    """y = eˣ"""
    out = np.exp(x)
    return out, (out,)

@exp.grad_of("x")
def _(g, out): return g * out


@op(elementwise=True, numpy=np.exp2)
def exp2(x):
    """y = 2ˣ"""
    out = np.exp2(x)
    return out, (out,)

@exp2.grad_of("x")
def _(g, out): return g * out * LN2


@op(elementwise=True, numpy=np.expm1)
def expm1(x):
    """y = eˣ - 1, exact near 0"""
    out = kernels.expm1_forward(x) if has_kernel(x) else np.expm1(x)
    return out, (out,)

@expm1.grad_of("x")
def _(g, out): return g * (out + 1)


@op(elementwise=True, numpy=np.log)
def log(x):
    """y = ln x"""
    return np.log(x), (x,)

@log.grad_of("x")
def _(g, x): return g / x


@op(elementwise=True, numpy=np.log2)
def log2(x):
    """y = log₂ x"""
    return np.log2(x), (x,)

@log2.grad_of("x")
def _(g, x): return g / (x * LN2)


@op(elementwise=True, numpy=np.log10)
def log10(x):
    """y = log₁₀ x"""
    return np.log10(x), (x,)

@log10.grad_of("x")
def _(g, x): return g / (x * LN10)


@op(elementwise=True, numpy=np.log1p)
def log1p(x):
    """y = ln(1 + x), exact near 0"""
    return np.log1p(x), (x,)

@log1p.grad_of("x")
def _(g, x): return g / (1 + x)


# -- the circle --------------------------------------------------------------------------------------------------------


@op(elementwise=True, numpy=np.sin)
def sin(x):
    """y = sin x"""
    return np.sin(x), (x,)

@sin.grad_of("x")
def _(g, x): return g * np.cos(x)


@op(elementwise=True, numpy=np.cos)
def cos(x):
    """y = cos x"""
    return np.cos(x), (x,)

@cos.grad_of("x")
def _(g, x): return -g * np.sin(x)


@op(elementwise=True, numpy=np.tan)
def tan(x):
    """y = tan x"""
    out = np.tan(x)
    return out, (out,)

@tan.grad_of("x")
def _(g, out): return g * (1 + out * out)


@op(elementwise=True, numpy=np.arcsin)
def arcsin(x):
    """y = arcsin x"""
    return np.arcsin(x), (x,)

@arcsin.grad_of("x")
def _(g, x): return g / np.sqrt(1 - x * x)


@op(elementwise=True, numpy=np.arccos)
def arccos(x):
    """y = arccos x"""
    return np.arccos(x), (x,)

@arccos.grad_of("x")
def _(g, x): return -g / np.sqrt(1 - x * x)


@op(elementwise=True, numpy=np.arctan)
def arctan(x):
    """y = arctan x"""
    return np.arctan(x), (x,)

@arctan.grad_of("x")
def _(g, x): return g / (1 + x * x)


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


@op(elementwise=True, numpy=np.sinh)
def sinh(x):
    """y = (eˣ - e⁻ˣ) / 2"""
    return np.sinh(x), (x,)

@sinh.grad_of("x")
def _(g, x): return g * np.cosh(x)


@op(elementwise=True, numpy=np.cosh)
def cosh(x):
    """y = (eˣ + e⁻ˣ) / 2"""
    return np.cosh(x), (x,)

@cosh.grad_of("x")
def _(g, x): return g * np.sinh(x)


@op(elementwise=True, numpy=np.tanh)
def tanh(x):
    """y = (eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)"""
    out = kernels.tanh_forward(x) if has_kernel(x) else np.tanh(x)
    return out, (out,)

@tanh.grad_of("x")
def _(g, out): return g * (one(out) - out * out)


@op(elementwise=True, numpy=np.arcsinh)
def arcsinh(x):
    """y = ln(x + √(x² + 1))"""
    return np.arcsinh(x), (x,)

@arcsinh.grad_of("x")
def _(g, x): return g / np.sqrt(x * x + 1)


@op(elementwise=True, numpy=np.arccosh)
def arccosh(x):
    """y = ln(x + √(x² - 1)), for x ≥ 1"""
    return np.arccosh(x), (x,)

@arccosh.grad_of("x")
def _(g, x): return g / np.sqrt((x - 1) * (x + 1))


@op(elementwise=True, numpy=np.arctanh)
def arctanh(x):
    """y = ½ ln((1 + x) / (1 - x))"""
    return np.arctanh(x), (x,)

@arctanh.grad_of("x")
def _(g, x): return g / (1 - x * x)


@op(elementwise=True)
def sigmoid(x):
    """y = 1 / (1 + e⁻ˣ), without overflow"""
    small = np.exp(-np.absolute(x))
    out = np.maximum(small, x >= 0) / (1 + small)  # a comparison as a number costs a tenth of np.where
    return out, (out,)

@sigmoid.grad_of("x")
def _(g, out): return g * out * (one(out) - out)


# -- steps -------------------------------------------------------------------------------------------------------------


@op(elementwise=True, numpy=np.sign)
def sign(x):
    """y = -1, 0 or 1"""
    return np.sign(x), ()

@op(elementwise=True, numpy=np.floor)
def floor(x):
    """y = the largest integer ≤ x"""
    return np.floor(x), ()

@op(elementwise=True, numpy=np.ceil)
def ceil(x):
    """y = the smallest integer ≥ x"""
    return np.ceil(x), ()

@op(elementwise=True, numpy=(np.trunc, np.fix))
def trunc(x):
    """y = x without its fraction"""
    return np.trunc(x), ()

@op(elementwise=True, numpy=np.rint)
def rint(x):
    """y = the nearest integer, halves to even"""
    return np.rint(x), ()

@op(numpy=(np.round, np.around))
def round(x, *, decimals=0):  # NumPy's name
    """y = x rounded to `decimals` places, halves to even"""
    return np.round(x, decimals), ()


def _flat(g): return np.zeros_like(g)

for _step in (sign, floor, ceil, trunc, rint, round):
    _step.grad_of("x")(_flat)
