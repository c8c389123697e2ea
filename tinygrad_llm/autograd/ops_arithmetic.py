"""Arithmetic with two operands, rounding, and choosing between values. Everything broadcasts.

Rules use operators and np.* functions that ndarrays and Tensors share, so that one line serves first and higher
derivatives; the walker sums a gradient over broadcast axes. Where a function has a kink the subgradient is PyTorch's.
"""

from __future__ import annotations

import numpy as np

from .op import op
from .ops_common import along, derived, errstate
from .ops_elementary import sigmoid
from .tensor import Tensor


def _of_two(function, doc, *, a, b):
    """Enter a NumPy function of two operands as an operation that saves them; `a` and `b` are the rules of each."""
    def forward(a, b): return function(a, b), (a, b)
    forward.__name__, forward.__doc__ = function.__name__, doc
    call = op(forward, elementwise=True, numpy=function)
    call.grad_of("a")(a), call.grad_of("b")(b)
    return call


@op(elementwise=True, numpy=np.add)
def add(a, b):
    """y = a + b"""
    return a + b, ()

@add.grad_of("a")
def _(g): return g

@add.grad_of("b")
def _(g): return g


@op(elementwise=True, numpy=np.subtract)
def subtract(a, b):
    """y = a - b"""
    return np.subtract(a, b), ()

@subtract.grad_of("a")
def _(g): return g

@subtract.grad_of("b")
def _(g): return -g


@op(elementwise=True, numpy=np.multiply)
def multiply(a, b):
    """y = a · b"""
    return a * b, (a, b)

@multiply.grad_of("a")
def _(g, a, b): return g * b

@multiply.grad_of("b")
def _(g, a, b): return g * a


@op(elementwise=True, numpy=np.divide)
def divide(a, b):
    """y = a / b; integers give floats"""
    return np.divide(a, b), (a, b)

@divide.grad_of("a")
def _(g, a, b): return g / b

@divide.grad_of("b")
def _(g, a, b): return -g * (a / b / b)  # b * b could overflow


@op(elementwise=True, numpy=np.negative)
def negative(x):
    """y = -x"""
    return -x, ()

@negative.grad_of("x")
def _(g): return -g


@op(numpy=np.power)
def power(a, b):
    """y = aᵇ; dy/da is 0 where b = 0, and dy/db is 0 where a = 0 and b ≥ 0"""
    cube = type(b) in (int, float) and b == 3 and np.result_type(a).kind == "f"
    return a * a * a if cube else a**b, (a, b)  # NumPy has a fast way for 2, but takes 80 times as long for GELU's x³

@power.grad_of("a")
def _(g, a, b):
    if isinstance(b, (int, float)):
        if b == 2:
            return g * a * 2
        return g * (a ** (b - 1) * b) if b else np.zeros_like(g)
    lowered = np.where((a == 0) & (b == 0), 0, b - 1.0)  # 0·0⁻¹ would be NaN
    return g * (b * a**lowered)

@power.grad_of("b")
def _(g, a, b):
    flat = (a == 0) & (b >= 0)
    return g * np.where(flat, 0, a**b * np.log(np.where(flat, 1, a)))


@derived(np.float_power)
def float_power(a, b):
    """y = aᵇ in float64"""
    return power(*(x.astype(np.float64) if hasattr(x, "astype") else Tensor(x, dtype=np.float64) for x in (a, b)))


remainder = _of_two(np.remainder, "y = a - b · floor(a / b): the sign is b's, as in Python's %",
                    a=lambda g, a, b: g,
                    b=lambda g, a, b: -g * np.floor_divide(a, b))
fmod = _of_two(np.fmod, "y = a - b · trunc(a / b): the sign is a's, as in C",
               a=lambda g, a, b: g,
               b=lambda g, a, b: -g * np.rint((a - np.fmod(a, b)) / b))


@op(elementwise=True, numpy=np.floor_divide)
def floor_divide(a, b):
    """y = floor(a / b); a step function, the gradients are 0"""
    return np.floor_divide(a, b), ()

@floor_divide.grad_of("a")
def _(g): return np.zeros_like(g)

@floor_divide.grad_of("b")
def _(g): return np.zeros_like(g)


# -- the larger, the smaller: a tie shares the gradient evenly ---------------------------------------------------------


def _shared(g, wins, tie):
    return np.where(tie, g / 2, np.where(wins, g, 0))


maximum = _of_two(np.maximum, "y = max(a, b); NaN where either is NaN",
                  a=lambda g, a, b: _shared(g, a > b, a == b),
                  b=lambda g, a, b: _shared(g, b > a, a == b))
minimum = _of_two(np.minimum, "y = min(a, b); NaN where either is NaN",
                  a=lambda g, a, b: _shared(g, a < b, a == b),
                  b=lambda g, a, b: _shared(g, b < a, a == b))
fmax = _of_two(np.fmax, "y = max(a, b), ignoring NaN; a tie goes to a",
               a=lambda g, a, b: np.where((a >= b) | np.isnan(b), g, 0),
               b=lambda g, a, b: np.where((a >= b) | np.isnan(b), 0, g))
