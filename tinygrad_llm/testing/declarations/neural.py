"""Declarations of ops_neural.py, ops_attention.py and ops_fused.py. The references are the textbook's formulas."""

import math

import numpy as np

from .forms import binary, call, draw, general

_erf = np.vectorize(math.erf, otypes=[float])


def _softmax(x, axis=-1):
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def _gelu(x, approximate="none"):
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _silu(x):
    return x / (1 + np.exp(-x))


def _layer_norm(x, weight, bias, eps=1e-5):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def _rms_norm(x, weight, eps=1e-6):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * (1 if weight is None else weight)


def _cross_entropy(logits, targets, ignore_index=-100, label_smoothing=0.0):
    logp = np.log(_softmax(logits))
    out = np.zeros(targets.shape)
    for place in np.ndindex(targets.shape):
        t = targets[place]
        if t != ignore_index:
            out[place] = -(1 - label_smoothing) * logp[(*place, t)] - label_smoothing * logp[place].mean()
    return out


def _linear_cross_entropy(hidden, weight, targets, bias, reduction="mean", **options):
    losses = _cross_entropy(hidden @ weight.T + (0 if bias is None else bias), targets, **options)
    return losses.sum() if reduction == "sum" else losses.sum() / (targets != options.get("ignore_index", -100)).sum()


def _rotary(x, cos, sin, interleaved=False):
    half = cos.shape[-1]
    z = x[..., 0 : 2 * half : 2] + 1j * x[..., 1 : 2 * half : 2] if interleaved else x[..., :half] + 1j * x[..., half : 2 * half]
    z = z * (cos + 1j * sin)
    y = x.copy()
    if interleaved:
        y[..., 0 : 2 * half : 2], y[..., 1 : 2 * half : 2] = z.real, z.imag
    else:
        y[..., :half], y[..., half : 2 * half] = z.real, z.imag
    return y


def _attention(q, k, v, bias, mask=None, key_mask=None, is_causal=False, window=None, query_offset=0, scale=None):
    """Query by query."""
    (B, H, T, K), (Hkv, S) = q.shape, k.shape[1:3]
    scale = 1 / math.sqrt(K) if scale is None else scale
    out = np.zeros((B, H, T, v.shape[-1]))
    for b, h, t in np.ndindex(B, H, T):
        seen = np.ones(S, bool) if mask is None else np.broadcast_to(mask, (B, H, T, S))[b, h, t].copy()
        s = np.arange(S)
        if key_mask is not None:
            seen &= key_mask[b]
        if is_causal:
            seen &= s <= t + query_offset
        if window is not None:
            seen &= (s >= t + query_offset - window[0]) & (s <= t + query_offset + window[1])
        scores = scale * (k[b, h * Hkv // H] @ q[b, h, t])
        scores = scores + (0 if bias is None else np.broadcast_to(bias, (B, H, T, S))[b, h, t])
        if seen.any():
            out[b, h, t] = _softmax(scores[seen]) @ v[b, h * Hkv // H][seen]
    return out


def _labels(*shape, classes, ignored=()):
    def make(rng):
        labels = rng.integers(0, classes, shape)
        for place in ignored:
            labels[place] = -100
        return labels

    return make


def _away(*shape):
    """Away from the kink at 0."""
    return lambda rng: draw(rng, shape, kinks=(0,))


def _kept(x, p, seed):
    """The dropout that the seed draws, read off an array of ones: what is tested is that it is linear and the same again."""
    import kernels

    return x * kernels.reference.dropout_forward(np.ones(x.shape), p, seed)


general(
    "linear", lambda x, w, b: x @ w.T + (0 if b is None else b), call((2, 3), (4, 3), (4,)), call((2, 2, 3), (4, 3), None),
    call((3,), (4, 3), (4,)), call((0, 3), (4, 3), (4,)), float32_error=8e-6,
)
for _name, _reference in (("softmax", _softmax), ("log_softmax", lambda x, axis=-1: np.log(_softmax(x, axis)))):
    general(_name, _reference, call((2, 3)), call((2, 3, 4), axis=1), call((5,), axis=0), call((0, 3)))
general(
    "layer_norm", _layer_norm, call((2, 3, 4), (4,), (4,)), call((2, 4), None, None), call((2, 4), (4,), None, eps=1e-2),
    call((0, 4), (4,), (4,)), float32_error=2e-5,
)
general(
    "rms_norm", _rms_norm, call((2, 3, 4), (4,)), call((2, 4), None), call((2, 4), (4,), eps=1e-2), call((0, 4), (4,)),
    float32_error=1e-5,
)
general("relu", lambda x: np.maximum(x, 0), call(_away(3, 4)), call(_away()), call((0, 3)))
general("gelu", _gelu, call((3, 4)), call((3, 4), approximate="tanh"), call((0, 3)))
general("silu", _silu, call((3, 4)), call(()), call((0, 3)))
general("softplus", lambda x: np.logaddexp(x, 0), call((3, 4)), call(()), call((0, 3)))
general(
    "elu", lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), call(_away(3, 4), alpha=0.7),
    call(_away()), call((0, 3)),
)
general("swiglu", lambda gate, up: _silu(gate) * up, call((3, 4), (3, 4)), call((0, 3), (0, 3)))
general(
    "geglu", lambda gate, up, approximate="none": _gelu(gate, approximate) * up, call((3, 4), (3, 4)),
    call((2, 4), (2, 4), approximate="tanh"), call((0, 3), (0, 3)),
)
_ANGLES = np.arange(6).reshape(3, 2)
general("rotary", _rotary, *(
    call((2, 3, width), cos=np.cos(_ANGLES), sin=np.sin(_ANGLES), interleaved=interleaved)
    for width in (4, 6) for interleaved in (False, True)
))  # fmt: skip
general(
    "embedding", lambda weight, ids, padding_idx=None: weight[ids], call((5, 3), _labels(2, 4, classes=5)),
    call((5, 3), lambda rng: np.array([0, 2, 3]), padding_idx=1), call((5, 3), _labels(0, classes=5)),
)
general("dropout", _kept, call((4, 5), p=0.3, seed=7), call((3,), p=1.0, seed=7), call((0, 3), p=0.5, seed=1))
general(
    "cross_entropy", _cross_entropy, call((4, 5), _labels(4, classes=5)),
    call((2, 3, 5), _labels(2, 3, classes=5, ignored=[(0, 1)]), label_smoothing=0.1),
    call((4, 5), _labels(4, classes=5), ignore_index=2), call((0, 5), _labels(0, classes=5)), float32_error=1e-5,
)
general(
    "linear_cross_entropy", _linear_cross_entropy, call((4, 3), (5, 3), _labels(4, classes=5), None),
    call((2, 3, 3), (5, 3), _labels(2, 3, classes=5, ignored=[(0, 1)]), (5,), label_smoothing=0.1),
    call((4, 3), (5, 3), _labels(4, classes=5), (5,), reduction="sum"), float32_error=1e-5,
)
binary(
    "binary_cross_entropy", lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)), a=(0.05, 0.95), b=(0.0, 1.0)
)
_MASK = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool)
_KEYS = np.array([[1, 1, 1, 0], [0, 1, 1, 1]], bool)
general(
    "attention", _attention,
    call((2, 2, 3, 4), (2, 2, 4, 4), (2, 2, 4, 5), None),
    call((2, 4, 3, 4), (2, 2, 4, 4), (2, 2, 4, 5), (4, 3, 4), mask=_MASK),
    call((1, 2, 4, 3), (1, 1, 4, 3), (1, 1, 4, 3), None, is_causal=True, scale=0.7),
    call((2, 1, 3, 2), (2, 1, 4, 2), (2, 1, 4, 2), (1, 1, 1, 4), key_mask=_KEYS, window=(1, 1)),
    float32_error=1e-5,
)


