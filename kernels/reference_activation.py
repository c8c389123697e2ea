"""Pointwise activations and gated products, plain NumPy. Part of `kernels.reference`.

NumPy has no erf; the one here is W. J. Cody's (Rational Chebyshev approximations for the error function, 1969), in float64.
"""
import math

import numpy as np

from . import _check as check

SQRT_HALF = math.sqrt(0.5)
INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
TANH_SCALE = math.sqrt(2.0 / math.pi)
TANH_CUBIC = 0.044715


def relu_forward(x, out=None):
    """out = max(x, 0)"""
    return check.into(out, np.maximum(check.float_array("x", x), x.dtype.type(0)), (x,))


def relu_backward(g, x):
    """dx = g where x > 0, else 0"""
    check.like_array("g", g, check.float_array("x", x))
    return np.where(x > 0, g, x.dtype.type(0))


def silu_forward(x, out=None):
    """out = x · σ(x)"""
    check.float_array("x", x)
    with np.errstate(invalid="ignore"):
        return check.into(out, _limits(x, x * _sigmoid(x)), (x,))


def silu_backward(g, x, value=None):
    """dx = g · σ(x) · (1 + x · (1 - σ(x))); `value`, an array like x, receives silu(x), which comes with it"""
    check.like_array("g", g, check.float_array("x", x))
    if value is not None:
        check.into(value, silu_forward(x), (g, x), "value")
    return np.asarray(g * _silu_slope(x))


def gelu_forward(x, approximate="none", out=None):
    """out = x · Φ(x), Φ(x) = (1 + erf(x / √2)) / 2; or with approximate="tanh", Φ ≈ (1 + tanh(√(2/π)(x + 0.044715 x³))) / 2

    Hendrycks and Gimpel 2016. BERT uses the first, GPT-2 the second.
    """
    check.variant(approximate)
    gate = _gelu_gate(check.float_array("x", x), approximate)
    with np.errstate(invalid="ignore"):
        return check.into(out, _limits(x, x * gate), (x,))


def gelu_backward(g, x, approximate="none", value=None):
    """dx = g · (Φ(x) + x Φ'(x)); `value`, an array like x, receives gelu(x), which comes with it"""
    check.variant(approximate)
    check.like_array("g", g, check.float_array("x", x))
    if value is not None:
        check.into(value, gelu_forward(x, approximate), (g, x), "value")
    return np.asarray(g * _gelu_slope(x, approximate))


def tanh_forward(x, out=None):
    """out = tanh x"""
    return check.into(out, np.tanh(check.float_array("x", x)), (x,))


def tanh_backward(g, x):
    """dx = g · (1 - tanh² x), as 4 σ(2x) σ(-2x): no digits lost where tanh x is nearly 1"""
    check.like_array("g", g, check.float_array("x", x))
    with np.errstate(over="ignore"):
        return np.asarray(g * (4 * _sigmoid(2 * x) * _sigmoid(-2 * x)))


def erf_forward(x, out=None):
    """out = erf x = 2/√π ∫₀ˣ exp(-t²) dt"""
    return check.into(out, erf(check.float_array("x", x)).astype(x.dtype), (x,))


def erf_backward(g, x):
    """dx = g · 2/√π exp(-x²)"""
    check.like_array("g", g, check.float_array("x", x))
    with np.errstate(over="ignore"):
        return np.asarray(g * (2 / math.sqrt(math.pi) * np.exp(-x * x)))


def softplus_forward(x, out=None):
    """out = log(1 + eˣ)"""
    with np.errstate(invalid="ignore"):  # NumPy subtracts an infinite x from itself on the way
        return check.into(out, np.logaddexp(check.float_array("x", x), x.dtype.type(0)), (x,))


def softplus_backward(g, x):
    """dx = g · σ(x)"""
    check.like_array("g", g, check.float_array("x", x))
    return np.asarray(g * _sigmoid(x))


def expm1_forward(x, out=None):
    """out = eˣ - 1"""
    with np.errstate(over="ignore"):
        return check.into(out, np.expm1(check.float_array("x", x)), (x,))


def expm1_backward(g, x):
    """dx = g · eˣ"""
    check.like_array("g", g, check.float_array("x", x))
    with np.errstate(over="ignore"):
        return np.asarray(g * np.exp(x))


def swiglu_forward(gate, up, out=None):
    """out = silu(gate) · up   Shazeer 2020"""
    check.like_array("up", up, check.float_array("gate", gate))
    return check.into(out, silu_forward(gate) * up, (gate, up))


