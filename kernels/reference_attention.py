"""Attention in plain NumPy, forward, backward and decoding: the definition that the fast kernels are held to.

    scores  = scale · q kᵀ + bias,   -inf where a key is hidden          (B, H, T, S)
    pattern = exp(scores - lse),     lse = log Σ_s exp(scores)           (B, H, T)
    out     = dropout(pattern) v                                         (B, H, T, V)

A row with no visible key has out = 0 and lse = -inf. Stores the whole pattern: memory O(T·S).
Paper: Vaswani et al. 2017, "Attention is all you need", section 3.2.1.
"""
import numpy as np

from kernels.arrays import empty
from kernels.attention_problem import check_array, check_out, make_problem, newest
from kernels.reference_matmul import round_bfloat16


def attention_forward(q, k, v, *, out=None, **options):
    """Scaled dot-product attention.

    q (B, H, T, K), k (B, Hkv, S, K), v (B, Hkv, S, V), H a multiple of Hkv -> out (B, H, T, V), lse (B, H, T).
    precision "bfloat16" allows the operands of the products, q, k, v, the pattern, g and dscores, to be rounded to it; the fast
    version does so on matrix tiles, and there q with the scale.
    """
    from kernels import attention_reach

    p = make_problem(q, k, v, **options)
    out = output_buffer(out, (p.B, p.H, p.T, p.V), p.dtype, {"q": q, "k": k, "v": v, "bias": p.bias})
    lse = np.empty((p.B, p.H, p.T), p.dtype)
    attention_reach.forward(_forward, p, q, k, v, out, lse)
    return out, lse


def attention_backward(g, q, k, v, out, lse, *, need_bias=False, grads=(None, None, None), **options):
    """Gradients of `attention_forward`.

        dpattern = g vᵀ;   dscores = pattern · (dpattern - Σ g·out);   dq = scale · dscores k;   dk = scale · dscoresᵀ q

    g, out (B, H, T, V), lse (B, H, T) -> dq, dk, dv shaped as q, k, v and dbias shaped as bias (None unless need_bias).
    """
    from kernels import attention_reach

    p = make_problem(q, k, v, **options)
    results = gradient_buffers(p, grads, need_bias, g=g, q=q, k=k, v=v, out=out, lse=lse)
    attention_reach.backward(_backward, p, g, q, k, v, out, lse, *results)
    return results


def _forward(p, q, k, v, out, lse):
    """Fill out and lse; whether all numbers are finite."""
    pattern, lse[...] = _pattern(q, k, p)
    kept = _dropout_mask(p)
    out[...] = _rounded(pattern if kept is None else pattern * kept, p) @ _rounded(_expand(v, p), p)
    out[np.isneginf(lse)] = 0.0
    return np.isfinite(out).all()


def _backward(p, g, q, k, v, out, lse, dq, dk, dv, dbias):
    """Fill dq, dk, dv and, unless it is None, dbias; whether all numbers are finite."""
    pattern, _ = _pattern(q, k, p, lse)
    kept = _dropout_mask(p)
    g16 = _rounded(g, p)
    dpattern = g16 @ _rounded(_expand(v, p), p).swapaxes(-1, -2)                    # (B, H, T, S)
    if kept is not None:
        dpattern *= kept
    dscores = np.where(pattern == 0, 0, pattern * (dpattern - (g * out).sum(-1, keepdims=True)))
    if dbias is not None:
        dbias[...] = bias_gradient(dscores, p)
    dscores = _rounded(dscores, p)
    dq[...] = p.scale * (dscores @ _rounded(_expand(k, p), p))
    blind = np.isneginf(lse)[..., None]                                             # rows with no visible key
    dk[...] = p.scale * shared_sum(dscores.swapaxes(-1, -2) @ np.where(blind, 0, _rounded(q, p)), p)
    dv[...] = shared_sum(_rounded(pattern if kept is None else pattern * kept, p).swapaxes(-1, -2) @ np.where(blind, 0, g16), p)
    return all(np.isfinite(x).all() for x in (dq, dk, dv))


def attention_decode(q, k_cache, v_cache, lengths, *, out=None, scale=None, window=None, bias=None):
    """The newest token or tokens of each sequence against a preallocated cache that already holds them.

    q (B, H, T, K), k_cache (B, Hkv, capacity, K), v_cache (B, Hkv, capacity, V), lengths (B,) keys in use, the T new ones
    included -> out (B, H, T, V). Causal: query t of batch b sees keys s <= lengths[b] - T + t.
    """
    return attention_forward(q, k_cache, v_cache, out=out, bias=bias, scale=scale, window=window, is_causal=True,
                             query_offset=newest(lengths, q.shape[2]), kv_lengths=lengths)[0]


def output_buffer(out, shape, dtype, inputs):
    """The caller's buffer for out, or a new one whose memory order is (batch, positions, heads, width)."""
    return _empty(*shape, dtype) if out is None else check_out("out", out, shape, dtype, inputs)


