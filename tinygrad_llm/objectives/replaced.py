"""Replaced-token detection (ELECTRA, Clark et al. 2020, section 2)."""

import numpy as np

from .._check import as_ids
from ..autograd import generator
from ..data import IGNORE

#: The discriminator's loss counts this many times the generator's (appendix A).
DISCRIMINATOR_WEIGHT = 50.0


def replaced_token(ids, masked_labels, generator_logits, *, rng=None, attention_mask=None) -> dict[str, np.ndarray]:
    """The discriminator's batch: masked places hold a token drawn from the generator; label 1 where it is not the original.

        x̂ₜ ~ softmax(logitsₜ) at masked t;   labelₜ = 1 if x̂ₜ ≠ xₜ else 0

    ids (B, T) originals; masked_labels (B, T) as `masked(..., split=(1, 0, 0))` gives them (-100 where not masked);
    generator_logits (B, T, V). A draw that happens to be right counts as original. Padding has label -100.
    """
    ids, masked_labels = as_ids(ids), as_ids(masked_labels)
    logits = np.asarray(generator_logits)
    if ids.ndim != 2 or logits.ndim != 3 or logits.shape[:2] != ids.shape or masked_labels.shape != ids.shape:
        raise ValueError(f"expected masked_labels {ids.shape} and generator_logits {ids.shape} + (V,), "
                         f"got {masked_labels.shape} and {logits.shape}")
    rng = generator(rng)
    chosen = masked_labels != IGNORE
    corrupted = ids.copy()
    rows = logits[chosen]  # (N, V)
    corrupted[chosen] = np.argmax(rows + rng.gumbel(size=rows.shape), axis=-1)  # a draw from softmax(rows)
    labels = (corrupted != ids).astype(np.int64)
    if attention_mask is None:
        return {"input_ids": corrupted, "labels": labels}
    mask = np.asarray(attention_mask)
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask: expected the shape of ids, {ids.shape}; got {mask.shape}")
    return {"input_ids": corrupted, "attention_mask": mask, "labels": np.where(mask != 0, labels, IGNORE)}
