"""tg.functional: every function against its formula in plain NumPy, its gradient against differences, to second order.

One line declares one: (ours, the formula, shapes of the arrays that both take). PyTorch's own samples run in tests/oracles.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import tinygrad_llm as tg
import tinygrad_llm.functional as F
from tinygrad_llm.testing import gradcheck, gradgradcheck

erf = np.vectorize(math.erf, otypes=[float])
LABELS, IGNORED = np.array([0, 4, 2, 2]), np.array([0, -100, 2, 4])
SIGNS = np.array([1.0, -1, 1])
W = np.array([0.5, 1.0, 2.0, 0.1, 0.7])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


def nll(x, labels):
    return -np.log(softmax(x))[np.arange(len(labels)), labels]


def unit(x, axis=-1):
    return x / np.sqrt((x * x).sum(axis, keepdims=True))


def distance(a, b):
    return np.sqrt(((a - b + 1e-6) ** 2).sum(-1))


def layer_norm(x, axes):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def attention(q, k, v, seen=None, bias=0.0):
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1]) + bias
    return softmax(scores if seen is None else np.where(seen, scores, -1e9)) @ v


X, SQUARE = [(3, 4)], [(3, 4), (3, 4)]
P = "a probability"  # stands for a (3, 4) array of them
QKV = [(2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3)]
CAUSAL = np.tril(np.ones((3, 5), bool))

TABLE = {
    "celu": (lambda x: F.celu(x, 0.7), lambda x: np.maximum(x, 0) + np.minimum(0, 0.7 * np.expm1(x / 0.7)), X),
    "elu": (lambda x: F.elu(x, 0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x)), X),
    "gelu": (F.gelu, lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))), X),
    "geglu": (F.geglu, lambda x, y: x * 0.5 * (1 + erf(x / math.sqrt(2))) * y, SQUARE),
    "glu": (F.glu, lambda x: x[:, :2] * sigmoid(x[:, 2:]), X),
    "hardshrink": (F.hardshrink, lambda x: np.where(abs(x) > 0.5, x, 0), X),
    "hardsigmoid": (F.hardsigmoid, lambda x: np.clip(x / 6 + 0.5, 0, 1), X),
    "hardswish": (F.hardswish, lambda x: x * np.clip(x / 6 + 0.5, 0, 1), X),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 0.7), lambda x: np.clip(x, -0.5, 0.7), X),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x), X),
    "log_softmax": (F.log_softmax, lambda x: np.log(softmax(x)), X),
    "logsigmoid": (F.logsigmoid, lambda x: np.log(sigmoid(x)), X),
    "mish": (F.mish, lambda x: x * np.tanh(np.log1p(np.exp(x))), X),
    "prelu": (F.prelu, lambda x, w: np.where(x > 0, x, w * x), [(3, 4), (4,)]),
    "relu": (F.relu, lambda x: np.maximum(x, 0), X),
    "relu6": (F.relu6, lambda x: np.clip(x, 0, 6), X),
    "selu": (F.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)), X),
    "sigmoid": (F.sigmoid, sigmoid, X),
    "silu": (F.silu, lambda x: x * sigmoid(x), X),
    "softmax": (lambda x: F.softmax(x, 0), lambda x: softmax(x, 0), X),
    "softmin": (F.softmin, lambda x: softmax(-x), X),
    "softplus": (lambda x: F.softplus(x, 2.0), lambda x: np.log1p(np.exp(2 * x)) / 2, X),
    "softshrink": (F.softshrink, lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0), X),
    "softsign": (F.softsign, lambda x: x / (1 + abs(x)), X),
    "swiglu": (F.swiglu, lambda x, y: x * sigmoid(x) * y, SQUARE),
    "tanh": (F.tanh, np.tanh, X),
    "tanhshrink": (F.tanhshrink, lambda x: x - np.tanh(x), X),
    "threshold": (lambda x: F.threshold(x, 0.2, -1.0), lambda x: np.where(x > 0.2, x, -1.0), X),
    "binary_cross_entropy": (F.binary_cross_entropy, lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(), [P, P]),
    "binary_cross_entropy_with_logits": (
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=np.array([1.0, 2, 3, 4]), reduction="sum"),
        lambda x, t: -(np.array([1, 2, 3, 4]) * t * np.log(sigmoid(x)) + (1 - t) * np.log(sigmoid(-x))).sum(),
        [(3, 4), P],
    ),
    "cosine_embedding_loss": (
        lambda a, b: F.cosine_embedding_loss(a, b, SIGNS, margin=-0.5),
        lambda a, b: np.where(SIGNS > 0, 1 - (unit(a) * unit(b)).sum(-1), np.maximum(0, (unit(a) * unit(b)).sum(-1) + 0.5)).mean(),
        SQUARE,
    ),
    "cosine_similarity": (F.cosine_similarity, lambda a, b: (unit(a) * unit(b)).sum(-1), SQUARE),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS), lambda x: nll(x, LABELS).mean(), [(4, 5)]),
    "gaussian_nll_loss": (
        lambda x, t, v: F.gaussian_nll_loss(x, t, v, full=True),
        lambda x, t, v: (0.5 * np.log(2 * np.pi * v) + (x - t) ** 2 / (2 * v)).mean(),
        [(3, 4), (3, 4), P],
    ),
    "hinge_embedding_loss": (
        lambda x: F.hinge_embedding_loss(x, SIGNS, margin=0.3, reduction="none"),
        lambda x: np.where(SIGNS > 0, x, np.maximum(0, 0.3 - x)),
        [(3,)],
    ),
    "huber_loss": (
        lambda x, t: F.huber_loss(x, t, delta=0.7),
        lambda x, t: np.where(abs(x - t) <= 0.7, (x - t) ** 2 / 2, 0.7 * (abs(x - t) - 0.35)).mean(),
        SQUARE,
    ),
    "kl_div": (lambda x, t: F.kl_div(x, t, reduction="batchmean"), lambda x, t: (t * (np.log(t) - x)).sum() / 3, [(3, 4), P]),
    "l1_loss": (F.l1_loss, lambda x, t: abs(x - t).mean(), SQUARE),
    "linear_cross_entropy": (
        lambda h, w, b: F.linear_cross_entropy(h, w, LABELS, b),
        lambda h, w, b: nll(h @ w.T + b, LABELS).mean(),
        [(4, 3), (5, 3), (5,)],
    ),
    "margin_ranking_loss": (
        lambda a, b: F.margin_ranking_loss(a, b, SIGNS, 0.3, "sum"),
        lambda a, b: np.maximum(0, -SIGNS * (a - b) + 0.3).sum(),
        [(3,), (3,)],
    ),
    "mse_loss": (F.mse_loss, lambda x, t: ((x - t) ** 2).mean(), SQUARE),
    "nll_loss": (
        lambda x: F.nll_loss(x, LABELS, W),
        lambda x: -(W[LABELS] * x[np.arange(4), LABELS]).sum() / W[LABELS].sum(),
        [(4, 5)],
    ),
    "normalize": (lambda x: F.normalize(x, axis=0), lambda x: unit(x, 0), X),
    "pairwise_distance": (F.pairwise_distance, distance, SQUARE),
    "poisson_nll_loss": (F.poisson_nll_loss, lambda x, t: (np.exp(x) - t * x).mean(), SQUARE),
    "smooth_l1_loss": (
        lambda x, t: F.smooth_l1_loss(x, t, beta=0.7),
        lambda x, t: np.where(abs(x - t) < 0.7, (x - t) ** 2 / 1.4, abs(x - t) - 0.35).mean(),
        SQUARE,
    ),
    "soft_margin_loss": (lambda x: F.soft_margin_loss(x, SIGNS), lambda x: np.log1p(np.exp(-SIGNS * x)).mean(), [(3,)]),
    "triplet_margin_loss": (
        lambda a, p, n: F.triplet_margin_loss(a, p, n, margin=2.0, swap=True),
        lambda a, p, n: np.maximum(0, distance(a, p) - np.minimum(distance(a, n), distance(p, n)) + 2).mean(),
        [(3, 4), (3, 4), (3, 4)],
    ),
    "attend": (F.attend, lambda p, v: p @ v, [(2, 2, 3, 5), (2, 2, 5, 3)]),
    "attention": (F.attention, attention, QKV),
    "attention_pattern": (F.attention_pattern, lambda q, k: softmax(q @ np.swapaxes(k, -1, -2) / 2), QKV[:2]),
    "bilinear": (F.bilinear, lambda x, y, w, b: np.einsum("bi,nij,bj->bn", x, w, y) + b, [(3, 4), (3, 2), (5, 4, 2), (5,)]),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False), lambda x: x, X),
    "embedding": (lambda w: F.embedding([[0, 2], [1, 0]], w), lambda w: w[[[0, 2], [1, 0]]], X),
    "group_norm": (
        lambda x, w, b: F.group_norm(x, 2, w, b),
        lambda x, w, b: layer_norm(x.reshape(2, 2, -1), (2,)).reshape(x.shape) * w[:, None] + b[:, None],
        [(2, 4, 3), (4,), (4,)],
    ),
    "layer_norm": (
        lambda x, w, b: F.layer_norm(x, (3, 4), w, b),
        lambda x, w, b: layer_norm(x, (1, 2)) * w + b,
        [(2, 3, 4), (3, 4), (3, 4)],
    ),
    "linear": (F.linear, lambda x, w, b: x @ w.T + b, [(2, 3, 4), (5, 4), (5,)]),
    "pad": (lambda x: F.pad(x, (1, -1, 0, 2), value=3.0), lambda x: np.pad(x[:, :-1], ((0, 2), (1, 0)), constant_values=3.0), X),
    "rms_norm": (
        lambda x, w: F.rms_norm(x, 4, w, 1e-3),
        lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * w,
        [(3, 4), (4,)],
    ),
    "rotary": (
        lambda x: F.rotary(x, np.cos([[1.0, 2], [3, 4], [5, 6]]), np.sin([[1.0, 2], [3, 4], [5, 6]])),
        lambda x: np.concatenate([
            x[:, :2] * np.cos([[1, 2], [3, 4], [5, 6]]) - x[:, 2:] * np.sin([[1, 2], [3, 4], [5, 6]]),
            x[:, 2:] * np.cos([[1, 2], [3, 4], [5, 6]]) + x[:, :2] * np.sin([[1, 2], [3, 4], [5, 6]]),
        ], -1),
        X,
    ),
    "scaled_dot_product_attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda q, k, v: attention(q, k, v, CAUSAL),
        QKV,
    ),
}  # fmt: skip

ELSEWHERE = {"gumbel_softmax", "one_hot"}  # random, and without a gradient
ELSEWHERE |= {"feed_forward", "self_attention"}  # tested as the operations that they are


def arrays_for(shapes, seed=0):
    """Evenly spread values, all different: none at a kink, none tied."""
    rng = np.random.default_rng(seed)
    spread = lambda shape: (rng.permutation(math.prod(shape)).reshape(shape) + 0.4) / math.prod(shape)
    return [spread((3, 4)) if s == P else spread(s) * 3 - 1.523 for s in shapes]


def test_every_function_is_declared():
    assert set(F.__all__) == {*TABLE, *ELSEWHERE}


@pytest.mark.parametrize("name", TABLE)
def test_value(name):
    ours, formula, shapes = TABLE[name]
    arrays = arrays_for(shapes)
    np.testing.assert_allclose(ours(*map(tg.Tensor, arrays)).data, formula(*arrays), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_gradient_and_second_order(name):
    ours, _, shapes = TABLE[name]
    inputs = tuple(tg.Tensor(x, requires_grad=True) for x in arrays_for(shapes, seed=1))
    assert gradcheck(ours, inputs, fast=True)
    assert gradgradcheck(ours, inputs, fast=True)


#: PyTorch's, where there is one beside `reduction="mean"` and options that are None
DEFAULTS = {
    "celu": {"alpha": 1.0}, "elu": {"alpha": 1.0}, "hardshrink": {"lambd": 0.5}, "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"negative_slope": 0.01}, "softplus": {"beta": 1.0, "threshold": 20.0}, "softshrink": {"lambd": 0.5},
    "cosine_embedding_loss": {"margin": 0.0}, "cosine_similarity": {"axis": 1, "eps": 1e-8},
    "cross_entropy": {"ignore_index": -100, "label_smoothing": 0.0}, "dropout": {"p": 0.5, "training": True},
    "gaussian_nll_loss": {"full": False, "eps": 1e-6}, "group_norm": {"eps": 1e-5}, "hinge_embedding_loss": {"margin": 1.0},
    "huber_loss": {"delta": 1.0}, "kl_div": {"log_target": False}, "layer_norm": {"eps": 1e-5},
    "linear_cross_entropy": {"ignore_index": -100, "label_smoothing": 0.0}, "margin_ranking_loss": {"margin": 0.0},
    "nll_loss": {"ignore_index": -100}, "normalize": {"p": 2.0, "axis": 1, "eps": 1e-12},
    "pairwise_distance": {"p": 2.0, "eps": 1e-6, "keepdim": False}, "poisson_nll_loss": {"log_input": True, "full": False, "eps": 1e-8},
    "smooth_l1_loss": {"beta": 1.0}, "triplet_margin_loss": {"margin": 1.0, "p": 2.0, "eps": 1e-6, "swap": False},
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in TABLE if name.endswith(("_loss", "entropy", "kl_div")) or name in DEFAULTS])
def test_defaults_are_pytorchs(name):
    defaults = {n: p.default for n, p in inspect.signature(getattr(F, name)).parameters.items() if p.default not in (None, p.empty)}
    assert defaults.pop("reduction", "mean") == "mean" and defaults == DEFAULTS.get(name, {})


# -- what the formulas above do not say --------------------------------------------------------------------------------


def leaves(*shapes, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [tg.Tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in shapes]


def test_attention_takes_q_k_v_by_their_short_and_long_names():
    q, k, v = leaves(*QKV)
    y = F.scaled_dot_product_attention(q, k, v)
    for names in (("q", "k", "v"), ("query", "key", "value")):
        named = F.scaled_dot_product_attention(**dict(zip(names, (q, k, v), strict=True)))
        np.testing.assert_array_equal(named.data, y.data)
    for positional, more in (((q, k, v), {"query": q}), ((q, k), {}), ((q,), {"key": k})):
        with pytest.raises(TypeError, match="expected . once, got it (twice|not)"):
            F.scaled_dot_product_attention(*positional, **more)


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_fully_masked_attention_row_gives_zeros_and_zero_gradients(kind, second_order):
    q, k, v = leaves(*QKV)
    seen = np.array([[1, 0, 1, 1, 0], [0] * 5, [0, 0, 0, 0, 1]], bool)
    mask = seen if kind == "bool" else tg.Tensor(np.where(seen, 0.5, -np.inf), requires_grad=True)
    y = F.scaled_dot_product_attention(q, k, v, mask)
    np.testing.assert_array_equal(y.data[:, :, 1], 0)
    wanted = [q, k, v] + ([mask] if kind == "float" else [])
    grads = tg.grad((y * y).sum(), wanted, create_graph=second_order)
    assert all(np.isfinite(d.data).all() for d in grads)
    np.testing.assert_array_equal(grads[0].data[:, :, 1], 0)
    if second_order:
        again = tg.grad(sum((d * d).sum() for d in grads), wanted)
        assert all(np.isfinite(d.data).all() for d in again)


def test_attention_trains_a_float_mask_and_sums_its_gradient_over_what_it_was_broadcast_over():
    q, k, v, bias = leaves(*QKV, (2, 1, 5))
    f = lambda q, k, v, bias: F.scaled_dot_product_attention(q, k, v, bias, is_causal=True)
    assert gradcheck(f, (q, k, v, bias), order=2, fast=True)


def test_grouped_queries_share_keys_like_repeated_ones():
    q, k, v = leaves((2, 6, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3))
    shared = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    repeated = F.scaled_dot_product_attention(q, tg.repeat(k, 3, axis=1), tg.repeat(v, 3, axis=1))
    np.testing.assert_allclose(shared.data, repeated.data, rtol=1e-12)
    for a, b in zip(tg.grad((shared * shared).sum(), (q, k, v)), tg.grad((repeated * repeated).sum(), (q, k, v))):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-10, atol=1e-13)
    with pytest.raises(ValueError, match="scaled_dot_product_attention"):
        F.scaled_dot_product_attention(q, k, v)
    for one in (slice(0, 1), 0):  # keys and values for all of the batch
        spread = F.scaled_dot_product_attention(q, np.broadcast_to(k[:1], k.shape), np.broadcast_to(v[:1], v.shape), enable_gqa=True)
        np.testing.assert_array_equal(F.scaled_dot_product_attention(q, k[one], v[one], enable_gqa=True).data, spread.data)


@pytest.mark.parametrize("lead", [(), (3,), (2, 2, 3)])
def test_attention_takes_any_leading_axes(lead):
    q, k, v = leaves((*lead, 3, 4), (*lead, 5, 4), (*lead, 5, 2))
    mask = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 1]], bool)
    y = F.scaled_dot_product_attention(q, k, v, mask)
    np.testing.assert_allclose(y.data, attention(q.data, k.data, v.data, mask), rtol=1e-10)


def test_attention_dropout_is_the_same_forward_backward_and_in_the_composite():
    q, k, v = leaves((1, 2, 40, 4), (1, 2, 40, 4), (1, 2, 40, 4))
    run = lambda: F.scaled_dot_product_attention(q, k, v, dropout_p=0.4, rng=np.random.default_rng(3))
    plain, composite = tg.grad(run().sum(), (q, k, v)), tg.grad(run().sum(), (q, k, v), create_graph=True)
    for a, b in zip(plain, composite):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-8, atol=1e-11)
    pattern = F.attention_pattern(q, k, dropout_p=0.4, seed=1).data
    assert abs((pattern == 0).mean() - 0.4) < 0.04
    assert abs(pattern.sum(-1).mean() - 1) < 0.05


def test_attention_dropout_draws_anew_and_without_it_nothing_is_drawn():
    q, k, v = leaves(*QKV)
    rng = np.random.default_rng(3)
    first, second = (F.scaled_dot_product_attention(q, k, v, dropout_p=0.4, rng=rng).data for _ in range(2))
    assert (first != second).any()
    drawn = rng.bit_generator.state
    F.scaled_dot_product_attention(q, k, v, rng=rng)
    assert rng.bit_generator.state == drawn


@pytest.mark.parametrize("shapes", [[(3, 4), (5, 3), (5, 4)], [(3, 4), (5, 4), (4, 4)], [(4,), (5, 4), (5, 4)]])
def test_attention_says_which_shapes_it_expects(shapes):
    with pytest.raises(ValueError, match=r"expected \(\.\.\., T, K\), \(\.\.\., S, K\), \(\.\.\., S, V\), got query"):
        F.scaled_dot_product_attention(*leaves(*shapes))


def test_gumbel_softmax_draws_each_class_as_often_as_softmax_says():
    """argmax(x + gumbel noise) is a draw from softmax(x), at any temperature; `hard` is that draw, with the soft one's slope."""
    (x,) = leaves((5,))
    many = np.broadcast_to(x, (20_000, 5))
    hard = F.gumbel_softmax(many, 0.5, hard=True, rng=np.random.default_rng(0))
    soft = F.gumbel_softmax(many, 0.5, rng=np.random.default_rng(0))
    np.testing.assert_allclose(hard.data, np.eye(5)[soft.data.argmax(-1)], atol=1e-15)
    np.testing.assert_allclose(hard.data.mean(0), softmax(x.data), atol=0.015)
    np.testing.assert_allclose(soft.data.sum(-1), 1)
    weights = np.cos(np.arange(5))
    (a,), (b,) = (tg.grad((y * weights).sum(), x, retain_graph=True) for y in (hard, soft))
    assert a.data.any()
    np.testing.assert_array_equal(a.data, b.data)
    draw = lambda x: F.gumbel_softmax(x, 0.7, axis=0, rng=np.random.default_rng(1))
    noise = np.random.default_rng(1).gumbel(size=(3, 4))
    (y,) = leaves((3, 4))
    np.testing.assert_allclose(draw(y).data, softmax((y.data + noise) / 0.7, 0), rtol=1e-12)
    assert gradcheck(draw, y, fast=True)


