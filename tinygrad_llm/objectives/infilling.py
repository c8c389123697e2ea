"""BART's noises (Lewis et al. 2020, section 2.2). Each takes one sequence (T,) and gives the noisy one; the target is the
original. BART itself uses text infilling with sentence permutation."""

import numpy as np

from .._check import as_ids, whole
from ..autograd import generator
from .check import check_share, check_span


def text_infilling(ids, *, mask_id: int, rng=None, ratio: float = 0.3, mean_span: float = 3.0) -> np.ndarray:
    """Spans with lengths drawn from Poisson(mean_span), each replaced by ONE mask, until `ratio` of the tokens is covered.

    A span of length 0 puts a mask in between two tokens. Spans do not overlap or touch, so that each keeps its own
    mask, and a sequence always keeps at least one token of its own.   ids (T,), Lewis et al. 2020, section 2.2
    """
    ids, rng = checked(ids, rng)
    mask_id = whole("mask_id", mask_id)
    check_share("ratio", ratio)
    check_span(mean_span)
    lengths = span_lengths(round(len(ids) * ratio), mean_span, rng)
    while lengths and sum(lengths) + len(lengths) > len(ids):  # each span needs a kept token beside it
        lengths.pop()
    kept = len(ids) - sum(lengths)
    gaps = np.sort(rng.choice(kept + 1, size=len(lengths), replace=False))  # span j stands before kept token gaps[j]
    rng.shuffle(lengths)
    pieces, position, seen = [], 0, 0
    for gap, length in zip(gaps, lengths):
        step = int(gap) - seen
        pieces += [ids[position : position + step], [mask_id]]
        position, seen = position + step + length, int(gap)
    return np.concatenate([*pieces, ids[position:]]).astype(np.int64)


def span_lengths(quota: int, mean: float, rng) -> list[int]:
    """Poisson lengths that sum to `quota` exactly (the last one is cut)."""
    lengths: list[int] = []
    left = quota
    while left > 0:
        length = min(int(rng.poisson(mean)), left)
        lengths.append(length)
        left -= length
    return lengths


def permute_sentences(ids, *, ends, rng=None) -> np.ndarray:
    """Sentences (each up to and with a token of `ends`, such as the full stop) in random order."""
    ids, rng = checked(ids, rng)
    cuts = np.flatnonzero(np.isin(ids, as_ids(list(ends)))) + 1
    sentences = [s for s in np.split(ids, cuts) if len(s)]
    return np.concatenate([sentences[i] for i in rng.permutation(len(sentences))]) if sentences else ids.copy()


def mask_tokens(ids, *, mask_id: int, rng=None, ratio: float = 0.15) -> np.ndarray:
    """round(ratio · T) random tokens of ids (T,) replaced by the mask.   Lewis et al. 2020, section 2.2"""
    ids, rng = checked(ids, rng)
    noisy = ids.copy()
    noisy[random_places(ids, ratio, rng)] = whole("mask_id", mask_id)
    return noisy


def delete_tokens(ids, *, rng=None, ratio: float = 0.15) -> np.ndarray:
    """round(ratio · T) random tokens of ids (T,) deleted; the model must also find out where.   Lewis et al. 2020, section 2.2"""
    ids, rng = checked(ids, rng)
    return np.delete(ids, random_places(ids, ratio, rng))


def random_places(ids, ratio: float, rng) -> np.ndarray:
    check_share("ratio", ratio)
    return rng.permutation(len(ids))[: round(len(ids) * ratio)]


def rotate(ids, *, rng=None) -> np.ndarray:
    """ids (T,) from a random token on, around the end.   Lewis et al. 2020, section 2.2"""
    ids, rng = checked(ids, rng)
    return np.roll(ids, -int(rng.integers(0, len(ids)))) if len(ids) else ids.copy()


def checked(ids, rng):
    ids = as_ids(ids)
    if ids.ndim != 1:
        raise ValueError(f"ids: expected one sequence (T,), got shape {ids.shape}")
    return ids, generator(rng)
