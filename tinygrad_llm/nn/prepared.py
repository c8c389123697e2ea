"""A decoder's layers as one call, for the few positions that follow those in a cache: what generation does all the time.

Layer by layer a token costs some ten calls each, whose Python takes as long as their arithmetic in a small model and a seventh of
the time in GPT-2 (see `kernels.chain`). So the layers are looked at once and written down as a chain of kernels, which the cache
keeps. The chain is for what is usual: the blocks of `nn` as they are, float32 or eight bits, nobody watching. Whatever else there
is (a hook, a lens, a part of another class, a mask with holes) has the layers run one by one; after a change of the model the
chain is written anew.
"""

from __future__ import annotations

from operator import attrgetter, is_
from typing import Any

import numpy as np

import kernels

from ..autograd import Tensor
from ..autograd.state import NO_GRAD
from ..autograd.state import local as engine
from .attention import MultiHeadAttention
from .blocks import DecoderBlock
from .cache import KVCache
from .feedforward import FUSED, GATED, FeedForward, is_same_function
from .layers import Dropout, LayerNorm, Linear, RMSNorm, is_idle
from .mask import OPEN, Mask
from .module import is_plain, structure
from .quantized import Int8Weight

array_of = attrgetter("_data")
MOST_ROWS = 16  # positions of all sequences together up to which products are dot products, and Python's time counts

#: the classes whose forward a chain stands for, and that forward
FORWARDS = {kind: kind.forward for kind in (DecoderBlock, MultiHeadAttention, FeedForward, LayerNorm, RMSNorm, Linear, Dropout)}


def run_prepared(
    blocks: list[Any],
    x: Tensor,
    masks: list[Mask],
    cache: KVCache,
    rotary: tuple[np.ndarray, np.ndarray] | None = None,
    context: Tensor | None = None,
    context_mask: Mask = OPEN,
) -> Tensor | None:
    """x (B, T, D) through all blocks as one chain; None, and nothing happened, where that cannot be done.

    masks: each block's; rotary (cos, sin); context (B, S, D) with its mask for blocks that attend to it
    """
    B, T, _ = x.shape
    if engine.mode != NO_GRAD or engine.lens is not None or engine.precision is not None or not cache.length or B * T > MOST_ROWS:
        return None
    mask, S = masks[0], cache.length + T
    if x.dtype != np.float32 or not kernels.can_chain() or any(m.keys is not mask.keys or m.bias is not mask.bias for m in masks):
        return None
    if not (mask.causal and mask.offset == cache.length and mask.pairs is mask.packed is None) or are_replaced():
        return None
    starts = first_keys(mask.keys)
    ends = np.full(B, S) if context is None else last_keys(context_mask, B, context.shape[1])
    if starts is None or ends is None or (context is not None and T > 1):
        return None
    held = cache.prepared.get((B, T))
    if held is None or not held.holds(blocks, masks, cache):
        held = cache.prepared[B, T] = Prepared(blocks, masks, cache, x.shape, rotary)
    return held.run(x, S, starts, ends, mask.bias, rotary)


def are_replaced() -> bool:
    """Whether somebody gave a class of `nn` another forward."""
    return any(kind.forward is not forward for kind, forward in FORWARDS.items())


def first_keys(keys: np.ndarray | None) -> np.ndarray | int | None:
    """Where each row's real tokens begin, if all that follow are real; None if not."""
    if keys is None:
        return 0
    starts = keys.argmax(axis=1)
    return starts if (starts + keys.sum(axis=1) == keys.shape[1]).all() else None


def last_keys(mask: Mask, B: int, S: int) -> np.ndarray | None:
    """How many real tokens each row of a source begins with, if there are no others; None if there are."""
    if mask.pairs is not None or mask.bias is not None or mask.packed is not None or mask.causal or mask.window is not None:
        return None
    if mask.keys is None:
        return np.full(B, S)
    counts = mask.keys.sum(axis=1)
    return counts if (mask.keys == (np.arange(S) < counts[:, None])).all() else None


class Unusual(Exception):
    """A layer holds something that a chain does not know."""