fmin = _of_two(np.fmin, "y = min(a, b), ignoring NaN; a tie goes to a",
               a=lambda g, a, b: np.where((a <= b) | np.isnan(b), g, 0),
               b=lambda g, a, b: np.where((a <= b) | np.isnan(b), 0, g))


@op(name="clip")
def _clip(x, low=None, high=None):
    """y = min(max(x, low), high); either bound may be None. On a bound the gradient goes to x, outside to the bound"""
    return np.clip(x, low, high), (x, low, high)

def _inside(x, low, high):
    above = True if low is None else x >= low
    return above if high is None else above & (x <= high)

@_clip.grad_of("x")
def _(g, x, low, high): return np.where(_inside(x, low, high), g, 0)

@_clip.grad_of("low")
def _(g, x, low, high):
    below = x < low
    return np.where(below if high is None else below & (low < high), g, 0)

@_clip.grad_of("high")
def _(g, x, low, high):
    above = x > high
    return np.where(above if low is None else above | (low > high), g, 0)

@derived(np.clip)
def clip(x, a_min=None, a_max=None, *, min=None, max=None):
    """y = min(max(x, a_min), a_max), under NumPy's or PyTorch's names for the bounds; at least one is given"""
    low, high = min if a_min is None else a_min, max if a_max is None else a_max
    if low is None and high is None:
        raise ValueError("clip: expected a lower or an upper bound")
    return _clip(x, low, high)


@op(numpy=np.where)
def where(condition, a=None, b=None):
    """y = a where the condition holds (is not 0), else b; the condition alone: the indices where it holds, as `nonzero`"""
    if a is None and b is None:
        return np.nonzero(condition), ()
    if a is None or b is None:
        raise ValueError("expected both a and b, or neither")
    return np.where(condition, a, b), (condition,)

@where.grad_of("condition")
def _(g, condition): return np.zeros_like(g)

@where.grad_of("a")
def _(g, condition): return np.where(condition, g, 0)

@where.grad_of("b")
def _(g, condition): return np.where(condition, 0, g)


@op(numpy=np.nan_to_num)
def nan_to_num(x, *, copy=True, nan=0.0, posinf=None, neginf=None):
    """y = x with NaN and the infinities replaced; they get no gradient"""
    return np.nan_to_num(x, copy=True, nan=nan, posinf=posinf, neginf=neginf), (np.isfinite(x),)

@nan_to_num.grad_of("x")
def _(g, finite): return np.where(finite, g, 0)


# -- lengths, logs of sums, signs --------------------------------------------------------------------------------------


@op(elementwise=True, numpy=np.hypot)
def hypot(a, b):
    """y = √(a² + b²); the subgradient at (0, 0) is 0"""
    out = np.hypot(a, b)
    return out, (a, b, out)

@hypot.grad_of("a")
def _(g, a, b, out): return g * a / np.where(out == 0, 1, out)

@hypot.grad_of("b")
def _(g, a, b, out): return g * b / np.where(out == 0, 1, out)


def _share(a, b):
    """eᵃ / (eᵃ + eᵇ), one half where both are the same infinity"""
    with errstate():
        gap = np.where((a == b) & np.isinf(a), 0, a - b)
    return along(sigmoid, gap)


logaddexp = _of_two(np.logaddexp, "y = log(eᵃ + eᵇ)",
                    a=lambda g, a, b: g * _share(a, b),
                    b=lambda g, a, b: g * _share(b, a))


@op(numpy=np.logaddexp2)
def logaddexp2(a, b):
    """y = log₂(2ᵃ + 2ᵇ)"""
    return np.logaddexp2(a, b), (a, b)

@logaddexp2.grad_of("a")
def _(g, a, b): return g * _share(a * np.log(2), b * np.log(2))

@logaddexp2.grad_of("b")
def _(g, a, b): return g * _share(b * np.log(2), a * np.log(2))


@op(numpy=np.copysign)
def copysign(a, b):
    """y = |a| with the sign of b; b gets no gradient, and a = 0 none either"""
    return np.copysign(a, b), (np.sign(a + 0) * np.copysign(1, b),)  # + 0: bools have no sign

@copysign.grad_of("a")
def _(g, flip): return g * flip

@copysign.grad_of("b")
def _(g, flip): return np.zeros_like(g)


@op(numpy=np.heaviside)
def heaviside(a, b):
    """y = 0 where a < 0, b where a = 0, 1 where a > 0"""
    return np.heaviside(a, b), (a == 0,)

@heaviside.grad_of("a")
def _(g, zero): return np.zeros_like(g)

@heaviside.grad_of("b")
def _(g, zero): return np.where(zero, g, 0)


@op
def xlogy(a, b):
    """y = a · log b, and 0 where a = 0 whatever b is: the term of an entropy"""
    with errstate():
        return np.where((a == 0) & ~np.isnan(b), 0, a * np.log(b)), (a, b)

@xlogy.grad_of("a")
def _(g, a, b): return g * np.log(np.where((a == 0) & (b <= 0), 1, b))

@xlogy.grad_of("b")
def _(g, a, b): return g * a / b
