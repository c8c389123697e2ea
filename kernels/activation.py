"""Pointwise activations and gated products, forward and backward: GELU exact and tanh, SiLU, ReLU, softplus, tanh, erf, expm1,
SwiGLU, GEGLU.

One read of each input, one write of each result. A formula is a scalar function that returns the gate σ or Φ and the slope of
x · gate; LLVM drops what a loop does not use, and vectorises the loop around it. The tanh of GELU's approximation is a sigmoid,
(1 + tanh u) / 2 = σ(2u): one exponential, and no cancellation for x << 0.
"""
import math

import numpy as np

from . import _check as check
from ._jit import COMPILED, jit, jit_tasks
from ._rows import flat_or_rows, handed_back, share, span, target_of
from ._stream import LARGE
from .arrays import empty
from .vecmath import by_dtype, erf, exp, expm1, logistic, logistic2, normal_tail, rounded, softplus, tanh, wide_vectors

TANH_SCALE = 2 * math.sqrt(2 / math.pi)              # 2u = TANH_SCALE (x + TANH_CUBIC x³)
TANH_CUBIC = 0.044715


# ---- formulas: value and slope ----------------------------------------------------------------------------------------

def _formula(of_real):
    """The formula for both dtypes; `of_real(real)` makes it for one."""
    return by_dtype(of_real(np.float32), of_real(np.float64))


def _relu(real):
    zero, one = real(0), real(1)

    @rounded
    def relu(x):
        """max(x, 0); NaN stays"""
        return (zero if x <= zero else x), (one if x > zero else zero)

    return relu


def _silu(real):
    low, high = real(-800), real(800)

    @rounded
    def silu(x):
        """x σ(x) and its slope σ + x σ (1 - σ)"""
        gate, slope = logistic(x)
        z = low if x < low else x                     # for inf · 0; σ(-800) is 0
        return z * gate, gate + (high if z > high else z) * slope

    return silu


def _gelu(real):
    zero, one, high = real(0), real(1), real(13 if real is np.float32 else 38)         # Φ(-13) < 1e-38, Φ(-38) < 1e-315

    @rounded
    def gelu(x):
        """x Φ(x) = max(x, 0) - |x| Φ(-|x|), for x << 0 no difference of large numbers; its slope Φ + x φ"""
        a = abs(x)
        a = high if a > high else a
        tail, density = normal_tail(a)
        s = tail - a * density
        return (zero if x <= zero else x) - a * tail, (s if x < zero else one - s)

    return gelu


def _gelu_tanh(real):
    low, high = real(-40), real(40)
    linear, cubic = real(TANH_SCALE * math.log2(math.e)), real(TANH_SCALE * TANH_CUBIC * math.log2(math.e))
    slope_0, slope_2 = real(TANH_SCALE), real(3 * TANH_SCALE * TANH_CUBIC)

    @rounded
    def gelu_tanh(x):
        """x σ(2u), u = √(2/π) (x + 0.044715 x³), and its slope σ + x σ (1 - σ) 2u'; σ through a power of 2"""
        z = low if x < low else x
        c = high if z > high else z
        s = c * c
        gate, slope = logistic2((linear + cubic * s) * c)
        return z * gate, gate + c * slope * (slope_0 + slope_2 * s)

    return gelu_tanh


def _tanh(real):
    four = real(4)

    @rounded
    def value_and_slope(x):
        """tanh x and its slope 4 σ(2x) (1 - σ(2x)), which is 1 - tanh² x without the cancellation"""
        return tanh(x), four * logistic(x + x)[1]

    return value_and_slope


def _erf(real):
    slope_0 = real(2 / math.sqrt(math.pi))

    @rounded
    def value_and_slope(x):
        """erf x and its slope 2/√π exp(-x²)"""
        return erf(x), slope_0 * exp(-(x * x))

    return value_and_slope


@rounded
def _expm1(x):
    """eˣ - 1 and its slope eˣ"""
    return expm1(x), exp(x)


# ---- loops ------------------------------------------------------------------------------------------------------------

def _lines(formula):
    """The loops along the first n numbers of row r; `up`, `dup` and `y` of slopes may be None.

    values(r, n, x, up, y, past)                y = f(x) · up
    slopes(r, n, g, x, up, dx, dup, y, past)    dx = g · up · f'(x), dup = g · f(x), y = f(x)
    overwrite(x)                                x = f(x), of a vector
    """
    @jit
    def values(r, n, x, up, y, past):
        wide_vectors()
        for i in range(n):
            value = formula(x[r, i])[0]
            y[r, i] = value if up is None else value * up[r, i]

    @jit
    def slopes(r, n, g, x, up, dx, dup, y, past):
        wide_vectors()
        for i in range(n):
            value, slope = formula(x[r, i])
            d = g[r, i]
            dx[r, i] = d * slope if up is None else d * up[r, i] * slope
            if dup is not None:
                dup[r, i] = d * value
            if y is not None:
                y[r, i] = value

    @jit
    def overwrite(x):                                 # LLVM takes no vectors for values(x, x)
        wide_vectors()
        for i in range(x.size):
            x[i] = formula(x[i])[0]

    return values, slopes, overwrite


