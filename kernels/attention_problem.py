"""What attention is asked to compute: arguments checked once, for both backends, and turned into one plain record.

Every way of hiding keys becomes one of three things:

    span   query t of batch b may see keys lo <= s < hi, with lo and hi known from (b, t) alone:
           causal order, sliding windows, ragged lengths and padding at either end. Blocks outside are never computed.
    hole   a (B, S) key mask with gaps between the first and the last visible key
    mask   an arbitrary boolean array, True = may attend
"""
import math
from dataclasses import dataclass, field

import numpy as np

from kernels._check import FLOATS, overlaps_itself
from kernels.reference_matmul import check_precision

UNLIMITED = 1 << 40          # a window wider than any sequence


@dataclass(slots=True)
class Problem:
    """Shapes B H Hkv T S K V of one attention call, and what hides which key."""
    B: int
    H: int
    Hkv: int
    T: int
    S: int
    K: int                   # width of q and k
    V: int                   # width of v and out
    dtype: np.dtype
    scale: float
    left: int                # query at position p sees keys p-left .. p+right
    right: int
    offset: np.ndarray       # (B,) position of query 0
    q_len: np.ndarray        # (B,) queries at or past it are absent
    k_lo: np.ndarray         # (B,) keys before it are hidden
    k_hi: np.ndarray         # (B,) keys at or past it are hidden
    holes: np.ndarray | None     # (B, S) bool, only if it hides a key between k_lo and k_hi
    mask: np.ndarray | None      # (B, H, T, S) bool view, True = may attend
    bias: np.ndarray | None      # (B, H, T, S) view, stride 0 where broadcast
    bias_shape: tuple | None     # the caller's own shape
    dropout: float
    threshold: int           # a score is dropped when its 32 random bits are below this
    keep_scale: float
    seed: int
    precision: str | None    # of the products: None for the dtype's own
    plans: dict = field(default_factory=dict, compare=False)     # of the calls that it stands for (`attention_plan`)


def make_problem(q, k, v, *, bias=None, mask=None, key_mask=None, is_causal=False, window=None, query_offset=0,
                 scale=None, dropout_p=0.0, seed=0, q_lengths=None, kv_lengths=None, precision=None):
    """Check everything a caller can get wrong; raise TypeError or ValueError naming the argument."""
    B, H, Hkv, T, S, K, V = _shapes(q, k, v)
    full = (B, H, T, S)
    left, right = _window(window, is_causal)
    k_lo, k_hi, holes = _key_span(key_mask, _counts("kv_lengths", kv_lengths, B, S), B, S)
    bias_shape = None if bias is None else np.shape(bias)
    if not 0.0 <= dropout_p <= 1.0:
        raise ValueError(f"attention: dropout_p must be a probability in [0, 1], got {dropout_p}")
    return Problem(
        B, H, Hkv, T, S, K, V, q.dtype, _scale(scale, K), left, right, _offsets(query_offset, B),
        _counts("q_lengths", q_lengths, B, T), k_lo, k_hi, holes,
        _broadcast("mask", mask, full, np.dtype(bool)), _broadcast("bias", bias, full, q.dtype), bias_shape,
        float(dropout_p), min(round(dropout_p * 2**32), 2**32 - 1),
        0.0 if dropout_p == 1.0 else 1.0 / (1.0 - dropout_p), int(seed) % 2**64,
        check_precision(precision, q))


MOST_KEPT = 256              # of which the calls of one model take a few


def keep(kept, key, value):
    """`value`, which calls with an equal key find in `kept` from now on."""
    if len(kept) >= MOST_KEPT:
        kept.clear()
    kept[key] = value
    return value