def gradient_buffers(p, grads, need_bias, **inputs):
    """dq, dk, dv and dbias for inputs that fit p: the caller's buffers, or new ones whose memory order is (batch, positions, heads,
    width); dbias is zeros shaped as the bias, or None."""
    check_array("g", inputs["g"], (p.B, p.H, p.T, p.V), p.dtype)
    check_array("out", inputs["out"], (p.B, p.H, p.T, p.V), p.dtype)
    check_array("lse", inputs["lse"], (p.B, p.H, p.T), p.dtype)
    if need_bias and p.bias_shape is None:
        raise ValueError("attention: need_bias=True, but no bias was given")
    inputs["bias"] = p.bias
    shapes = {"dq": (p.B, p.H, p.T, p.K), "dk": (p.B, p.Hkv, p.S, p.K), "dv": (p.B, p.Hkv, p.S, p.V)}
    made = []
    for (name, shape), given in zip(shapes.items(), grads, strict=True):
        made.append(_empty(*shape, p.dtype) if given is None else check_out(name, given, shape, p.dtype, inputs))
        inputs[name] = made[-1]
    return (*made, np.zeros(p.bias_shape, p.dtype) if need_bias else None)


def bias_gradient(dscores, p):
    """Sum (B, H, T, S) down to the shape of the bias."""
    shape = (1,) * (4 - len(p.bias_shape)) + tuple(p.bias_shape)
    axes = tuple(axis for axis in range(4) if shape[axis] == 1)
    return dscores.sum(axis=axes, keepdims=True).reshape(p.bias_shape)


def random_bits(p):
    """32 bits per (b, h, t, s) from a counter: the same for every tiling, thread and backend.

    mix(row(t) + column(s)) with row and column themselves mixed from (seed, b, h); see `mix`.
    """
    low, high = np.moveaxis(stream_keys(p).reshape(p.B, p.H, 1, 2), -1, 0)
    row = mix(np.arange(p.T, dtype=np.uint32) ^ low)                                # (B, H, T)
    column = mix(np.arange(p.S, dtype=np.uint32) ^ high)                            # (B, H, S)
    return mix(row[..., :, None] + column[..., None, :])                            # (B, H, T, S)


def stream_keys(p):
    """Two 32-bit keys per (batch, head), from which `random_bits` begins: (B·H, 2) uint32."""
    with np.errstate(over="ignore"):
        stream = mix64(np.uint64(p.seed) + np.arange(p.B * p.H, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return np.stack([stream & np.uint64(0xFFFFFFFF), stream >> np.uint64(32)], axis=1).astype(np.uint32)


def mix(x):
    """A bijection of 32-bit words in which each input bit flips each output bit about half the time (Wellons, "lowbias32")."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def mix64(x):
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def visible_keys(p):
    """True where query t may see key s, from spans, holes and mask together: (B, 1 or H, T, S) bool."""
    s = np.arange(p.S)
    position = p.offset[:, None, None] + np.arange(p.T)[:, None]                    # (B, T, 1)
    seen = (s >= position - p.left) & (s <= position + p.right)
    seen &= (s >= p.k_lo[:, None, None]) & (s < p.k_hi[:, None, None])
    seen &= np.arange(p.T)[:, None] < p.q_len[:, None, None]
    if p.holes is not None:
        seen &= p.holes[:, None, :]
    seen = seen[:, None]                                                            # (B, 1, T, S)
    return seen if p.mask is None else seen & p.mask


def _pattern(q, k, p, lse=None):
    """exp(scores - lse), and lse itself unless given."""
    scores = (_rounded(q, p) @ _rounded(_expand(k, p), p).swapaxes(-1, -2)) * p.dtype.type(p.scale)
    if p.bias is not None:
        scores = scores + p.bias
    scores = np.where(visible_keys(p), scores, -np.inf)
    if lse is None:
        top = scores.max(-1, keepdims=True, initial=-np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.exp(scores - np.where(np.isneginf(top), 0, top))
            total = weights.sum(-1, keepdims=True)
            lse = (top + np.log(total))[..., 0].astype(p.dtype)
            return np.where(total == 0, 0, weights / total), lse
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(lse)[..., None], 0, np.exp(scores - lse[..., None])).astype(p.dtype, copy=False), lse


def _rounded(x, p):
    """x as an operand of a product in the problem's precision."""
    return x if p.precision is None else round_bfloat16(x)


def _dropout_mask(p):
    """0 where a score is dropped, 1/(1-dropout) where it is kept; None without dropout."""
    if p.dropout == 0.0:
        return None
    return np.where(random_bits(p) >= np.uint32(p.threshold), p.dtype.type(p.keep_scale), p.dtype.type(0))


def _expand(x, p):
    """Give each query head its own copy of the key head it shares; keys outside the span count as zero, whatever they hold.

    (B, Hkv, S, K) -> (B, H, S, K)
    """
    s = np.arange(p.S)
    inside = (s >= p.k_lo[:, None]) & (s < p.k_hi[:, None])
    if not inside.all():
        x = np.where(inside[:, None, :, None], x, p.dtype.type(0))
    return for_each_head(x, p)


def for_each_head(x, p):
    """(B, Hkv, S, K) -> (B, H, S, K): a copy for each query head that shares a key head."""
    return x if p.Hkv == p.H else np.repeat(x, p.H // p.Hkv, axis=1)


def shared_sum(dx, p):
    """Sum the gradients of the query heads that share a key head. (B, H, S, K) -> (B, Hkv, S, K)"""
    return dx if p.Hkv == p.H else dx.reshape(p.B, p.Hkv, p.H // p.Hkv, *dx.shape[2:]).sum(2)


def _empty(batch, heads, positions, width, dtype):
    """An array (batch, heads, positions, width) laid out as (batch, positions, heads, width): merging heads is then free."""
    return empty((batch, positions, heads, width), dtype).swapaxes(1, 2)
