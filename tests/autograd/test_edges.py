"""Where arrays are small integers, infinite, empty, or not arrays at all: what NumPy and PyTorch agree on."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm.autograd.op import registry


def gradient(of, x):
    x = tg.Tensor(x, requires_grad=True)
    of(x).sum().backward()
    return x.grad.data


# -- numbers that have a gradient --------------------------------------------------------------------------------------

BEYOND_AN_OPERATION = {
    "sum": (lambda x, s: np.sum(x, initial=s), lambda x, s: x.sum() + s),
    "prod": (lambda x, s: x.prod(initial=s), lambda x, s: x.prod() * s),
    "max": (lambda x, s: np.max(x, initial=s), lambda x, s: tg.maximum(x.max(), s)),
    "min": (lambda x, s: x.min(initial=s), lambda x, s: tg.minimum(x.min(), s)),
    "pad": (lambda x, s: np.pad(x, 1, "linear_ramp", end_values=s), None),
    "leaky_relu": (tg.functional.leaky_relu, tg.functional.prelu),
    "elu": (tg.functional.elu, lambda x, alpha: tg.where(x > 0, x, alpha * tg.expm1(tg.minimum(x, 0)))),
    "hardtanh": (lambda x, s: tg.functional.hardtanh(x, -s, s), lambda x, s: tg.clip(x, -s, s)),
    "cross_entropy": (
        lambda x, s: tg.functional.cross_entropy(x, 1, label_smoothing=s),
        lambda x, s: (1 - s) * tg.functional.cross_entropy(x, 1) - s * tg.log_softmax(x, axis=-1).mean(),
    ),
}


@pytest.mark.parametrize("name", BEYOND_AN_OPERATION)
def test_a_number_that_no_gradient_reaches_may_not_want_one(name):
    call, written = BEYOND_AN_OPERATION[name]
    x, s = tg.Tensor(np.array([0.3, -1.2, 0.7]), requires_grad=True), tg.Tensor(np.array(0.6), requires_grad=True)
    with pytest.raises(TypeError, match=f"^{name}: .*expected a number, got a Tensor that requires a gradient; for one that is trained: "):
        call(x, s)
    if written is not None:
        np.testing.assert_allclose(written(x, s).data, call(x, s.detach()).data, rtol=1e-12)
        assert tg.testing.gradcheck(written, (x, s))


# -- numbers and dtypes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tg.Tensor, tg.tensor, tg.asarray, lambda x, dtype: tg.full((), x, dtype=dtype)])
@pytest.mark.parametrize("number", [0.1, 1e300])
def test_a_dtype_that_is_asked_for_is_reached_in_one_step(make, number):
    assert make(number, dtype=np.float64).item() == number
    assert make(0.1, dtype=np.float16).item() == np.float16(0.1)


def test_a_number_beside_an_array_takes_its_dtype():
    x = np.array([1.0, 2.0])
    for y in (tg.dot(x, 0.1), tg.append(x, 0.1), tg.lerp(0.1, x, 0.0), tg.einsum(",i->i", 0.1, x)):
        assert y.dtype == np.float64 and 0.1 in y.data
    assert tg.einsum(",i->i", 2.0, tg.ones(3)).dtype == np.float32


def test_a_list_beside_float64_keeps_its_digits():
    x = tg.Tensor(np.array([1.0, 2.0]))
    for y in (x * [0.1, 0.2], [0.1, 0.2] * x, np.minimum(x, (0.1, 0.2)), x.dot([0.1, 0.1]), tg.append(x, [0.1])):
        assert y.dtype == np.float64 and {0.1, 0.1 + 0.2} & set(np.ravel(y.data))
    assert np.isclose(x, [1.0 + 1e-9, 2.0], rtol=0, atol=tg.Tensor(np.array([1e-8, 0]))).data.all()
    assert (tg.ones(2) * [0.1, 0.2]).dtype == np.float32
    for function in (
        lambda y: tg.scatter(x, 0, [1, 0], y), lambda y: tg.scatter_add(x, 0, [1, 0], y),
        lambda y: tg.index_add(x, 0, [1, 0], y, alpha=2), lambda y: np.linalg.solve(np.eye(2) * x, y), lambda y: np.cov(x, y),
    ):  # fmt: skip
        np.testing.assert_allclose(function([0.1, 0.7]).data, function(np.array([0.1, 0.7])).data, rtol=1e-15)


JOINED_WITH_A_LIST = [
    np.inner, np.outer, np.vdot, np.kron, lambda x, y: np.tensordot(x, y, 1), lambda x, y: np.trapezoid(y, x),
    lambda x, y: np.interp(0.5, x, y), lambda x, y: np.concatenate([x, y], axis=None),
    *(lambda x, y, join=join: join([x, y]) for join in (np.stack, np.hstack, np.vstack, np.dstack, np.column_stack)),
]  # fmt: skip


@pytest.mark.parametrize("join", JOINED_WITH_A_LIST)
def test_a_list_joined_with_float64_keeps_its_digits(join):
    x, y = np.array([0.0, 2.0]), [0.1, 0.7]
    for a, b in ((join(tg.Tensor(x), y), join(x, y)), (join(y, tg.Tensor(x)), join(y, x))):
        np.testing.assert_allclose(a.data, b, rtol=1e-15)


def test_arguments_that_fit_nothing_are_refused_with_a_word():
    x, ones = tg.Tensor(np.arange(6.0).reshape(2, 3)), np.ones(3)
    for wrong, kind, message in (
        (lambda: np.average(x, weights=ones), TypeError, "average: weights of shape .* need an axis"),
        (lambda: np.average(x, axis=0, weights=ones), ValueError, r"average: weights: expected shape \(2, 3\) or \(2,\), got \(3,\)"),
        (lambda: np.vsplit(x[0], 3), ValueError, "vsplit: expected two or more axes"),
        (lambda: np.einsum(x, [0, -1]), ValueError, "einsum: expected axes of 0 to 51, got -1"),
        (lambda: np.einsum(x, [0, 1], [52]), ValueError, "einsum: expected axes of 0 to 51, got 52"),
        (lambda: np.percentile(x, np.nan), ValueError, "q must lie in"),
        (lambda: np.nanpercentile(x, 101), ValueError, r"^nanpercentile: q must lie in \[0, 100\], got 101"),
        (lambda: tg.split_lengths(x, 0), ValueError, "^split_lengths: expected a positive length, got 0"),
        (lambda: tg.array_split(x, 0), ValueError, "^array_split: expected a positive number of sections, got 0"),
        (lambda: tg.norm(x, "a"), ValueError, "^norm: matrix_norm: ord must be"),
        (lambda: tg.vector_norm(x, "a"), ValueError, "^vector_norm: ord must be a number"),
        (lambda: tg.hstack([]), ValueError, "^hstack: concatenate: need at least one array"),
        (lambda: tg.multi_dot([]), ValueError, "^multi_dot: expected at least one array"),
        (lambda: np.var(x, ddof=1, correction=1), ValueError, "ddof 1 and correction 1"),
        (lambda: x @ tg.Tensor(2.0), ValueError, "matmul: .*does not have enough dimensions"),
    ):
        with pytest.raises(kind, match=message):
            wrong()


def test_differences_of_integers_from_a_number_between_them():
    for edge in (0.5, np.float64(0.5), np.array(0.5), tg.Tensor(np.array(0.5))):
        np.testing.assert_array_equal(tg.diff(np.array([1, 2, 4]), prepend=edge).data, [0.5, 1, 2])
    assert tg.diff(np.array([1, 2], np.float32), append=3).dtype == np.float32
    assert tg.diff(np.array([1, 2]), append=3).dtype == np.int64


def test_integers_become_floats_where_numpy_makes_them_floats():
    assert tg.norm(np.array([100000, 100000], np.int32)).item() == np.hypot(1e5, 1e5)
    assert np.isclose(tg.logsumexp(np.array([1, 3], np.uint8)).item(), np.logaddexp(1, 3))
    assert np.float_power(tg.Tensor(np.array([100], np.int8)), 2).item() == 10000.0
    assert tg.fabs([-2, 3]).dtype == np.fabs(tg.Tensor([-2, 3])).dtype == np.float64 and tg.fabs([-2.0]).dtype == np.float32
    assert np.isclose(tg.lstsq(np.array([[1], [3]]), np.array([1, 3]))[0].item(), 1)
    assert tg.mean(np.full(1000, 100, np.float16)).item() == 100 and tg.mean(np.full(2, 1, np.float16)).dtype == np.float16
    assert tg.nanmean(tg.Tensor([1.0, np.nan])).dtype == np.float32
    np.testing.assert_array_equal(gradient(lambda x: x ** np.array([0, 1], np.uint8), [30.0, 30.0]), [0, 1])
    np.testing.assert_array_equal(tg.diff(np.array([1, 3, 6])).data, [2, 3])
    np.testing.assert_array_equal(tg.diff(np.array([True, False, False])).data, [True, False])
    big = np.array([[2**53 + 1, 3], [5, -(2**53) - 1]])
    for function in (np.nanmax, np.nanmin):
        for x in (big, big > 4):
            ours = function(tg.Tensor(x), axis=0)
            np.testing.assert_array_equal(ours.data, function(x, axis=0))
            assert ours.dtype == x.dtype


@pytest.mark.parametrize("axis", [None, (0, 1), (1,), 0.0])
def test_differences_are_along_one_axis(axis):
    with pytest.raises(TypeError, match="diff"):
        np.diff(tg.Tensor(np.eye(3)), axis=axis)


def test_bytes_are_indices_like_any_other():
    ids = np.array([1, 255, 255], np.uint8)
    counts = np.bincount(ids, minlength=300)
    np.testing.assert_array_equal(gradient(lambda x: x[ids], np.zeros((300, 2)))[:, 0], counts)
    np.testing.assert_array_equal(gradient(lambda x: tg.take_along_axis(x, ids), np.zeros(300)), counts)
    np.testing.assert_array_equal(gradient(lambda x: tg.gather(x, 0, ids), np.zeros(300)), counts)
    np.testing.assert_array_equal(tg.take(np.arange(300), ids, mode="wrap").data, ids)
    np.testing.assert_array_equal(gradient(lambda x: x[np.array([-1], np.int8)], np.zeros(200)), np.arange(200) == 199)


# -- large, small, infinite --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a, b, slope", [(1e25, 1e20, -1e-15), (1e-20, 1e-25, -1e30)])
def test_the_slope_of_a_quotient_does_not_overflow_on_the_way(a, b, slope):
    np.testing.assert_allclose(gradient(lambda x: np.float32(a) / x, np.float32([b])), [slope], rtol=1e-6)


def test_the_slope_of_a_remainder_counts_as_the_remainder_does():
    assert gradient(lambda b: tg.remainder(1.0, b), np.array(0.1)) == -9          # 1 / 0.1 rounds to 10
    assert gradient(lambda b: tg.fmod(1.0, b), np.array(0.1)) == -9


def test_the_logarithm_of_a_sum_of_infinities_has_a_slope():
    inf = np.inf
    for function in (tg.logaddexp, tg.logaddexp2):
        a = tg.Tensor(np.array([inf, -inf, inf, -inf, 1.0]), requires_grad=True)
        b = tg.Tensor(np.array([inf, -inf, 2.0, 2.0, inf]), requires_grad=True)
        da, db = tg.grad(function(a, b), (a, b), np.ones(5))
        np.testing.assert_array_equal(da.data, [0.5, 0.5, 1, 0, 0])
        np.testing.assert_array_equal(db.data, [0.5, 0.5, 0, 1, 1])


def test_xlogy_at_zero_is_zero_and_its_slope_there_is_the_logarithm_where_there_is_one():
    a = tg.Tensor(np.zeros(4), requires_grad=True)
    b = tg.Tensor(np.array([0.5, 2.0, 0.0, -1.0]), requires_grad=True)
    y = tg.xlogy(a, b)
    np.testing.assert_array_equal(y.data, 0)
    with np.errstate(all="raise"):
        (d,) = tg.grad(y.sum(), a, create_graph=True)
        np.testing.assert_allclose(d.data, [np.log(0.5), np.log(2), 0, 0])
        np.testing.assert_allclose(tg.grad(d.sum(), b)[0].data, [2, 0.5, 0, 0])
    assert np.isnan(tg.xlogy(0.0, np.nan).item())


@pytest.mark.parametrize("x", [0.0, 1e-8, 1e-4, 3e-3, 9.9e-3, 1.01e-2, 0.1])
def test_the_slope_of_sinc_near_zero(x):
    """(cos πx - sinc x) / x from its Taylor series, all of whose terms shrink."""
    terms = [(-1) ** k * np.pi ** (2 * k) * 2 * k * x ** (2 * k - 1) / math.factorial(2 * k + 1) for k in range(1, 10)]
    np.testing.assert_allclose(gradient(tg.sinc, np.array([x, -x])), [sum(terms), -sum(terms)], rtol=1e-11)


def test_lgamma_of_whole_and_negative_numbers():
    x = np.array([1.0, 2, 3, 10, 171, 0.5, -0.5, -2.5, -30.25])
    np.testing.assert_allclose(tg.lgamma(x).data, [math.lgamma(v) for v in x], rtol=1e-14)
    np.testing.assert_array_equal(tg.lgamma(np.array([0.0, -1, -7, np.inf, -np.inf])).data, np.inf)


def test_of_values_written_to_one_place_only_the_last_has_a_gradient():
    x, values = np.zeros(4), tg.Tensor(np.array([1.0, 2, 3, 4]), requires_grad=True)
    for index, slopes in (([0, 0, 1, 0], [0, 0, 1, 1]), ([3, 2, 1, 0], [1, 1, 1, 1])):
        y = registry["index_put"].call(x, values, index=np.array(index))
        want = x.copy()
        want[index] = values.data
        np.testing.assert_array_equal(y.data, want)
        np.testing.assert_array_equal(tg.grad(y.sum(), values)[0].data, slopes)


METHODS = st.sampled_from(["linear", "lower", "higher", "midpoint", "nearest"])


@given(st.data(), METHODS, st.booleans())
def test_quantiles_are_numpys(data, method, keepdims):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    numbers = st.sampled_from([*range(-3, 4), 0.25, 7.5, np.nan]) if data.draw(st.booleans()) else st.integers(-3, 3)
    flat = data.draw(st.lists(numbers, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    x = np.array(flat).reshape(shape)
    axes = st.sets(st.integers(0, len(shape) - 1), min_size=1)
    axis = data.draw(st.none() | st.integers(0, len(shape) - 1).map(np.int64) | axes.map(tuple))
    q = data.draw(st.sampled_from([0.0, 0.5, 1.0, 0.3, [0.25, 1.0], []]))
    ours, expected = tg.quantile(x, q, axis, keepdims, method), np.quantile(x, q, axis=axis, keepdims=keepdims, method=method)
    assert ours.shape == np.shape(expected)
    np.testing.assert_allclose(ours.data, expected, atol=1e-12)


@given(METHODS, st.floats(0, 1))
def test_a_quantile_may_be_asked_for_by_a_tensor(method, q):
    """Its value is the number's, and only between two elements does it move with q."""
    x, at = np.array([0.0, 1, 4, 9]), tg.Tensor(np.array(q), requires_grad=True)
    y = tg.quantile(x, at, method=method)
    np.testing.assert_allclose(y.item(), np.quantile(x, q, method=method), atol=1e-12)
    (d,) = tg.grad(y, at)
    place = min(int(3 * q), 2)
    if method != "linear":
        assert d.item() == 0
    elif 3 * q != round(3 * q):
        np.testing.assert_allclose(d.item(), 3 * np.diff(x)[place])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_values_have_no_slope_of_their_standard_deviation(dtype):
    """Their mean may be another number: that of three times 0.4 is."""
    x = tg.Tensor(np.array([[0.4, 0.1, 0.4], [0.4, 0.1, 0.7], [0.4, 0.1, 0.4]], dtype), requires_grad=True)
    (slope,) = tg.grad(x.std(axis=0).sum(), x, create_graph=True)
    assert (slope.data[:, :2] == 0).all() and (slope.data[:, 2] != 0).all() and slope.dtype == dtype
    assert np.isfinite(tg.grad((slope * slope).sum(), x)[0].data).all()