def test_dropout_keeps_the_mean_drops_the_share_and_is_its_own_gradient():
    (x,) = leaves((200, 100), dtype=np.float32)
    y = F.dropout(x, 0.3, rng=np.random.default_rng(0))
    kept = y.data != 0
    assert abs(kept.mean() - 0.7) < 0.01
    np.testing.assert_allclose(y.data[kept], x.data[kept] / 0.7, rtol=1e-6)
    (d,) = tg.grad(y.sum(), x)
    np.testing.assert_allclose(d.data, kept / np.float32(0.7), rtol=1e-6)
    assert F.dropout(x, 0.0) is x and not F.dropout(x, 1.0).data.any()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        F.dropout(x, 1.5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, W])
def test_cross_entropy_in_all_its_forms(reduction, weight, smoothing):
    """Ignored labels, class weights, smoothing; labels as one-hot probabilities are the same loss."""
    (x,) = leaves((4, 5))
    out = F.cross_entropy(x, IGNORED, weight, reduction=reduction, label_smoothing=smoothing)
    w = np.ones(5) if weight is None else weight
    counted, safe = IGNORED >= 0, np.maximum(IGNORED, 0)
    logp = np.log(softmax(x.data))
    rows = np.where(counted, -(1 - smoothing) * w[safe] * logp[np.arange(4), safe] - smoothing / 5 * (logp * w).sum(-1), 0)
    want = {"none": rows, "sum": rows.sum(), "mean": rows.sum() / w[safe][counted].sum()}[reduction]
    np.testing.assert_allclose(out.data, want, rtol=1e-12)
    assert gradcheck(lambda x: F.cross_entropy(x, IGNORED, weight, reduction=reduction, label_smoothing=smoothing), x, fast=True)
    hot = np.eye(5)[LABELS]
    a = F.cross_entropy(x, hot, weight, reduction="sum", label_smoothing=smoothing)
    b = F.cross_entropy(x, LABELS, weight, reduction="sum", label_smoothing=smoothing)
    np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_cross_entropy_takes_classes_at_axis_1_and_says_what_is_wrong():
    (x,) = leaves((2, 5, 3))
    labels = np.array([[0, 4, 1], [2, 2, 3]])
    want = F.cross_entropy(np.moveaxis(x, 1, -1).reshape(6, 5), labels.reshape(-1))
    np.testing.assert_allclose(F.cross_entropy(x, labels).data, want.data)
    with np.errstate(invalid="ignore"):
        assert np.isnan(F.cross_entropy(x, np.full((2, 3), -100)).item())
    with pytest.raises(ValueError, match=r"targets of shape \(2, 3\), got \(2,\)$"):
        F.cross_entropy(x, [0, 1])
    with pytest.raises(ValueError, match=r"got \(2, 5\); classes are along axis 1, as in PyTorch: for logits \(B, T, V\) reshape"):
        F.cross_entropy(x, np.zeros((2, 5), int))
    with pytest.raises(ValueError, match="reduction"):
        F.cross_entropy(x, labels, reduction="average")


