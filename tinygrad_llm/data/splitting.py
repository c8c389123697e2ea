"""Training and validation parts."""

import numpy as np

from .._check import need
from .token_file import TokenFile


def split_ids(ids, fraction: float = 0.1):
    """(train, validation): the last `fraction` of one long sequence is held out; views, nothing is copied."""
    check_fraction(fraction)
    cut = int(len(ids) * (1 - fraction))
    if isinstance(ids, TokenFile):  # whose slices are copies
        return ids.part(0, cut), ids.part(cut)
    return ids[:cut], ids[cut:]


def split_items(items: list, fraction: float = 0.1, seed: int = 0):
    """(train, validation) of separate examples, chosen at random by `seed`; at least one on each side."""
    check_fraction(fraction)
    if len(items) < 2:
        raise ValueError(f"items: expected at least 2 examples to split, got {len(items)}")
    held = min(max(1, round(len(items) * fraction)), len(items) - 1)
    order = np.random.default_rng(seed).permutation(len(items))
    out = set(order[:held].tolist())
    return [x for i, x in enumerate(items) if i not in out], [x for i, x in enumerate(items) if i in out]


def check_fraction(fraction: float) -> None:
    need("fraction", fraction, lambda x: 0.0 < x < 1.0, "a number between 0 and 1")
