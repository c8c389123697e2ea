"""What is done to the scores of the next token before one is chosen. Scores (B, V) in, scores (B, V) out.

The order and the arithmetic (float32) are those of `transformers`: repetition penalty, then temperature, top-k, top-p,
min-p. A filtered token has score -inf.
"""

import numpy as np


def repetition_penalty(scores, ids, penalty: float, skip=None):
    """Scores of tokens in ids (B, T) are divided by `penalty` where positive, multiplied where negative. Keskar et al. 2019

    The first skip[b] ids of row b are padding and do not count.
    """
    B, V = scores.shape
    counted = np.ones(ids.shape, dtype=bool) if skip is None else np.arange(ids.shape[1]) >= np.asarray(skip)[:, None]
    seen = np.zeros((B, V), dtype=bool)
    rows = np.broadcast_to(np.arange(B)[:, None], ids.shape)
    seen[rows[counted], ids[counted]] = True
    penalty = np.float32(penalty)
    return np.where(seen, np.where(scores < 0, scores * penalty, scores / penalty), scores)


def only(scores, token: int):
    """Leaves one token possible, with score 0."""
    forced = np.full_like(scores, -np.inf)
    forced[:, token] = 0
    return forced


def temperature(scores, value: float):
    return scores / np.float32(value)


def top_k(scores, k: int):
    """Keeps the k best (and whatever ties with the last of them). Fan et al. 2018"""
    k = min(k, scores.shape[-1])
    least = np.partition(scores, -k, axis=-1)[:, -k][:, None]  # (B, 1)
    return np.where(scores < least, -np.inf, scores).astype(scores.dtype, copy=False)


def top_p(scores, p: float):
    """Keeps the fewest best tokens whose probabilities sum to at least p. Holtzman et al. 2020"""
    order = np.argsort(scores, axis=-1, kind="stable")  # ascending
    cumulative = np.cumsum(softmax(np.take_along_axis(scores, order, axis=1)), axis=-1, dtype=np.float32)
    remove = cumulative <= np.float32(1 - p)
    remove[:, -1] = False
    removed = np.zeros_like(remove)
    np.put_along_axis(removed, order, remove, axis=1)
    return np.where(removed, -np.inf, scores).astype(scores.dtype, copy=False)


def min_p(scores, p: float):
    """Keeps tokens at least p times as probable as the best one. Nguyen et al. 2024"""
    probabilities = softmax(scores)
    best = probabilities.max(axis=-1, keepdims=True)
    keep = (probabilities >= np.float32(p) * best) | (probabilities == best)
    return np.where(keep, scores, -np.inf).astype(scores.dtype, copy=False)


def softmax(scores):
    """In the dtype of the scores, -inf allowed."""
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def draw(scores, rng) -> np.ndarray:
    """One token per row from softmax(scores): (B,) int64. The sum runs in float64, and a filtered token is never drawn."""
    weights = np.exp((scores - scores.max(axis=-1, keepdims=True)).astype(np.float64))
    cumulative = np.cumsum(weights, axis=-1)
    target = rng.random(len(scores))[:, None] * cumulative[:, -1:]
    return (cumulative <= target).sum(axis=-1).astype(np.int64)
