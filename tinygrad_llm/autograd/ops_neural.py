"""Fused operations of transformers: each calls a pair `kernels.x_forward`, `kernels.x_backward` and declares a composite.

The composite is the same mathematics in elementary operations: the oracle in tests, and the way to higher derivatives.
Rows lie along the last axis unless `axis` says otherwise.
"""

from __future__ import annotations

import math

import numpy as np

import kernels

from . import ops_reduce as reduce
from .op import op
from .ops_common import along, as_floats, has_kernel, value
from .ops_elementary import expm1, sigmoid
from .ops_index import getitem
from .ops_linalg import FLOATS, column_sums, is_for_kernels, precision_of, product, rows_of
from .ops_special import erf
from .state import local

SQRT_HALF, TANH_SCALE, TANH_CUBIC = math.sqrt(0.5), math.sqrt(2 / math.pi), 0.044715


# -- linear ------------------------------------------------------------------------------------------------------------


@op(fresh=True)
def linear(x, weight, bias=None):
    """y = x wᵀ + b   x (..., K), weight (N, K), bias (N,) -> (..., N)"""
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"expected x (..., K) and weight (N, K), got shapes {x.shape} and {weight.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"expected a bias of shape {weight.shape[:1]}, got {bias.shape}")
    rows = rows_of(x)
    precision = precision_of(rows, weight)
    if precision is not None:
        y = kernels.matmul(rows, weight, transpose_b=True, bias=bias, precision=precision)
    elif is_for_kernels(len(rows), weight.size) and x.dtype == weight.dtype and x.dtype in FLOATS:
        y = kernels.matmul(rows, weight, transpose_b=True, bias=bias)
    else:
        y = rows @ weight.T if bias is None else rows @ weight.T + bias
    return y.reshape(*x.shape[:-1], len(weight)), (x, weight, bias, precision)

@linear.grad
def _(g, x, weight, bias, precision, *, needs):
    rows = rows_of(g)
    dx = product(rows, weight, precision).reshape(x.shape) if needs[0] else None
    dw = product(rows.T, rows_of(x), precision) if needs[1] else None
    return dx, dw, column_sums(rows) if needs[2] else None

@linear.composite
def _(x, weight, bias):
    y = np.matmul(x, np.swapaxes(weight, 0, 1))
    return y if bias is None else y + bias


# -- softmax -----------------------------------------------------------------------------------------------------------


@op
def softmax(x, *, axis=-1):
    """yᵢ = e^xᵢ / Σⱼ e^xⱼ"""
    out = kernels.softmax_forward(x, axis)
    return out, (x, out, axis)

@softmax.grad
def _(g, x, out, axis): return (kernels.softmax_backward(g, out, axis),)