def swiglu_backward(g, gate, up):
    """dgate = g · up · silu'(gate),  dup = g · silu(gate)"""
    check.like_array("g", g, check.like_array("up", up, check.float_array("gate", gate)))
    return np.asarray(g * up * _silu_slope(gate)), np.asarray(g * silu_forward(gate))


def geglu_forward(gate, up, approximate="none", out=None):
    """out = gelu(gate) · up   Shazeer 2020"""
    check.variant(approximate)
    check.like_array("up", up, check.float_array("gate", gate))
    return check.into(out, gelu_forward(gate, approximate) * up, (gate, up))


def geglu_backward(g, gate, up, approximate="none"):
    """dgate = g · up · gelu'(gate),  dup = g · gelu(gate)"""
    check.variant(approximate)
    check.like_array("g", g, check.like_array("up", up, check.float_array("gate", gate)))
    return np.asarray(g * up * _gelu_slope(gate, approximate)), np.asarray(g * gelu_forward(gate, approximate))


def _sigmoid(x):
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _silu_slope(x):
    s = _sigmoid(x)
    with np.errstate(invalid="ignore"):
        slope = s * (1 + x * (1 - s))
    return np.where(np.isinf(x), s, slope)


def _gelu_gate(x, approximate):
    if approximate == "none":
        return (0.5 * erfc(x.astype(np.float64) * -SQRT_HALF)).astype(x.dtype)       # 1 + erf would have no digits left at -8
    with np.errstate(over="ignore", invalid="ignore"):
        return _sigmoid(2 * TANH_SCALE * (x + TANH_CUBIC * x * x * x))     # (1 + tanh z) / 2, and no digits lost near tanh z = -1


def _gelu_slope(x, approximate):
    gate = _gelu_gate(x, approximate)
    with np.errstate(over="ignore", invalid="ignore"):
        if approximate == "none":
            slope = gate + x * INV_SQRT_2PI * np.exp(-0.5 * x * x)
        else:
            inner = TANH_SCALE * (1 + 3 * TANH_CUBIC * x * x)
            slope = gate + 2 * x * gate * (1 - gate) * inner
    return np.where(np.abs(x) > 1e4, gate, slope)                 # beyond it x² may overflow, and the second term is 0


def _limits(x, y):
    """-inf · 0 is 0 here: the gate closes faster than x falls."""
    return np.where(x == -np.inf, x.dtype.type(0), y)


# erf = x P(x²)/Q(x²) up to 0.46875; erfc = exp(-x²) P(x)/Q(x) up to 4, exp(-x²)/x (1/√π - P(1/x²)/Q(1/x²)) beyond
ERF_NEAR_P = (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3)
ERF_NEAR_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
ERF_MID_P = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
             2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3)
ERF_MID_Q = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
             3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)
ERF_FAR_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
             1.60837851487422766e-2, 6.58749161529837803e-4, 0.0)
ERF_FAR_Q = (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
             2.33520497626869185e-3)


def erf(x):
    """2/√π ∫₀ˣ exp(-t²) dt, within 4 ulp in float64."""
    return _erf_and_tail(np.asarray(x, np.float64))[0]


def erfc(x):
    """1 - erf x, without loss of digits where that is small."""
    x = np.asarray(x, np.float64)
    total, tail = _erf_and_tail(x)
    return np.where(x > 0, tail, 1.0 - total)


def _erf_and_tail(x):
    """erf x and erfc |x|."""
    a = np.abs(x)
    near, mid, far = np.minimum(a, 0.46875), np.clip(a, 0.46875, 4.0), np.clip(a, 4.0, 30.0)      # erfc(28) rounds to 0
    near = near * np.polyval(ERF_NEAR_P, near * near) / np.polyval(ERF_NEAR_Q, near * near)
    mid = np.exp(-mid * mid) * np.polyval(ERF_MID_P, mid) / np.polyval(ERF_MID_Q, mid)
    square = 1.0 / (far * far)
    head = np.floor(far * 16) / 16                                # exp(-x²) in two factors: rounding x² would cost its digits
    power = np.exp(-head * head) * np.exp((head - far) * (head + far))
    far = power / far * (1 / math.sqrt(math.pi) - np.polyval(ERF_FAR_P, square) / np.polyval(ERF_FAR_Q, square))
    tail = np.where(a <= 0.46875, 1.0 - near, np.where(a <= 4.0, mid, far))
    value = np.copysign(np.where(a <= 0.46875, near, 1.0 - tail), x)
    return np.where(np.isnan(x), x, value), np.where(np.isnan(x), x, tail)
