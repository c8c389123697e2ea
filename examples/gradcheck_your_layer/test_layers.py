"""Gradient tests of the layers. The `gradcheck` fixture comes with tinygrad_llm's pytest plugin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs
from layers import causal_conv, causal_conv_backward, gru_cell, gru_cell_backward

from tinygrad_llm.testing import GradcheckError, assert_gradients_close, check_vjp
from tinygrad_llm.testing import strategies as st

SETTINGS = settings(max_examples=20, deadline=None)


def gru_inputs(batch=2, width=3, hidden=4, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(batch, width), (batch, hidden), (width, 3 * hidden), (hidden, 3 * hidden), (3 * hidden,)]
    return tuple(rng.normal(size=shape) for shape in shapes)


def test_gru(gradcheck):
    """One line: forward, backward, inputs."""
    gradcheck(gru_cell, gru_cell_backward, gru_inputs())


@SETTINGS
@given(batch=hs.integers(1, 3), width=hs.integers(1, 4), hidden=hs.integers(1, 3), seed=hs.integers(0, 99))
def test_gru_of_any_size(batch, width, hidden, seed):
    """Sizes drawn by Hypothesis; a failure shrinks to the smallest cell that shows it."""
    check_vjp(gru_cell, gru_cell_backward, gru_inputs(batch, width, hidden, seed), fast=True)


@SETTINGS
@given(st.arrays(st.shapes(2, 2, max_side=5), layouts=True), st.arrays(st.shapes(1, 1, max_side=6)))
def test_convolution(x, w):
    """Kernels longer than the sequence, and inputs that are not contiguous."""
    check_vjp(causal_conv, causal_conv_backward, (x, w))


def test_convolution_where_relu_has_its_kink():
    """Zeros everywhere: any subgradient is accepted, so no value has to be avoided."""
    check_vjp(causal_conv, causal_conv_backward, (np.zeros((2, 4)), np.array([1.0, 0.0])))


def test_float32_against_float64():
    """float32 cannot be checked by differences; compare it with the checked float64 gradient instead."""
    inputs = gru_inputs()
    g = np.ones_like(inputs[1])
    exact = gru_cell_backward(g, *inputs)
    single = gru_cell_backward(g.astype(np.float32), *(a.astype(np.float32) for a in inputs))
    assert all(d.dtype == np.float32 for d in single)
    assert_gradients_close(single, exact, rtol=1e-4, atol=1e-5, names=["x", "h", "w", "u", "b"])


def test_a_mistake_is_named():
    """The gradient of u, with the columns of the candidate a fifth too large."""

    def forgetful(g, x, h, w, u, b):
        dx, dh, dw, du, db = gru_cell_backward(g, x, h, w, u, b)
        gates = 2 * h.shape[1]  # the columns of r and z
        return dx, dh, dw, du * np.where(np.arange(du.shape[1]) < gates, 1, 1.2), db

    with pytest.raises(GradcheckError) as caught:
        check_vjp(gru_cell, forgetful, gru_inputs())
    assert caught.value.input == 3 and "input 3 (u)" in str(caught.value)
