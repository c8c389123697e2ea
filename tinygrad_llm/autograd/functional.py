"""`tg.functional`, as F: the transformer part of torch.nn.functional. Same names and meanings, `axis` for `dim`.

Activations live in functional_activation.py, losses in functional_loss.py; the layers and attention are here.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from . import functional_activation, functional_loss
from . import ops_neural as fused
from .creation import one_hot
from .elsewhere import OF_FUNCTIONAL, no_attribute
from .functional_activation import *  # noqa: F403
from .functional_loss import *  # noqa: F403
from .ops_attention import attend, attention, attention_pattern
from .ops_common import as_index, derived
from .ops_fused import feed_forward, self_attention
from .ops_index import pad as pad_axes
from .ops_shape import as_tensor
from .random import draw_seed
from .tensor import Tensor

rotary = fused.rotary
linear = fused.linear


# -- layers ------------------------------------------------------------------------------------------------------------


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Tensor:
    """y = x₁ᵀ W x₂ + b   W (N, K₁, K₂)"""
    y = np.einsum("...i,nij,...j->...n", as_tensor(input1), as_tensor(weight, input1), as_tensor(input2, input1))
    return y if bias is None else y + bias


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """y[..., :] = weight[input[...]]; the row `padding_idx` gets no gradient."""
    ids, weight = as_index(input, "embedding"), as_tensor(weight)
    if padding_idx is not None and not -len(weight) <= padding_idx < len(weight):
        raise ValueError(f"embedding: padding_idx must lie in the table of {len(weight)} rows, got {padding_idx}")
    return fused.embedding(weight, ids, padding_idx=None if padding_idx is None else padding_idx % len(weight))


def dropout(input: Any, p: float = 0.5, training: bool = True, rng: np.random.Generator | None = None) -> Tensor:
    """Each element is 0 with probability p, else x / (1 - p); x itself outside training."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p must lie in [0, 1], got {p}")
    if not training or p == 0.0:
        return as_tensor(input)
    return fused.dropout(input, p=float(p), seed=draw_seed(rng))


