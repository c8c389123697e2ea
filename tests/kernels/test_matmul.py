"""kernels.matmul against float64 NumPy, over shapes, transposes, strides, batches and every option; and bad input."""
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from kernels import matmul_portable, reference
from kernels._jit import COMPILED
from kernels.matmul_call import _problems
from kernels.matmul_plan import HUGE_PAGE, _idle, borrow_scratch, return_scratch

SIZES = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 47, 48, 49, 64, 97, 130, 200]))
EPSILON = {np.float32: 2.0**-24, np.float64: 2.0**-53}
OPTIONS = ("alpha", "beta", "bias", "activation", "residual", "pre")


def laid_out(rng, shape, dtype, layout):
    """Random numbers in memory as a view might leave them."""
    if layout == "reversed":
        return rng.standard_normal(shape).astype(dtype)[..., ::-1]
    if layout == "every other":
        return rng.standard_normal((*shape[:-1], 2 * shape[-1])).astype(dtype)[..., ::2]
    if layout == "columns together":
        return np.ascontiguousarray(rng.standard_normal(shape).astype(dtype).swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "one row repeated":
        return np.broadcast_to(rng.standard_normal((*shape[:-2], 1, shape[-1])).astype(dtype), shape)
    if layout == "inside wider rows":
        wide = np.full((*shape[:-1], shape[-1] + 5), np.nan, dtype)
        wide[..., 2:-3] = rng.standard_normal(shape)
        return wide[..., 2:-3]
    if layout == "read-only":
        x = rng.standard_normal(shape).astype(dtype)
        x.flags.writeable = False
        return x
    return rng.standard_normal(shape).astype(dtype)


LAYOUTS = st.sampled_from(["plain", "plain", "inside wider rows", "reversed", "every other", "columns together", "one row repeated",
                           "read-only"])
WRITTEN = st.sampled_from(["plain", "every other", "columns together", "inside wider rows"])
LEADS = st.sampled_from([((), ()), ((3,), ()), ((), (3,)), ((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((2, 1, 2), (3, 1)),
                         ((2, 3, 2), (2, 1, 2))])


@st.composite
def problems(draw, sizes=SIZES, dtypes=(np.float32, np.float64)):
    """(a, b, options) with every option on or off."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(dtypes))
    m, n, k = draw(sizes), draw(sizes), draw(sizes)
    lead_a, lead_b = draw(LEADS)
    transpose_a, transpose_b = draw(st.booleans()), draw(st.booleans())
    a = laid_out(rng, (*lead_a, *((k, m) if transpose_a else (m, k))), dtype, draw(LAYOUTS))
    b = laid_out(rng, (*lead_b, *((n, k) if transpose_b else (k, n))), dtype, draw(LAYOUTS))
    shape = (*np.broadcast_shapes(lead_a, lead_b), m, n)
    options = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    if draw(st.booleans()):
        options["alpha"] = draw(st.sampled_from([-1.0, 0.125, 3.0]))
    if draw(st.booleans()):
        options["bias"] = laid_out(rng, (1, n), dtype, draw(LAYOUTS))[0]
    if draw(st.booleans()):
        options["activation"] = draw(st.sampled_from(["relu", "gelu", "gelu_tanh", "silu"]))
    if draw(st.booleans()):
        options["residual"] = laid_out(rng, draw(st.sampled_from([shape, (m, n), (1, n), (m, 1)])), dtype, draw(LAYOUTS))
    if draw(st.booleans()):
        options["pre"] = laid_out(rng, shape, dtype, draw(WRITTEN))
    if draw(st.booleans()):
        options["out"] = laid_out(rng, shape, dtype, draw(WRITTEN))
        options["beta"] = draw(st.sampled_from([0.0, 1.0, -0.5]))
        if options["beta"] == 0.0:
            options["out"][...] = np.nan              # must not be read
    return a, b, options


def in_float64(options):
    return {name: value.astype(np.float64) if isinstance(value, np.ndarray) else value for name, value in options.items()}


def surroundings(options):
    """Call it before a product, and what it returns after: memory between the numbers of `out` and `pre` is as it was."""
    written = [options[name] for name in ("out", "pre") if name in options]
    before = [(x if x.base is None else x.base, x, x.copy()) for x in written]
    before = [(whole, whole.copy(), x, old) for whole, x, old in before]

    def check():
        for whole, old_whole, x, old in before:
            new = x.copy()
            x[...] = old
            np.testing.assert_array_equal(whole, old_whole)
            x[...] = new

    return check


def bound(a, b, options):
    """What plain float32 arithmetic may be wrong by: k roundings of the sum of absolute values, and a few of the rest."""
    plain = {name: options[name] for name in ("transpose_a", "transpose_b") if name in options}
    sums = np.abs(options.get("alpha", 1.0)) * reference.matmul(np.abs(a), np.abs(b), **plain)
    for name in ("bias", "residual"):
        if name in options:
            sums = sums + np.abs(options[name])
    if options.get("beta"):
        sums = sums + np.abs(options["beta"] * options["out"])
    k = a.shape[-1]
    return (2 * max(k, a.shape[-2] if a.ndim > 1 else k) + 16) * sums


@given(problems())
def test_matches_the_definition(problem):
    a, b, options = problem
    wide = in_float64(options)
    expected = reference.matmul(a.astype(np.float64), b.astype(np.float64), **wide)
    allowed = 2 * EPSILON[a.dtype.type] * bound(a.astype(np.float64), b.astype(np.float64), in_float64(options)) + 1e-30
    check_surroundings = surroundings(options)
    result = kernels.matmul(a, b, **options)
    check_surroundings()
    assert result.dtype == a.dtype and result.shape == expected.shape
    assert "out" not in options or result is options["out"]
    if "out" not in options or options["beta"] == 0.0:
        assert (np.abs(result - expected) <= allowed).all()
    else:                                             # `wide["out"]` was overwritten by the reference
        np.testing.assert_allclose(result, expected, rtol=1e-3 if a.dtype == np.float32 else 1e-9,
                                   atol=1e-4 if a.dtype == np.float32 else 1e-11)
    if "pre" in options:
        np.testing.assert_allclose(options["pre"], wide["pre"], rtol=1e-4, atol=1e-4)


@given(problems(sizes=st.integers(1, 12)))
def test_the_plain_loops_match_the_definition(problem):
    a, b, options = problem
    expected = reference.matmul(a.astype(np.float64), b.astype(np.float64), **in_float64(options))
    given_options = dict(options)
    out = given_options.pop("out", None)
    out = np.full(expected.shape, np.nan, a.dtype) if out is None else out
    chosen = {name: given_options.pop(name, None) for name in ("bias", "residual", "pre", "activation")}
    transposes = {name: given_options.pop(name) for name in ("transpose_a", "transpose_b")}
    matmul_portable.matmul_naive(a, b, out, given_options.get("alpha", 1.0), given_options.get("beta", 0.0), chosen["bias"],
                                 chosen["residual"], chosen["pre"], activation=chosen["activation"], **transposes)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 700, 300), (8, 96, 515), (16, 130, 64), (300, 260, 401), (130, 700, 97), (9, 2000, 33)])
@pytest.mark.parametrize("transposes", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_error_is_at_most_twice_that_of_plain_float32(shape, transposes):
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    plain = np.zeros((m, n), np.float32)
    for i in range(k):                                # one rounding after another, in the order of k
        plain += a[:, i:i + 1] * b[i]
    left, right = (a.T.copy() if transposes[0] else a), (b.T.copy() if transposes[1] else b)
    ours = kernels.matmul(left, right, transpose_a=bool(transposes[0]), transpose_b=bool(transposes[1]))
    assert np.abs(ours - exact).max() <= 2 * np.abs(plain - exact).max()
    assert np.sqrt(np.mean((ours - exact) ** 2)) <= 2 * np.sqrt(np.mean((plain - exact) ** 2))


@pytest.mark.parametrize("a, b", [((5,), (5, 7)), ((4, 5), (5,)), ((5,), (5,)), ((2, 4, 5), (5,)), ((5,), (3, 5, 7))])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_vectors_follow_numpy(a, b, step):
    """Transposes leave them as they are."""
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((*shape[:-1], abs(step) * shape[-1]))[..., ::step] for shape in (a, b))
    turned = {"transpose_a": a.ndim == 1, "transpose_b": b.ndim == 1}
    expected, g = np.matmul(a, b), rng.standard_normal(np.matmul(a, b).shape)
    for options in ({}, turned):
        for module in (kernels, reference):
            result = module.matmul(a, b, **options)
            np.testing.assert_allclose(result, expected, rtol=1e-12)
            assert np.shape(result) == np.shape(expected)
        got, wanted = (module.matmul_backward(g, a, b, bias=True, **options) for module in (kernels, reference))
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_a_kept_plan_serves_no_product_that_only_looks_like_it():
    """Equal shapes, strides and options but for one."""
    rng = np.random.default_rng(5)
    for dtype, step in ((np.float32, 2), (np.float64, 1)):        # of equal strides in bytes
        a, b = (rng.standard_normal((5, 5 * step)).astype(dtype)[:, ::step] for _ in range(2))
        residual, bias = rng.standard_normal((5, 5)).astype(dtype), rng.standard_normal(5).astype(dtype)
        for options in ({}, {"transpose_a": True}, {"transpose_b": True}, {"residual": residual}, {"residual": residual[:1]},
                        {"bias": bias}, {"activation": "relu"}, {"activation": "silu"}):
            exact = reference.matmul(a.astype(float), b.astype(float), **in_float64(options))
            np.testing.assert_allclose(kernels.matmul(a, b, **options), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("a, b", [((0, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((2, 0), (0, 0))])
def test_empty_arrays(a, b):
    result = kernels.matmul(np.ones(a), np.ones(b), bias=np.ones(b[-1]))
    np.testing.assert_array_equal(result, np.ones(a) @ np.ones(b) + 1)
    out = np.full(result.shape, 2.0)
    np.testing.assert_array_equal(kernels.matmul(np.ones(a), np.ones(b), out, beta=3.0), np.ones(a) @ np.ones(b) + 6)


@given(st.sampled_from([(3, 5, 4), (1, 40, 33), (12, 70, 40)]), st.sampled_from([np.nan, np.inf, -np.inf, 1e38, 1e-45]),
       st.booleans())
def test_special_values_go_where_they_should(shape, value, transpose_b):
    m, n, k = shape
    a, b = np.ones((m, k), np.float32), np.full((k, n), 0.5, np.float32)
    a[0, k - 1], b[0, n - 1] = value, value
    with np.errstate(all="ignore"):
        expected = a @ b
        right = np.ascontiguousarray(b.T) if transpose_b else b
        np.testing.assert_allclose(kernels.matmul(a, right, transpose_b=transpose_b), expected, rtol=1e-6)


def test_zero_times_infinity_is_not_hidden():
    a, b = np.zeros((9, 20), np.float32), np.full((20, 50), np.inf, np.float32)
    assert np.isnan(kernels.matmul(a, b)).all()


X, LINE = np.ones((4, 4), np.float32), np.ones(7, np.float32)


@pytest.mark.parametrize("call, error, words", [
    (lambda: kernels.matmul(X.astype(np.float16), X.astype(np.float16)), TypeError, "float32 or float64, got float16"),
    (lambda: kernels.matmul(X.astype(int), X.astype(int)), TypeError, "int64"),
    (lambda: kernels.matmul(X.astype(object), X.astype(object)), TypeError, "object"),
    (lambda: kernels.matmul(X.astype(">f4"), X), TypeError, "float32"),
    (lambda: kernels.matmul(X, X.astype(float)), TypeError, "float64"),
    (lambda: kernels.matmul([[1.0]], X), TypeError, "list"),
    (lambda: kernels.matmul(X, np.ones((3, 4), np.float32)), ValueError, "columns in a as rows in b, got 4 and 3"),
    (lambda: kernels.matmul(np.ones(()), X.astype(float)), ValueError, "no axes"),
    (lambda: kernels.matmul(np.ones((2, 4, 4)), np.ones((3, 4, 4))), ValueError, "do not broadcast"),
    (lambda: kernels.matmul(X, X, np.ones((4, 5), np.float32)), ValueError, r"shape \(4, 4\)"),
    (lambda: kernels.matmul(X, X, np.ones((4, 4))), ValueError, "dtype float32"),
    (lambda: kernels.matmul(X, X, np.ones((4, 4), np.int32)), ValueError, "dtype float32"),
    (lambda: kernels.matmul(X, X, X), ValueError, "overlaps"),
    (lambda: kernels.matmul(X, X, X.T), ValueError, "overlaps"),
    (lambda: kernels.matmul(LINE[3:], X, LINE[:4]), ValueError, "overlaps"),
    (lambda: kernels.matmul(X, LINE[3:], LINE[:4]), ValueError, "overlaps"),
    (lambda: kernels.matmul(X, X, X, precision="bfloat16"), ValueError, "out: overlaps"),
    (lambda: kernels.matmul(X, X, pre=X, precision="bfloat16"), ValueError, "pre: overlaps"),
    (lambda: kernels.matmul(X, X, beta=1.0), ValueError, "`out`"),
    (lambda: kernels.matmul(X, X, bias=np.ones(3, np.float32)), ValueError, r"bias: expected shape \(4,\)"),
    (lambda: kernels.matmul(X, X, bias=np.ones(4)), TypeError, "bias"),
    (lambda: kernels.matmul(X, X, residual=np.ones((3, 4), np.float32)), ValueError, "residual"),
    (lambda: kernels.matmul(X, X, residual=X[None]), ValueError, "residual"),
    (lambda: kernels.matmul(X, X, activation="swish"), ValueError, "swish"),
    (lambda: kernels.matmul(X, X, bias=[1.0] * 4), TypeError, "bias: expected a numpy array, got list"),
    (lambda: kernels.matmul(X, X, residual=[1.0] * 4), TypeError, "residual: expected a numpy array, got list"),
    (lambda: kernels.matmul(X, X, [1.0] * 4), TypeError, "out: expected a numpy array, got list"),
    (lambda: kernels.matmul(X, X, pre=[1.0] * 4), TypeError, "pre: expected a numpy array, got list; call np.asarray first"),
    (lambda: kernels.matmul(X, X, pre=np.ones((4, 4))), TypeError, "pre: expected dtype float32"),
    (lambda: pre_as_out(np.empty_like(X)), ValueError, "out: overlaps"),
    (lambda: kernels.matmul(X, X, alpha=1j), TypeError, "complex"),
    (lambda: kernels.matmul_backward(X, X, X, activation="gelu"), ValueError, "pre"),
    (lambda: kernels.matmul_backward(X, X, X, activation="swish", pre=X), ValueError, "swish"),
    (lambda: kernels.matmul_backward(X, X, X.astype(float)), TypeError, "b: expected dtype float32"),
    (lambda: kernels.matmul_backward(X.astype(float), X, X), TypeError, "g: expected dtype float32"),
    (lambda: kernels.matmul_backward(X, X, X, precision="half", needs=(False, False)), ValueError, "precision: .*'half'"),
    (lambda: kernels.matmul_backward(X[:1], X, X), ValueError, r"g: expected the result's shape \(4, 4\), got \(1, 4\)"),
    (lambda: kernels.matmul_backward(X[None], X, X), ValueError, r"g: expected the result's shape \(4, 4\), got \(1, 4, 4\)"),
    (lambda: kernels.matmul_backward(X[0], X[0], X[0]), ValueError, r"g: expected the result's shape \(\)"),
])
@pytest.mark.parametrize("side", kernels.SIDES)
def test_bad_input_is_explained(side, call, error, words):
    with kernels.use(side), pytest.raises(error, match=words):
        call()


def pre_as_out(both):
    kernels.matmul(X, X, both, pre=both, activation="relu")


@pytest.mark.parametrize("side", kernels.SIDES)
def test_factors_may_be_numbers_of_any_kind(side):
    with kernels.use(side):
        for two in (2, np.int8(2), np.float16(2), np.float64(2), Fraction(2)):
            np.testing.assert_array_equal(kernels.matmul(X, X, X.copy(), alpha=two, beta=two), np.full((4, 4), 10))
        assert (kernels.matmul(X, X, alpha=10**20) == np.float32(4e20)).all()


@pytest.mark.parametrize("side", kernels.SIDES)
def test_a_product_of_vectors_with_a_bias_is_a_number(side):
    with kernels.use(side):
        out = kernels.matmul(X[0], X[0], bias=X[0, :1])
        assert out.shape == () and out == 5
        assert kernels.matmul(X[0], X[0], np.array(0, np.float32), bias=X[0, :1]) == 5


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh", "silu"])
def test_a_product_of_empty_vectors_is_a_number(activation):
    nothing, bias = np.zeros(0), np.array([3.0])
    want = kernels.reference.matmul(nothing, nothing, bias=bias, activation=activation)
    np.testing.assert_allclose(kernels.matmul(nothing, nothing, bias=bias, activation=activation), want, rtol=1e-15)
    assert kernels.matmul(nothing, nothing, activation=activation) == 0


def test_a_read_only_out_is_refused():
    out = np.empty((4, 4), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        kernels.matmul(X, X, out)


@pytest.mark.parametrize("side", kernels.SIDES)
@pytest.mark.parametrize("strides", [(0, 4), (4, 0), (4, 4), (-4, 8), (12, 4)])
def test_an_out_that_overlaps_itself_is_refused(strides, side):
    room = np.lib.stride_tricks.as_strided(np.zeros(40, np.float32)[20:], (4, 4), strides)
    for buffer in ({"out": room}, {"pre": room, "activation": "relu"}):
        with kernels.use(side), pytest.raises(ValueError, match="overlaps itself"):
            kernels.matmul(X, X, **buffer)


@pytest.mark.parametrize("side", kernels.SIDES)
def test_an_out_may_be_any_view_whose_elements_lie_apart(side):
    room = np.zeros((9, 3, 8), np.float32)
    for out in (room[:4, 1, :4], room[8:4:-1, 0, ::2], room[::2, 2, 1:5][:4].T, room[:1, 0, :1], room[::2, :, ::-1]):
        *lead, rows, columns = out.shape
        with kernels.use(side):
            kernels.matmul(np.ones((*lead, rows, 5), np.float32), np.ones((5, columns), np.float32), out)
        assert (out == 5).all()


SHAPES = {"a": (4, 5), "b": (5, 6), "bias": (6,), "residual": (4, 6), "pre": (4, 6), "out": (4, 6)}


@pytest.mark.parametrize("side", kernels.SIDES)
@pytest.mark.parametrize("written, read", [("out", "a"), ("out", "b"), ("out", "bias"), ("out", "residual"), ("out", "pre"),
                                           ("pre", "a"), ("pre", "b"), ("pre", "bias"), ("pre", "residual")])
@pytest.mark.parametrize("in_front", [True, False])
@pytest.mark.parametrize("backwards", ["", "read", "written"])
def test_one_number_shared_with_an_input_is_refused_and_none_is_not(side, written, read, in_front, backwards):
    low, high = (written, read) if in_front else (read, written)
    turned = {"read": read, "written": written}.get(backwards)
    for shared in (1, 0):
        given = {name: np.ones(SHAPES[name], np.float32) for name in dict.fromkeys(("a", "b", written, read))}
        sizes = given[low].size, given[high].size
        memory = np.ones(sum(sizes) - shared, np.float32)
        given[low] = memory[: sizes[0]].reshape(SHAPES[low])
        given[high] = memory[-sizes[1] :].reshape(SHAPES[high])
        given = {name: x[::-1] if name == turned else x for name, x in given.items()}
        with kernels.use(side):
            if shared:
                with pytest.raises(ValueError, match=f"{written}: overlaps"):
                    kernels.matmul(**given)
            else:
                more = ("bias" in given) + ("residual" in given)
                np.testing.assert_array_equal(kernels.matmul(**given), np.full((4, 6), 5 + more))


@pytest.mark.parametrize("name", ["a", "residual", "pre", "out"])
def test_rows_of_a_batch_may_lie_apart(name):
    """Then they are no rows of one long product."""
    rng = np.random.default_rng(6)
    given = {each: rng.standard_normal((3, 7 if each == name else 4, 5))[:, :4] for each in ("a", "residual", "pre", "out")}
    b, wanted = rng.standard_normal((5, 5)), {each: x.copy() for each, x in given.items()}
    kernels.matmul(b=b, beta=0.5, activation="silu", **given), reference.matmul(b=b, beta=0.5, activation="silu", **wanted)
    for each in ("out", "pre"):
        np.testing.assert_allclose(given[each], wanted[each], rtol=1e-12, atol=1e-12)


def test_an_out_woven_between_an_input_is_fine():
    both = np.zeros((4, 8), np.float32)
    a, out = both[:, ::2], both[:, 1::2]
    a[...] = np.arange(16).reshape(4, 4)
    kernels.matmul(a, X, out)
    np.testing.assert_array_equal(out, a @ X)


@pytest.mark.parametrize("transposes", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("leads", [((), ()), ((2,), ()), ((), (2,)), ((2,), (2,)), ((2, 3), (3,)), ((2, 1), (3,))])
@pytest.mark.parametrize("activation", [None, "gelu_tanh"])
def test_gradients_match_the_reference(transposes, leads, activation):
    rng = np.random.default_rng(2)
    a = rng.standard_normal((*leads[0], *((6, 5) if transposes[0] else (5, 6))))
    b = rng.standard_normal((*leads[1], *((7, 6) if transposes[1] else (6, 7))))
    options = {"transpose_a": transposes[0], "transpose_b": transposes[1], "alpha": 0.5}
    shape = np.matmul(*(np.swapaxes(x, -1, -2) if t else x for x, t in zip((a, b), transposes))).shape
    pre = np.empty(shape)
    kernels.matmul(a, b, pre=pre, **options)
    g = rng.standard_normal(shape)
    got = kernels.matmul_backward(g, a, b, bias=True, activation=activation, pre=pre, **options)
    expected = reference.matmul_backward(g, a, b, bias=True, activation=activation, pre=pre, **options)
    for ours, theirs, like in zip(got, expected, (a, b, np.empty(7))):
        assert ours.shape == like.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("side", kernels.SIDES)
@pytest.mark.parametrize("a, b", [((0, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 3), (3, 0)), ((2, 4, 0), (0, 3)), ((2, 4, 3), (3, 0)),
                                  ((3,), (3, 0))])
def test_gradients_of_empty_arrays(side, a, b):
    a, b = np.ones(a, np.float32), np.ones(b, np.float32)
    with kernels.use(side):
        da, db, dbias = kernels.matmul_backward(np.ones_like(a @ b), a, b, bias=True)
    rows = math.prod(a.shape[:-1])
    for gradient, shape, value in ((da, a.shape, b.shape[1]), (db, b.shape, rows), (dbias, b.shape[1:], rows)):
        np.testing.assert_array_equal(gradient, np.full(shape, value))


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh", "silu"])
def test_gradients_match_finite_differences(activation):
    rng = np.random.default_rng(3)
    a, b, bias = rng.standard_normal((3, 4)), rng.standard_normal((5, 4)), rng.standard_normal(5)
    g = rng.standard_normal((3, 5))

    def value():
        return (g * kernels.matmul(a, b, transpose_b=True, bias=bias, activation=activation)).sum()

    pre = np.empty((3, 5))
    kernels.matmul(a, b, transpose_b=True, bias=bias, activation=activation, pre=pre)
    gradients = kernels.matmul_backward(g, a, b, transpose_b=True, bias=True, activation=activation, pre=pre)
    for x, dx in zip((a, b, bias), gradients):
        for index in np.ndindex(x.shape):
            kept = x[index]
            x[index] = kept + 1e-5
            above = value()
            x[index] = kept - 1e-5
            slope = (above - value()) / 2e-5
            x[index] = kept
            assert abs(slope - dx[index]) < 1e-7 * max(1, abs(slope))


@pytest.mark.parametrize("rows, columns, depth", [(1, 300, 513), (4, 130, 200), (5, 97, 513), (16, 1000, 64), (3, 192, 1536)])
def test_few_rows_of_several_products_have_the_same_bits_with_any_number_of_threads(rows, columns, depth):
    """Where a strip of columns ends decides which loop sums its last ones, so strips may not depend on the threads."""
    rng = np.random.default_rng(0)
    before = kernels.get_num_threads()
    for dtype in (np.float32, np.float64):
        a, b = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((3, depth, columns)).astype(dtype)
        try:
            results = []
            for threads in (1, 2):
                kernels.set_num_threads(threads)
                results.append((kernels.matmul(a, b), kernels.matmul(a, b.swapaxes(1, 2).copy(), transpose_b=True)))
        finally:
            kernels.set_num_threads(before)
        for one, two in zip(*results, strict=True):
            np.testing.assert_array_equal(one, two)
            np.testing.assert_allclose(one, a.astype(float) @ b, atol=1e-3)


@given(problems(), st.sampled_from([1, 2]))
def test_same_bits_with_any_number_of_threads(problem, threads):
    a, b, options = problem
    if "out" in options:
        options["out"] = options["out"].copy()
    before = kernels.get_num_threads()
    results = []
    try:
        for n in (1, threads):
            kernels.set_num_threads(n)
            mine = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in options.items()}
            results.append(kernels.matmul(a, b, **mine))
    finally:
        kernels.set_num_threads(before)
    np.testing.assert_array_equal(*results)


@pytest.mark.numba_side
@pytest.mark.skipif(not COMPILED, reason="plans belong to compiled kernels")
@pytest.mark.parametrize("depth, n", [(1536, 192), (777, 1029), (1024, 4200), (8192, 65)])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_few_rows_shared_along_k(rows, depth, n):
    """A product that is cut along k: right, with everything that is done to the finished strip, and the same at any thread count."""
    from kernels.matmul_plan import CHUNKS

    rng = np.random.default_rng(rows)
    a, b, out = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, depth), (depth, n), (rows, n)))
    bias, residual = rng.standard_normal(n).astype(np.float32), rng.standard_normal((rows, n)).astype(np.float32)
    want = 2.0 * (a.astype(np.float64) @ b) + 0.5 * out
    epilogue = dict(bias=bias, residual=residual, activation="relu")
    want_finished = np.maximum(2.0 * (a.astype(np.float64) @ b) + bias, 0) + residual
    before, results = kernels.get_num_threads(), []
    _problems.clear()
    try:
        for threads in (1, 2, 8):
            kernels.set_num_threads(threads)
            accumulated = kernels.matmul(a, b, out=out.copy(), alpha=2.0, beta=0.5)
            results.append((accumulated, kernels.matmul(a, b, alpha=2.0, **epilogue)))
            assert any(problem.plan[CHUNKS] > 1 for problem in _problems.values())
    finally:
        kernels.set_num_threads(before)
    np.testing.assert_allclose(results[0][0], want, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(results[0][1], want_finished, atol=1e-5 * np.abs(want).max())
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.skipif(not COMPILED, reason="plans belong to compiled kernels")
@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize(("m", "n", "k"), [(512, 512, 512), (1024, 1024, 1024), (512, 2048, 512), (256, 512, 512), (2048, 1536, 384)])
def test_threads_get_equal_shares(m, n, k, threads):
    """Columns are cut in tiles of three vectors, which powers of two do not divide by: a thread's rows make up for it."""
    from kernels.matmul_plan import BLOCK_BYTES, blocks, cut, fullest_thread, k_step

    kc = k_step(k, 192)
    widths = [width for parts in range(1, 9) if (width := cut(n, parts, 48)) * kc * 4 <= BLOCK_BYTES]
    best = min(fullest_thread(m, n, cut(m, parts, 8), width, 1, threads) for parts in range(1, 9) for width in widths)
    chosen = blocks(m, n, kc * 4, 1, m * n * k, 48, 8, threads)
    assert fullest_thread(m, n, *chosen, 1, threads) <= 1.02 * best


def test_borrowed_memory_has_room_from_the_next_huge_page_on():
    """Also where a call before was content with less."""
    for need in (1, 8 << 20, 1):
        scratch = borrow_scratch(need)
        assert scratch.nbytes - -scratch.ctypes.data % HUGE_PAGE >= need
        return_scratch(scratch)


@pytest.mark.numba_side
@pytest.mark.skipif(not COMPILED, reason="plans belong to compiled kernels")
@pytest.mark.parametrize("m, n, k", [(300, 700, 300), (3, 192, 1536), (130, 2000, 50)])
@pytest.mark.parametrize("dtype", EPSILON)
def test_loops_write_only_the_scratch_that_their_plan_asks_for(dtype, m, n, k, same_threads_after):
    kernels.set_num_threads(1)
    for transpose_b in (False, True):
        a, b = np.ones((m, k), dtype), np.ones((n, k) if transpose_b else (k, n), dtype)
        _problems.clear()
        kernels.matmul(a, b, transpose_b=transpose_b, bias=np.ones(n, dtype))
        (problem,) = _problems.values()
        scratch = np.full(problem.scratch + 2 * HUGE_PAGE, 0xA5, np.uint8)
        _idle[:] = [scratch]
        kernels.matmul(a, b, transpose_b=transpose_b, bias=np.ones(n, dtype))
        start, touched = -scratch.ctypes.data % HUGE_PAGE, np.flatnonzero(scratch != 0xA5)
        assert touched.size and start <= touched[0] and touched[-1] < start + problem.scratch
