"""The same attention in plain loops over arrays: no addresses, no vectors, one query at a time, O(S) memory.

It is the first rung of the ladder in docs/kernels/attention.md, what runs where nothing is compiled (NUMBA_DISABLE_JIT=1: a
debugger can step through it), and what NUMBA_BOUNDSCHECK=1 can check. Same results as the tiles, rounding aside.
"""
import math

import numpy as np

from kernels._jit import jit
from kernels.reference_attention import stream_keys


def forward(p, q, k, v, out, lse):
    """Fill out (B, H, T, V) and lse (B, H, T) for the problem `p`."""
    forward_rows(q, k, v, out, lse, *_hidden(p), _bias(p), _keys(p), p.threshold if p.dropout else 0,
                 p.dtype.type(p.scale), p.dtype.type(p.keep_scale))


def backward(p, g, q, k, v, out, lse, dq, dk, dv, dbias):
    """Fill dq, dk, dv and, unless it is None, dbias."""
    for gradient in (dq, dk, dv):
        gradient[...] = 0
    full = (p.B, p.H, p.T, p.S)
    strides = (0, 0, 0, 0) if dbias is None else np.broadcast_to(dbias, full).strides
    base = np.zeros(1, p.dtype) if dbias is None else dbias
    wide = np.lib.stride_tricks.as_strided(base, full, strides)
    backward_rows(g, q, k, v, out, lse, dq, dk, dv, wide, *_hidden(p), _bias(p), _keys(p), p.threshold if p.dropout else 0,
                  p.dtype.type(p.scale), p.dtype.type(p.keep_scale))


def _hidden(p):
    """Everything that hides keys: spans (B, 6), and a (B, H, T, S) boolean view."""
    spans = np.stack([p.offset, p.q_len, p.k_lo, p.k_hi, np.full(p.B, p.left), np.full(p.B, p.right)], axis=1)
    seen = np.ones((1, 1, 1, 1), bool) if p.mask is None else p.mask
    if p.holes is not None:
        seen = seen & p.holes[:, None, None, :]
    return spans, np.broadcast_to(seen, (p.B, p.H, p.T, p.S))


def _bias(p):
    return np.broadcast_to(np.zeros((), p.dtype), (p.B, p.H, p.T, p.S)) if p.bias is None else p.bias


def _keys(p):
    return stream_keys(p).astype(np.int64) if p.dropout else np.zeros((p.B * p.H, 2), np.int64)


@jit
def mix(x):
    """`reference_attention.mix` on one word held in an int64."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


@jit
def row_span(spans, t, S):
    """Keys [lo, hi) that query t may see; none for an absent query."""
    offset, q_len, k_lo, k_hi, left, right = spans
    if t >= q_len:
        return 0, 0
    lo, hi = max(k_lo, offset + t - left), min(k_hi, offset + t + right + 1, S)
    return lo, max(lo, hi)


@jit
def score_row(scores, query, keys, bias, seen, lo, hi, scale):
    """scores[s] = scale · q·k_s + bias_s, -inf where hidden."""
    for s in range(lo, hi):
        total = scale * 0
        for c in range(query.shape[0]):
            total += query[c] * keys[s, c]
        scores[s] = total * scale + bias[s] if seen[s] else -np.inf


@jit
def kept(words, t, s, threshold):
    """Whether dropout keeps this score."""
    return threshold == 0 or mix((mix(t ^ words[0]) + mix(s ^ words[1])) & 0xFFFFFFFF) >= threshold


@jit
def forward_rows(q, k, v, out, lse, spans, seen, bias, words, threshold, scale, keep):
    B, H, T, K = q.shape
    group = max(H // max(k.shape[1], 1), 1)
    S, V = k.shape[2], v.shape[3]
    scores = np.empty(S, q.dtype)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                lo, hi = row_span(spans[b], t, S)
                score_row(scores, q[b, h, t], k[b, h // group], bias[b, h, t], seen[b, h, t], lo, hi, scale)
                top, total = -np.inf, 0.0
                for s in range(lo, hi):
                    if scores[s] > top:
                        top = scores[s]
                row = out[b, h, t]
                for c in range(V):
                    row[c] = 0
                for s in range(lo, hi):
                    weight = 0.0 if scores[s] == -np.inf else math.exp(scores[s] - top)
                    total += weight
                    if weight != 0 and kept(words[b * H + h], t, s, threshold):
                        for c in range(V):
                            row[c] += weight * (keep if threshold != 0 else 1.0) * v[b, h // group, s, c]
                for c in range(V):
                    row[c] = row[c] / total if total != 0 else 0.0
                lse[b, h, t] = top + math.log(total) if total != 0 else -np.inf


@jit
def backward_rows(g, q, k, v, out, lse, dq, dk, dv, dbias, spans, seen, bias, words, threshold, scale, keep):
    B, H, T, K = q.shape
    group = max(H // max(k.shape[1], 1), 1)
    S, V = k.shape[2], v.shape[3]
    scores = np.empty(S, q.dtype)
    for b in range(B):
        for h in range(H):
            shared = h // group
            for t in range(T):
                lo, hi = row_span(spans[b], t, S)
                if lse[b, h, t] == -np.inf:
                    continue
                score_row(scores, q[b, h, t], k[b, shared], bias[b, h, t], seen[b, h, t], lo, hi, scale)
                delta = 0.0
                for c in range(V):
                    delta += g[b, h, t, c] * out[b, h, t, c]
                for s in range(lo, hi):
                    if scores[s] == -np.inf:
                        continue
                    weight = math.exp(scores[s] - lse[b, h, t])
                    factor = 0.0
                    if kept(words[b * H + h], t, s, threshold):
                        factor = keep if threshold != 0 else 1.0
                    dweight = 0.0
                    for c in range(V):
                        dweight += g[b, h, t, c] * v[b, shared, s, c]
                        dv[b, shared, s, c] += weight * factor * g[b, h, t, c]
                    dscore = weight * (dweight * factor - delta)
                    dbias[b, h, t, s] += dscore
                    for c in range(K):
                        dq[b, h, t, c] += scale * dscore * k[b, shared, s, c]
                        dk[b, shared, s, c] += scale * dscore * q[b, h, t, c]
