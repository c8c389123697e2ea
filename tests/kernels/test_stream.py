"""Results written past the caches: the same numbers, whatever the size and wherever rows begin."""
import numpy as np
import pytest

import kernels
from kernels import activation, cross_entropy, embedding, reference
from kernels._stream import stream


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(activation, "LARGE", 0)
    monkeypatch.setattr(cross_entropy, "LARGE", 0)
    monkeypatch.setattr(embedding, "LARGE", 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 7, 16, 33, 1000])
@pytest.mark.parametrize("offset", [0, 1, 5, 15])
def test_a_vector_anywhere_in_memory(dtype, n, offset):
    source, room = np.arange(1, n + 1, dtype=dtype), np.zeros(n + 40, dtype)
    stream(room[offset : offset + n], source)
    np.testing.assert_array_equal(room[offset : offset + n], source)
    assert not room[:offset].any() and not room[offset + n :].any()


@pytest.mark.parametrize("classes", [1, 5, 2048, 2049, 5003])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_of_cross_entropy(always, classes, dtype):
    rng = np.random.default_rng(classes)
    logits, targets = rng.standard_normal((7, classes)).astype(dtype), rng.integers(0, classes, 7)
    targets[3] = -100
    g = rng.standard_normal(7).astype(dtype)
    _, lse = kernels.cross_entropy_forward(logits, targets)
    room = np.full(7 * classes + 5, 7, dtype)
    for out in (None, room[5:].reshape(7, classes), logits.copy()):
        got = kernels.cross_entropy_backward(g, logits, targets, lse, out=out)
        want = reference.cross_entropy_backward(g, logits, targets, lse)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert (room[:5] == 7).all()


@pytest.mark.parametrize("shape", [(1, 1), (9, 5), (130, 33), (1000, 64)])
def test_gradient_of_an_embedding(always, shape):
    rng = np.random.default_rng(shape[0])
    ids = rng.integers(0, shape[0], (3, 11))
    g = rng.standard_normal((3, 11, shape[1])).astype(np.float32)
    want = reference.embedding_backward(g, ids, shape[0])
    np.testing.assert_allclose(kernels.embedding_backward(g, ids, shape[0]), want, rtol=1e-6, atol=1e-6)
    out = np.full(shape, np.nan, np.float32)
    np.testing.assert_allclose(kernels.embedding_backward(g, ids, shape[0], out=out), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (9, 5), (130, 33), (3, 4111), (64, 128)])
@pytest.mark.parametrize("name", ["gelu", "silu", "swiglu", "geglu"])
def test_activations(always, shape, name):
    rng = np.random.default_rng(shape[0])
    inputs = [rng.standard_normal(shape).astype(np.float32) for _ in range(2 if name.endswith("glu") else 1)]
    g, forward, backward = rng.standard_normal(shape).astype(np.float32), name + "_forward", name + "_backward"
    room = np.full(inputs[0].size + 3, 7, np.float32)
    for out in (None, room[3:].reshape(shape)):
        want = getattr(reference, forward)(*inputs)
        np.testing.assert_allclose(getattr(kernels, forward)(*inputs, out=out), want, rtol=1e-5, atol=1e-6)
    assert (room[:3] == 7).all()
    for got, want in zip(*(np.atleast_2d(getattr(side, backward)(g, *inputs)) for side in (kernels, reference))):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    if name in ("gelu", "silu"):
        getattr(kernels, backward)(g, *inputs, value=out)
        np.testing.assert_allclose(out, getattr(reference, forward)(*inputs), rtol=1e-5, atol=1e-6)
        assert (room[:3] == 7).all()


@pytest.mark.parametrize("shape", [(4096, 3072), (4100, 3079)])  # 48 MB and more, rows on lines of the cache and off them
def test_gradient_of_softmax(shape):
    rng = np.random.default_rng(0)
    out, g = kernels.softmax_forward(rng.standard_normal(shape).astype(np.float32)), rng.standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(kernels.softmax_backward(g, out), reference.softmax_backward(g, out), rtol=1e-4, atol=1e-8)