def test_class_weights_belong_to_the_classes_and_ignored_rows_to_nobody():
    hidden = np.array([[-np.inf, 1.0, 2.0], [1.0, 2.0, 3.0]])
    weight = [1.0, 2.0, 3.0]
    (w,) = leaves((3,))
    for smoothing, want in ((0.0, np.log(1 + np.e + np.e**-1)), (0.1, None)):
        loss = F.cross_entropy(tg.Tensor(hidden), [-100, 1], weight, label_smoothing=smoothing)
        alone = F.cross_entropy(tg.Tensor(hidden[1:]), [1], weight, label_smoothing=smoothing)
        assert loss.item() == pytest.approx(alone.item() if want is None else want)
    for smoothing in (0.0, 0.1):
        (x,) = leaves((2, 3))
        with np.errstate(all="ignore"):
            loss = F.cross_entropy(x, [-100, -100], w, label_smoothing=smoothing)
            dx, dw = tg.grad(loss, (x, w))
        assert np.isnan(loss.item()) and not dx.data.any() and not dw.data.any()
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(IndexError, match=r"targets must lie in 0..2, got -1..1"):
            loss(x, [-1, 1], weight)
        for n in (1, 2, 4):
            with pytest.raises(ValueError, match="one weight for each of 3 classes"):
                loss(x, [0, 1], np.ones(n))
    with pytest.raises(ValueError, match="one weight for each of 3 classes"):
        F.cross_entropy(x, np.full((2, 3), 1 / 3), [2.0])