@softmax.composite
def _(x, *, axis=-1):
    e = np.exp(x - np.max(value(x), axis=axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=axis, keepdims=True)


@op
def log_softmax(x, *, axis=-1):
    """yᵢ = xᵢ - log Σⱼ e^xⱼ"""
    out = kernels.log_softmax_forward(x, axis)
    return out, (x, out, axis)

@log_softmax.grad
def _(g, x, out, axis): return (kernels.log_softmax_backward(g, out, axis),)

@log_softmax.composite
def _(x, *, axis=-1): return x - reduce.logsumexp(x, axis=axis, keepdims=True)


# -- norms -------------------------------------------------------------------------------------------------------------


@op(fresh=True)
def layer_norm(x, weight=None, bias=None, *, eps=1e-5):
    """y = (x - mean) / √(var + eps) · weight + bias, over the last axis   Ba et al. 2016, arXiv:1607.06450"""
    out, mean, rstd = kernels.layer_norm_forward(x, weight, bias, eps)
    return out, (x, weight, bias, np.asarray(mean), np.asarray(rstd))

@layer_norm.grad
def _(g, x, weight, bias, mean, rstd): return kernels.layer_norm_backward(g, x, weight, mean, rstd)

@layer_norm.adds
def _(total, own, g, x, weight, bias, mean, rstd): return kernels.add_layer_norm_backward(g, total, x, weight, mean, rstd)

@layer_norm.composite
def _(x, weight, bias, *, eps=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    y = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@op(fresh=True)
def rms_norm(x, weight=None, *, eps=1e-6):
    """y = x / √(mean(x²) + eps) · weight, over the last axis   Zhang and Sennrich 2019, arXiv:1910.07467"""
    out, rstd = kernels.rms_norm_forward(x, weight, eps)
    return out, (x, weight, np.asarray(rstd))

@rms_norm.grad
def _(g, x, weight, rstd): return kernels.rms_norm_backward(g, x, weight, rstd)

@rms_norm.adds
def _(total, own, g, x, weight, rstd): return kernels.add_rms_norm_backward(g, total, x, weight, rstd)

@rms_norm.composite
def _(x, weight, *, eps=1e-6):
    y = x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + eps)
    return y if weight is None else y * weight


# -- activations -------------------------------------------------------------------------------------------------------


@op
def relu(x):
    """y = max(x, 0)"""
    return kernels.relu_forward(x), (x,)

@relu.grad
def _(g, x): return (kernels.relu_backward(g, x),)

@relu.composite
def _(x): return np.where(x > 0, x, 0)


@op
def gelu(x, *, approximate="none"):
    """y = x Φ(x), Φ the normal distribution; "tanh" approximates it   Hendrycks and Gimpel 2016, arXiv:1606.08415"""
    return kernels.gelu_forward(x, approximate), (x, approximate)

@gelu.grad
def _(g, x, approximate): return (kernels.gelu_backward(g, x, approximate),)

@gelu.composite
def _(x, *, approximate="none"):
    if approximate == "none":
        return x * (0.5 * (1 + erf(x * SQRT_HALF)))
    return x * (0.5 * (1 + np.tanh(TANH_SCALE * (x + TANH_CUBIC * x * x * x))))


@op
def silu(x):
    """y = x σ(x)"""
    return kernels.silu_forward(x), (x,)

@silu.grad
def _(g, x): return (kernels.silu_backward(g, x),)

@silu.composite
def _(x): return x * sigmoid(x)


@op
def swiglu(gate, up):
    """y = silu(gate) · up   Shazeer 2020, arXiv:2002.05202"""
    return kernels.swiglu_forward(gate, up), (gate, up)

@swiglu.grad
def _(g, gate, up): return kernels.swiglu_backward(g, gate, up)

@swiglu.composite
def _(gate, up): return gate * sigmoid(gate) * up


@op
def geglu(gate, up, *, approximate="none"):
    """y = gelu(gate) · up   Shazeer 2020, arXiv:2002.05202"""
    return kernels.geglu_forward(gate, up, approximate), (gate, up, approximate)

@geglu.grad
def _(g, gate, up, approximate): return kernels.geglu_backward(g, gate, up, approximate)

@geglu.composite
def _(gate, up, *, approximate="none"): return gelu.op.composite(gate, approximate=approximate) * up


@op(elementwise=True)
def softplus(x):
    """y = log(1 + eˣ)"""
    return kernels.softplus_forward(x) if has_kernel(x) else kernels.reference.softplus_forward(as_floats(x)), (x,)

@softplus.grad_of("x")
def _(g, x): return g * along(sigmoid, x)


def by_sign(x, low):
    """1 where x > 0, else `low`: two comparisons as numbers cost a fifth of np.where."""
    return (x > 0) * x.dtype.type(1) + (x <= 0) * x.dtype.type(low)


@op(elementwise=True)
def elu(x, *, alpha=1.0):
    """y = x where x > 0, else α (eˣ - 1)"""
    return np.maximum(x, 0) + x.dtype.type(alpha) * along(expm1, np.minimum(x, 0)), (x, alpha)

@elu.grad_of("x")
def _(g, x, alpha): return g * (np.exp(np.minimum(x, 0)) * by_sign(x, alpha))


# -- positions, tables, chance -----------------------------------------------------------------------------------------


@op
def rotary(x, *, cos, sin, interleaved=False):
    """(y₁, y₂) = (x₁ cos - x₂ sin, x₂ cos + x₁ sin)   Su et al. 2021 §3.4.2, arXiv:2104.09864

    x (..., T, K); cos and sin (..., T, R/2), R ≤ K, are constants: TypeError where they require a gradient. The first R features
    turn: x₁, x₂ are their halves, or the even and odd places if `interleaved`; the rest stays.
    """
    for angle in (cos, sin):
        if getattr(angle, "requires_grad", False):
            raise TypeError("cos and sin are constants; detach() them")
    cos, sin = value(cos), value(sin)
    return kernels.rotary_forward(x, cos, sin, interleaved), (cos, sin, interleaved)

@rotary.grad_of("x")
def _(g, cos, sin, interleaved): return along(rotary, g, cos=cos, sin=-sin, interleaved=interleaved)


@op(fresh=True)
def embedding(weight, ids, *, padding_idx=None):
    """y[..., :] = weight[ids[...]]; the row `padding_idx` gets no gradient"""
    return kernels.embedding_forward(weight, ids), (weight, ids, padding_idx)

@embedding.grad
def _(g, weight, ids, padding_idx):
    return kernels.embedding_backward(g, ids, len(weight), padding_idx=padding_idx), None

@embedding.adds
def _(total, own, g, weight, ids, padding_idx):
    into = total if own else total.copy()
    return kernels.embedding_backward(g, ids, len(weight), into, padding_idx=padding_idx, accumulate=True), None

@embedding.composite
def _(weight, ids, *, padding_idx=None):
    y = getitem(weight, index=value(ids))
    return y if padding_idx is None else np.where((value(ids) == padding_idx)[..., None], value(y), y)


@op
def dropout(x, *, p, seed):
    """y = x / (1 - p) where the seed's mask keeps an element, else 0"""
    return kernels.dropout_forward(x, p, seed), (p, seed)

@dropout.grad_of("x")
def _(g, p, seed): return along(dropout, g, p=p, seed=seed)


# -- losses ------------------------------------------------------------------------------------------------------------


@op
def cross_entropy(logits, targets, *, ignore_index=-100, label_smoothing=0.0):
    """y = log Σᵥ e^xᵥ - (1 - ε) x_t - ε mean(x), for every row of logits (..., V), targets (...); 0 where ignored"""
    losses, lse = kernels.cross_entropy_forward(logits, targets, ignore_index, label_smoothing)
    return losses, (logits, targets, lse, ignore_index, label_smoothing)

@cross_entropy.grad
def _(g, logits, targets, lse, ignore_index, label_smoothing):
    return kernels.cross_entropy_backward(g, logits, targets, lse, ignore_index, label_smoothing), None

@cross_entropy.composite
def _(logits, targets, *, ignore_index=-100, label_smoothing=0.0):
    targets = value(targets)
    counted = targets != ignore_index
    x = logits - reduce.logsumexp(logits, axis=-1, keepdims=True)
    picked = np.take_along_axis(x, np.where(counted, targets, 0)[..., None], -1)[..., 0]
    losses = -(1 - label_smoothing) * picked
    if label_smoothing:
        losses = losses - label_smoothing * x.mean(axis=-1)
    return np.where(counted, losses, 0)


LEAST_LOG, LEAST_VARIANCE = -100.0, 1e-12  # PyTorch's bounds, which keep a certain prediction's loss and slope finite


def _floored(log, x, certain):
    """log x (or log1p x), not below LEAST_LOG, which stands where the logarithm is infinite and has no slope."""
    return np.where(certain, LEAST_LOG, np.maximum(log(np.where(certain, 0.5, x)), LEAST_LOG))


@op
def binary_cross_entropy(p, t):
    """y = -(t log p + (1 - t) log(1 - p)), the logarithms not below -100, p in [0, 1]"""
    return -(t * _floored(np.log, p, p == 0) + (1 - t) * _floored(np.log1p, -p, p == 1)), (p, t)

@binary_cross_entropy.grad_of("p")
def _(g, p, t): return g * (p - t) / np.maximum(p * (1 - p), LEAST_VARIANCE)

@binary_cross_entropy.grad_of("t")
def _(g, p, t): return g * (_floored(np.log1p, -p, p == 1) - _floored(np.log, p, p == 0))


@op(fresh="freed")
def linear_cross_entropy(hidden, weight, targets, bias=None, *, reduction="mean", ignore_index=-100, label_smoothing=0.0):
    """The cross-entropy of logits = hidden weightᵀ + bias, which are never all in memory: chunk by chunk, forward
    works out the gradients, too. hidden (..., D), weight (V, D), targets (...) -> one number"""
    precision = precision_of(weight, weight) if hidden.dtype == weight.dtype else None
    loss, dhidden, dweight, dbias = kernels.linear_cross_entropy_forward(
        hidden, weight, targets, bias, reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing,
        gradients=local.grad_enabled, precision=precision,
    )  # fmt: skip
    return loss, (hidden, weight, targets, bias, dhidden, dweight, dbias, precision)

@linear_cross_entropy.grad
def _(g, hidden, weight, targets, bias, dhidden, dweight, dbias, precision):
    dhidden, dweight, dbias = kernels.linear_cross_entropy_backward(g, dhidden, dweight, dbias)
    return dhidden, dweight, None, dbias

@linear_cross_entropy.composite
def _(hidden, weight, targets, bias, *, reduction="mean", ignore_index=-100, label_smoothing=0.0):
    losses = cross_entropy.op.composite(
        linear.op.composite(hidden, weight, bias), targets, ignore_index=ignore_index, label_smoothing=label_smoothing
    )
    return losses.sum() if reduction == "sum" else losses.sum() / int(np.count_nonzero(value(targets) != ignore_index))
