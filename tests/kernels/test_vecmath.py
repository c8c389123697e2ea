"""exp, expm1, tanh, erf and softplus of vecmath: within 2 ulp of float64 over every exponent, and exact at the ends."""
import math

import numpy as np
import pytest

from kernels import vecmath
from kernels._jit import jit

math_erf, math_erfc = (np.vectorize(f, otypes=[np.float64]) for f in (math.erf, math.erfc))
TRUTH = {"exp": np.exp, "expm1": np.expm1, "tanh": np.tanh, "erf": math_erf, "softplus": lambda x: np.logaddexp(x, 0)}


def applied(function):
    @jit
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    def apply(x):
        out = np.empty_like(x)
        loop(x, out)
        return out

    return apply




@jit
def first_of_softplus(x):
    return vecmath.softplus(x)[0]


FAST = {name: applied(first_of_softplus if name == "softplus" else getattr(vecmath, name)) for name in TRUTH}


def every_exponent(dtype, per_exponent):
    """`per_exponent` random mantissas of both signs under each exponent, denormals, infinities and NaN included."""
    info = np.finfo(dtype)
    word = {4: np.uint32, 8: np.uint64}[info.dtype.itemsize]
    exponents = np.arange(1 << info.nexp, dtype=word) << word(info.nmant)
    rng = np.random.default_rng(0)
    mantissas = rng.integers(0, 1 << info.nmant, (per_exponent, exponents.size), dtype=word)
    mantissas[0], mantissas[1] = 0, (1 << info.nmant) - 1
    bits = (mantissas + exponents).reshape(-1)
    return np.concatenate([bits, bits | word(1 << (info.bits - 1))]).view(dtype)


def ulps(y, truth):
    """Distance from the float64 truth in units of the last place of y's dtype; infinities and NaN must agree."""
    rounded = truth.astype(y.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    unit = np.spacing(np.abs(rounded[finite])).astype(np.float64)
    return np.abs(y[finite].astype(np.float64) - truth[finite]) / unit


@pytest.mark.parametrize("name", TRUTH)
def test_float32_is_within_2_ulp_everywhere(name):
    dense = np.concatenate([np.linspace(-110, 95, 100_001), np.linspace(-12, 12, 100_001), np.linspace(-1, 1, 100_001)])
    x = np.concatenate([every_exponent(np.float32, 300), dense.astype(np.float32)])
    with np.errstate(all="ignore"):
        assert ulps(FAST[name](x), TRUTH[name](x.astype(np.float64))).max() <= 2


def test_float64_exp_is_within_2_ulp_everywhere():
    x = np.concatenate([every_exponent(np.float64, 20), np.linspace(-750, 712, 200_001)])
    with np.errstate(all="ignore"):
        assert ulps(FAST["exp"](x), np.exp(x)).max() <= 2


@pytest.mark.parametrize("name", TRUTH)
def test_the_ends_are_exact(name):
    x = np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45], np.float32)
    with np.errstate(over="ignore"):
        expected = TRUTH[name](x.astype(np.float64)).astype(np.float32)
    y = FAST[name](x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(expected))
    assert np.isnan(FAST[name](np.array([np.nan], np.float32)))


def test_the_cheap_exponentials_are_zero_where_exp_is_denormal():
    low, power = applied(vecmath.exp_low), applied(vecmath.exp2_low_32)
    x = np.linspace(-87.3, 0, 100_001).astype(np.float32)
    assert ulps(low(x), np.exp(x.astype(np.float64))).max() <= 2
    assert ulps(power(x), np.exp2(x.astype(np.float64))).max() <= 2
    far = np.array([-89, -1e30, -np.inf], np.float32)
    assert not low(far).any() and not power(far * 2).any()
    nan = np.array([np.nan], np.float32)
    assert np.isnan(low(nan)) and np.isnan(power(nan))


def test_normal_tail():
    tail = applied(jit(lambda a: vecmath.normal_tail(a)[0]))
    a = np.linspace(0, 13, 100_001)
    assert np.abs(tail(a.astype(np.float32)) - 0.5 * math_erfc(a.astype(np.float32) / np.sqrt(2))).max() < 2**-23
    np.testing.assert_allclose(tail(a), 0.5 * math_erfc(a / np.sqrt(2)), rtol=1e-12)


def test_row_max_sees_nan_and_infinity():
    for dtype in (np.float32, np.float64):
        for values, expected in (([-3, -1, -2], -1), ([-np.inf, -np.inf], -np.inf), ([1, np.inf, 2], np.inf), ([-0.5], -0.5)):
            assert vecmath.row_max(np.array(values, dtype)) == expected
        assert not np.isfinite(vecmath.row_max(np.array([1, np.nan, 2], dtype)))
