"""What attention heads do, told from their patterns: kinds of heads, entropy, distance, rollout.

Scores are means over queries of the attention that goes where such a head would look: 1 is a perfect head.
Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits";
Olsson et al. 2022, "In-context Learning and Induction Heads".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._check import need
from ..autograd import generator, no_grad
from ..models.base import positions_of
from ..nn import evaluating
from .look import record
from .naming import main_side, names, of_side


def patterns(model: Any, side: str = "", kind: str = "attn", **inputs: Any) -> np.ndarray:
    """All attention patterns of one run, in evaluation mode: (L, B, H, T, S).

    `side`: "encoder" or "decoder"; `kind`: "attn" or "cross".
    """
    if not isinstance(side, str):
        raise TypeError(f"patterns: the model call's arguments have names: input_ids=ids; got a {type(side).__name__} as side")
    side = side or main_side(model)
    with no_grad(), evaluating(model), record(model, f"{of_side(side)}blocks.*.{kind}.pattern") as values:
        model(**inputs)
    return values.stack(f"{kind}.pattern", side)


def previous_token_scores(pattern: np.ndarray) -> np.ndarray:
    """(L, B, H, T, T) -> (L, H): attention from each position to the one before it. NaN for a text of one token."""
    if pattern.shape[-2] < 2:
        return np.full((pattern.shape[0], pattern.shape[2]), np.nan)
    return np.diagonal(pattern, offset=-1, axis1=-2, axis2=-1).mean(axis=(1, -1))


def duplicate_token_scores(pattern: np.ndarray, input_ids: np.ndarray) -> np.ndarray:
    """(L, H): attention from each repeated token to its earlier copies. NaN where no token repeats."""
    ids = _ids_of(pattern, input_ids)
    same = (ids[:, :, None] == ids[:, None, :]) & np.tri(ids.shape[1], k=-1, dtype=bool)  # (B, T, S)
    return _mean_where(pattern, same)


def induction_scores(pattern: np.ndarray, input_ids: np.ndarray) -> np.ndarray:
    """(L, H): attention from each repeated token to what followed its earlier copies. NaN where no token repeats."""
    ids = _ids_of(pattern, input_ids)
    T = ids.shape[1]
    after = np.zeros((ids.shape[0], T, T), bool)
    after[:, :, 1:] = ids[:, :, None] == ids[:, None, :-1]  # key s follows a copy of the query's token
    return _mean_where(pattern, after & np.tri(T, dtype=bool))


def _ids_of(pattern: np.ndarray, input_ids: np.ndarray) -> np.ndarray:
    """The ids (B, T) that the patterns (L, B, H, T, T) belong to."""
    ids, (_, B, _, T, S) = np.asarray(input_ids), pattern.shape
    if ids.shape != (B, T) or T != S:
        raise ValueError(f"head scores: expected ids of shape {(B, T)} and as many keys, got ids {ids.shape} and {S} keys")
    return ids


def _mean_where(pattern: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Mean over queries that have such a place of the attention that goes there."""
    queries = places.any(-1)  # (B, T)
    if not queries.any():
        return np.full((pattern.shape[0], pattern.shape[2]), np.nan)
    hit = np.where(places[None, :, None], pattern, 0).sum(-1)  # (L, B, H, T)
    return (hit * np.asarray(queries)[None, :, None]).sum(axis=(1, 3)) / queries.sum()


def repeated_tokens(vocab_size: int, length: int, batch: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """(batch, 2·length) ids: random tokens, then the same again. Only a model that copies can predict the second half."""
    first = generator(rng).integers(0, vocab_size, (batch, length))
    return np.concatenate([first, first], axis=1)


def detect_heads(model: Any, length: int = 24, batch: int = 8, rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
    """Scores of every head of a decoder on repeated random tokens: {"previous", "duplicate", "induction"} -> (L, H).

    `length` tokens and the same again, fewer where the model has not so many positions.
    """
    if not any(name.startswith("blocks.") for name in names(model)):
        raise TypeError(
            f"detect_heads: {type(model).__name__} is not a decoder; use previous_token_scores(patterns(...)) on its sides"
        )
    if not hasattr(model, "config"):
        raise TypeError(
            f"detect_heads: {type(model).__name__} has no config that tells its vocabulary; make ids with repeated_tokens, then "
            "induction_scores(patterns(model, input_ids=ids), ids)"
        )
    limit = positions_of(model)
    ids = repeated_tokens(model.config.vocab_size, min(length, limit // 2) if limit else length, batch, rng)
    pattern = patterns(model, input_ids=ids)
    return {
        "previous": previous_token_scores(pattern),
        "duplicate": duplicate_token_scores(pattern, ids),
        "induction": induction_scores(pattern, ids),
    }


def entropy(pattern: np.ndarray) -> np.ndarray:
    """(L, B, H, T, S) -> (L, H): the mean entropy of a query's attention, in nats. 0: one key; log S: all alike."""
    logs = np.log(np.where(pattern > 0, pattern, 1))
    return 0.0 - (pattern * logs).sum(-1).mean(axis=(1, 3))  # a head that looks at one key has 0, not minus 0


def distance(pattern: np.ndarray) -> np.ndarray:
    """(L, B, H, T, S) -> (L, H): how far back or ahead attention looks on average, in positions."""
    T, S = pattern.shape[-2:]
    apart = np.abs(np.arange(S)[None, :] - np.arange(T)[:, None])
    return (pattern * apart).sum(-1).mean(axis=(1, 3))


def rollout(pattern: np.ndarray, residual: float = 0.5) -> np.ndarray:
    """Attention rollout (L, B, H, T, T) -> (B, T, T): how much of each input position reaches each output position.

    Layers are averaged over heads, mixed with the residual stream (`residual` of the identity) and multiplied.
    Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", §3.
    """
    need("residual", residual, lambda x: 0 <= x <= 1, "a share from 0 to 1")
    T = pattern.shape[-1]
    if pattern.ndim != 5 or pattern.shape[-2] != T:
        raise ValueError(f"rollout: expected the patterns of self-attention, (L, B, H, T, T), got {pattern.shape}")
    result = np.broadcast_to(np.eye(T, dtype=pattern.dtype), (pattern.shape[1], T, T))
    for layer in pattern.mean(axis=2):  # (B, T, T)
        mixed = residual * np.eye(T, dtype=pattern.dtype) + (1 - residual) * layer
        result = (mixed / mixed.sum(-1, keepdims=True)) @ result
    return result