def test_equal_neighbours_share_a_quantile_as_others_do():
    np.testing.assert_array_equal(gradient(tg.median, [1.0, 1.0]), [0.5, 0.5])  # (a + b) / 2, which is smooth
    np.testing.assert_array_equal(gradient(tg.median, [1.0, 0.0, 1.0, 1.0]), [0.5, 0, 0.5, 0])
    np.testing.assert_allclose(gradient(lambda x: tg.quantile(x, 0.3), [2.0, 2.0]), [0.7, 0.3])
    np.testing.assert_array_equal(gradient(tg.median, [np.inf, np.inf, 1.0, np.inf]).sum(), 1)
    assert tg.testing.gradcheck(tg.median, tg.Tensor(np.array([1.0, 1.0, 0.0, 1.0]), requires_grad=True), order=2)


@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_a_scalar_has_one_axis_to_run_along(name):
    largest, place = getattr(tg, name)(tg.Tensor(3.0), 0)
    assert largest.item() == 3 and place.item() == 0
    with pytest.raises(ValueError, match="axis 1 is out of bounds"):
        getattr(tg, name)(tg.Tensor(3.0), 1)


@pytest.mark.parametrize("axis", [0, -1])
def test_a_scalar_has_one_axis_to_lose(axis):
    assert np.squeeze(tg.Tensor(3.0), axis=axis).item() == np.squeeze(np.array(3.0), axis=axis) == 3
    with pytest.raises(np.exceptions.AxisError):
        tg.squeeze(tg.Tensor(3.0), axis=1 if axis == 0 else -2)