def test_a_mean_keeps_float32_and_is_nan_over_nothing():
    (x,) = leaves((4, 3), dtype=np.float32)
    for target in (np.array([0, 1, 2, 0]), np.full((4, 3), 1 / 3, np.float32)):
        for weight in (None, np.ones(3, np.float32)):
            assert F.cross_entropy(x, target, weight).dtype == np.float32
            with np.errstate(invalid="ignore"):
                assert np.isnan(F.cross_entropy(x[:0], target[:0], weight).item())


@pytest.mark.parametrize("name", [
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "hinge_embedding_loss", "poisson_nll_loss", "kl_div",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "margin_ranking_loss", "gaussian_nll_loss",
])  # fmt: skip
def test_whole_numbers_as_targets_leave_a_loss_its_dtype(name):
    x = tg.Tensor(np.array([0.25, 0.5, 0.75], np.float32), requires_grad=True)
    more = {"margin_ranking_loss": [x * 2], "gaussian_nll_loss": []}.get(name, [])
    last = [[1, 2, 1]] if name == "gaussian_nll_loss" else []
    for whole in (np.array([1, 0, 1]), tg.Tensor([1, 0, 1]), np.array([True, False, True])):
        loss = getattr(F, name)(x, *more, whole, *last)
        plain = getattr(F, name)(x, *more, np.array([1, 0, 1], np.float32), *np.array(last, np.float32))
        assert loss.dtype == np.float32 and loss.item() == plain.item()


