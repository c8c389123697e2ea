# ruff: noqa: F401, I001
"""The whole of `kernels` in plain NumPy: every formula forward and backward, as it stands in a textbook.

This is the one truth that the fast kernels are tested against, and the `kernels.use("numpy")` side. Each function has the
name, the arguments and the errors of its fast twin. It computes in the dtype it is given and allocates freely.

Letters: `g` is the incoming gradient, `dx` the gradient of `x`; a row is what lies along the last axis.
The families live beside this file: matrix products, norms, activations, losses, optimizer, attention.
"""
import numpy as np

from . import _NUMBA_MODULES, _REFERENCE_ONLY
from . import _check as check
from .reference_activation import (
    erf, erf_backward, erf_forward, expm1_backward, expm1_forward, geglu_backward, geglu_forward, gelu_backward, gelu_forward,
    relu_backward, relu_forward, silu_backward, silu_forward, softplus_backward, softplus_forward, swiglu_backward, swiglu_forward,
    tanh_backward, tanh_forward,
)
from .reference_attention import attention_backward, attention_decode, attention_forward
from .reference_loss import (
    cross_entropy_backward, cross_entropy_forward, linear_cross_entropy_backward, linear_cross_entropy_forward,
)
from .reference_matmul import matmul, matmul_backward, matmul_int8, quantize_int8, round_bfloat16
from .reference_norm import (
    add_layer_norm_backward, add_layer_norm_forward, add_rms_norm_backward, add_rms_norm_forward, layer_norm_backward,
    layer_norm_forward, rms_norm_backward, rms_norm_forward,
)
from .reference_optimizer import adamw_step, grad_norm

__all__ = [*_NUMBA_MODULES, *_REFERENCE_ONLY]


# ---- softmax ----------------------------------------------------------------------------------------------------------

def softmax_forward(x, axis=-1, out=None):
    """out_i = exp(x_i - max x) / Σ_j exp(x_j - max x)   along `axis`

    As in PyTorch a row of -inf alone, or one that holds +inf or NaN, gives NaN; an attention mask is attention's business.
    `out` may be `x` itself.
    """
    check.rows("x", x)
    axis = check.axis_of("softmax", axis, x.ndim)
    with np.errstate(invalid="ignore", over="ignore"):
        e = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
        y = e / e.sum(axis=axis, keepdims=True)
    return _into(out, y, x)


def softmax_backward(g, out, axis=-1):
    """dx = out · (g - Σ_j g_j out_j)"""
    check.like_array("g", g, check.rows("out", out))
    axis = check.axis_of("softmax", axis, out.ndim)
    return out * (g - (g * out).sum(axis=axis, keepdims=True))


def log_softmax_forward(x, axis=-1, out=None):
    """out_i = x_i - max x - log Σ_j exp(x_j - max x)"""
    check.rows("x", x)
    axis = check.axis_of("log_softmax", axis, x.ndim)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        z = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
        y = z - np.log(np.exp(z).sum(axis=axis, keepdims=True))
    return _into(out, y, x)


def log_softmax_backward(g, out, axis=-1):
    """dx = g - exp(out) Σ_j g_j"""
    check.like_array("g", g, check.rows("out", out))
    axis = check.axis_of("log_softmax", axis, out.ndim)
    return g - np.exp(out) * g.sum(axis=axis, keepdims=True)


def _into(out, y, x):
    """`check.into` for an `out` that may be x itself."""
    return check.into(out, y, () if check.same_place(out, x) else (x,))


# ---- rotary positions -------------------------------------------------------------------------------------------------

def rotary_forward(x, cos, sin, interleaved=False):
    """(y1, y2) = (x1 cos - x2 sin, x2 cos + x1 sin)   Su et al. 2021, section 3.4.2

    x (..., T, K); cos and sin (..., T, R/2) broadcast over the leading axes of x. The first R <= K features of a row turn:
    x1, x2 are its two halves (GPT-NeoX, Llama), or its even and odd places if `interleaved` (GPT-J); the rest passes through.
    """
    first, second = _rotary_halves(x, cos, sin, interleaved)
    y = x.copy()
    y[..., first] = x[..., first] * cos - x[..., second] * sin       # (..., T, R/2)
    y[..., second] = x[..., second] * cos + x[..., first] * sin
    return y


def rotary_backward(g, cos, sin, interleaved=False):
    """The inverse rotation: dx = rotary_forward(g, cos, -sin)"""
    _rotary_halves(g, cos, sin, interleaved)
    return rotary_forward(g, cos, -sin, interleaved)


