"""One token after another: the most probable one, or one drawn at random."""

import numpy as np

from . import filters
from .settings import Settings


def sample(decoding, ids: np.ndarray, settings: Settings, rng) -> np.ndarray:
    """ids (B, T) int64 -> (B, T + n). A finished row goes on with the pad id until all are finished.

    decoding.first() and decoding.next(tokens) give the scores of the next token, (B, V).
    """
    prompt_length = ids.shape[1]
    out = np.full((len(ids), prompt_length + settings.max_new_tokens), settings.pad, dtype=np.int64)
    out[:, :prompt_length] = ids
    running = np.ones(len(ids), dtype=bool)
    scores = decoding.first()
    for length in range(prompt_length, out.shape[1]):
        scores = settings.process(scores, out[:, :length], length + 1 == out.shape[1], decoding.padding)
        tokens = filters.draw(scores, rng) if settings.do_sample else np.argmax(scores, axis=-1)
        tokens = np.where(running, tokens, settings.pad)
        out[:, length] = tokens
        if settings.stream is not None:
            settings.stream(tokens)
        running &= ~settings.ended(out[:, : length + 1])
        if not running.any() or length + 1 == out.shape[1]:
            break
        scores = decoding.next(tokens)
    return out[:, : length + 1]