class Prepared:
    """The chain of a model's layers for (B, T, D) new positions, and what must be as it was for the chain to hold.

    `chain` is None where a layer is unusual; that is kept too, so that it is found out once.
    """

    def __init__(self, blocks: list[Any], masks: list[Mask], cache: KVCache, shape: tuple[int, ...], rotary: Any) -> None:
        from kernels.chain import Chain

        B, T, D = self.shape = shape
        self.blocks, self.windows = list(blocks), [mask.window for mask in masks]
        self.threads = kernels.get_num_threads()
        self.parameters: list[Tensor] = []
        self.arrays: list[np.ndarray] = []  # theirs
        self.caches = [(layer.k, layer.v, layer.cross) for layer in cache.layers]
        self.capacity = 0 if self.caches[0][0] is None else self.caches[0][0].shape[2]
        self.copies = cache.copies
        self.starts, self.lengths, self.source_ends = (np.zeros(n, np.int64) for n in (B, B, B // cache.copies))
        self.chain: Chain | None = Chain()
        self.entry = self.stream = self.chain.room("here", B * T, D)
        self.angles = rotary and tuple(np.empty((B, T, part.shape[-1]), np.float32) for part in rotary)
        bias = masks[0].bias
        self.bias = None if bias is None else np.zeros((*bias.shape[:3], self.capacity), np.float32)
        try:
            for block, window, layer in zip(blocks, self.windows, cache.layers, strict=True):
                self._add_block(block, window, layer)
        except Unusual:
            self.chain = None
        self.version = structure.version  # now: an attention whose weights were joined for the chain has changed it

    def holds(self, blocks: list[Any], masks: list[Mask], cache: KVCache) -> bool:
        """Whether this is still the chain of these layers."""
        return (
            self.version == structure.version and self.threads == kernels.get_num_threads() and self.blocks == blocks
            and self.windows == [mask.window for mask in masks]
            and (self.bias is None) == (masks[0].bias is None)
            and all(map(is_, map(array_of, self.parameters), self.arrays))  # a hundred of them: no Python for each
            and all(layer.k is k and layer.v is v and layer.cross is cross
                    for layer, (k, v, cross) in zip(cache.layers, self.caches, strict=True))
        )  # fmt: skip

    def run(self, x: Tensor, S: int, starts: Any, source_ends: np.ndarray, bias: Tensor | None, rotary: Any) -> Tensor | None:
        """The layers' output for x (B, T, D), the last of S positions, of which those before `starts` (B,) are padding."""
        B, T, D = self.shape
        if self.chain is None or S > self.capacity:
            return None
        self.entry[...] = x._data.reshape(B * T, D)
        self.lengths[:], self.starts[:], self.source_ends[:] = S, starts, source_ends[:: self.copies]
        if bias is not None:
            self.bias[..., :S] = bias._data  # type: ignore[index]
        if rotary is not None:
            for held, part in zip(self.angles, rotary, strict=True):
                held[...] = part.reshape(-1, T, part.shape[-1])  # (T, K/2) or (B, 1, T, K/2) -> (B, T, K/2)
        self.chain.run()
        return Tensor(self.stream.reshape(B, T, D).copy())

    def __reduce__(self) -> Any:
        return type(None), ()  # a chain holds addresses: a copied cache has its own made

    # -- writing the chain -------------------------------------------------------------------------------------------

    def _add_block(self, block: Any, window: int | None, cache: Any) -> None:
        require(is_plain(block, DecoderBlock) and is_idle(block.drop))
        self._add_part(block.norm_first, block.attn_norm, self._add_self_attention, block.attn, window, cache)
        if block.cross is not None:
            self._add_part(block.norm_first, block.cross_norm, self._add_cross_attention, block.cross, cache)
        self._add_part(block.norm_first, block.mlp_norm, self._add_feed_forward, block.mlp)

    def _add_part(self, norm_first: bool, norm: Any, add: Any, part: Any, *more: Any) -> None:
        """The stream x becomes x + part(norm(x)), or norm(x + part(x)).

        add(part, its input, residual, out, ...) writes down out = residual + part(its input)
        """
        x, width = self.stream, self.shape[2]
        out = self._room("there" if x is self._room("here", width) else "here", width)
        if norm_first:
            add(part, self._norm(norm, x, self._room("normed", width)), x, out, *more)
        else:
            total = self._room("total", width)
            add(part, x, x, total, *more)
            self._norm(norm, total, out)
        self.stream = out

    def _room(self, name: str, width: int) -> np.ndarray:
        return self.chain.room(name, self.shape[0] * self.shape[1], width)

    def _norm(self, norm: Any, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        if is_plain(norm, LayerNorm):
            self.chain.layer_norm(x, self._array(norm.weight), self._array(norm.bias), norm.eps, out)
        else:
            require(is_plain(norm, RMSNorm))
            self.chain.rms_norm(x, self._array(norm.weight), norm.eps, out)
        return out

    def _add_self_attention(
        self, attn: Any, x: np.ndarray, residual: np.ndarray, out: np.ndarray, window: int | None, cache: Any
    ) -> None:
        """out = residual + attention of x and all positions before it"""
        require(is_plain(attn, MultiHeadAttention) and not (attn.training and attn.dropout))
        require(cache.k is not None and len(cache.k) == self.shape[0])  # a cache of another batch has its own error
        q, k, v = self._project(attn, x)
        if self.angles:
            q, k = self._turn(q, "turned q"), self._turn(k, "turned k")
        self.chain.keep(k, cache.k, self.lengths)
        self.chain.keep(v, cache.v, self.lengths)
        z = self._room("z", attn.heads * attn.head_width)
        self.chain.attend(q, cache.k, cache.v, self.lengths, self.starts, self._heads(z, attn.heads), attn.scale, window, self.bias)
        self._product(attn.o, z, out, residual=residual)

    def _add_cross_attention(self, attn: Any, x: np.ndarray, residual: np.ndarray, out: np.ndarray, cache: Any) -> None:
        """out = residual + attention of x to the source, whose keys and values are in the cache; `copies` rows share one's"""
        require(is_plain(attn, MultiHeadAttention) and not (attn.training and attn.dropout) and cache.cross is not None)
        k, v = (part._data for part in cache.cross)
        sources, copies = k.shape[0], self.shape[0] // k.shape[0]
        require(attn.q_norm is None and attn.k_norm is None and copies == self.copies)
        q, z = (self._room(name, attn.heads * attn.head_width) for name in ("cross q", "z"))
        self._product(attn.q, x, q)
        q_heads, z_heads = (rows.reshape(sources, copies, attn.heads, -1).transpose(0, 2, 1, 3) for rows in (q, z))
        self.chain.attend(q_heads, k, v, self.source_ends, None, z_heads, attn.scale, is_causal=False)
        self._product(attn.o, z, out, residual=residual)

    def _project(self, attn: Any, x: np.ndarray) -> list[np.ndarray]:
        """q (B, H, T, K), k and v (B, Hkv, T, K)"""
        layers, counts = (attn.q, attn.k, attn.v), (attn.heads, attn.kv_heads, attn.kv_heads)
        norms = (attn.q_norm, attn.k_norm, None)
        require(all(is_plain(layer, Linear) for layer in layers))
        same_bias = len({layer.bias is None for layer in layers}) == 1
        if norms == (None,) * 3 and same_bias and all(type(layer.weight) is Tensor for layer in layers):
            joined = attn.joined()
            for layer in layers:
                self._array(layer.weight), self._array(layer.bias)
            y = self._room("qkv", len(joined.weight))
            self.chain.product(x, joined.weight, y, joined.bias)
            return np.split(self._heads(y, sum(counts)), np.cumsum(counts)[:2], axis=1)
        parts = []
        for layer, name, count, norm in zip(layers, "qkv", counts, norms, strict=True):
            y = self._room(name, count * attn.head_width)
            self._product(layer, x, y)
            if norm is not None:
                heads = y.reshape(-1, attn.head_width)
                y = self._norm(norm, heads, self.chain.room(f"normed {name}", *heads.shape)).reshape(y.shape)
            parts.append(self._heads(y, count))
        return parts

    def _heads(self, rows: np.ndarray, heads: int) -> np.ndarray:
        """(B·T, H·K) -> (B, H, T, K), a view"""
        B, T, _ = self.shape
        return rows.reshape(B, T, heads, -1).transpose(0, 2, 1, 3)

    def _turn(self, x: np.ndarray, name: str) -> np.ndarray:
        out = self.chain.room(name, *x.shape)
        self.chain.rotary(x, *self.angles, out)
        return out

    def _add_feed_forward(self, mlp: Any, x: np.ndarray, residual: np.ndarray, out: np.ndarray) -> None:
        """out = residual + feed-forward of x"""
        require(is_plain(mlp, FeedForward) and is_idle(mlp.drop) and mlp.has_its_act())
        require(is_plain(mlp.up, Linear))
        inner = self._room("inner", mlp.up.weight.shape[0])
        if mlp.gate is None:
            require(mlp.act_name in FUSED)
            self._product(mlp.up, x, inner, FUSED[mlp.act_name])
        else:
            require(mlp.act_name in GATED and is_same_function(mlp.join, GATED[mlp.act_name]))
            gate, up = self._room("gate", inner.shape[1]), self._room("up", inner.shape[1])
            self._product(mlp.gate, x, gate)
            self._product(mlp.up, x, up)
            self.chain.gate(FUSED[mlp.act_name], gate, up, inner)
        self._product(mlp.down, inner, out, residual=residual)

    def _product(self, layer: Any, x: np.ndarray, out: np.ndarray, activation: str | None = None, residual: Any = None) -> None:
        require(is_plain(layer, Linear))
        weight, bias = layer.weight, self._array(layer.bias)
        if isinstance(weight, Int8Weight):
            self.chain.product_int8(x, weight.q, weight.scale, out, bias, activation, residual)
        else:
            self.chain.product(x, self._array(weight), out, bias, activation, residual)

    def _array(self, parameter: Tensor | None) -> np.ndarray | None:
        """A parameter's numbers, and a note that they are read in place."""
        if parameter is None:
            return None
        array = parameter._data
        require(type(parameter) is Tensor and array.dtype == np.float32 and array.flags.c_contiguous)
        self.parameters.append(parameter)
        self.arrays.append(array)
        return array


def require(usual: bool) -> None:
    if not usual:
        raise Unusual
