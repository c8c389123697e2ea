"""What callers pass to a model, checked before any work: token ids, masks, labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..nn import KVCache

IGNORED = -100  # the label where no loss looks, as in PyTorch and transformers


def as_array(value: Any, name: str) -> np.ndarray:
    """The ndarray in a Tensor, an ndarray or nested lists (which must not be ragged)."""
    if isinstance(value, Tensor):
        return value._data
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: rows of different lengths; pad them to one length and pass attention_mask") from error


def token_ids(value: Any, vocabulary: int, name: str = "input_ids", longest: int | None = None, past: int = 0) -> np.ndarray:
    """(B, T) int64 ids, all in [0, V), at most `longest` positions with the `past` ones counted; raises what is wrong otherwise."""
    if value is None:
        raise ValueError(f"{name}: missing; pass ids of shape (batch, positions)")
    ids = as_array(value, name)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {ids.dtype}")
    if ids.ndim != 2 or 0 in ids.shape:
        raise ValueError(f"{name}: expected shape (batch, positions), neither of them 0, got {ids.shape}")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocabulary:
        raise ValueError(f"{name}: id {low if low < 0 else high} is outside the vocabulary of {vocabulary} (0 to {vocabulary - 1})")
    within_positions(ids.shape[1] + past, longest, name)
    return ids.astype(np.int64, copy=False)


def token_vectors(base: Any, embed: Any, ids: Any, embeds: Any, past: int = 0, name: str = "input_ids") -> Tensor:
    """What a base model reads, (B, T, D): `embed` of ids or, in their place, `inputs_embeds`, which a gradient can flow into."""
    longest, width = base.positions_limit(), base.tokens.weight.shape[1]
    if embeds is None:
        return embed(token_ids(ids, base.config.vocab_size, name, longest, past))
    given = name.replace("input_ids", "inputs_embeds")
    if ids is not None:
        raise ValueError(f"{name} and {given}: expected one of them, got both")
    array = as_array(embeds, given)
    x = embeds if isinstance(embeds, Tensor) else Tensor(embeds if isinstance(embeds, (list, tuple)) else array)
    if x.dtype.kind != "f":
        raise TypeError(f"{given}: expected floats, got {x.dtype}")
    if x.ndim != 3 or x.shape[2] != width or 0 in x.shape:
        raise ValueError(f"{given}: expected shape (batch, positions, {width}), none of them 0, got {x.shape}")
    within_positions(x.shape[1] + past, longest, given)
    return x


def past_length(cache: Any) -> int:
    """How many positions a cache holds."""
    if cache is None:
        return 0
    if not isinstance(cache, KVCache):
        raise TypeError(
            "past_key_values: expected a cache, of model.make_cache() or of an earlier output, to be filled in place; "
            f"got a {type(cache).__name__}"
        )
    return cache.length


def segment_ids(value: Any, shape: tuple[int, ...], kinds: int) -> np.ndarray:
    """`token_type_ids` of the ids' shape, all zero where not given."""
    if value is None:
        return np.zeros(shape, np.int64)
    ids = token_ids(value, kinds, "token_type_ids")
    if ids.shape != shape:
        raise ValueError(f"token_type_ids: expected shape {shape}, got {ids.shape}")
    return ids


def within_positions(length: int, longest: int | None, name: str) -> None:
    """Raise if the sequence is longer than there are positions."""
    if longest is not None and length > longest:
        raise ValueError(f"{name}: {length} positions, the model has {longest}; shorten the sequence")


def label_ids(value: Any, shape: tuple[int, ...], classes: int, name: str = "labels") -> np.ndarray:
    """Labels of this shape in [0, classes), or -100 where the loss shall not look."""
    labels = as_array(value, name)
    if labels.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {labels.dtype}")
    bad = labels[(labels != IGNORED) & ((labels < 0) | (labels >= classes))]
    if bad.size:
        raise ValueError(f"{name}: {bad[0]} is outside [0, {classes}), and not {IGNORED} (= ignored)")
    return labels.astype(np.int64, copy=False)


def position_rows(value: Any, B: int, T: int, past: int, longest: int | None) -> np.ndarray:
    """Positions (T,), or what the caller passed as `position_ids`, (1|B, T)."""
    if value is None:
        return np.arange(past, past + T)
    positions = as_array(value, "position_ids")
    if positions.ndim == 1:
        positions = positions[None]
    if positions.dtype.kind not in "iu" or positions.shape not in ((1, T), (B, T)):
        raise ValueError(f"position_ids: expected integers of shape ({B}, {T}), got {positions.dtype} {positions.shape}")
    if positions.min() < 0 or (longest is not None and positions.max() >= longest):
        expected = "0 or more" if longest is None else f"0 to {longest - 1}"
        raise ValueError(f"position_ids: expected {expected}, got {positions.min()} to {positions.max()}")
    return positions.astype(np.int64, copy=False)
