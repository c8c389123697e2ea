"""Mistakes in operations that the checker or PyTorch's samples found once."""

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm import functional as F
from tinygrad_llm.testing import gradcheck

RNG = np.random.default_rng(2)
X, V = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 3))
REPEATED = np.array([1, 1, 2])


def test_values_that_a_repeated_index_overwrites_get_no_gradient() -> None:
    gradcheck(lambda x, v: tg.put(x, REPEATED, v), (X, V), order=2)
    gradcheck(lambda x, v: tg.index_copy(x, 0, REPEATED, v), (X, V))
    gradcheck(lambda x, v: tg.index_fill(x, 0, REPEATED, v[0, 0]), (X, V))
    gradcheck(lambda x, v: tg.put_along_axis(x, np.array([[1, 1, 2], [1, 1, 1]]), v[:2], 0), (X, V))


def test_matmul_over_an_empty_axis() -> None:
    a = tg.Tensor(np.zeros((5, 5, 0)), requires_grad=True)
    b = tg.Tensor(np.zeros((0, 5)), requires_grad=True)
    (a @ b).sum().backward()
    assert a.grad is not None and a.grad.shape == a.shape and b.grad is not None and b.grad.shape == b.shape


def test_norms_of_a_single_row() -> None:
    w, b = RNG.normal(size=3), RNG.normal(size=3)
    gradcheck(lambda x, w, b: F.layer_norm(x, (3,), w, b), (X[0], w, b), order=2)
    gradcheck(lambda x, w: F.rms_norm(x, (3,), w, 1e-6), (X[0], w), order=2)


def test_negative_power_norm_of_zero_is_not_nan() -> None:
    x = tg.Tensor(np.zeros(5), requires_grad=True)
    tg.vector_norm(x, -2).backward()
    assert x.grad is not None and np.array_equal(x.grad.numpy(), np.zeros(5))
    gradcheck(lambda x: tg.vector_norm(x, -2.5), X)


def test_quantile_moves_with_q() -> None:
    q = np.array([0.3, 0.85])
    gradcheck(lambda x, q: tg.quantile(x, q, axis=0), (X, q), order=2)
    for method in ("linear", "lower", "higher", "midpoint", "nearest"):
        assert np.allclose(tg.quantile(X, q, axis=0, method=method).numpy(), np.quantile(X, q, axis=0, method=method))


def test_replicate_with_negative_width() -> None:
    gradcheck(lambda x: F.pad(x, (-4, 5), "replicate"), X)
    assert F.pad(tg.Tensor(X), (-4, 5), "replicate").shape == (4, 4)