def test_the_slope_of_a_logsumexp_that_is_infinite():
    x = tg.Tensor([1.0, np.inf, -np.inf], requires_grad=True)
    tg.logsumexp(x).backward()
    np.testing.assert_array_equal(x.grad.data, [0, np.nan, 0])  # ∞ - ∞, and nothing for the others
    low = tg.Tensor([-np.inf, -np.inf], requires_grad=True)
    tg.logsumexp(low).backward()
    np.testing.assert_array_equal(low.grad.data, [0, 0])


@pytest.mark.parametrize("shape, axis", [((0, 3), 1), ((2, 0, 3), 0), ((2, 0, 3), (0, 2)), ((2, 0, 3), 1)])
def test_quantiles_beside_an_axis_of_length_0(shape, axis):
    x = np.zeros(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of an empty slice
        for function in (lambda a: np.nanmedian(a, axis), lambda a: np.nanquantile(a, 0.25, axis, keepdims=True)):
            np.testing.assert_array_equal(function(tg.Tensor(x)).data, function(x))


def test_medians_of_infinities_and_the_slope_of_a_percentile():
    inf = np.inf
    assert [tg.median(np.array(x)).item() for x in ([1.0, 2, inf], [inf] * 3, [-inf, 1, 2])] == [2, inf, 1]
    assert tg.quantile(np.array([1.0, inf]), 0).item() == 1
    assert np.isclose(gradient(lambda q: tg.percentile(np.array([1.0, 5, 7]), q), np.array(30.0)), 4 * 2 / 100)
    with pytest.raises(ValueError, match="quantile: .*no elements"):
        tg.quantile(np.zeros((0, 2)), 0.5)


# -- Python's ways -----------------------------------------------------------------------------------------------------


def test_none_equals_no_tensor():
    x = tg.Tensor([1.0, 2.0])
    assert (x == None) is False and (x != None) is True and None not in [x]  # noqa: E711
    assert (x == [1.0, 3.0]).tolist() == [True, False]


def test_in_looks_at_the_elements_as_numpy_does():
    x = tg.Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert 3.0 in x and tg.Tensor(4.0) in x and [1.0, 2.0] in x and 5.0 not in x and None not in x
    assert 1.0 in tg.Tensor(1.0) and 1.0 not in tg.zeros(0)


def test_axes_and_lengths_may_be_numpys_integers():
    x, one = tg.ones(2, 3), np.int64(1)
    assert tg.expand_dims(x, one).shape == (2, 1, 3) and tg.tile(x, one).shape == (2, 3)
    assert tg.norm(x, axis=one).shape == (2,) and tg.median(x, axis=one, keepdims=True).shape == (2, 1)
    assert tg.full(np.int64(3), 1.0).shape == (3,)


def test_a_deep_copy_has_its_own_gradient():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    twin = copy.deepcopy(x)
    (x * x).sum().backward()
    assert twin.requires_grad and twin.grad.tolist() == [2, 4] and x.grad.tolist() == [4, 8]


def test_pad_takes_widths_by_axis_as_numpy_does_since_2_2():
    x = tg.ones((2, 3))
    for by_axis, widths in (({-1: 2, 0: (1, 0)}, ((1, 0), (2, 2))), ({}, 0), ({0: 1}, ((1, 1), (0, 0)))):
        np.testing.assert_array_equal(tg.pad(x, by_axis).data, tg.pad(x, widths).data)
    for wrong, match in ((1.5, "whole widths"), (((1, -1), (0, 0)), "whole widths"), ({2: 1}, "axis 2 is out of bounds")):
        with pytest.raises(ValueError, match=match):
            tg.pad(x, wrong)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "nansum", "mean", "var", "logsumexp"])
