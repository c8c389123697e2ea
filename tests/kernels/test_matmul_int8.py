"""kernels.quantize_int8 and kernels.matmul_int8: how far off, in which shapes, the same bits on any number of threads; bad input."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels

ROWS = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 33, 140]))
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 130, 200]))


def drawn(seed, rows, n, k):
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((n, k)) * 10.0 ** rng.integers(-3, 3, (n, 1))).astype(np.float32)
    return (rng.standard_normal((rows, k)).astype(np.float32), *kernels.quantize_int8(w), rng.standard_normal(n).astype(np.float32))


def wide(x, q, scale, bias=None):
    """The product in float64, and what rounding each of its terms once more than k times could add up to."""
    x, w = x.astype(np.float64), q * scale.astype(np.float64)[:, None]
    b = np.zeros(len(q)) if bias is None else bias.astype(np.float64)
    return x @ w.T + b, (x.shape[-1] + 4) * 2.0**-24 * (np.abs(x) @ np.abs(w).T + np.abs(b)) + 1e-37


# -- quantizing --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), SIZES, SIZES, st.sampled_from([np.float32, np.float64]))
def test_a_weight_moves_by_at_most_half_a_step(seed, n, k, dtype):
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((n, k)) * 10.0 ** rng.integers(-6, 6, (n, 1))).astype(dtype)
    q, scale = kernels.quantize_int8(w)
    assert q.dtype == np.int8 and scale.dtype == np.float32 and q.shape == w.shape and scale.shape == (n,)
    assert (np.abs(w - q * scale.astype(np.float64)[:, None]) <= 0.5001 * scale[:, None]).all()
    assert (np.abs(q).max(axis=1) == 127).all()                     # the row's largest weight uses the whole range


def test_what_lies_on_the_steps_comes_back_exactly():
    q = np.arange(-127, 128, dtype=np.int8)[None]
    got, scale = kernels.quantize_int8((q * np.float32(0.25)).astype(np.float32))
    np.testing.assert_array_equal(got, q)
    np.testing.assert_array_equal(scale, np.float32([0.25]))


@pytest.mark.parametrize("row", [[0.0, 0.0], [1e-45, -1e-45]])
def test_rows_of_nothing_become_zeros(row):
    q, scale = kernels.quantize_int8(np.array([row, [1.0, -2.0]], np.float32))
    np.testing.assert_array_equal(q, [[0, 0], [64, -127]])
    assert scale[0] == 1


def test_blocks_of_rows_are_quantized_alike():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((700, 2000)).astype(np.float32)           # more than are taken at a time
    q, scale = kernels.quantize_int8(w)
    for rows in (slice(0, 3), slice(520, 530), slice(697, 700)):
        some, steps = kernels.quantize_int8(w[rows])
        np.testing.assert_array_equal(some, q[rows])
        np.testing.assert_array_equal(steps, scale[rows])


# -- the product -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), ROWS, SIZES, SIZES, st.booleans(), st.sampled_from(["fresh", "out", "columns of out"]))
def test_matches_the_dequantized_product(seed, rows, n, k, with_bias, into):
    x, q, scale, bias = drawn(seed, rows, n, k)
    bias = bias if with_bias else None
    expected, allowed = wide(x, q, scale, bias)
    space = np.full((rows, 2 * n), np.nan, np.float32)
    out = {"fresh": None, "out": np.full((rows, n), np.nan, np.float32), "columns of out": space[:, ::2]}[into]
    got = kernels.matmul_int8(x, q, scale, bias, out)
    assert got.dtype == np.float32 and got.shape == (rows, n) and (out is None or got is out)
    assert (np.abs(got - expected) <= allowed).all()
    assert np.isnan(space[:, 1::2]).all()
    with kernels.use("numpy"):
        assert (np.abs(kernels.matmul_int8(x, q, scale, bias) - expected) <= allowed).all()


@pytest.mark.parametrize("rows", [1, 3, 16, 40])
def test_error_is_at_most_twice_that_of_plain_float32(rows):
    x, q, scale, _ = drawn(0, rows, 300, 1000)
    exact, _ = wide(x, q, scale)
    plain = np.zeros(exact.shape, np.float32)
    for i in range(1000):                                             # one rounding after another, in the order of k
        plain += x[:, i:i + 1] * (q[:, i] * scale)
    ours, theirs = ((y - exact) / scale for y in (kernels.matmul_int8(x, q, scale), plain))      # columns of one size
    assert np.abs(ours).max() <= 2 * np.abs(theirs).max()
    assert np.sqrt(np.mean(ours**2)) <= 2 * np.sqrt(np.mean(theirs**2))


@pytest.mark.parametrize("lead", [(), (1,), (2, 3), (4, 5, 1), (0,), (2, 0), (1100,)])
def test_leading_axes_are_kept(lead):
    _, q, scale, bias = drawn(1, 1, 21, 34)
    x = np.random.default_rng(1).standard_normal((*lead, 34)).astype(np.float32)
    got = kernels.matmul_int8(x, q, scale, bias)
    assert got.shape == (*lead, 21)
    np.testing.assert_allclose(got, x @ (q * scale[:, None]).T + bias, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows, n, k", [(2, 0, 5), (2, 5, 0), (0, 0, 0), (30, 4, 0)])
def test_empty_axes(rows, n, k):
    got = kernels.matmul_int8(np.ones((rows, k), np.float32), np.ones((n, k), np.int8), np.ones(n, np.float32), np.ones(n, np.float32))
    np.testing.assert_array_equal(got, np.ones((rows, n)))


@pytest.mark.numba_side
@pytest.mark.parametrize("rows", [1, 5])
def test_any_memory_layout(rows):
    x, q, scale, bias = drawn(2, rows, 45, 50)
    expected = kernels.matmul_int8(x, q, scale, bias)
    apart = np.ascontiguousarray(np.repeat(x, 2, axis=1))[:, ::2], np.asfortranarray(q), np.repeat(scale, 3)[::3], bias[::-1].copy()[::-1]
    np.testing.assert_array_equal(kernels.matmul_int8(*apart), expected)


@pytest.mark.parametrize("rows", [1, 4, 7, 16, 20])
def test_bits_do_not_depend_on_threads(rows):
    x, q, scale, bias = drawn(3, rows, 2051, 700)
    before = kernels.get_num_threads()
    try:
        kernels.set_num_threads(1)
        alone = kernels.matmul_int8(x, q, scale, bias)
        kernels.set_num_threads(2)
        for _ in range(3):
            np.testing.assert_array_equal(kernels.matmul_int8(x, q, scale, bias), alone)
    finally:
        kernels.set_num_threads(before)


@pytest.mark.numba_side
def test_bits_of_a_row_do_not_depend_on_the_rows_beside_it():
    x, q, scale, bias = drawn(4, 16, 83, 150)
    together = kernels.matmul_int8(x, q, scale, bias)
    for i in range(16):
        np.testing.assert_array_equal(kernels.matmul_int8(x[i], q, scale, bias), together[i])


def test_infinity_and_nan_pass_through():
    x, q, scale, _ = drawn(5, 3, 20, 33)
    q[:, 32] = 1
    x[0, 32], x[1, 32] = np.inf, np.nan
    got = kernels.matmul_int8(x, q, scale)
    assert (got[0] == np.inf).all() and np.isnan(got[1]).all() and np.isfinite(got[2]).all()


def test_a_sum_beside_outliers_with_weights_of_zero_keeps_its_digits():
    """In eight-bit digits of the largest number the others would have none left."""
    rng = np.random.default_rng(6)
    x, q = rng.standard_normal((9, 400)).astype(np.float32), rng.integers(-127, 128, (70, 400)).astype(np.int8)
    for i in range(9):
        x[i, :10 * i] *= 10.0 ** (4 * i)
        q[:, :10 * i] = 0
    x[3], x[5, 1:] = 0, 0
    exact, allowed = wide(x, q, np.ones(70, np.float32))
    assert (np.abs(kernels.matmul_int8(x, q, np.ones(70, np.float32)) - exact) <= allowed).all()


@pytest.mark.parametrize("exponent", [-149, -140, -126, -60, 100, 110])
def test_numbers_of_any_size(exponent):
    x, q, scale, _ = drawn(7, 5, 33, 130)
    x = np.ldexp(x, exponent).astype(np.float32)
    exact, allowed = wide(x, q, np.ones_like(scale))
    assert (np.abs(kernels.matmul_int8(x, q, np.ones_like(scale)) - exact) <= allowed + 1e-44).all()


@pytest.mark.numba_side
def test_a_wild_row_leaves_the_others_their_bits():
    x, q, scale, bias = drawn(8, 12, 90, 200)
    before = kernels.matmul_int8(x, q, scale, bias)
    x[4, 7], x[9, 0], x[11] = np.nan, 1e30, np.inf
    after = kernels.matmul_int8(x, q, scale, bias)
    rest = [0, 1, 2, 3, 5, 6, 7, 8, 10]
    np.testing.assert_array_equal(after[rest], before[rest])
    assert np.isnan(after[4]).all()
    np.testing.assert_array_equal(after[9], kernels.matmul_int8(x[9], q, scale, bias))


@pytest.mark.parametrize("k", [65_536, 140_000])
def test_sums_of_many_numbers_do_not_overflow(k):
    x, q = np.ones((1, k), np.float32), np.full((2, k), -128, np.int8)
    np.testing.assert_array_equal(kernels.matmul_int8(x, q, np.ones(2, np.float32)), np.full((1, 2), -128.0 * k))


# -- bad input ---------------------------------------------------------------------------------------------------------

X, Q, S = np.ones((2, 4), np.float32), np.ones((3, 4), np.int8), np.ones(3, np.float32)
FLAT = np.ones(8, np.float32)


@pytest.mark.parametrize("side", kernels.SIDES)
@pytest.mark.parametrize("call, error, words", [
    (lambda: kernels.quantize_int8([[1.0]]), TypeError, "list"),
    (lambda: kernels.quantize_int8(Q), TypeError, "int8"),
    (lambda: kernels.quantize_int8(S), ValueError, r"matrix \(N, K\)"),
    (lambda: kernels.quantize_int8(np.array([[1.0], [np.nan]])), ValueError, "row 1"),
    (lambda: kernels.quantize_int8(np.array([[np.inf]])), ValueError, "row 0"),
    (lambda: kernels.quantize_int8(np.array([[1.0], [1e300]])), ValueError, "row 1"),
    (lambda: kernels.matmul_int8(X.astype(float), Q, S), TypeError, "x: .*float64"),
    (lambda: kernels.matmul_int8(X.tolist(), Q, S), TypeError, "list"),
    (lambda: kernels.matmul_int8(np.ones((), np.float32), Q, S), ValueError, "one axis"),
    (lambda: kernels.matmul_int8(X, X, S), TypeError, "quantize_int8, got float32"),
    (lambda: kernels.matmul_int8(X, [[1]], S), TypeError, "quantize_int8, got list"),
    (lambda: kernels.matmul_int8(X, Q[:, :3], S), ValueError, r"\(N, 4\)"),
    (lambda: kernels.matmul_int8(X, Q[0], S), ValueError, r"\(N, 4\)"),
    (lambda: kernels.matmul_int8(X, Q, S[:2]), ValueError, r"scale: expected shape \(3,\)"),
    (lambda: kernels.matmul_int8(X, Q, S.astype(float)), TypeError, "scale: .*float64"),
    (lambda: kernels.matmul_int8(X, Q, S, S[:2]), ValueError, "bias"),
    (lambda: kernels.matmul_int8(X, Q, S, S.astype(float)), TypeError, "bias"),
    (lambda: kernels.matmul_int8(X, Q, S, out=np.ones((2, 4), np.float32)), ValueError, r"shape \(2, 3\) and dtype float32"),
    (lambda: kernels.matmul_int8(X, Q, S, out=np.broadcast_to(S, (2, 3))), ValueError, "read-only"),
    (lambda: kernels.matmul_int8(X, Q, S, out=np.lib.stride_tricks.as_strided(FLAT, (2, 3), (4, 4))), ValueError, "overlaps itself"),
    (lambda: kernels.matmul_int8(X[:, :3], Q[:, :3], S, out=X[:, 1:]), ValueError, "overlaps"),
    (lambda: kernels.matmul_int8(X, Q, FLAT[:3], out=FLAT[2:].reshape(2, 3)), ValueError, "overlaps"),
    (lambda: kernels.matmul_int8(X, Q, S, FLAT[5:], FLAT[:6].reshape(2, 3)), ValueError, "overlaps"),
    (lambda: kernels.matmul_int8(X, FLAT.view(np.int8)[:12].reshape(3, 4), S, out=FLAT[2:].reshape(2, 3)), ValueError, "overlaps"),
])
def test_bad_input_is_explained(side, call, error, words):
    with kernels.use(side), pytest.raises(error, match=words):
        call()
