"""What an encoder writes: the tokens it finds most probable where the text has a mask."""

import numpy as np

from .._check import as_ids, whole
from ..autograd import no_grad
from ..models.outputs import word_logits
from ..nn import evaluating
from . import filters


def fill_mask(model, input_ids, mask_id: int, *, attention_mask=None, top_k: int = 5) -> list[list[list[tuple[int, float]]]]:
    """For each row, for each of its masks in order, the `top_k` pairs (token, probability), best first."""
    ids, mask_id, top_k = np.atleast_2d(as_ids(input_ids)), whole("mask_id", mask_id), whole("top_k", top_k, 1)
    if not (ids == mask_id).any():
        raise ValueError(f"input_ids: no mask token (id {mask_id}) to fill")
    mask = np.ones_like(ids) if attention_mask is None else np.asarray(attention_mask)
    with no_grad(), evaluating(model):
        logits = word_logits(model(input_ids=ids, attention_mask=mask))._data
    answers = []
    for row in range(len(ids)):
        places = np.flatnonzero(ids[row] == mask_id)
        probabilities = filters.softmax(logits[row, places].astype(np.float64))
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
        answers.append([[(int(t), float(p[t])) for t in tokens] for p, tokens in zip(probabilities, best)])
    return answers