def _rows_of(x: Tensor, shape: Any, vectors: tuple[Any, ...], who: str) -> tuple[Tensor, list[Any]]:
    """x with the axes of `normalized_shape` made one, and the vectors flattened likewise."""
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    n = len(shape)
    if not n or x.shape[-n:] != shape:
        raise ValueError(f"{who}: expected an input that ends with the axes {shape}, got {x.shape}")
    found = [None if v is None else as_tensor(v, x) for v in vectors]
    for v in found:
        if v is not None and v.shape != shape:
            raise ValueError(f"{who}: expected weight and bias of shape {shape}, got {v.shape}")
    if n == 1:
        return x, found
    width = math.prod(shape)
    return x.reshape((*x.shape[:-n], width)), [None if v is None else v.reshape(width) for v in found]


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """y = (x - mean) / √(var + eps) · weight + bias over the last axes, whose lengths are `normalized_shape`."""
    x = as_tensor(input)
    rows, (w, b) = _rows_of(x, normalized_shape, (weight, bias), "layer_norm")
    y = fused.layer_norm(rows, w, b, eps=eps)
    return y if rows is x else y.reshape(x.shape)


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Tensor:
    """y = x / √(mean(x²) + eps) · weight over the last axes; eps is by default the dtype's machine epsilon."""
    x = as_tensor(input)
    rows, (w,) = _rows_of(x, normalized_shape, (weight,), "rms_norm")
    y = fused.rms_norm(rows, w, eps=float(np.finfo(x.dtype).eps) if eps is None else eps)
    return y if rows is x else y.reshape(x.shape)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Channels (axis 1) in groups, each group of each sample with mean 0 and variance 1; then weight and bias by channel."""
    x = as_tensor(input)
    if x.ndim < 2 or x.shape[1] % num_groups:
        raise ValueError(f"group_norm: axis 1 of {x.shape} does not divide into {num_groups} groups")
    grouped = x.reshape((x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups))
    y = fused.layer_norm(grouped, eps=eps).reshape(x.shape)
    by_channel = (x.shape[1],) + (1,) * (x.ndim - 2)
    y = y if weight is None else y * as_tensor(weight, x).reshape(by_channel)
    return y if bias is None else y + as_tensor(bias, x).reshape(by_channel)


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """PyTorch's pad: (before, after) of the last axis, then of the last but one, ...; negative widths cut.

    mode "constant" (value 0 by default), "reflect", "replicate" or "circular". What is cut at one end is not there to be
    repeated around the circle, but is still mirrored at the other.
    """
    x, widths = as_tensor(input), list(pad)
    if len(widths) % 2 or len(widths) > 2 * x.ndim:
        raise ValueError(f"pad: expected pairs for at most {x.ndim} axes, got {widths}")
    pairs = [(0, 0)] * (x.ndim - len(widths) // 2) + list(zip(widths[::2], widths[1::2]))[::-1]
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode not in names:
        raise ValueError(f"pad: mode must be one of {list(names)}, got {mode!r}")
    fill = 0.0 if value is None else value
    if min(map(min, pairs), default=0) >= 0:
        return pad_axes(x, pairs, names[mode], fill)
    grown = [(max(before, 0), max(after, 0)) for before, after in pairs]
    cut = [(min(before, 0), min(after, 0)) for before, after in pairs]
    if mode in ("reflect", "replicate"):
        return _cut(pad_axes(x, grown, names[mode], fill), cut)
    x = _cut(x, cut)
    if mode == "circular" and any(max(widths) > n for n, widths in zip(x.shape, grown)):
        raise ValueError(f"pad: {pad} would go round more than once what is left, {x.shape}")
    return pad_axes(x, grown, names[mode], fill)


def _cut(x: Tensor, widths: list[tuple[int, int]]) -> Tensor:
    """x without -before and -after elements at the ends of each axis."""
    if any(n + before + after < 0 for n, (before, after) in zip(x.shape, widths)):
        raise ValueError(f"pad: cannot cut {widths} off an array of shape {x.shape}")
    return x[tuple(slice(-before, n + after) for n, (before, after) in zip(x.shape, widths))]


# -- attention ---------------------------------------------------------------------------------------------------------


@derived()
def scaled_dot_product_attention(
    q: Any = None, k: Any = None, v: Any = None, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False, rng: np.random.Generator | None = None, *,
    query: Any = None, key: Any = None, value: Any = None,
) -> Tensor:  # fmt: skip
    """softmax(scale · q kᵀ + mask) v   q (..., H, T, K), k (..., H, S, K), v (..., H, S, V) -> (..., H, T, V)

    A bool mask says True = may attend, a float mask is added (and may be trained); both broadcast to (..., H, T, S).
    `is_causal` hides keys s > t. `scale` is 1/√K by default. `enable_gqa` lets k and v have fewer heads, H a multiple
    of theirs. A query that may see no key gives zeros and zero gradients. q, k, v may be called query, key, value, as in PyTorch.
    """
    given = {"q": (q, query), "k": (k, key), "v": (v, value)}
    for name, both in given.items():
        if sum(x is not None for x in both) != 1:
            times = "not" if both[0] is None else "twice"
            raise TypeError(f"scaled_dot_product_attention: expected {name} once, got it {times}")
    q, k, v = (as_tensor(first if first is not None else second) for first, second in given.values())
    _check_attention(q, k, v, enable_gqa)
    own = 3 if enable_gqa else 2  # trailing axes that do not broadcast: with groups of heads, the heads neither
    if not q.shape[:-own] == k.shape[:-own] == v.shape[:-own]:
        batch = np.broadcast_shapes(q.shape[:-own], k.shape[:-own], v.shape[:-own])
        q, k, v = (np.broadcast_to(x, (*batch, *x.shape[-own:])) for x in (q, k, v))
    lead = q.shape[:-2]
    bias, mask = _mask_of(attn_mask, (*lead, q.shape[-2], k.shape[-2]), q)
    q4, k4, v4 = _four_axes(q), _four_axes(k), _four_axes(v)
    out = attention(
        q4, k4, v4, bias, mask=mask, is_causal=is_causal, scale=scale, dropout_p=float(dropout_p),
        seed=draw_seed(rng) if dropout_p else 0,
    )  # fmt: skip
    return out if q.ndim == 4 else out.reshape((*lead, q.shape[-2], v.shape[-1]))


def _check_attention(q: Tensor, k: Tensor, v: Tensor, enable_gqa: bool) -> None:
    shapes = f"query {q.shape}, key {k.shape}, value {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(f"scaled_dot_product_attention: expected (..., T, K), (..., S, K), (..., S, V), got {shapes}")
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"scaled_dot_product_attention: dtypes differ: {q.dtype}, {k.dtype}, {v.dtype}")
    if enable_gqa and (min(q.ndim, k.ndim, v.ndim) < 3 or k.shape[-3] != v.shape[-3] or q.shape[-3] % k.shape[-3]):
        raise ValueError(f"scaled_dot_product_attention: the query's heads must be a multiple of the key's, got {shapes}")


def _four_axes(x: Tensor) -> Tensor:
    """(..., H, T, K) as (B, H, T, K)."""
    if x.ndim == 4:
        return x
    heads = x.shape[-3] if x.ndim > 2 else 1
    return x.reshape((math.prod(x.shape[:-3]), heads, *x.shape[-2:]))


def _mask_of(attn_mask: Any, full: tuple[int, ...], q: Tensor) -> tuple[Tensor | None, np.ndarray | None]:
    """The mask as (bias to add, or None; bools, or None), with the four axes of the kernel."""
    if attn_mask is None:
        return None, None
    mask = as_tensor(attn_mask, q)
    if mask.dtype.kind not in "fb":
        raise TypeError(f"scaled_dot_product_attention: the mask must be bool or float, got {mask.dtype}")
    if len(full) != 4 or mask.ndim > 4:
        heads = full[-3] if len(full) > 2 else 1
        mask = np.broadcast_to(mask, full).reshape((math.prod(full[:-3]), heads, *full[-2:]))
    if mask.dtype.kind == "b":
        return None, mask._data
    return (mask if mask.dtype == q.dtype else mask.astype(q.dtype)), None


__all__ = [
    *functional_activation.__all__, *functional_loss.__all__, "attend", "attention", "attention_pattern", "bilinear",
    "dropout", "embedding", "feed_forward", "group_norm", "layer_norm", "linear", "one_hot", "pad", "rms_norm", "rotary",
    "scaled_dot_product_attention", "self_attention",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """What `torch.nn.functional` has and this room has not: the error says how it is written."""
    from . import __all__ as functions

    raise no_attribute(sys.modules[__name__], name, OF_FUNCTIONAL, functions, __all__)