def check_array(name, x, shape, dtype):
    """An ndarray of exactly this shape and dtype."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"attention: {name} must be a numpy array, got {type(x).__name__}")
    if x.shape != tuple(shape):
        raise ValueError(f"attention: {name} must have shape {tuple(shape)}, got {x.shape}")
    if x.dtype != dtype:
        raise TypeError(f"attention: {name} must have dtype {dtype} like q, got {x.dtype}; use {name}.astype({dtype})")
    return x


def check_out(name, out, shape, dtype, inputs):
    """A buffer the kernel may write to: right shape, writable, rows contiguous, no memory shared with an input."""
    check_array(name, out, shape, dtype)
    if not out.flags.writeable:
        raise ValueError(f"attention: {name} is read-only; pass an array with flags.writeable")
    if out.size and out.shape[-1] > 1 and out.strides[-1] != out.itemsize:
        raise ValueError(f"attention: the last axis of {name} must be contiguous, got strides {out.strides}")
    if overlaps_itself(out):
        raise ValueError(f"attention: {name} overlaps itself, several of its elements are one place in memory")
    for other, x in inputs.items():
        if x is not None and np.may_share_memory(out, x) and np.shares_memory(out, x):
            raise ValueError(f"attention: {name} overlaps {other}; the kernel reads {other} while it writes {name}")
    return out


def _shapes(q, k, v):
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, np.ndarray):
            raise TypeError(f"attention: {name} must be a numpy array, got {type(x).__name__}")
        if x.ndim != 4:
            raise ValueError(f"attention: {name} must have 4 axes (batch, heads, positions, width), got shape {x.shape}")
    if q.dtype not in FLOATS:
        raise TypeError(f"attention: q must be float32 or float64, got {q.dtype}; use q.astype(np.float32)")
    B, H, T, K = q.shape
    Hkv, S, V = k.shape[1], k.shape[2], v.shape[3]
    if Hkv == 0 and H or Hkv and H % Hkv:
        raise ValueError(f"attention: q has {H} heads and k has {Hkv}; the heads of q must be a multiple of those of k")
    check_array("k", k, (B, Hkv, S, K), q.dtype)
    check_array("v", v, (B, Hkv, S, V), q.dtype)
    return B, H, Hkv, T, S, K, V


def _scale(scale, K):
    if scale is None:
        return 1.0 / math.sqrt(max(K, 1))
    scale = float(scale)
    if not math.isfinite(scale):
        raise ValueError(f"attention: scale must be finite, got {scale}")
    return scale


def _window(window, is_causal):
    """(left, right) reach around the query's own position; an int w means the w nearest on either side, itself included."""
    left = right = UNLIMITED
    if window is not None:
        pair = (window - 1, window - 1) if isinstance(window, (int, np.integer)) else tuple(window)
        if len(pair) != 2 or any(reach is not None and reach < 0 for reach in pair):
            raise ValueError("attention: window must be a positive int or a pair (left, right) of non-negative ints or None, "
                             f"got {window!r}")
        left, right = (UNLIMITED if reach is None else min(int(reach), UNLIMITED) for reach in pair)
    return left, 0 if is_causal else right


def _offsets(query_offset, B):
    if type(query_offset) is int:
        return np.full(B, query_offset, np.int64)
    offset = np.asarray(query_offset)
    if offset.dtype.kind not in "iu" or offset.shape not in ((), (B,)):
        raise ValueError(f"attention: query_offset must be an int or an int array of shape ({B},), got {query_offset!r}")
    return np.ascontiguousarray(np.broadcast_to(offset.astype(np.int64), (B,)))


def newest(lengths, T):
    """query_offset of the last T of so many positions: signed, for unsigned lengths below T would wrap around."""
    return np.subtract(lengths, T, dtype=np.int64, casting="unsafe")


def _counts(name, lengths, B, limit):
    if lengths is None:
        return np.full(B, limit, np.int64)
    lengths = np.asarray(lengths)
    if lengths.dtype.kind not in "iu" or lengths.shape != (B,):
        raise ValueError(f"attention: {name} must be an int array of shape ({B},), "
                         f"got dtype {lengths.dtype} and shape {lengths.shape}")
    if B and (lengths.min() < 0 or lengths.max() > limit):
        raise ValueError(f"attention: {name} must lie in 0..{limit}, got {lengths.min()}..{lengths.max()}")
    return np.ascontiguousarray(lengths, np.int64)


def _key_span(key_mask, k_hi, B, S):
    """First and last visible key per batch, and the mask itself if it also hides keys in between."""
    if key_mask is not None:
        check_array("key_mask", key_mask, (B, S), np.dtype(bool))
    if key_mask is None or B == 0 or S == 0:
        return np.zeros(B, np.int64), k_hi, None
    visible = key_mask & (np.arange(S) < k_hi[:, None])
    some = visible.any(axis=1)
    k_lo = np.where(some, visible.argmax(axis=1), 0)
    k_hi = np.where(some, S - visible[:, ::-1].argmax(axis=1), 0)
    holes = None if (visible.sum(axis=1) == k_hi - k_lo).all() else visible
    return k_lo, k_hi, holes


def _broadcast(name, x, full, dtype):
    if x is None:
        return None
    if not isinstance(x, np.ndarray):
        raise TypeError(f"attention: {name} must be a numpy array, got {type(x).__name__}")
    if x.dtype != dtype:
        raise TypeError(f"attention: {name} must have dtype {dtype}, got {x.dtype}; use {name}.astype({dtype})")
    try:
        return np.broadcast_to(x, full)
    except ValueError:
        raise ValueError(f"attention: {name} must broadcast to (B, H, T, S) = {full}, got {x.shape}") from None
