"""Greedy decoding in fewer runs of the model: guess the next tokens from the text so far, and check the guesses in one run.

Text repeats itself (names, quotations, code). Where the last three tokens, or two, or one, stood before, the n tokens that
followed there are the guess. One run on [last token, guesses] scores them all; the longest prefix of guesses that greedy
decoding would choose stays, the token after it comes from the same run, and the rest is cut off the cache again.
Saxena 2023, Prompt Lookup Decoding; the checking is that of Leviathan et al. 2023, https://arxiv.org/abs/2211.17192
"""

import numpy as np

from .settings import Settings

NGRAMS = (3, 2, 1)
#: A run on many tokens rounds otherwise than a run on one. Scores closer than this, relative to the largest, decide nothing.
CLOSE = 100 * float(np.finfo(np.float32).eps)


def lookup(decoding, ids: np.ndarray, settings: Settings, rng=None) -> np.ndarray:
    """ids (1, T) int64 -> (1, T + n), the tokens of `sample` without do_sample.

    Guesses are only accepted by a clear margin: where two scores are too close, the model runs on that one token alone, as it
    does without guesses. (Keys and values of accepted guesses keep their last bits, so an exact tie may still hang on those.)
    """
    start = ids.shape[1]
    out = np.full((1, start + settings.max_new_tokens), settings.pad, dtype=np.int64)
    out[:, :start] = ids
    length, guesses = start, np.empty(0, dtype=np.int64)
    scores = decoding.first()
    while True:
        for i, row in enumerate(scores):  # row i: after the last token and i guesses
            last = length + 1 == out.shape[1]
            token, clear = best(row, out[:, :length], last, settings, decoding.padding)
            if not clear and len(scores) > 1:
                decoding.rewind(length - 1)
                token, _ = best(decoding.next(out[:, length - 1])[0], out[:, :length], last, settings, decoding.padding)
            out[0, length] = token
            length += 1
            if settings.stream is not None:
                settings.stream(out[0, length - 1 : length].copy())
            if length == out.shape[1] or settings.ended(out[:, :length])[0]:
                return out[:, :length]
            if not clear or i == len(guesses) or token != guesses[i]:
                break
        decoding.rewind(length - 1)
        room = out.shape[1] - length - 1  # the token after the guesses needs a place too
        guesses = propose(np.concatenate([decoding.source, out[0, :length]]), min(settings.prompt_lookup_num_tokens, room))
        scores = decoding.following(np.concatenate([out[0, length - 1 : length], guesses]))


def best(scores: np.ndarray, ids: np.ndarray, last: bool, settings: Settings, padding) -> tuple[int, bool]:
    """What greedy decoding takes from scores (V,) after ids (1, T), and whether it leads by more than rounding."""
    processed = settings.process(scores[None], ids, last, padding)[0]
    token = int(np.argmax(processed))
    if len(processed) == 1:
        return token, True
    second, first = np.partition(processed, -2)[-2:]
    return token, bool(first - second > CLOSE * np.abs(scores).max())


def propose(history: np.ndarray, n: int) -> np.ndarray:
    """Up to n tokens that may follow history (T,): those after the latest place where its last 3, 2 or 1 tokens stood before.

    A match close to the end is a period, and the guess repeats it: a b c a b -> c a b c a ...
    """
    for size in NGRAMS:
        if len(history) <= size:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(history[:-1], size)
        places = np.flatnonzero((windows == history[-size:]).all(axis=1))
        if places.size:
            return np.resize(history[places[-1] + size :], max(n, 0))
    return np.empty(0, dtype=np.int64)