def _relu_lines(formula):
    """The same of ReLU, whose slope chooses: where it is 0 an infinite g gives 0, and 0 · g would be NaN."""
    values, _, overwrite = _lines(formula)

    @jit
    def slopes(r, n, g, x, up, dx, dup, y, past):     # up, dup and y are None: nobody calls it with others
        wide_vectors()
        zero = x.dtype.type(0)
        for i in range(n):
            upstream = g[r, i]                        # read whatever x is, so that this is a choice and no branch
            dx[r, i] = upstream if x[r, i] > zero else zero

    return values, slopes, overwrite


def _over_rows(values, slopes, _):
    """forward(x, up, y) and backward(g, x, up, dx, dup, y) over rows of `width` numbers, `total` in all."""
    @jit_tasks
    def forward(task, tasks, width, total, past, x, up, y):
        first, last = span(task, tasks, x.shape[0])
        for r in range(first, last):
            values(r, min(width, total - r * width), x, up, y, past)

    @jit_tasks
    def backward(task, tasks, width, total, past, g, x, up, dx, dup, y):
        first, last = span(task, tasks, x.shape[0])
        for r in range(first, last):
            slopes(r, min(width, total - r * width), g, x, up, dx, dup, y, past)

    return forward, backward


def _in_vectors():
    """(value, both) in explicit vectors of float32: SiLU, and GELU where the host can read tables in registers."""
    from . import simd

    functions = {"silu": (simd.silu_f32, simd.silu_and_slope_f32)}
    if simd.LANES32 == 16:
        from . import gelu_table

        functions.update(gelu_table.FUNCTIONS if gelu_table.AVAILABLE else {})
    return functions


_FORMULAS = {"relu": _formula(_relu), "silu": _formula(_silu), "none": _formula(_gelu), "tanh": _formula(_gelu_tanh),
             "tanh itself": _formula(_tanh), "erf": _formula(_erf), "softplus": softplus, "expm1": _expm1}
LINES64 = {**{name: _lines(formula) for name, formula in _FORMULAS.items()}, "relu": _relu_lines(_FORMULAS["relu"])}
LINES32 = dict(LINES64)
if COMPILED:
    from .lines import make_lines

    LINES32.update({name: make_lines(*functions) for name, functions in _in_vectors().items()})
LOOPS = {dtype: {name: _over_rows(*of_name) for name, of_name in lines.items()}
         for dtype, lines in ((check.F32, LINES32), (check.F64, LINES64))}


# ---- the kernels ------------------------------------------------------------------------------------------------------

def _run(loop, *arrays):
    """Call a loop on equally shaped arrays, or None in place of one; those that it writes are C-contiguous."""
    if arrays[0].size:
        views, width, total = flat_or_rows(*arrays)
        loop(*share(len(views[0]), width), width, total, arrays[0].nbytes >= LARGE, *views)


def _forward(name, x, up=None, out=None):
    target = target_of("out", out, x.shape, x.dtype, (x, up))
    _run(LOOPS[x.dtype][name][0], x, up, target)
    return handed_back(out, target)


def _backward(name, g, x, up=None, value=None):
    """(dx, dup), and into `value` what the forward kernel makes of x."""
    check.like_array("g", g, x)
    dx, dup = empty(x.shape, x.dtype), None if up is None else empty(x.shape, x.dtype)
    target = None if value is None else target_of("value", value, x.shape, x.dtype, (g, x))
    _run(LOOPS[x.dtype][name][1], g, x, up, dx, dup, target)
    handed_back(value, target)
    return dx, dup


def _pair(name):
    """The kernel of a function of x alone, and that of its gradient."""
    def forward(x, out=None):
        return _forward(name, check.float_array("x", x), out=out)

    def backward(g, x):
        return _backward(name, g, check.float_array("x", x))[0]

    return forward, backward


relu_forward, relu_backward = _pair("relu")
tanh_forward, tanh_backward = _pair("tanh itself")
erf_forward, erf_backward = _pair("erf")
softplus_forward, softplus_backward = _pair("softplus")
expm1_forward, expm1_backward = _pair("expm1")


def silu_forward(x, out=None):
    return _forward("silu", check.float_array("x", x), out=out)


def silu_backward(g, x, value=None):
    return _backward("silu", g, check.float_array("x", x), value=value)[0]


def gelu_forward(x, approximate="none", out=None):
    return _forward(check.variant(approximate), check.float_array("x", x), out=out)


def gelu_backward(g, x, approximate="none", value=None):
    return _backward(check.variant(approximate), g, check.float_array("x", x), value=value)[0]


def swiglu_forward(gate, up, out=None):
    return _forward("silu", gate, check.like_array("up", up, check.float_array("gate", gate)), out)


def swiglu_backward(g, gate, up):
    return _backward("silu", g, gate, check.like_array("up", up, check.float_array("gate", gate)))


def geglu_forward(gate, up, approximate="none", out=None):
    return _forward(check.variant(approximate), gate, check.like_array("up", up, check.float_array("gate", gate)), out)


def geglu_backward(g, gate, up, approximate="none"):
    return _backward(check.variant(approximate), g, gate, check.like_array("up", up, check.float_array("gate", gate)))


def warmup(dtypes=("float32",)):
    """GPT-2's activation; the others compile when they are first called."""
    for dtype in dtypes:
        x = np.ones((64, 1024), dtype)
        gelu_backward(gelu_forward(x, "tanh"), x, "tanh", value=np.empty_like(x))
