"""Attention as one operation, on kernels that never store the attention pattern.

    pattern = softmax(scale · q kᵀ + bias, over the visible keys),   y = dropout(pattern) v

A query that may see no key gets zeros, and its gradients are zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import kernels
from kernels.attention import FEW_QUERIES
from kernels.attention_problem import make_problem
from kernels.reference_attention import random_bits, visible_keys

from .op import op
from .ops_common import plain_number, value
from .ops_linalg import precision_of
from .state import local

TRAINED_SCALE = "q * scale, and scale=1.0"


@op
def attention(q, k, v, bias=None, *, mask=None, key_mask=None, is_causal=False, window=None, query_offset=0, scale=None,
              dropout_p=0.0, seed=0):  # fmt: skip
    """y = softmax(scale · q kᵀ + bias) v over the keys that a query may see   Vaswani et al. 2017, arXiv:1706.03762

    q (B, H, T, K), k (B, Hkv, S, K), v (B, Hkv, S, V), H a multiple of Hkv; bias and mask broadcast to (B, H, T, S),
    True = may attend; key_mask (B, S); window (left, right) -> (B, H, T, V)
    """
    B, _, T, _ = q.shape
    S = k.shape[2]
    plain_number(scale, "scale", TRAINED_SCALE)
    newest = not window and (query_offset == S - T if is_causal else T == 1)  # the queries stand at the end, or see all
    if not local.grad_enabled and newest and T <= FEW_QUERIES and mask is None and key_mask is None and not dropout_p:
        return kernels.attention_decode(q, k, v, np.full(B, S), scale=scale, bias=bias), ()
    options = dict(mask=mask, key_mask=key_mask, is_causal=is_causal, window=window, query_offset=query_offset,
                   scale=scale, dropout_p=dropout_p, seed=seed)  # fmt: skip
    precision = precision_of(q, k)
    out, lse = kernels.attention_forward(q, k, v, bias=bias, precision=precision, **options)
    return out, (q, k, v, bias, out, lse, precision, options)

@attention.grad
def _(g, q, k, v, bias, out, lse, precision, options, *, needs):
    return kernels.attention_backward(g, q, k, v, out, lse, bias=bias, need_bias=needs[3], precision=precision, **options)

@attention.composite
def _(q, k, v, bias, **options):
    return attend(attention_pattern(q, k, bias, **options), v)


def attention_pattern(q: Any, k: Any, bias: Any = None, **options: Any) -> Any:
    """The pattern (B, H, T, S) that `attention` never shows, dropout included, in elementary operations; same options."""
    problem = make_problem(value(q), value(k), value(k), bias=value(bias), **options)
    B, H, groups, T, S = problem.B, problem.H, problem.Hkv, problem.T, problem.S
    queries = q.reshape((B, groups, H // groups, T, problem.K))
    scores = np.matmul(queries, np.expand_dims(np.swapaxes(k, -1, -2), 2)).reshape((B, H, T, S)) * problem.scale
    scores = scores if bias is None else scores + bias
    visible = visible_keys(problem)
    scores = np.where(visible, scores, -np.inf)
    top = value(scores).max(axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isinf(top), 0, top).astype(problem.dtype))
    total = weights.sum(axis=-1, keepdims=True)
    blind = value(total) == 0
    pattern = weights / np.where(blind, 1, total)
    return drop(pattern, problem) if problem.dropout else pattern


def drop(pattern: Any, problem: Any) -> Any:
    """The pattern with dropout: what the kernels drop for the same problem."""
    kept = random_bits(problem) >= np.uint32(problem.threshold)
    return np.where(kept, pattern * problem.keep_scale, 0)


def attend(pattern: Any, v: Any) -> Any:
    """y = pattern v, each of v's heads serving its group of query heads.  (B, H, T, S), (B, Hkv, S, V) -> (B, H, T, V)"""
    B, H, T, S = pattern.shape
    groups = v.shape[1]
    grouped = pattern.reshape((B, groups, H // groups, T, S))
    return np.matmul(grouped, np.expand_dims(v, 2)).reshape((B, H, T, v.shape[-1]))
