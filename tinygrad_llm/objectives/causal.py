"""Next-token prediction (Bengio et al. 2003; GPT, Radford et al. 2018)."""

import numpy as np

from .._check import as_ids
from ..data import IGNORE


def causal(ids, attention_mask=None) -> dict[str, np.ndarray]:
    """p(x) = Π p(xₜ | x₍<t₎): labels are the ids themselves, and the model shifts them by one, as in transformers.

    ids (B, T). T tokens give T-1 predictions, so a window of context + 1 fills every position. Where attention_mask
    is 0 the label is -100.
    """
    ids = as_ids(ids)
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise ValueError(f"ids: expected (batch, length) with length at least 2, got {ids.shape}")
    if attention_mask is None:
        return {"input_ids": ids, "labels": ids}
    mask = np.asarray(attention_mask)
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask: expected the shape of ids, {ids.shape}; got {mask.shape}")
    return {"input_ids": ids, "attention_mask": mask, "labels": np.where(mask != 0, ids, IGNORE)}
