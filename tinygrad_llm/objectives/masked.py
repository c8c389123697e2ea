"""Masked language modelling (Devlin et al. 2019, section 3.1; dynamic masking, Liu et al. 2019, section 4.1)."""

import numpy as np

from .._check import as_ids, need, whole
from ..autograd import generator
from ..data import IGNORE
from .check import check_share


def masked(ids, *, mask_id: int, vocab_size: int, rng=None, special=(), attention_mask=None, word_starts=None,
           static=None, probability: float = 0.15, split=(0.8, 0.1, 0.1)) -> dict[str, np.ndarray]:
    """Chooses 15% of the tokens; of those 80% become [MASK], 10% a random token, 10% stay. Labels only where chosen.

    ids (B, T). Tokens in `special` (and padding) are never chosen, nor put in as random tokens.
    Each row gets max(1, round(probability · candidates)) choices, as in BERT's own data code.
    word_starts (B, T) bool: choose whole words, with all the pieces of one together.
    static (B,) ints: the row with number n has the same mask every time it is seen (BERT's static masking); without
    it masks are drawn anew (RoBERTa's dynamic masking).
    """
    check_share("probability", probability)
    need("split", split, lambda s: len(s) == 3 and abs(sum(s) - 1.0) <= 1e-9 and min(s) >= 0, "three fractions that sum to 1")
    mask_id, vocab_size = whole("mask_id", mask_id), whole("vocab_size", vocab_size, 1)
    ids = as_ids(ids)
    if ids.ndim != 2:
        raise ValueError(f"ids: expected (batch, length), got shape {ids.shape}")
    for name, value, shape in (("attention_mask", attention_mask, ids.shape), ("word_starts", word_starts, ids.shape),
                               ("static", static, ids.shape[:1])):  # fmt: skip
        if value is not None and np.shape(value) != shape:
            raise ValueError(f"{name}: expected shape {shape} for ids {ids.shape}, got {np.shape(value)}")
    special = as_ids(sorted(special))
    static = None if static is None else as_ids(static)
    allowed = ~np.isin(ids, special)
    if attention_mask is not None:
        allowed &= np.asarray(attention_mask) != 0
    is_ordinary = np.ones(vocab_size, bool)
    is_ordinary[[i for i in (*special, mask_id) if 0 <= i < vocab_size]] = False
    ordinary = np.flatnonzero(is_ordinary)
    inputs, labels = ids.copy(), np.full_like(ids, IGNORE)
    rng = generator(rng)
    for row in range(len(ids)):
        own = rng if static is None else np.random.default_rng([7, int(static[row])])
        starts = None if word_starts is None else np.asarray(word_starts)[row]
        chosen = choose(allowed[row], starts, probability, own)
        labels[row, chosen] = ids[row, chosen]
        inputs[row, chosen] = corrupt(ids[row, chosen], mask_id, ordinary, split, own)
    batch = {"input_ids": inputs, "labels": labels}
    return batch if attention_mask is None else batch | {"attention_mask": np.asarray(attention_mask)}


def choose(allowed, starts, probability, rng) -> np.ndarray:
    """Positions of one row to predict. Whole words are taken in random order while they fit the quota."""
    candidates = np.flatnonzero(allowed)
    if not len(candidates):
        return candidates
    quota = max(1, int(len(candidates) * probability + 0.5))
    if starts is None:
        return np.sort(rng.permutation(candidates)[:quota])
    words = np.cumsum(starts)[candidates]  # one number per word
    chosen: list[int] = []
    for word in rng.permutation(np.unique(words)):
        members = candidates[words == word]
        if len(chosen) + len(members) <= quota or not chosen:
            chosen += members.tolist()
        if len(chosen) >= quota:
            break
    return np.sort(np.array(chosen, dtype=np.int64))


def corrupt(tokens, mask_id, ordinary, split, rng) -> np.ndarray:
    """What stands in the chosen places: [MASK], a random ordinary token, or the token itself."""
    to_mask, to_random, _ = split
    draw = rng.random(len(tokens))
    strangers = rng.choice(ordinary, size=len(tokens)) if to_random else tokens
    return np.where(draw < to_mask, mask_id, np.where(draw < to_mask + to_random, strangers, tokens))
