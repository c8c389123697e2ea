"""Sequences of different lengths as one rectangle."""

import numpy as np

from .._check import whole

#: The label that no loss counts, as in PyTorch and transformers.
IGNORE = -100


def as_ids(values) -> np.ndarray:
    """Ids as int64; numbers that a cast would change (0.5, NaN) are refused, for they are no ids."""
    given = np.asarray(values)
    integers = given.dtype.kind in "iub"
    if given.dtype.kind == "f":  # an empty list is a float array, and joined with ids makes floats of them
        integers = bool(((np.abs(given) < 2**63) & (given == np.trunc(given))).all())
    if not integers:
        raise TypeError(f"expected token ids, which are integers, got {given.dtype}")
    if given.dtype == np.uint64 and given.size and given.max() >= 2**63:
        raise ValueError(f"expected token ids below 2**63, got {given.max()}")
    return given.astype(np.int64, copy=False)


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
