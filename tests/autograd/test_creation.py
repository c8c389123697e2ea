"""Tensors from nothing: values, dtypes, seeds, and the shapes one may write."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_llm as tg

CONSTANT = {
    "zeros": (tg.zeros(2, 3), np.zeros((2, 3), np.float32)),
    "zeros of a tuple": (tg.zeros((2, 3), dtype=np.float64), np.zeros((2, 3))),
    "ones": (tg.ones([4]), np.ones(4, np.float32)),
    "ones without axes": (tg.ones(()), np.ones((), np.float32)),
    "full": (tg.full((2,), 7), np.full(2, 7)),
    "full float": (tg.full(3, 0.5), np.full(3, 0.5, np.float32)),
    "full_like": (tg.full_like(np.zeros((2, 2)), 3), np.full((2, 2), 3.0)),
    "arange": (tg.arange(5), np.arange(5)),
    "arange of floats": (tg.arange(0, 1, 0.25), np.arange(0, 1, 0.25, np.float32)),
    "arange dtype": (tg.arange(3, dtype=np.float64), np.arange(3.0)),
    "linspace": (tg.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=np.float32)),
    "eye": (tg.eye(3, k=1), np.eye(3, k=1, dtype=np.float32)),
    "eye of more": (tg.eye(2, 4, -1), np.eye(2, 4, -1, np.float32)),
    "identity": (tg.identity(2), np.eye(2, dtype=np.float32)),
    "tri": (tg.tri(3, 2, -1), np.tri(3, 2, -1, np.float32)),
    "one_hot": (tg.one_hot([[0, 2], [1, 1]]), np.eye(3, dtype=np.int64)[[[0, 2], [1, 1]]]),
    "one_hot of more": (tg.one_hot(np.array([1]), 4), np.eye(4, dtype=np.int64)[[1]]),
    "asarray": (tg.asarray([1.5, 2]), np.array([1.5, 2], np.float32)),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_value(name):
    made, wanted = CONSTANT[name]
    assert made.dtype == wanted.dtype and made.shape == wanted.shape
    np.testing.assert_array_equal(made.data, wanted)


def test_empty_has_shape_and_dtype():
    assert tg.empty(2, 3).shape == (2, 3) and tg.empty_like(np.zeros(4), dtype=np.int64).dtype == np.int64


def test_requires_grad():
    assert all(make(2, requires_grad=True).requires_grad for make in (tg.zeros, tg.ones, tg.randn, tg.rand, tg.empty))
    with pytest.raises(TypeError, match="only floats"):
        tg.arange(3, requires_grad=True)


def test_tensor_copies_and_asarray_does_not():
    x = np.zeros(3)
    assert tg.asarray(x).data is x and tg.tensor(x).data is not x
    t = tg.asarray(x)
    assert tg.asarray(t) is t and tg.asarray(t, np.float32).dtype == np.float32


@pytest.mark.parametrize(
    "draw",
    [
        lambda **o: tg.rand(50, **o),
        lambda **o: tg.randn(5, 10, **o),
        lambda **o: tg.randint(0, 9, (50,), **o),
        lambda **o: tg.randperm(50, **o),
        lambda **o: tg.multinomial(np.ones(9), 50, True, **o),
        lambda **o: tg.multinomial(np.ones(50), 50, **o),
        lambda **o: tg.functional.dropout(tg.ones(50), **o),
    ],
)
def test_same_seed_same_bits(draw):
    a, b = draw(rng=np.random.default_rng(3)), draw(rng=np.random.default_rng(3))
    np.testing.assert_array_equal(a.data, b.data)
    tg.manual_seed(4)
    c = draw()
    tg.manual_seed(4)
    np.testing.assert_array_equal(c.data, draw().data)
    assert not np.array_equal(a.data, c.data)


def test_ranges_and_moments():
    tg.manual_seed(0)
    uniform, normal, whole = tg.rand(10_000).data, tg.randn(10_000).data, tg.randint(5, shape=(1000,)).data
    assert uniform.dtype == normal.dtype == np.float32 and 0 <= uniform.min() and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.02 and abs(normal.mean()) < 0.05 and abs(normal.std() - 1) < 0.05
    assert set(np.unique(whole)) == set(range(5))
    assert sorted(tg.randperm(9).tolist()) == list(range(9))


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_draws_in_proportion(replacement):
    """20,000 rows: shares of the first draw within 5 standard deviations of the weights', and of the second given the first."""
    weights, rows = np.array([0.0, 3.0, 1.0, 0.0, 4.0, 0.0]), 20_000
    drawn = tg.multinomial(np.tile(weights, (rows, 1)), 2, replacement, rng=np.random.default_rng(1)).data
    assert drawn.shape == (rows, 2) and drawn.dtype == np.int64
    first, second = drawn.T
    share = weights / 8
    assert (np.abs(np.bincount(first, minlength=6) / rows - share) <= 5 * np.sqrt(share / rows)).all()
    after_4 = second[first == 4]
    left = share if replacement else np.where(np.arange(6) == 4, 0, weights) / 4
    assert (np.abs(np.bincount(after_4, minlength=6) / len(after_4) - left) <= 5 * np.sqrt(left / len(after_4))).all()


