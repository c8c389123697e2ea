"""Pairs of segments: next-sentence prediction (BERT) and sentence-order prediction (ALBERT).

A document is a list of sentences, a sentence an array of ids. A pair becomes [CLS] a [SEP] b [SEP], with token type 0
up to the first [SEP] and 1 after it.
"""

import numpy as np

from .._check import as_ids, whole
from ..autograd import generator
from ..data import pad


def next_sentence(documents, batch: int | None, *, max_length: int, cls_id: int, sep_id: int, pad_id: int, rng=None):
    """Does b follow a? Half the time it does (label 0), half it comes from another document (1). Devlin et al. 2019 §3.1

    batch None: instead of drawn places, every sentence once, in order.
    Returns input_ids, attention_mask, token_type_ids (batch, T) and next_sentence_label (batch,).
    """
    filled = np.flatnonzero([len(d) > 0 for d in documents])
    if len(filled) < 2:
        raise ValueError(f"documents: expected at least 2 with sentences, to draw a stranger from; got {len(filled)}")
    rng, max_length = generator(rng), whole("max_length", max_length)
    pairs, labels = [], []
    for label, here, chunk in labels_and_places(documents, max_length - 3, batch, rng):
        labels.append(label)
        first, second = cut_in_two(chunk, rng)
        if label == 1:
            other = int(rng.integers(0, len(filled) - 1))
            stranger = documents[filled[other + (filled[other] >= here)]]
            start = int(rng.integers(0, len(stranger)))
            second = np.concatenate(stranger[start:])
        pairs.append(truncate_pair(first, second, max_length - 3, rng))
    return assemble(pairs, cls_id, sep_id, pad_id) | {"next_sentence_label": np.array(labels, np.int64)}


def sentence_order(documents, batch: int | None, *, max_length: int, cls_id: int, sep_id: int, pad_id: int, rng=None):
    """Two consecutive segments, half the time swapped: label 0 in order, 1 swapped. Lan et al. 2020, section 3.1

    batch None: instead of drawn places, every sentence once, in order.
    Returns input_ids, attention_mask, token_type_ids (batch, T) and sentence_order_label (batch,).
    """
    rng, max_length = generator(rng), whole("max_length", max_length)
    pairs, labels = [], []
    for label, _, chunk in labels_and_places(documents, max_length - 3, batch, rng):
        labels.append(label)
        first, second = cut_in_two(chunk, rng)
        first, second = truncate_pair(first, second, max_length - 3, rng)
        pairs.append((second, first) if label == 1 else (first, second))
    return assemble(pairs, cls_id, sep_id, pad_id) | {"sentence_order_label": np.array(labels, np.int64)}


def labels_and_places(documents, room: int, batch: int | None, rng):
    """For each pair 0 or 1, and where it is cut out: the number of a document, and consecutive sentences of it."""
    if batch is not None:
        return drawn(documents, room, whole("batch", batch, 1), rng)
    places = walked(documents, room)
    return [(label, *place) for label, place in zip(rng.integers(0, 2, size=len(places)), places)]


def documents_with_two(documents) -> np.ndarray:
    numbers = np.array([i for i, d in enumerate(documents) if len(d) >= 2])
    if not len(numbers):
        raise ValueError("documents: none has two sentences, so there is nothing to pair")
    return numbers


def drawn(documents, room: int, count: int, rng):
    """`count` times, one after the other as they are asked for: a pair does not depend on how many come after it."""
    long_enough = documents_with_two(documents)
    for _ in range(count):
        label, here = int(rng.integers(0, 2)), int(rng.choice(long_enough))
        yield label, here, some_sentences(documents[here], room, rng)


def walked(documents, room: int) -> list:
    """Places so that each sentence is read once: as many sentences as fit into `room`, two or more."""
    places = []
    for here in documents_with_two(documents).tolist():
        chunk, total, last = [], 0, len(documents[here]) - 1
        for i, sentence in enumerate(documents[here]):
            if total + len(sentence) > room and len(chunk) >= 2 and i < last:  # no sentence is left alone at the end
                places.append((here, chunk))
                chunk, total = [], 0
            chunk.append(as_ids(sentence))
            total += len(sentence)
        places.append((here, chunk))
    return places


def some_sentences(document, room: int, rng) -> list:
    """Consecutive sentences from a random place, up to `room` tokens (in one case of ten fewer, as in BERT)."""
    target = int(rng.integers(2, room + 1)) if rng.random() < 0.1 else room
    start = int(rng.integers(0, len(document) - 1))
    chunk, total = [], 0
    for sentence in document[start:]:
        if len(chunk) >= 2 and total + len(sentence) > target:
            break
        chunk.append(as_ids(sentence))
        total += len(sentence)
    return chunk


def cut_in_two(chunk: list, rng):
    """Two segments, cut between two sentences."""
    cut = int(rng.integers(1, len(chunk)))
    return np.concatenate(chunk[:cut]), np.concatenate(chunk[cut:])


def truncate_pair(first, second, room: int, rng):
    """Takes tokens from the front or back (at random) of the longer one until both fit, leaving each at least one."""
    if room < 2:
        raise ValueError(f"max_length: expected at least 5 ([CLS] a [SEP] b [SEP]), got {room + 3}")
    while len(first) + len(second) > room:
        front = rng.random() < 0.5
        if len(first) > len(second):
            first = first[1:] if front else first[:-1]
        else:
            second = second[1:] if front else second[:-1]
    return first, second


def assemble(pairs, cls_id: int, sep_id: int, pad_id: int) -> dict[str, np.ndarray]:
    cls_id, sep_id = whole("cls_id", cls_id), whole("sep_id", sep_id)
    rows = [np.concatenate([[cls_id], a, [sep_id], b, [sep_id]]) for a, b in pairs]
    ids, mask = pad(rows, pad_id)
    types = np.zeros_like(ids)
    for row, (a, b) in enumerate(pairs):
        types[row, len(a) + 2 : len(a) + len(b) + 3] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