def test_a_scalar_is_reduced_along_its_first_and_last_axis_too(name, axis):
    x = tg.Tensor(np.array(0.7), requires_grad=True)
    for keepdims in (False, True):
        assert getattr(tg, name)(x, axis=axis, keepdims=keepdims).shape == ()
    (d,) = tg.grad(getattr(tg, name)(x, axis=axis), x)
    assert d.item() == (0 if name == "var" else 1)
    with pytest.raises(np.exceptions.AxisError, match=r"axis -?[12] is out of bounds"):
        getattr(tg, name)(x, axis=1 if axis == 0 else -2)


@pytest.mark.parametrize("name", ["tanh", "erf", "expm1", "softplus"])
def test_functions_that_have_a_kernel_for_many_numbers(name):
    """Within 2 ulp of float64 in any memory layout, with the same rule for the gradient; few numbers take the plain way."""
    x = np.linspace(-12, 12, 3 * 2**13, dtype=np.float32).reshape(3, -1).T
    wide, function = tg.Tensor(x.astype(np.float64), requires_grad=True), getattr(tg, name, None) or getattr(tg.functional, name)
    many, few = tg.Tensor(x, requires_grad=True), function(x[:5])
    y, truth = function(many), function(wide)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, truth.data, rtol=2.4e-7)
    np.testing.assert_allclose(few.data, truth.data[:5], rtol=2.4e-7)
    y.sum().backward(), truth.sum().backward()
    np.testing.assert_allclose(many.grad.data, wide.grad.data, rtol=1e-5, atol=3e-7)
    np.testing.assert_array_equal(function(np.full(2**13, np.nan, np.float32)).data, np.nan)


