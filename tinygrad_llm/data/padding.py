"""Sequences of different lengths as one rectangle."""

import numpy as np

from .._check import as_ids, whole

#: The label that no loss counts, as in PyTorch and transformers.
IGNORE = -100


def pad(sequences, pad_id: int = 0, *, side: str = "right", length: int | None = None, multiple: int = 1):
    """(input_ids, attention_mask), both (B, T) int64; the mask is 1 at real tokens and 0 at padding.

    T is `length`, or the longest sequence rounded up to a `multiple`. A sequence longer than `length` is an error:
    where to cut is the caller's choice.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side: expected 'left' or 'right', got {side!r}")
    multiple, pad_id = whole("multiple", multiple, 1), whole("pad_id", pad_id)
    sequences = [as_ids(s).reshape(-1) for s in sequences]
    if not sequences:
        raise ValueError("pad: expected at least one sequence, got none")
    longest = max(len(s) for s in sequences)
    width = -(-longest // multiple) * multiple if length is None else whole("length", length)
    if longest > width:
        raise ValueError(f"length: a sequence has {longest} tokens, more than {width}; cut it first")
    ids = np.full((len(sequences), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, s in enumerate(sequences):
        place = slice(0, len(s)) if side == "right" else slice(width - len(s), width)
        ids[row, place] = s
        mask[row, place] = 1
    return ids, mask


def pad_labels(sequences, **options) -> np.ndarray:
    """Labels as one rectangle, -100 where there is none."""
    return pad(sequences, IGNORE, **options)[0]
