"""Whole parts of a layer as one operation: attention with its projections, and the feed-forward.

The numbers are those of `linear`, `attention` and the activations; what is saved is time between them. The projections
that read the same input are one product, also backward, where their weights and the gradients of q, k and v lie side by
side; biases, activations and the residual are added while a block of the result is in the cache; and a layer records
two nodes where it had some twenty.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import kernels
from kernels.arrays import address, empty

from .op import op
from .ops_attention import attention
from .ops_linalg import column_sums, precision_of, product, rows_of
from .ops_neural import gelu, linear, relu, silu
from .ops_shape import reshape, transpose

#: what `feed_forward` takes for its activation -> (its kernels' name, keywords)
VARIANTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "relu": ("relu", ()), "gelu": ("gelu", ("none",)), "gelu_tanh": ("gelu", ("tanh",)), "silu": ("silu", ()),
}  # fmt: skip


def affine(rows, weight, bias, precision, **epilogue):
    """rows weightᵀ + bias, and what else `kernels.matmul` does to a block that it has made."""
    return kernels.matmul(rows, weight, transpose_b=True, bias=bias, precision=precision, **epilogue)


# -- feed-forward ------------------------------------------------------------------------------------------------------


@op(fresh=True)
def feed_forward(x, up, down, up_bias=None, down_bias=None, residual=None, *, activation="relu"):
    """y = act(x upᵀ + up_bias) downᵀ + down_bias + residual   Vaswani et al. 2017 §3.3

    x (..., D), up (F, D), down (N, F), residual (..., N) -> (..., N); activation: "relu", "gelu", "gelu_tanh" or "silu"
    """
    if activation not in VARIANTS:
        raise ValueError(f"activation: expected one of {list(VARIANTS)}, got {activation!r}")
    rows, precision = rows_of(x), precision_of(x, up)
    pre = None if activation == "relu" else empty((len(rows), len(up)), x.dtype)
    post = affine(rows, up, up_bias, precision, activation=activation, pre=pre)
    y = affine(post, down, down_bias, precision, residual=None if residual is None else rows_of(residual))
    saved = (x, up, down, up_bias, down_bias, residual, post if pre is None else pre, activation, precision)
    return y.reshape(*x.shape[:-1], len(down)), saved

@feed_forward.grad
def _(g, x, up, down, up_bias, down_bias, residual, inner, activation, precision, *, needs):
    """inner: what the activation was applied to, from which its result is made again beside the slopes (a quarter of what a layer
    keeps); for ReLU its result, whose signs tell the slopes."""
    g_rows, (kernel, variant) = rows_of(g), VARIANTS[activation]
    post = (empty(inner.shape, inner.dtype),) if needs[2] and activation != "relu" else ()
    d_pre = getattr(kernels, f"{kernel}_backward")(product(g_rows, down, precision), inner, *variant, *post)
    d_down = product(g_rows.T, post[0] if post else inner, precision) if needs[2] else None
    del post
    return (
        product(d_pre, up, precision).reshape(x.shape) if needs[0] else None,
        product(d_pre.T, rows_of(x), precision) if needs[1] else None,
        d_down,
        column_sums(d_pre) if needs[3] else None,
        column_sums(g_rows) if needs[4] else None,
        g if needs[5] else None,
    )

@feed_forward.composite
def _(x, up, down, up_bias, down_bias, residual, *, activation="relu"):
    pre = linear.op.composite(x, up, up_bias)
    if activation in ("gelu", "gelu_tanh"):
        post = gelu.op.composite(pre, approximate="tanh" if activation == "gelu_tanh" else "none")
    else:
        post = {"relu": relu, "silu": silu}[activation].op.composite(pre)
    y = linear.op.composite(post, down, down_bias)
    return y if residual is None else y + residual


# -- attention ---------------------------------------------------------------------------------------------------------


def view_side_by_side(arrays):
    """The rows of all arrays under one another, (N₁ + N₂ + ..., ...), as a view where they lie so in memory, as in an optimizer's
    flat storage; else None."""
    first = arrays[0]
    start, base = address(first), first.base
    if type(base) is not np.ndarray or not base.flags.c_contiguous:
        return None
    expected, rows = start, 0
    for array in arrays:
        if address(array) != expected or array.base is not base or not array.flags.c_contiguous:
            return None
        expected, rows = expected + array.nbytes, rows + len(array)
    view = np.ndarray((rows, *first.shape[1:]), first.dtype, base, start - address(base))
    view.flags.writeable = False
    return view


def side_by_side(arrays):
    """The same as a copy where it is no view."""
    view = view_side_by_side(arrays)
    return np.concatenate(arrays) if view is None else view


def biases_side_by_side(biases, weights):
    """The same of biases, with zeros for one that is missing; None where all are."""
    if all(b is None for b in biases):
        return None
    return side_by_side([np.zeros(len(w), w.dtype) if b is None else b for b, w in zip(biases, weights, strict=True)])


def cut(qkv, heads, kv_heads):
    """q (B, H, T, K), k and v (B, Hkv, T, K) as views of (B, T, (H + 2 Hkv) K)."""
    B, T, width = qkv.shape
    parts = qkv.reshape(B, T, heads + 2 * kv_heads, width // (heads + 2 * kv_heads)).transpose(0, 2, 1, 3)
    return parts[:, :heads], parts[:, heads : heads + kv_heads], parts[:, heads + kv_heads :]


def continue_attention(x, qkv, o, qkv_bias, o_bias, residual, append, *, heads, kv_heads, rotary, **options):
    """`self_attention` on ndarrays for positions that follow others, without a gradient: what generation does all the time.

    qkv ((H + 2 Hkv) K, D) and qkv_bias hold the three projections under one another; append(k, v), both (B, Hkv, T, K), stores
    the new positions and returns all; rotary (cos, sin) or None; the options are those of `attention`
    """
    (B, T, _), precision = x.shape, precision_of(x, qkv)
    q, k, v = cut(affine(rows_of(x), qkv, qkv_bias, precision).reshape(B, T, -1), heads, kv_heads)
    if rotary is not None:
        q, k = (kernels.rotary_forward(part, *rotary) for part in (q, k))
    z = attention.op.forward(q, *append(k, v), **options)[0]
    return affine(merged(z), o, o_bias, precision, residual=None if residual is None else rows_of(residual)).reshape(B, T, -1)


@op(fresh=True)
def self_attention(x, q, k, v, o, q_bias=None, k_bias=None, v_bias=None, o_bias=None, bias=None, residual=None, *, heads,
                   kv_heads, mask=None, key_mask=None, is_causal=False, window=None, query_offset=0, scale=None, dropout_p=0.0,
                   seed=0):  # fmt: skip
    """y = attention(x qᵀ + q_bias, x kᵀ + k_bias, x vᵀ + v_bias, bias) oᵀ + o_bias + residual

    x (B, T, D), q (H·K, D), k and v (Hkv·K, D), o (N, H·K), bias broadcasts to (B, H, T, T), residual (B, T, N) -> (B, T, N);
    the other options are those of `attention`
    """
    (B, T, _), precision = x.shape, precision_of(x, q)
    options = dict(mask=mask, key_mask=key_mask, is_causal=is_causal, window=window, query_offset=query_offset, scale=scale,
                   dropout_p=dropout_p, seed=seed, precision=precision)  # fmt: skip
    added_bias = biases_side_by_side((q_bias, k_bias, v_bias), (q, k, v))
    qkv = affine(rows_of(x), side_by_side((q, k, v)), added_bias, precision).reshape(B, T, -1)
    z, lse = kernels.attention_forward(*cut(qkv, heads, kv_heads), bias=bias, **options)  # (B, H, T, K), in memory (B, T, H, K)
    added = None if residual is None else rows_of(residual)
    y = affine(merged(z), o, o_bias, precision, residual=added).reshape(B, T, -1)
    statics = (heads, kv_heads, options)
    return y, (x, q, k, v, o, q_bias, k_bias, v_bias, o_bias, bias, residual, qkv, z, lse, statics, precision)

def in_three(x, first, second):
    """The rows of x before `first`, before `second` and after; np.split takes ten times as long"""
    return x[:first], x[first:second], x[second:]

def merged(z):
    """(B, H, T, K) -> (B·T, H·K), no copy of what the kernels make"""
    return z.transpose(0, 2, 1, 3).reshape(-1, z.shape[1] * z.shape[3])

@self_attention.grad
def _(g, x, q, k, v, o, q_bias, k_bias, v_bias, o_bias, bias, residual, qkv, z, lse, statics, precision, *, needs):
    (heads, kv_heads, options), g_rows = statics, rows_of(g)
    B, H, T, K = z.shape
    dz = product(g_rows, o, precision).reshape(B, T, H, K).transpose(0, 2, 1, 3)
    d_qkv = empty(qkv.shape, qkv.dtype)
    into = cut(d_qkv, heads, kv_heads)
    *_, d_bias = kernels.attention_backward(
        dz, *cut(qkv, heads, kv_heads), z, lse, bias=bias, need_bias=needs[9], grads=into, **options
    )
    d_rows, ends = rows_of(d_qkv), (len(q), len(q) + len(k))
    d_weights = in_three(product(d_rows.T, rows_of(x), precision), *ends) if any(needs[1:4]) else (None,) * 3
    d_biases = in_three(column_sums(d_rows), *ends) if any(needs[5:8]) else (None,) * 3
    return (
        product(d_rows, side_by_side((q, k, v)), precision).reshape(x.shape) if needs[0] else None,
        *d_weights,
        product(g_rows.T, merged(z), precision) if needs[4] else None,
        *d_biases,
        column_sums(g_rows) if needs[8] else None,
        d_bias,
        g if needs[10] else None,
    )

@self_attention.composite
def _(x, q, k, v, o, q_bias, k_bias, v_bias, o_bias, bias, residual, *, heads, kv_heads, **options):
    def head_by_head(weight, its_bias, count):
        y = linear.op.composite(x, weight, its_bias)
        return transpose(reshape(y, shape=(*x.shape[:2], count, weight.shape[0] // count)), axes=(0, 2, 1, 3))

    each = [head_by_head(q, q_bias, heads), head_by_head(k, k_bias, kv_heads), head_by_head(v, v_bias, kv_heads)]
    z = transpose(attention.op.composite(*each, bias, **options), axes=(0, 2, 1, 3))
    y = linear.op.composite(reshape(z, shape=(*x.shape[:2], o.shape[1])), o, o_bias)
    return y if residual is None else y + residual