@pytest.mark.parametrize("subscripts, shapes", [
    ("bti,oi->bto", [(2, 32, 16), (24, 16)]),
    ("bqhd,bkhd->bhqk", [(2, 16, 4, 8), (2, 16, 4, 8)]),
    ("bi,ijk,bk->bj", [(16, 12), (12, 10, 14), (16, 14)]),
    ("bi,bj->b", [(64, 80), (64, 80)]),  # letters that stand in one operand alone
    ("iij,jk->ik", [(20, 20, 16), (16, 24)]),
    ("ij,jk->ik", [(80, 1), (16, 64)]),  # a broadcast axis
])
def test_the_gradient_of_a_large_einsum_is_made_of_matrix_products(subscripts, shapes, monkeypatch):
    rng = np.random.default_rng(0)
    operands = [tg.Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]
    y = tg.einsum(subscripts, *operands)
    seen, plain = [], np.einsum
    monkeypatch.setattr(np, "einsum", lambda *args, optimize=False: seen.append(optimize) or plain(*args, optimize=optimize))
    g = rng.standard_normal(y.shape)
    y.backward(g)
    assert seen == [True] * len(operands)
    direction = rng.standard_normal(operands[0].shape)
    moved = plain(subscripts, direction, *(x.data for x in operands[1:]))
    np.testing.assert_allclose((operands[0].grad.data * direction).sum(), (g * moved).sum())


def test_a_cube_is_what_numpy_makes_it():
    with np.errstate(over="ignore", under="ignore"):
        for dtype in (np.float32, np.float64):
            x = np.array([0.0, -0.0, 1e-30, -2.5, 3e38, np.inf, -np.inf, np.nan, 1 / 3], dtype)
            for power in (3, 3.0, np.float64(3)):
                y = tg.Tensor(x) ** power
                assert y.dtype == (x**power).dtype
                np.testing.assert_allclose(y.data, x**power, rtol=2 * np.finfo(dtype).eps)
    assert (tg.Tensor([2, -3]) ** 3).tolist() == [8, -27] and tg.power(2.0, 3).item() == 8.0
