"""Multi-head attention: self- and cross-attention, grouped queries, rotary positions, caches; one class for every family.

    scores = scale · q kᵀ + bias,   pattern = softmax(scores where allowed),   z = pattern v,   out = z Woᵀ + bo

Vaswani et al. 2017 §3.2; grouped queries (Hkv < H): Ainslie et al. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import is_
from typing import Any

import numpy as np

from kernels.attention_problem import make_problem

from ..autograd import Tensor
from ..autograd import functional as F
from ..autograd.ops_attention import TRAINED_SCALE, drop
from ..autograd.ops_common import plain_number
from ..autograd.ops_fused import continue_attention, view_side_by_side
from ..autograd.ops_shape import as_tensor, reshape, transpose
from ..autograd.random import draw_seed
from ..autograd.state import NO_GRAD
from ..autograd.state import local as engine
from .cache import LayerCache
from .layers import Linear, are_fusible
from .mask import OPEN, Mask
from .module import Module
from .tap import tap, wanted


class MultiHeadAttention(Module):
    """Attention with H heads of width K; q, k, v, o are Linear, so weights have PyTorch's shape (out, in).

        y = o(softmax(scale · q(x) k(context)ᵀ, where allowed) v(context)), context x itself by default   Vaswani et al. 2017 §3.2

    `kv_heads` keys and values are shared by groups of heads; `scale` None is K^-1/2; `qk_norm` makes the norm applied to
    each head's q and k (Qwen3); `bias` is for q, k, v and `out_bias` for o (default: the same).
    ValueError where heads do not divide the width, or kv_heads the heads.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_width: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
        qk_norm: Any = None,
    ) -> None:
        if width < 1 or heads < 1 or (kv_heads is not None and kv_heads < 1) or (head_width is not None and head_width < 1):
            raise ValueError(
                f"MultiHeadAttention: expected sizes of at least 1, got width {width}, heads {heads}, kv_heads {kv_heads}, "
                f"head_width {head_width}"
            )
        if head_width is None and width % heads:
            raise ValueError(f"MultiHeadAttention: width {width} is not a multiple of heads {heads}")
        self.heads, self.kv_heads = heads, kv_heads or heads
        if heads % self.kv_heads:
            raise ValueError(f"MultiHeadAttention: heads {heads} is not a multiple of kv_heads {self.kv_heads}")
        self.head_width = head_width or width // heads
        self.scale = self.head_width**-0.5 if scale is None else float(plain_number(scale, "scale", TRAINED_SCALE))
        self.dropout = float(dropout)
        self.q = Linear(width, heads * self.head_width, bias)
        self.k = Linear(width, self.kv_heads * self.head_width, bias)
        self.v = Linear(width, self.kv_heads * self.head_width, bias)
        self.o = Linear(heads * self.head_width, width, bias if out_bias is None else out_bias)
        self._joined: Joined | None = None
        self.q_norm = qk_norm(self.head_width) if qk_norm else None
        self.k_norm = qk_norm(self.head_width) if qk_norm else None

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Mask = OPEN,
        rotary: tuple[np.ndarray, np.ndarray] | None = None,
        cache: LayerCache | None = None,
        output_pattern: bool = False,
        residual: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) attends to itself, or to `context` (B, S, D). Returns (B, T, D), added to `residual` where one is given,
        and, if asked, the pattern (B, H, T, S)."""
        x = as_tensor(x)
        if not isinstance(mask, Mask):
            raise TypeError(
                "MultiHeadAttention: expected mask=tg.nn.Mask(causal=True) or tg.nn.Mask(pairs=allowed), and keys and values made "
                f"of one `context`; got a {type(mask).__name__} as mask"
            )
        alone = context is None and mask.packed is None and not output_pattern
        if alone and cache is not None and self.is_continuing(x):
            return self._continue(x, mask, rotary, cache, residual), None
        if alone and cache is None and rotary is None and self.is_fusible(x):
            return self._in_one(x, mask, residual), None
        y, pattern = self._step_by_step(x, context, mask, rotary, cache, output_pattern)
        return (y if residual is None else residual + y), pattern

    def is_fusible(self, x: Tensor) -> bool:
        """Whether one operation can do self-attention, without the names inside, which a lens would want to see."""
        return (
            engine.lens is None and self.q_norm is None and self.k_norm is None and type(self) is MultiHeadAttention
            and are_fusible(x, self.q, self.k, self.v, self.o)
        )  # fmt: skip

    def is_continuing(self, x: Tensor) -> bool:
        """Whether `_continue` can do it: nothing is recorded for backward, nobody watches."""
        if engine.mode != NO_GRAD or not self.is_fusible(x) or (self.training and self.dropout):
            return False
        return len({layer.bias is None for layer in (self.q, self.k, self.v)}) == 1

    def _in_one(self, x: Tensor, mask: Mask, residual: Tensor | None) -> Tensor:
        q, k, v, o = self.q, self.k, self.v, self.o
        dropout = self.dropout if self.training else 0.0
        return F.self_attention(
            x, q.weight, k.weight, v.weight, o.weight, q.bias, k.bias, v.bias, o.bias, mask.bias, residual,
            heads=self.heads, kv_heads=self.kv_heads, mask=mask.pairs, key_mask=mask.keys, is_causal=mask.causal,
            window=mask.window, query_offset=mask.offset, scale=self.scale, dropout_p=dropout,
            seed=draw_seed() if dropout else 0,
        )  # fmt: skip

    def _continue(self, x: Tensor, mask: Mask, rotary: Any, cache: LayerCache, residual: Tensor | None) -> Tensor:
        """The next positions of a sequence that is being generated, with few calls in between."""
        joined, bias = self.joined(), self.o.bias
        y = continue_attention(
            x._data, joined.weight, self.o.weight._data, joined.bias, None if bias is None else bias._data,
            None if residual is None else residual._data, cache.append_arrays, heads=self.heads, kv_heads=self.kv_heads,
            rotary=rotary, bias=None if mask.bias is None else mask.bias._data, mask=mask.pairs, key_mask=mask.keys,
            is_causal=mask.causal, window=mask.window, query_offset=mask.offset, scale=self.scale,
        )  # fmt: skip
        return Tensor(y)

    def joined(self) -> Joined:
        """The weights of q, k and v under one another, and their biases."""
        layers = (self.q, self.k, self.v)
        if self._joined is None or not self._joined.holds(layers):
            self._joined = Joined(layers)
        return self._joined

    def _step_by_step(
        self, x: Tensor, context: Tensor | None, mask: Mask, rotary: Any, cache: LayerCache | None, output_pattern: bool
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = self.project(x, context, mask, rotary, cache)
        openly = output_pattern or wanted("scores", "pattern")
        copies = q.shape[0] // k.shape[0]  # beams that look at one source
        if copies > 1 and (openly or mask.pairs is not None or mask.bias is not None):
            k, v, copies = np.repeat(k, copies, axis=0), np.repeat(v, copies, axis=0), 1
        if openly:
            z, pattern = attend_openly(q, k, v, mask, self.scale, self.dropout if self.training else 0.0)
        else:
            z, pattern = self._attend(q, k, v, mask) if copies == 1 else self._share_keys(q, k, v, mask, copies), None
        z = tap("z", z)
        B, _, T, _ = z.shape
        z = reshape(transpose(z, axes=(0, 2, 1, 3)), shape=(B, T, self.heads * self.head_width))  # (B, H, T, K) -> (B, T, H·K)
        return self.o(z if mask.packed is None else mask.packed.pack(z)), pattern

    def project(
        self, x: Tensor, context: Any, mask: Mask, rotary: Any, cache: LayerCache | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, H, T, K), and k, v (B, Hkv, S, K) of every position, those from the cache included."""
        q = self._split(self.q(x), self.heads, self.q_norm, mask)
        if context is not None and cache is not None and cache.cross is not None:
            k, v = cache.cross
            return tap("q", q), tap("k", k), tap("v", v)
        source = x if context is None else context
        if context is not None and cache is not None and cache.extent.copies > 1 and engine.lens is None:
            source = context[:: cache.extent.copies]
        k = self._split(self.k(source), self.kv_heads, self.k_norm, mask)
        v = self._split(self.v(source), self.kv_heads, None, mask)
        if rotary is not None:
            q, k = F.rotary(q, *rotary), F.rotary(k, *rotary)
        if cache is not None and context is None:
            k, v = cache.append(k, v)
            if cache.extent.length and wanted("k", "v"):  # who looks may keep them, and the cache writes over its own
                k, v = Tensor(k._data.copy()), Tensor(v._data.copy())
        elif cache is not None:
            cache.cross = (k, v)
        return tap("q", q), tap("k", k), tap("v", v)

    def _split(self, x: Tensor, heads: int, norm: Module | None, mask: Mask) -> Tensor:
        if mask.packed is not None:
            x = mask.packed.spread(x)
        B, T, _ = x.shape
        x = reshape(x, shape=(B, T, heads, self.head_width))  # (B, T, H·K) -> (B, T, H, K)
        if norm is not None:
            x = norm(x)
        return transpose(x, axes=(0, 2, 1, 3))  # (B, T, H, K) -> (B, H, T, K)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return F.attention(
            q, k, v, mask.bias,
            mask=mask.pairs, key_mask=mask.keys, is_causal=mask.causal, window=mask.window, query_offset=mask.offset,
            scale=self.scale, dropout_p=dropout, seed=draw_seed() if dropout else 0,
        )  # fmt: skip

    def _share_keys(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, copies: int) -> Tensor:
        """`_attend` where `copies` neighbouring rows of q (B, H, T, K) look at one of k's: as heads of that row, so that its keys
        are read once."""
        B, H, T, K = q.shape
        q = reshape(transpose(reshape(q, shape=(B // copies, copies, H, T, K)), axes=(0, 2, 1, 3, 4)), shape=(-1, H * copies, T, K))
        z = self._attend(q, k, v, mask if mask.keys is None else replace(mask, keys=mask.keys[::copies]))
        z = transpose(reshape(z, shape=(B // copies, H, copies, T, z.shape[3])), axes=(0, 2, 1, 3, 4))
        return reshape(z, shape=(B, H, T, z.shape[4]))


class Joined:
    """The parameters of several layers that read the same input, as one weight and one bias. The memory is the parameters' own:
    where they do not lie side by side, as an optimizer's flat storage has them, they are moved there."""

    __slots__ = ("arrays", "bias", "weight")

    def __init__(self, layers: Sequence[Linear]) -> None:
        self.weight, weights = side_by_side_in_place([layer.weight for layer in layers])
        biases: list[Any] = [None] * len(layers)
        self.bias = None
        if layers[0].bias is not None:
            self.bias, biases = side_by_side_in_place([layer.bias for layer in layers])
        self.arrays = [array for pair in zip(weights, biases, strict=True) for array in pair]

    def holds(self, layers: Sequence[Linear]) -> bool:
        """Whether these are still the parameters' arrays: training or loading may have given them others."""
        arrays = [None if p is None else p._data for layer in layers for p in (layer.weight, layer.bias)]
        return all(map(is_, arrays, self.arrays))

    def __reduce__(self) -> Any:
        return type(None), ()  # a copied model joins its own copies


def side_by_side_in_place(parameters: list[Tensor]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The arrays under one another as one array, and the views of it that are the parameters' from now on.

    Noted here, not asked of the parameters afterwards: another thread, too, may be joining them, in an array of its own.
    """
    arrays = [p._data for p in parameters]
    view = view_side_by_side(arrays)
    if view is not None:
        return view, arrays
    block = np.concatenate(arrays)
    views = np.split(block, np.cumsum([len(array) for array in arrays[:-1]]))
    for p, array in zip(parameters, views, strict=True):
        p.data = array
    return block, views


def attend_openly(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float, dropout: float) -> tuple[Tensor, Tensor]:
    """Attention in elementary operations, which forms the scores and the pattern: (z, pattern). Slower, the same numbers."""
    B, H, T, K = q.shape
    Hkv, S = k.shape[1], k.shape[2]
    grouped = q.reshape(B, Hkv, H // Hkv, T, K)  # (B, H, T, K) -> (B, Hkv, H/Hkv, T, K)
    keys = np.expand_dims(np.swapaxes(k, -1, -2), 2)  # (B, Hkv, S, K) -> (B, Hkv, 1, K, S)
    scores = np.matmul(grouped, keys).reshape(B, H, T, S) * scale
    if mask.bias is not None:
        scores = scores + mask.bias
    allowed = mask.allowed(T, S)
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    scores = tap("scores", scores)
    if not (some := (scores._data != -np.inf).any(-1, keepdims=True)).all():
        # softmax of a row that is -inf throughout is 0/0; such a row is zero, and so is its gradient
        pattern = np.where(some, F.softmax(np.where(some, scores, 0.0), axis=-1), 0.0)
    else:
        pattern = F.softmax(scores, axis=-1)
    pattern = tap("pattern", pattern)
    if not dropout:
        return F.attend(pattern, v), pattern
    return F.attend(drop(pattern, make_problem(q._data, k._data, v._data, dropout_p=dropout, seed=draw_seed())), v), pattern
