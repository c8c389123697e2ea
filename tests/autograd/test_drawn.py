"""Operations on drawn shapes, axes, indices, expressions and attention problems, against NumPy and finite differences."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
import tinygrad_llm as tg
import tinygrad_llm.functional as F
from tinygrad_llm.testing import gradcheck
from tinygrad_llm.testing import strategies as sts

SHAPES = sts.shapes(0, 4, 0, 3)
SEEDS = st.integers(0, 2**32 - 1)


def normal(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


@given(st.data(), SHAPES, SEEDS)
def test_indexing_reads_what_numpy_reads_and_its_gradient_counts_every_reading(data, shape, seed):
    x = normal(shape, seed)
    index = data.draw(sts.index_expressions(shape))
    leaf = tg.Tensor(x, requires_grad=True)
    y = leaf[index]
    np.testing.assert_array_equal(y.data, x[index])
    g = normal(y.shape, seed + 1)
    want = np.zeros(shape)
    np.add.at(want, index, g)
    (d,) = tg.grad(y, leaf, tg.Tensor(g))
    np.testing.assert_allclose(d.data, want, rtol=1e-12, atol=1e-14)


@given(st.data(), SHAPES, SEEDS)
def test_a_tensor_or_a_list_in_the_brackets_is_an_array(data, shape, seed):
    x = normal(shape, seed)
    index = data.draw(sts.index_expressions(shape))
    wrap = lambda part: tg.Tensor(part) if isinstance(part, np.ndarray) else part
    wrapped = tuple(map(wrap, index)) if isinstance(index, tuple) else wrap(index)
    np.testing.assert_array_equal(tg.Tensor(x)[wrapped].data, x[index])


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "var", "std", "any", "all", "count_nonzero"])
@given(st.data(), sts.shapes(0, 3, 1, 3), SEEDS, st.booleans())
@settings(max_examples=settings.default.max_examples // 2)
def test_reductions(name, data, shape, seed, keepdims):
    axis = data.draw(sts.axes(len(shape)))
    x = normal(shape, seed).round(1)
    want = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    leaf = tg.Tensor(x, requires_grad=True)
    y = getattr(tg, name)(leaf, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(y.data, want, rtol=1e-12, atol=1e-14)
    assert y.shape == np.shape(want)
    if not y.requires_grad or (name in ("max", "min") and len(np.unique(x)) < x.size) or name == "std":
        return  # at a tie or a flat stretch differences cannot tell
    assert gradcheck(lambda x: getattr(tg, name)(x, axis=axis, keepdims=keepdims), leaf, fast=True)


@st.composite
def products(draw):
    """Two shapes that matmul takes."""
    m, k, n = (draw(st.integers(0, 3)) for _ in range(3))
    left, right = draw(sts.broadcastable_shapes(2, 0, 2, 1, 3))
    a = (k,) if draw(st.integers(0, 3)) == 0 else (*left, m, k)
    b = (k,) if draw(st.integers(0, 3)) == 0 else (*right, k, n)
    return a, b


@given(products(), SEEDS)
def test_matmul(shapes, seed):
    a, b = normal(shapes[0], seed), normal(shapes[1], seed + 1)
    x, y = tg.Tensor(a, requires_grad=True), tg.Tensor(b, requires_grad=True)
    out = x @ y
    np.testing.assert_allclose(out.data, a @ b, rtol=1e-12, atol=1e-13)
    assert gradcheck(lambda x, y: x @ y, (x, y), fast=True)


@st.composite
def expressions(draw):
    """An einsum with one to three operands, repeated letters, letters of one operand alone, and shapes that fit."""
    letters = string.ascii_letters[: draw(st.integers(1, 4))]
    sizes = {c: draw(st.integers(1, 3)) for c in letters}
    terms = [draw(st.text(letters, max_size=3)) for _ in range(draw(st.integers(1, 3)))]
    used = sorted(set("".join(terms)))
    output = "".join(draw(st.permutations(used))[: draw(st.integers(0, len(used)))]) if used else ""
    text = ",".join(terms) + ("->" + output if draw(st.booleans()) else "")
    return text, [tuple(sizes[c] for c in term) for term in terms]


@given(expressions(), SEEDS)
def test_einsum(problem, seed):
    text, shapes = problem
    arrays = [normal(s, seed + i) for i, s in enumerate(shapes)]
    leaves = tuple(tg.Tensor(x, requires_grad=True) for x in arrays)
    np.testing.assert_allclose(tg.einsum(text, *leaves).data, np.einsum(text, *arrays), rtol=1e-11, atol=1e-13)
    assert gradcheck(lambda *xs: tg.einsum(text, *xs), leaves, order=2, fast=True)


@given(st.data(), sts.shapes(1, 3, 1, 4), SEEDS)
def test_sorting_and_choosing(data, shape, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = data.draw(st.integers(0, shape[axis]))
    x = normal(shape, seed)
    leaf = tg.Tensor(x, requires_grad=True)
    np.testing.assert_array_equal(tg.sort(leaf, axis).data, np.sort(x, axis))
    values, indices = tg.topk(leaf, k, axis)
    want = np.flip(np.sort(x, axis), axis).take(np.arange(k), axis)
    np.testing.assert_array_equal(values.data, want)
    np.testing.assert_array_equal(np.take_along_axis(x, indices.data, axis), want)
    (d,) = tg.grad(values.sum(), leaf)
    np.testing.assert_array_equal(np.sort(d.data, axis), np.sort(np.isin(x, want) * 1.0, axis))


@given(st.data(), sts.shapes(0, 3, 1, 3), SEEDS)
def test_shapes_go_there_and_back(data, shape, seed):
    """A chain of shape operations and its reverse: the numbers come back, and so does the gradient."""
    x = tg.Tensor(normal(shape, seed), requires_grad=True)
    order = data.draw(st.permutations(range(len(shape))))
    y = x.transpose(order).reshape(-1)
    pieces = tg.array_split(y, data.draw(st.integers(1, 4)))
    y = tg.concatenate([tg.flip(p) for p in reversed(pieces)])
    z = tg.flip(y).reshape([shape[i] for i in order]).transpose(np.argsort(order).tolist())
    np.testing.assert_array_equal(z.data, x.data)
    g = normal(shape, seed + 1)
    np.testing.assert_array_equal(tg.grad(z, x, tg.Tensor(g))[0].data, g)


@pytest.mark.parametrize("side", ["numpy", "numba"])
@given(problem=sts.attention_problems())
def test_attention_is_its_composite(side, problem):
    """Fused and in elementary operations: values and gradients of q, k, v and a float mask; zeros for blind queries."""
    q, k, v, mask = problem.arrays()
    wanted = [tg.Tensor(x, requires_grad=True) for x in (q, k, v)]
    if mask is not None and mask.dtype != bool:
        mask = tg.Tensor(mask, requires_grad=True)
        wanted.append(mask)
    with kernels.use(side):
        out = F.scaled_dot_product_attention(*wanted[:3], mask, is_causal=problem.is_causal, enable_gqa=True)
        g = tg.Tensor(normal(out.shape, problem.seed))
        plain = tg.grad(out, wanted, g, retain_graph=True)
        composite = tg.grad(out, wanted, g, create_graph=True)
    bools = mask if isinstance(mask, np.ndarray) else None
    bias = mask if isinstance(mask, tg.Tensor) else None
    pattern = F.attention_pattern(*wanted[:2], bias, mask=bools, is_causal=problem.is_causal)
    np.testing.assert_allclose(out.data, F.attend(pattern, wanted[2]).data, rtol=1e-9, atol=1e-11)
    for a, b in zip(plain, composite):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-8, atol=1e-11)
    if problem.mask == "fully masked row":
        blind = ~np.broadcast_to(mask, (problem.T, problem.S)).any(-1)
        assert not out.data[:, :, blind].any() and not plain[0].data[:, :, blind].any()


@given(sts.tensors(sts.shapes(1, 3, 1, 4)), st.sampled_from(["softmax", "log_softmax"]), st.data())
def test_softmax_along_any_axis(x, name, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    y = getattr(F, name)(x, axis)
    probabilities = y.data if name == "softmax" else np.exp(y.data)
    np.testing.assert_allclose(probabilities.sum(axis), 1, rtol=1e-9)
    (d,) = tg.grad(y, x, tg.Tensor(np.ones(x.shape)) if name == "softmax" else y.detach())
    if name == "softmax":
        np.testing.assert_allclose(d.data, 0, atol=1e-9)  # a shift of x changes nothing