def test_whole_numbers_as_weights_leave_a_loss_its_dtype():
    (x,), y = leaves((3, 4), dtype=np.float32), np.array([0, 3, 1])
    assert F.cross_entropy(x, y, weight=[1, 2, 3, 4]).dtype == F.nll_loss(x, y, weight=[1, 2, 3, 4]).dtype == np.float32
    weighed = F.binary_cross_entropy_with_logits(x, x.data > 0, weight=[1, 2, 3, 4], pos_weight=np.array([2]))
    assert weighed.dtype == np.float32 and F.mse_loss(x, x.data, weight=[1, 2, 3, 4]).dtype == np.float32


def test_a_certain_prediction_has_a_finite_loss_and_slope():
    p = tg.Tensor(np.array([0.0, 1, 0, 1, 0.25]), requires_grad=True)
    t = tg.Tensor(np.array([0.0, 1, 1, 0, 1]), requires_grad=True)
    losses = F.binary_cross_entropy(p, t, reduction="none")
    np.testing.assert_allclose(losses.data, [0, 0, 100, 100, np.log(4)], atol=1e-14)
    dp, dt = tg.grad(losses.sum(), (p, t), create_graph=True)
    np.testing.assert_allclose(dp.data, [0, 0, -1e12, 1e12, -4])
    np.testing.assert_allclose(dt.data, [100, -100, 100, -100, np.log(3)])
    assert all(np.isfinite(d.data).all() for d in tg.grad(dp.sum() + dt.sum(), (p, t)))
    x = tg.Tensor([200.0, -200.0], requires_grad=True)
    F.binary_cross_entropy(F.sigmoid(x), tg.Tensor([1.0, 0.0])).backward()
    np.testing.assert_array_equal(x.grad.data, [0, 0])


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"])
def test_a_column_beside_a_row_is_warned_of(name):
    """The value head's (N, 1) beside (N,) returns: a mean over N² pairs, finite and wrong."""
    x, t = tg.ones(3, 1), np.array([0.0, 1.0, 2.0], np.float32)
    with pytest.warns(UserWarning, match=rf"{name}: input \(3, 1\) and target \(3,\) make \(3, 3\), each with each") as told:
        assert getattr(F, name)(x, t, reduction="none").shape == (3, 3)
    assert told[0].filename == __file__
    for target in (t[:, None], np.ones((1, 1), np.float32), 1.0):
        assert getattr(F, name)(x, target, reduction="none").shape == (3, 1)


@pytest.mark.parametrize("loss", [F.binary_cross_entropy, F.binary_cross_entropy_with_logits])
def test_a_column_beside_a_row_is_no_binary_loss(loss):
    with pytest.raises(ValueError, match=r"input \(3, 1\) and target \(3,\) make \(3, 3\), each with each; reshape"):
        loss(tg.ones(3, 1), np.ones(3, np.float32))