def _rotary_halves(x, cos, sin, interleaved):
    check.rows("x", x)
    check.same_dtype("cos", check.rows("cos", cos), x)
    check.like_array("sin", sin, cos)
    half = cos.shape[-1]
    if 2 * half > x.shape[-1]:
        raise ValueError(f"cos: {half} angles turn {2 * half} features, but x has only {x.shape[-1]}; each angle stands once")
    lead, given = x.shape[:-1], cos.shape[:-1]
    if len(given) > len(lead) or any(a not in (1, b) for a, b in zip(given[::-1], lead[::-1])):
        raise ValueError(f"cos: shape {cos.shape} does not broadcast over x of shape {x.shape}")
    if interleaved:
        return slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    return slice(0, half), slice(half, 2 * half)


# ---- embedding --------------------------------------------------------------------------------------------------------

def embedding_forward(weight, ids, out=None):
    """out[..., :] = weight[ids[...]]   weight (V, D), ids any shape"""
    _table(weight)
    return check.into(out, weight[check.index_range("ids", ids, weight.shape[0])], (weight,))


def embedding_backward(g, ids, num_rows, out=None, padding_idx=None, accumulate=False):
    """dweight[v] = Σ over the places where ids = v of g   (num_rows, D)

    g (*ids.shape, D). Rows equal to `padding_idx` get no gradient. `out` is overwritten, or added to with `accumulate`.
    """
    _table_gradient(g, ids, num_rows, out, accumulate)
    shape = (num_rows, g.shape[-1])
    dweight = np.zeros(shape, g.dtype) if out is None else check.writable("out", out, shape, g.dtype, (g,))
    if out is not None and not accumulate:
        dweight[...] = 0
    keep = np.ones(ids.shape, bool) if padding_idx is None else ids != padding_idx
    np.add.at(dweight, ids[keep], g[keep])
    return dweight


def _table_gradient(g, ids, num_rows, out, accumulate):
    check.rows("g", g)
    check.index_range("ids", ids, num_rows)
    if g.shape[:-1] != ids.shape:
        raise ValueError(f"g: expected shape {(*ids.shape, 'D')}, one row for each id, got {g.shape}")
    if accumulate and out is None:
        raise ValueError("accumulate: needs an `out` to add to")


def _table(weight):
    check.float_array("weight", weight)
    if weight.ndim != 2:
        raise ValueError(f"weight: expected a table (V, D), got shape {weight.shape}")


# ---- dropout ----------------------------------------------------------------------------------------------------------

def dropout_forward(x, p, seed):
    """out_i = x_i · keep_i / (1 - p),  keep_i = random_bits(seed, i) >= p · 2^32

    i counts the elements in C order, so the mask is a function of (seed, i) alone: backward draws it again instead of
    storing it, and neither the number of threads nor the memory layout changes it.
    """
    check.float_array("x", x)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p: expected a probability in [0, 1], got {p}")
    if p == 1.0:
        return np.zeros(x.shape, x.dtype)
    keep = random_bits(seed, np.arange(x.size, dtype=np.uint64)) >= np.uint64(round(p * 2**32))
    return np.where(keep.reshape(x.shape), x * x.dtype.type(1.0 / (1.0 - p)), x.dtype.type(0))


def dropout_backward(g, p, seed):
    """dx = g · keep / (1 - p), with the same keep"""
    return dropout_forward(g, p, seed)


def random_bits(seed, counter):
    """32 random bits for each 64-bit counter: two rounds of a multiply-xorshift mixer, keyed by the seed.

    h = mix(mix(low ^ k0) + k1 + high · odd), mix = three xorshifts about two odd multipliers (a bijection of 32 bits with the
    low avalanche bias of Wellons' hash search); k0, k1 are the halves of splitmix64(seed), Steele et al. 2014.
    """
    k0, k1 = seed_keys(seed)
    counter = np.asarray(counter, np.uint64)
    low, high = counter.astype(np.uint32), (counter >> np.uint64(32)).astype(np.uint32)
    with np.errstate(over="ignore"):
        return _mix(_mix(low ^ k0) + k1 + high * np.uint32(0x9E3779B9))


def seed_keys(seed):
    """The two 32-bit keys of a seed: splitmix64, so that neighbouring seeds give unrelated keys."""
    mask = 2**64 - 1
    z = (int(seed) + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    z ^= z >> 31
    return np.uint32(z & 0xFFFFFFFF), np.uint32(z >> 32)


def _mix(h):
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x735A2D97)
    return h ^ (h >> np.uint32(15))