def test_multinomial_without_replacement_takes_each_once():
    drawn = tg.multinomial(np.arange(6.0).reshape(2, 3), 2, rng=np.random.default_rng(0)).tolist()
    assert set(drawn[0]) == {1, 2} and len(set(drawn[1])) == 2
    assert tg.multinomial(np.array([1e-300, 0.0, 1e300]), 3, True).shape == (3,)


@pytest.mark.parametrize(
    ("weights", "count", "replacement", "said"),
    [
        ([0.5, -0.25], 1, True, "finite weights >= 0 .* from -0.25 to 0.5"),
        ([np.nan, 1.0], 1, False, "finite weights"),
        ([np.inf, 1.0], 1, False, "finite weights"),
        (1.0, 1, False, "last axis"),
        (np.ones((2, 0)), 1, False, "last axis"),
        ([[1.0, 1.0], [0.0, 1.0]], 2, False, "cannot draw 2 without replacement from a row with 1 weights above 0"),
        ([0.0, 0.0], 1, True, "with 0 weights"),
        ([1.0], 0, True, "cannot draw 0"),
    ],
)
def test_multinomial_refuses(weights, count, replacement, said):
    with pytest.raises(ValueError, match=said):
        tg.multinomial(weights, count, replacement)


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="numpy.random.Generator"):
        tg.rand(3, rng=42)
    with pytest.raises(ValueError, match="0..2"):
        tg.one_hot([3], 3)
    with pytest.raises(TypeError, match="one_hot: expected integers"):
        tg.one_hot([0.5], 3)


@pytest.mark.parametrize(("call", "said"), [
    (lambda t: tg.full((2, 2), t), r"full: .*tg\.broadcast_to"),
    (lambda t: tg.full_like(np.ones(2), t), r"full_like: .*tg\.broadcast_to"),
    (lambda t: tg.functional.scaled_dot_product_attention(*[tg.ones(1, 2, 3, 4)] * 3, scale=t), r"scale: .*q \* scale, and scale=1\.0"),
    (lambda t: tg.nn.MultiHeadAttention(8, 2, scale=t), r"scale: .*q \* scale, and scale=1\.0"),
])  # fmt: skip
def test_a_number_that_is_trained_is_refused_where_its_gradient_would_be_lost(call, said):
    with pytest.raises(TypeError, match=rf"{said}"):
        call(tg.tensor(0.5, requires_grad=True))
    call(tg.tensor(0.5))


def test_one_bound_and_a_shape():
    """PyTorch's randint(high, size); NumPy would take the shape for an array of bounds."""
    for drawn in (tg.randint(3, (8, 16)), tg.randint(3, [8, 16]), tg.randint(3, shape=(8, 16))):
        assert drawn.shape == (8, 16) and set(np.unique(drawn.data)) == {0, 1, 2}
    assert tg.randint(3).shape == () and tg.randint(np.array([5, 7]), np.array([6, 8])).tolist() == [5, 7]
    with pytest.raises(TypeError, match=r"randint: expected bounds that are numbers, got \(3, 4\) beside the shape 2"):
        tg.randint(0, (3, 4), 2)


def test_a_shape_is_whole_numbers():
    for call in (lambda: tg.zeros((2, 3), np.float64), lambda: tg.ones(3, int), lambda: tg.zeros(2.5), lambda: tg.rand(2.0)):
        with pytest.raises(TypeError, match="shape: expected whole numbers or one tuple of them.*dtype=..."):
            call()
    with pytest.raises(TypeError, match="reshape: 'float' object cannot be interpreted as an integer"):
        tg.zeros(4).reshape(2.5, -1)
    assert tg.zeros(np.array([2, 3])).shape == tg.zeros(np.int64(2), 3).shape == tg.Tensor(np.zeros(6)).reshape(np.int32(2), 3).shape