def _feed_forward(x, up, down, up_bias, down_bias, residual, activation="relu"):
    act = {"relu": lambda x: np.maximum(x, 0), "gelu": _gelu, "gelu_tanh": lambda x: _gelu(x, "tanh"), "silu": _silu}[activation]
    inner = act(x @ up.T + (0 if up_bias is None else up_bias))
    return inner @ down.T + (0 if down_bias is None else down_bias) + (0 if residual is None else residual)


def _self_attention(x, q, k, v, o, q_bias, k_bias, v_bias, o_bias, bias, residual, heads, kv_heads, **options):
    def split(weight, its_bias, count):
        y = x @ weight.T + (0 if its_bias is None else its_bias)
        return y.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)

    z = _attention(split(q, q_bias, heads), split(k, k_bias, kv_heads), split(v, v_bias, kv_heads), bias, **options)
    y = z.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1) @ o.T
    return y + (0 if o_bias is None else o_bias) + (0 if residual is None else residual)


general(
    "feed_forward", _feed_forward,
    call((2, 2, 3), (5, 3), (4, 5), (5,), (4,), (2, 2, 4), activation="gelu_tanh"),
    call((2, 3), (5, 3), (3, 5), None, None, None, activation="gelu"),
    call((2, 3), (5, 3), (3, 5), (5,), None, (2, 3), activation="silu"),
    call((0, 3), (5, 3), (3, 5), (5,), (3,), None, activation="silu"), float32_error=1e-5,
)
general(  # the gradient of a key's bias is zero: it moves all scores of a query alike
    "self_attention", _self_attention,
    call((2, 3, 4), (4, 4), (4, 4), (4, 4), (5, 4), (4,), None, (4,), (5,), None, (2, 3, 5), heads=2, kv_heads=2, is_causal=True),
    call((2, 3, 3), (4, 3), (2, 3), (2, 3), (3, 4), None, None, None, None, (2, 3, 3), None, heads=2, kv_heads=1, scale=0.7),
    call((2, 4, 3), (2, 3), (2, 3), (2, 3), (3, 2), (2,), None, (2,), None, None, (2, 4, 3), heads=1, kv_heads=1, key_mask=_KEYS),
    float32_error=2e-5,
)
