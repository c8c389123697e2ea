"""What is done to the scores of the next token before one is chosen. Scores (B, V) in, scores (B, V) out.

The order and the arithmetic (float32) are those of `transformers`: repetition penalties, what may not come, what must come,
the caller's own processors, then temperature, top-k, top-p, min-p, typical-p and cutoffs. A filtered token has score -inf.
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


def no_repeated_ngram(scores, ids, n: int, source=None):
    """Bars each token that would end n tokens which ids (B, T), or another text's ids (B, S), hold already. Paulus et al. 2017"""
    source, T = ids if source is None else source, ids.shape[1]
    if n > source.shape[1] or n > T + 1:
        return scores
    ngrams = np.lib.stride_tricks.sliding_window_view(source, n, axis=1)  # (B, S - n + 1, n)
    rows, places = np.nonzero((ngrams[..., :-1] == ids[:, None, T - n + 1 :]).all(axis=-1))
    scores = scores.copy()
    scores[rows, ngrams[rows, places, -1]] = -np.inf
    return scores


def no_bad_words(scores, ids, words):
    """Bars the last token of each word where ids (B, T) end in the tokens before it."""
    scores, T = scores.copy(), ids.shape[1]
    for *start, last in words:
        if len(start) <= T:
            scores[(ids[:, T - len(start) :] == start).all(axis=1), last] = -np.inf
    return scores


def without(scores, tokens):
    """Bars these tokens; those outside the vocabulary never come anyway."""
    scores = scores.copy()
    scores[:, [token for token in tokens if 0 <= token < scores.shape[1]]] = -np.inf
    return scores


def drawn_to_the_end(scores, eos, factor: float):
    """Scores s of the end tokens grow to s + |s| (factor - 1)."""
    scores, ends = scores.copy(), list(eos)
    with np.errstate(invalid="ignore"):
        more = np.abs(scores[:, ends]) * np.float32(factor - 1)
    scores[:, ends] += np.where(np.isfinite(scores[:, ends]), more, 0)
    return scores


def only(scores, tokens: int | list[int]):
    """Leaves one token possible, or one of several, with score 0."""
    forced = np.full_like(scores, -np.inf)
    forced[:, tokens] = 0
    return forced


def processed(scores, ids, processor):
    """What the caller's own function of (ids, scores) makes of the scores; it may write to them, for they are copies."""
    result = np.asarray(processor(ids.copy(), scores.copy()))
    if result.shape != scores.shape or result.dtype.kind not in "fiu":
        raise ValueError(f"logits_processor: expected scores of shape {scores.shape} back, got {result.dtype} {result.shape}")
    if np.isnan(result).any() or not (result > -np.inf).any(axis=1).all():
        raise ValueError("logits_processor: a row of the scores that came back has NaN, or no token above -inf")
    return result.astype(scores.dtype)


def temperature(scores, value: float):
    """Above 1 the probabilities come closer together, below 1 the best one's grows."""
    return scores / np.float32(max(value, 1e-30))  # at less the best has long had all probability, and float32 ends


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


def typical_p(scores, p: float):
    """Keeps the tokens whose surprise is nearest to the expected one, as many as sum to probability p. Meister et al. 2022"""
    log_p = log_softmax(scores)
    with np.errstate(invalid="ignore"):
        expected = -np.nansum(log_p * np.exp(log_p), axis=-1, keepdims=True)
    off = np.abs(-log_p - expected)
    order = np.argsort(off, axis=-1, kind="stable")
    cumulative = np.cumsum(softmax(np.take_along_axis(scores, order, axis=1)), axis=-1, dtype=np.float32)
    last = np.minimum((cumulative < np.float32(p)).sum(axis=-1, keepdims=True), scores.shape[-1] - 1)
    farthest = np.take_along_axis(off, np.take_along_axis(order, last, axis=1), axis=1)
    return np.where(off > farthest, -np.inf, scores).astype(scores.dtype, copy=False)


def cutoff(scores, least: float, by_entropy: bool = False):
    """Keeps tokens of probability `least` and more, `by_entropy` of min(least, √least · exp(-entropy)). Hewitt et al. 2022"""
    probabilities, limit = softmax(scores), np.float32(least)
    if by_entropy:
        log_p = np.maximum(log_softmax(scores), np.finfo(scores.dtype).min)
        limit = np.minimum(limit, np.sqrt(limit) * np.exp((log_p * probabilities).sum(axis=-1, keepdims=True)))
    keep = (probabilities >= limit) | (scores == scores.max(axis=-1, keepdims=True))
    return np.where(keep, scores, -np.inf).astype(scores.dtype, copy=False)


def log_softmax(scores):
    """In the dtype of the scores, -inf allowed."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


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
