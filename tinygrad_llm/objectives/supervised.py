"""Objectives with given answers: translation (Vaswani et al. 2017) and classification."""

import numpy as np

from .._check import as_ids, whole
from ..data import pad, pad_labels
from .check import ids_if_given


def translation(sources, targets, *, pad_id: int, eos_id: int | None = None, max_length: int | None = None):
    """Teacher forcing: the decoder sees the target shifted right and predicts the target.

    sources, targets: lists of id sequences.

    Returns input_ids, attention_mask (B, S) and labels (B, T), ending with eos_id where given; the model makes
    decoder_input_ids from the labels, as in transformers. Also the batch form of text_infilling and span_corruption.
    """
    if len(sources) != len(targets):
        raise ValueError(f"expected as many targets as sources, got {len(targets)} and {len(sources)}")
    [end] = ids_if_given(eos_id=eos_id)
    room = room_for_text(max_length, len(end))
    close = lambda s: np.concatenate([as_ids(s)[:room], end]).astype(np.int64)
    ids, mask = pad([close(s) for s in sources], pad_id)
    return {"input_ids": ids, "attention_mask": mask, "labels": pad_labels([close(t) for t in targets])}


def classification(sequences, labels, *, pad_id: int, cls_id: int | None = None, sep_id: int | None = None,
                   max_length: int | None = None):
    """[CLS] text [SEP] and one class per text: input_ids, attention_mask (B, T), labels (B,).

    Labels that are floats stay as they are: the values of a regression (B,), or a 0.0 or 1.0 for each class (B, C).
    """
    labels = np.asarray(labels)
    if len(sequences) != len(labels):
        raise ValueError(f"expected one label per text, got {len(labels)} labels and {len(sequences)} texts")
    front, back = ids_if_given(cls_id=cls_id, sep_id=sep_id)
    room = room_for_text(max_length, len(front) + len(back))
    rows = [np.concatenate([front, as_ids(s)[:room], back]).astype(np.int64) for s in sequences]
    ids, mask = pad(rows, pad_id)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels if labels.dtype.kind == "f" else labels.astype(np.int64)}


def room_for_text(max_length: int | None, special: int) -> int | None:
    """Tokens of the text that fit beside the special ones; None: all."""
    if max_length is None:
        return None
    max_length = whole("max_length", max_length)
    if max_length <= special:
        raise ValueError(f"max_length: expected more than the {special} special tokens, got {max_length}")
    return max_length - special
