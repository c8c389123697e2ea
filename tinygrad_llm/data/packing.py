"""Documents laid end to end and cut into equal blocks, so that no position of a batch is wasted on padding."""

import numpy as np

from .._check import as_ids, whole


def pack(documents, length: int, eos_id: int | None = None) -> np.ndarray:
    """(N, length) int64: the documents joined (with `eos_id` after each, where given) and cut; the rest is dropped.

    Radford et al. 2019 train GPT-2 on such blocks. Raises if the documents do not fill one block.
    """
    length = whole("length", length, 1)
    end = [] if eos_id is None else [np.array([whole("eos_id", eos_id)], dtype=np.int64)]
    pieces = [piece for d in documents for piece in (as_ids(d).reshape(-1), *end)]
    flat = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
    if len(flat) < length:
        raise ValueError(f"length: the documents have {len(flat)} tokens in all, fewer than one block of {length}")
    return flat[: len(flat) // length * length].reshape(-1, length)
