"""The measured derivative: as exact as it claims, at any scale, by each method."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hs

import tinygrad_llm as tg
from tinygrad_llm.testing import GradcheckError, assert_gradients_close, numerical_gradient
from tinygrad_llm.testing.numeric import measure

SMOOTH = {
    "sin": (np.sin, np.cos),
    "exp": (np.exp, np.exp),
    "square": (np.square, lambda x: 2 * x),
    "cubic": (lambda x: x**3 - 4 * x, lambda x: 3 * x**2 - 4),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "rational": (lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize(("method", "tolerance"), [("central", 1e-7), ("complex", 1e-14), ("richardson", 1e-10)])
def test_methods_agree_with_calculus(name, method, tolerance):
    f, df = SMOOTH[name]
    x = np.random.default_rng(0).normal(size=(3, 4))
    found = numerical_gradient(lambda x: f(x).sum(), x, method)
    assert found.shape == x.shape
    np.testing.assert_allclose(found, df(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", ["central", "complex", "richardson"])
@pytest.mark.parametrize("x", [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(12.0)[::-2].reshape(3, 2).T])
def test_any_layout(method, x):
    np.testing.assert_allclose(numerical_gradient(lambda x: np.square(x).sum(), x, method), 2 * x, rtol=1e-6, atol=1e-6)


def test_array_valued_functions_give_the_jacobian():
    a = np.random.default_rng(0).normal(size=(2, 3))
    for method in ("central", "complex", "richardson"):
        np.testing.assert_allclose(numerical_gradient(lambda x: a @ x, np.ones(3), method), a, atol=1e-8)
    assert numerical_gradient(lambda x: a @ x, np.ones((3, 4))).shape == (2, 4, 3, 4)


@pytest.mark.parametrize("method", ["central", "richardson"])
def test_a_function_may_return_the_same_buffer_each_time(method):
    buffer, x = np.empty(3), np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(numerical_gradient(lambda x: np.sin(x, out=buffer), x, method), np.diag(np.cos(x)), rtol=1e-8)


def test_functions_of_tensors():
    x = tg.Tensor(np.linspace(0.1, 1, 4))
    np.testing.assert_allclose(numerical_gradient(lambda x: tg.log(x).sum(), x, "richardson"), 1 / x.numpy(), rtol=1e-9)


@given(hs.sampled_from(sorted(SMOOTH)), hs.floats(-30, 30).filter(lambda x: x == 0 or abs(x) > 1e-30), hs.integers(-9, 9))
def test_claimed_error_holds_at_any_scale(name, x, exponent):
    """The error the ladder claims is an upper bound (times ten, as the judge uses it) of the true one."""
    f, df = SMOOTH[name]
    scale = 10.0**exponent
    slope = measure(lambda t: np.atleast_1d(scale * f(np.float64(t))), x)
    assert abs(slope.best[0] - scale * df(x)) <= 10 * slope.best_error[0] + 1e-14 * scale * abs(df(x))
    assert not slope.kinked[0]


@pytest.mark.parametrize("x", [0.0, 1e-7, -1e-7, 1e-12, 3.0])
def test_kink_is_seen_only_where_it_is(x):
    slope = measure(lambda t: np.atleast_1d(np.abs(t)), x)
    assert bool(slope.kinked[0]) == (x == 0.0)
    if x:
        assert slope.best[0] == pytest.approx(np.sign(x), rel=1e-8)
    else:
        assert (slope.left[0], slope.right[0]) == pytest.approx((-1, 1))


def test_edge_of_the_domain_is_measured_from_inside():
    slope = measure(lambda t: np.atleast_1d(np.sqrt(np.float64(t)) ** 3), 0.0)
    assert slope.best[0] == pytest.approx(0, abs=1e-4)
    nowhere = measure(lambda t: np.atleast_1d(np.float64(np.nan)), 0.0)
    assert not nowhere.known[0]


def test_wrong_use_is_said():
    with pytest.raises(ValueError, match="richardson"):
        numerical_gradient(np.sum, np.ones(2), "forward")
    with pytest.raises(TypeError, match="float64"):
        numerical_gradient(np.sum, np.ones(2, np.float32))
    with pytest.raises(TypeError, match="complex"):
        numerical_gradient(lambda x: np.abs(x).sum(), np.ones(2), "complex")


def test_assert_gradients_close():
    a = np.arange(6.0).reshape(2, 3)
    assert_gradients_close(a, a + 1e-9)
    assert_gradients_close([tg.Tensor(a), None], [a, None])
    with pytest.raises(GradcheckError, match=r"gradient 1 \(w\).*\[1, 2\].*5\.1.*expected 5"):
        assert_gradients_close([a, np.where(a == 5, 5.1, a)], [a, a], names=["x", "w"])
    for other, kind in ((a.T, "shape"), (None, "missing"), (np.where(a == 2, np.nan, a), "mismatch")):
        with pytest.raises(GradcheckError) as caught:
            assert_gradients_close(other, a)
        assert caught.value.kind == kind
    with pytest.raises(GradcheckError, match="1 gradients, expected 2"):
        assert_gradients_close([a], [a, a])
