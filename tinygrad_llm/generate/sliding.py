"""Texts of any length from a model that sees so many tokens at once: its window slides."""

import numpy as np

from ..models.base import longest
from . import generate
from .settings import stops


def continue_ids(model, ids, tokens: int, rng, stream=None, stop_strings=(), tokenizer=None, **options) -> np.ndarray:
    """`tokens` new ids after ids (T,), fewer where one of generate's stop_strings is written first.

    Also beyond the model's positions: the last half of them is then kept as the prompt.
    """
    limit = longest(model)
    out, left = np.asarray(ids, dtype=np.int64), tokens
    while left > 0:
        window = out[-max(limit // 2, 1) :] if len(out) >= limit else out
        step = min(left, limit - len(window))
        grown = generate(model, window, max_new_tokens=step, rng=rng, stream=stream, eos_token_id=-1, stop_strings=stop_strings,
                         tokenizer=tokenizer, **options)[0]  # fmt: skip
        out = np.concatenate([out, grown[len(window) :]])
        left -= step
        if len(grown) < len(window) + step or (stop_strings and stops(out, stop_strings, tokenizer)):
            break
    return out
