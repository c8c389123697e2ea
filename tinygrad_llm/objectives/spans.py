"""Span corruption (T5, Raffel et al. 2020, section 3.1.4)."""

import numpy as np

from .._check import as_ids
from ..autograd import generator
from .check import check_share, check_span, ids_if_given


def span_corruption(ids, *, sentinels, eos_id: int | None = None, rng=None, density: float = 0.15,
                    mean_span: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """(input, target) for one sequence (T,): each corrupted span is one sentinel; the target spells the spans out.

        ids      Thank you for inviting me to your party last week
        input    Thank you <0> me to your party <1> week </s>
        target   <0> for inviting <1> last <2> </s>

    round(density · T) tokens in round(that / mean_span) spans, cut at random as in the paper's code; the text begins
    with an uncorrupted span. `sentinels` are used in order, one more than there are spans.
    """
    ids = as_ids(ids)
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"ids: expected one sequence (T,) of at least 2 tokens, got shape {ids.shape}")
    sentinels, [end] = as_ids(sentinels), ids_if_given(eos_id=eos_id)
    check_share("density", density)
    check_span(mean_span)
    rng = generator(rng)
    noise = min(max(round(len(ids) * density), 1), len(ids) - 1)
    spans = min(max(round(noise / mean_span), 1), noise, len(ids) - noise)
    if spans + 1 > len(sentinels):
        raise ValueError(f"sentinels: {spans} spans need {spans + 1} sentinel tokens, the vocabulary has "
                         f"{len(sentinels)}; use shorter sequences or more sentinels")
    kept_parts, noise_parts = partition(len(ids) - noise, spans, rng), partition(noise, spans, rng)
    source, target, position = [], [], 0
    for sentinel, kept, lost in zip(sentinels, kept_parts, noise_parts):
        source += [ids[position : position + kept], [sentinel]]
        target += [[sentinel], ids[position + kept : position + kept + lost]]
        position += kept + lost
    target += [[sentinels[spans]]]
    return np.concatenate([*source, end]).astype(np.int64), np.concatenate([*target, end]).astype(np.int64)


def partition(total: int, parts: int, rng) -> np.ndarray:
    """`parts` positive lengths that sum to `total`, every such cut equally likely."""
    cuts = np.sort(rng.choice(total - 1, size=parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
