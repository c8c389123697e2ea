"""GELU from tables: at the joints of its pieces, next to zero, far out, in every length; beside the formulas of float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from kernels import reference
from kernels._jit import COMPILED

if COMPILED:
    from kernels import gelu_table
pytestmark = [pytest.mark.numba_side,
              pytest.mark.skipif(not (COMPILED and gelu_table.AVAILABLE), reason="this host's vectors hold no tables")]

JOINTS = (np.arange(-40, 41) / np.float32(5) + np.float32(0.1)).astype(np.float32)
AROUND = np.concatenate([JOINTS, np.nextafter(JOINTS, np.float32(-9)), np.nextafter(JOINTS, np.float32(9)), JOINTS - np.float32(0.1)])


def both(x, how):
    one = np.ones_like(x)
    return kernels.gelu_forward(x, how), kernels.gelu_backward(one, x, how)


@pytest.mark.parametrize("how", ["none", "tanh"])
def test_absolute_error(how):
    x = np.concatenate([AROUND, np.random.default_rng(0).normal(0, 3, 100_000).astype(np.float32)])
    wide = x.astype(np.float64)
    truth = reference.gelu_forward(wide, how), reference.gelu_backward(np.ones_like(wide), wide, how)
    for result, exact in zip(both(x, how), truth):
        assert (np.abs(result - exact) <= 6e-8 * np.maximum(1, np.abs(exact)) + 6e-8).all()


@pytest.mark.parametrize("how", ["none", "tanh"])
def test_relative_error_next_to_zero_and_of_positive_numbers(how):
    small = np.logspace(-37, 0, 20_000).astype(np.float32)
    x = np.concatenate([small / 2, -small / 2, np.linspace(0.01, 50, 20_000, dtype=np.float32)])
    exact = reference.gelu_forward(x.astype(np.float64), how)
    np.testing.assert_allclose(kernels.gelu_forward(x, how), exact, rtol=2.5e-7)


@pytest.mark.parametrize("how", ["none", "tanh"])
def test_no_step_where_two_pieces_meet(how):
    below, above = np.nextafter(JOINTS, np.float32(-9)), JOINTS
    for left, right in zip(both(below, how), both(above, how)):
        assert (np.abs(left - right) <= 2e-7 * np.maximum(1, np.abs(left))).all()


@pytest.mark.parametrize("how", ["none", "tanh"])
@given(length=st.integers(0, 70), offset=st.integers(0, 5))
def test_a_number_comes_out_the_same_wherever_it_lies(how, length, offset):
    x = np.random.default_rng(length).normal(0, 3, 80).astype(np.float32)
    for whole, part in zip(both(x, how), both(x[offset : offset + length].copy(), how)):
        np.testing.assert_array_equal(part, whole[offset : offset + length])


def test_a_product_with_gelu_gives_the_bits_of_gelu_after_it():
    rng = np.random.default_rng(0)
    x, w = rng.normal(0, 1, (130, 96)).astype(np.float32), rng.normal(0, 0.3, (77, 96)).astype(np.float32)
    for name, how in (("gelu", "none"), ("gelu_tanh", "tanh")):
        np.testing.assert_array_equal(kernels.matmul(x, w, transpose_b=True, activation=name),
                                      kernels.gelu_forward(kernels.matmul(x, w, transpose_b=True), how))