def test_kl_div_takes_the_logarithms_of_its_target_as_well():
    x, t = map(tg.Tensor, arrays_for(TABLE["kl_div"][2]))
    for reduction in ("none", "sum", "mean", "batchmean"):
        logs = F.kl_div(x, np.log(t), reduction, log_target=True)
        np.testing.assert_allclose(logs.data, F.kl_div(x, t, reduction).data, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", [F.binary_cross_entropy, F.binary_cross_entropy_with_logits])
def test_a_weight_counts_each_binary_loss(loss):
    p, t = map(tg.Tensor, arrays_for([P, P]))
    weight = np.array([0.5, 2, 0, 3])
    np.testing.assert_allclose(loss(p, t, weight, "sum").data, (loss(p, t, reduction="none").data * weight).sum(), rtol=1e-12)


COUNTS = np.array([0.0, 1.0, 2.5])
OTHER_FORMS = {
    "huber_loss": (
        lambda x, t: F.huber_loss(x, t, "none", 0.7, COUNTS),
        lambda x, t: np.where(abs(x - t) <= 0.7, (x - t) ** 2 / 2, 0.7 * (abs(x - t) - 0.35)) * COUNTS, [(4, 3), (4, 3)],
    ),
    "mse_loss": (lambda x, t: F.mse_loss(x, t, "sum", COUNTS), lambda x, t: ((x - t) ** 2 * COUNTS).sum(), [(4, 3), (4, 3)]),
    "mse_loss to a number": (lambda x: F.mse_loss(x, 0.3), lambda x: ((x - 0.3) ** 2).mean(), X),
    "l1_loss": (lambda x, t: F.l1_loss(x, t, weight=COUNTS), lambda x, t: (abs(x - t) * COUNTS).mean(), [(4, 3), (4, 3)]),
    "smooth_l1_loss": (lambda x, t: F.smooth_l1_loss(x, t, "none", 0.0), lambda x, t: abs(x - t), SQUARE),
    "gaussian_nll_loss of a variance for each row": (
        lambda x, t, s: F.gaussian_nll_loss(x, t, s**2, reduction="none"),
        lambda x, t, s: np.log(abs(s[:, None])) + ((x - t) / s[:, None]) ** 2 / 2, [(3, 4), (3, 4), (3,)],
    ),
    "gaussian_nll_loss of no variance": (
        lambda x, t: F.gaussian_nll_loss(x, t, 0.0, eps=0.2, reduction="sum"),
        lambda x, t: ((np.log(0.2) + (x - t) ** 2 / 0.2) / 2).sum(), SQUARE,
    ),
    "gaussian_nll_loss of one number": (
        lambda x, t, s: F.gaussian_nll_loss(x, t, s**2, reduction="none"),
        lambda x, t, s: np.log(abs(s)) + ((x - t) / s) ** 2 / 2, [(), (), ()],
    ),
    "poisson_nll_loss": (
        lambda x: F.poisson_nll_loss(x**2, COUNTS, log_input=False, full=True, eps=0.1, reduction="none"),
        lambda x: x**2 - COUNTS * np.log(x**2 + 0.1) + [0, 0, 2.5 * np.log(2.5) - 2.5 + np.log(5 * np.pi) / 2], [(3,)],
    ),
    "triplet_margin_loss": (
        lambda a, p, n: F.triplet_margin_loss(a, p, n, p=1, eps=0.5, reduction="none"),
        lambda a, p, n: np.maximum(0, abs(a - p + 0.5).sum(-1) - abs(a - n + 0.5).sum(-1) + 1), [(3, 4)] * 3,
    ),
    "cosine_embedding_loss": (
        lambda a, b: F.cosine_embedding_loss(a, b, -SIGNS, margin=0.1, reduction="none"),
        lambda a, b: np.where(SIGNS < 0, 1 - (unit(a) * unit(b)).sum(-1), np.maximum(0, (unit(a) * unit(b)).sum(-1) - 0.1)), SQUARE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_losses_in_their_other_forms(name):
    ours, formula, shapes = OTHER_FORMS[name]
    arrays = arrays_for(shapes)
    got = ours(*map(tg.Tensor, arrays)).data
    np.testing.assert_allclose(got, formula(*arrays), rtol=1e-11, atol=1e-12)
    assert got.shape == formula(*arrays).shape


def test_what_makes_no_loss_is_refused():
    x = tg.ones(2, 3)
    for call, said in (
        (lambda: F.mse_loss(x, x, "average"), "reduction: expected 'mean', 'sum' or 'none', got 'average'"),
        (lambda: F.mse_loss(x, tg.ones(4)), r"mse_loss: input \(2, 3\) and target \(4,\) do not broadcast"),
        (lambda: F.smooth_l1_loss(x, x, beta=-1.0), "beta must not be negative, got -1.0"),
        (lambda: F.huber_loss(x, x, delta=0.0), "delta must be positive, got 0.0"),
        (lambda: F.gaussian_nll_loss(x, x, -x), "var must not be negative, got -1.0"),
        (lambda: F.binary_cross_entropy(x * 1.5, x), r"input must lie in \[0, 1\], got 1.5 to 1.5"),
        (lambda: F.binary_cross_entropy(x - 1.5, x), r"input must lie in \[0, 1\], got -0.5 to -0.5"),
        (lambda: F.cross_entropy(x, [0, 1], label_smoothing=1.5), r"label_smoothing must lie in \[0, 1\], got 1.5"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            call()


def test_linear_cross_entropy_with_and_without_a_graph():
    h, w = leaves((6, 3), (5, 3), seed=2)
    labels = np.array([0, 1, -100, 4, 3, 3])
    fused, plain = F.linear_cross_entropy(h, w, labels), F.cross_entropy(F.linear(h, w), labels)
    np.testing.assert_allclose(fused.data, plain.data, rtol=1e-12)
    for a, b in zip(tg.grad(fused * 3.0, (h, w)), tg.grad(plain * 3.0, (h, w))):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-10, atol=1e-14)
    with tg.no_grad():
        assert F.linear_cross_entropy(h, w, labels).node is None
    options = dict(ignore_index=3, label_smoothing=0.2)
    plain = tg.grad(F.cross_entropy(F.linear(h, w), np.maximum(labels, 0), **options), (h, w))
    for create_graph in (False, True):
        fused = tg.grad(F.linear_cross_entropy(h, w, np.maximum(labels, 0), **options), (h, w), create_graph=create_graph)
        for a, b in zip(fused, plain):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-10, atol=1e-14)


def test_every_norm_and_a_distance_add_the_eps_that_they_are_given():
    x, other = leaves((2, 4), (2, 4))
    centred = x.data - x.data.mean(-1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.5)
    np.testing.assert_allclose(F.layer_norm(x, 4, eps=0.5).data, want, rtol=1e-12)
    np.testing.assert_allclose(F.group_norm(x, 1, eps=0.5).data, want, rtol=1e-12)
    np.testing.assert_allclose(F.rms_norm(x, 4, eps=0.5).data, x.data / np.sqrt((x.data**2).mean(-1, keepdims=True) + 0.5), rtol=1e-12)
    want = np.linalg.norm(x.data - other.data + 0.5, axis=-1, keepdims=True)
    np.testing.assert_allclose(F.pairwise_distance(x, other, eps=0.5, keepdim=True).data, want, rtol=1e-12)


def test_embedding_accumulates_repeats_and_spares_the_padding_row():
    (w,) = leaves((4, 3))
    for create_graph in (False, True):
        (d,) = tg.grad(F.embedding([1, 1, 3, 0], w, padding_idx=-1).sum(), w, create_graph=create_graph)
        np.testing.assert_array_equal(d.data, np.array([[1.0], [2], [0], [0]]) * np.ones(3))
    with pytest.raises(TypeError, match="embedding: expected integers"):
        F.embedding([0.5], w)


def test_zero_vectors_have_norms_and_subgradients_never_nan():
    x = tg.Tensor(np.zeros((2, 3)), requires_grad=True)
    for p in (1, 2, 3, 0.5, np.inf):
        (d,) = tg.grad(tg.vector_norm(x, p, axis=1).sum(), x, create_graph=True)
        assert np.isfinite(d.data).all() and not d.data[0].any(), p
        if d.requires_grad:
            assert np.isfinite(tg.grad(d.sum(), x, allow_unused=True)[0].data).all(), p
    for f in (F.normalize, lambda x: F.cosine_similarity(x, x), lambda x: tg.std(x, axis=1), lambda x: tg.hypot(x, x)):
        (d,) = tg.grad(f(x).sum(), x)
        assert np.isfinite(d.data).all()


def test_extreme_arguments_do_not_overflow():
    x = tg.Tensor(np.array([-1e4, -100.0, 0.0, 100.0, 1e4]), requires_grad=True)
    with np.errstate(over="raise", invalid="raise"):
        for f in (F.sigmoid, F.silu, F.gelu, F.softplus, F.logsigmoid, F.mish, F.elu, F.softmax, F.log_softmax, tg.logsumexp):
            for create_graph in (False, True):
                y = f(x)
                (d,) = tg.grad(y.sum(), x, create_graph=create_graph)
                assert np.isfinite(y.data).all() and np.isfinite(d.data).all()
    nothing = tg.Tensor(np.full(3, -np.inf), requires_grad=True)
    y = tg.logsumexp(nothing)
    assert y.item() == -np.inf and tg.grad(y, nothing)[0].tolist() == [0, 0, 0]
    late = tg.Tensor(np.array([-np.inf, -np.inf, 0.0, 1.0]), requires_grad=True)
    y = tg.logcumsumexp(late, axis=0)
    np.testing.assert_allclose(y.data, np.logaddexp.accumulate(late.data))
    np.testing.assert_allclose(tg.grad(y[2:].sum(), late)[0].data, [0, 0, 1 + softmax(np.arange(2.0))[0], softmax(np.arange(2.0))[1]])


def test_ties_share_the_gradient():
    x = tg.Tensor(np.array([1.0, 3, 3, 2]), requires_grad=True)
    np.testing.assert_array_equal(tg.grad(x.max(), x)[0].data, [0, 0.5, 0.5, 0])
    np.testing.assert_array_equal(tg.grad(tg.maximum(x, 3.0).sum(), x)[0].data, [0, 0.5, 0.5, 0])
    np.testing.assert_array_equal(tg.grad(tg.clip(x, 2, 3).sum(), x)[0].data, [0, 1, 1, 1])
    nan = tg.Tensor(np.array([1.0, np.nan]), requires_grad=True)
    np.testing.assert_array_equal(tg.grad(nan.max(), nan)[0].data, [0, 1])
    np.testing.assert_array_equal(tg.grad(tg.minimum(x, 3.0).sum(), x)[0].data, [1, 0.5, 0.5, 1])


def test_of_two_extremes_that_ignore_nan_the_first_takes_a_tie():
    nan = np.nan
    a = tg.Tensor(np.array([1.0, 2, 3, nan, 1, nan]), requires_grad=True)
    b = tg.Tensor(np.array([2.0, 2, 1, 1, nan, nan]), requires_grad=True)
    for function, slopes in ((tg.fmax, [0, 1, 1, 0, 1, 1]), (tg.fmin, [1, 1, 0, 0, 1, 1])):
        da, db = tg.grad(function(a, b), (a, b), np.ones(6))
        np.testing.assert_array_equal(da.data, slopes)
        np.testing.assert_array_equal(db.data, 1 - da.data)


def test_power_at_zero_is_finite_to_second_order():
    x = tg.Tensor(np.array([0.0, 0.0, 0.0, 2.0]), requires_grad=True)
    b = tg.Tensor(np.array([0.0, 1.0, 2.0, 0.0]), requires_grad=True)
    dx, db = tg.grad((x**b).sum(), (x, b), create_graph=True)
    np.testing.assert_allclose(dx.data, [0, 1, 0, 0])
    np.testing.assert_allclose(db.data, [0, 0, 0, np.log(2)])
    assert np.isfinite(tg.grad(dx.sum(), x)[0].data).all()
    for power in (0, 0.0):
        np.testing.assert_array_equal(tg.grad((x**power).sum(), x)[0].data, 0)


def test_the_slope_of_a_power_of_zero_follows_its_exponent():
    b = tg.Tensor(np.array([2.0, 0.0, -1.0]), requires_grad=True)
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(tg.grad((np.zeros(3) ** b).sum(), b)[0].data, [0, 0, -np.inf])


def test_slopes_on_every_side_of_a_step():
    a, b = np.array([-2.0, -2, 3, 3, 0]), np.array([1.0, -1, 1, -1, 7])
    x, y = tg.Tensor(a, requires_grad=True), tg.Tensor(b, requires_grad=True)
    da, db = tg.grad(tg.copysign(x, y).sum(), (x, y))
    np.testing.assert_array_equal(da.data, np.sign(a) * np.sign(b))
    np.testing.assert_array_equal(db.data, 0)
    da, db = tg.grad(tg.heaviside(x, y).sum(), (x, y))
    np.testing.assert_array_equal(da.data, 0)
    np.testing.assert_array_equal(db.data, a == 0)


@pytest.mark.parametrize("low, high, slopes", [
    (0.0, 1.0, [(0, 1, 0), (1, 0, 0), (0, 0, 1)]), (1.0, 0.0, [(0, 0, 1)] * 3), (0.0, None, [(0, 1), (1, 0), (1, 0)]),
    (None, 1.0, [(1, 0), (1, 0), (0, 1)]),
])  # fmt: skip
def test_clip_hands_the_gradient_to_what_it_returns(low, high, slopes):
    """Below, between and above; where the bounds cross, the upper one is returned, as by NumPy."""
    for x, wanted in zip((-0.5, 0.5, 1.5), slopes):
        given = [None if v is None else tg.Tensor(np.array(v), requires_grad=True) for v in (x, low, high)]
        y = tg.clip(*given)
        assert y.item() == np.clip(x, low, high)
        assert tuple(d.item() for d in tg.grad(y, [v for v in given if v is not None])) == wanted


def test_large_products_agree_with_numpys_on_either_side():
    """Above the threshold products leave np.matmul for the kernels; both sides, every operand transposed or not."""
    import kernels

    x, w, b = leaves((4, 65, 96), (130, 96), (130,), dtype=np.float32)
    results = []
    for side in ("numpy", "numba"):
        with kernels.use(side):
            y = F.linear(x, w, b)
            z = y @ np.swapaxes(y, 1, 2)
            results.append([y.data, z.data, *(d.data for d in tg.grad((z * z).mean(), (x, w, b)))])
    for a, c in zip(*results):
        assert a.dtype == c.dtype == np.float32
        np.testing.assert_allclose(c, a, rtol=2e-4, atol=2e-5 * np.abs(a).max())
    np.testing.assert_allclose(results[1][0], x.data @ w.data.T + b.data, rtol=2e-4, atol=1e-4)


def test_nan_comes_through_hard_activations_and_infinity_has_their_slope():
    x = tg.Tensor(np.array([np.nan, np.inf, -np.inf]), requires_grad=True)
    calls = {
        "hardtanh": ((), [np.nan, 1, -1], [0, 0]), "relu6": ((), [np.nan, 6, 0], [0, 0]),
        "hardsigmoid": ((), [np.nan, 1, 0], [0, 0]), "hardswish": ((), [np.nan, np.inf, 0], [1, 0]),
        "threshold": ((0.0, 0.0), [np.nan, np.inf, 0], [1, 0]),
        "softshrink": ((), [np.nan, np.inf, -np.inf], [1, 1]),
    }  # fmt: skip
    for name, (options, want, slopes) in calls.items():
        y = getattr(F, name)(x, *options)
        (d,) = tg.grad(y.sum(), x)
        np.testing.assert_array_equal(y.data, want, err_msg=name)
        np.testing.assert_array_equal(d.data[1:], slopes, err_msg=name)
        assert d.data[0] != 0, name
        assert getattr(F, name)(x.astype(np.float32), *options).dtype == np.float32
    assert F.relu6(tg.Tensor([-1, 7])).tolist() == [0, 6] and F.relu6(tg.Tensor([-1, 7])).dtype == np.int64


@pytest.mark.parametrize("mode, widths, want", [
    ("reflect", (2, -2), [3, 2, 1]), ("reflect", (-1, 2), [2, 3, 2, 1]), ("reflect", (-2, 2), [3, 2, 1]),
    ("replicate", (-4, 5), [3, 3, 3, 3]), ("replicate", (2, -2), [1, 1, 1]), ("circular", (-1, 2), [2, 3, 2, 3]),
    ("circular", (2, -1), [1, 2, 1, 2]), ("constant", (-1, 2), [2, 3, 0, 0]),
])  # fmt: skip
def test_negative_padding_cuts(mode, widths, want):
    np.testing.assert_array_equal(F.pad(np.array([[1.0, 2, 3]]), widths, mode).data, [want])


def test_padding_that_leaves_nothing_to_pad_is_refused():
    x = tg.ones(1, 3)
    for mode, widths in (("constant", (-4, 5)), ("constant", (0, -4)), ("reflect", (0, -4)), ("replicate", (1, -5))):
        with pytest.raises(ValueError, match="pad: cannot cut"):
            F.pad(x, widths, mode)
    with pytest.raises(ValueError, match="more than once"):
        F.pad(x, (2, -2), "circular")
    np.testing.assert_array_equal(F.pad(x, (1, 1), "constant", None).data, [[0, 1, 1, 1, 0]])


def test_pytorchs_keywords_are_taken():
    x, w = tg.Tensor([[0.3, -0.2]]), tg.Tensor([[1.0, 2.0]])
    for name in ("relu", "silu", "tanh", "sigmoid", "gelu", "softmax"):
        np.testing.assert_array_equal(getattr(F, name)(input=x).data, getattr(F, name)(x).data)
    np.testing.assert_array_equal(F.linear(input=x, weight=w, bias=tg.ones(1)).data, F.linear(x, w, tg.ones(1)).data)
    np.testing.assert_array_equal(F.one_hot(tensor=[1, 0], num_classes=2).data, [[0, 1], [1, 0]])
    for call in (lambda: F.relu(x, input=x), lambda: F.relu(x=x, input=x), lambda: F.linear(input=x)):
        with pytest.raises(TypeError, match="input"):
            call()


def test_lists_are_weights_and_a_wrong_axis_is_named():
    x = tg.Tensor([[1.0, 2.0, 4.0]])
    np.testing.assert_allclose(F.layer_norm(x, 3, [1.0, 2.0, 3.0]).data, F.layer_norm(x, 3).data * [1, 2, 3], rtol=1e-6)
    np.testing.assert_allclose(F.rms_norm(x, (3,), [1.0, 2.0, 3.0]).data, F.rms_norm(x, 3).data * [1, 2, 3], rtol=1e-6)
    with pytest.raises(ValueError, match=r"glu: axis 5 is out of bounds"):
        F.glu(x, axis=5)


LISTED = {
    "layer_norm": lambda f, x, v: f(x, 3, v, v), "rms_norm": lambda f, x, v: f(x, 3, v), "group_norm": lambda f, x, v: f(x, 3, v, v),
    "prelu": lambda f, x, v: f(x, v), "linear": lambda f, x, v: f(x, [v], v[:1]), "bilinear": lambda f, x, v: f(x, x, [[v] * 3], v[:1]),
    "nll_loss": lambda f, x, v: f(x, [1, 2], v), "cross_entropy": lambda f, x, v: f(x, [1, 2], v), "l1_loss": lambda f, x, v: f(v, x[0]),
    "kl_div": lambda f, x, v: f(x[0], v), "huber_loss": lambda f, x, v: f(x, 0.3, weight=v), "mse_loss": lambda f, x, v: f(0.3, x),
    "cosine_similarity": lambda f, x, v: f([v], x), "pairwise_distance": lambda f, x, v: f(v, x),
    "cosine_embedding_loss": lambda f, x, v: f(x, [v], [1, 1]), "triplet_margin_loss": lambda f, x, v: f(v, x, v),
    "margin_ranking_loss": lambda f, x, v: f(v, x[1], [1, -1, 1]), "scaled_dot_product_attention": lambda f, x, v: f(x.T, x.T, x.T, v),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTED)
def test_a_list_beside_float64_keeps_its_digits(name):
    """0.3 in float32 is wrong in the eighth."""
    (x,) = leaves((2, 3))
    got, want = (LISTED[name](getattr(F, name), x, as_given([0.1, 0.3, 0.7])).data for as_given in (list, np.array))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("x_shape, w_shape", [
    ((3, 0), (2, 0)), ((2, 3, 0), (2, 0)), ((0,), (2, 0)), ((2, 3, 4), (0, 4)), ((0, 4), (2, 4)),
])  # fmt: skip
def test_linear_with_no_features_is_its_bias(x_shape, w_shape):
    x, w, b = leaves(x_shape, w_shape, w_shape[:1])
    y = F.linear(x, w, b)
    np.testing.assert_array_equal(y.data, x.data @ w.data.T + b.data)
    for leaf, d in zip((x, w, b), tg.grad(y.sum(), (x, w, b))):
        assert d.shape == leaf.shape
    np.testing.assert_array_equal(d.data, np.full(w_shape[:1], math.prod(x_shape[:-1])))
