"""Beam search with length penalty, choosing what `transformers` chooses.

Of each prompt K beams run. A step scores all their continuations, takes the best 2K (more with several end tokens), puts
those that end among the finished, and runs on with the best K of the others. A finished sequence scores

    log p / n^length_penalty          with n its number of generated tokens  (Wu et al. 2016 have another formula)

and the search stops when no running beam, at its present length, could beat the worst of the K finished ones.
"""

from dataclasses import dataclass

import numpy as np

import kernels

from .settings import Settings

LOW = np.float32(-1.0e9)  # what transformers uses for "not a candidate"; -inf would turn 0 * -inf into NaN


@dataclass
class Beams:
    """K running and K finished sequences for each of B prompts."""

    running: np.ndarray  # (B, K, L) ids
    running_scores: np.ndarray  # (B, K) sums of log-probabilities, float32
    finished: np.ndarray  # (B, K, L) ids
    finished_scores: np.ndarray  # (B, K) with the length penalty
    finished_mask: np.ndarray  # (B, K) True where there is a sequence
    finished_lengths: np.ndarray  # (B, K) number of generated tokens
    improvable: np.ndarray  # (B, 1)


def start(ids: np.ndarray, settings: Settings) -> Beams:
    """Before the first step: each of ids (B, T) K times, and nothing finished."""
    B, T = ids.shape
    K = settings.num_beams
    running = np.full((B, K, T + settings.max_new_tokens), fill_id(settings), dtype=np.int64)
    running[:, :, :T] = ids[:, None, :]
    scores = np.zeros((B, K), dtype=np.float32)
    scores[:, 1:] = LOW  # all beams are the same at first: count the prompt once
    return Beams(running, scores, running.copy(), np.full((B, K), LOW), np.zeros((B, K), dtype=bool),
                 np.zeros((B, K), dtype=np.int64), np.ones((B, 1), dtype=bool))


def fill_id(settings: Settings) -> int:
    """What stands after the end of a sequence. transformers takes the end token where the pad id is 0 or unknown."""
    return (settings.pad or settings.eos[0]) if settings.eos else -1


def beam_search(decoding, ids: np.ndarray, settings: Settings, rng) -> np.ndarray:
    """ids (B, T) -> (B · num_return_sequences, T + n), the best finished ones of each prompt. decoding holds B·K rows."""
    B, T = ids.shape
    K = settings.num_beams
    beams = start(ids, settings)
    scores = decoding.first()  # (B·K, V)
    for length in range(T, T + settings.max_new_tokens):
        log_probs = kernels.log_softmax_forward(scores)
        last = length + 1 == beams.running.shape[2]
        log_probs = settings.process(log_probs, beams.running[:, :, :length].reshape(B * K, length), last, decoding.padding)
        total = log_probs.reshape(B, K, -1)  # (B, K, V)
        total += beams.running_scores[:, :, None]
        top_scores, sources, candidates = continuations(total, beams, length, settings, rng)
        over = settings.ended(candidates[:, :, : length + 1].reshape(-1, length + 1)).reshape(top_scores.shape)
        over |= last
        rows = run_on(beams, top_scores, sources, candidates, over, K)
        finish(beams, top_scores, candidates, over, length + 1 - T, settings)
        check_improvable(beams, length + 1 - T, settings)
        full = settings.early_stopping is True and beams.finished_mask.all()
        if full or over.all() or not beams.improvable.any():
            break
        decoding.reorder((rows + np.arange(B)[:, None] * K).reshape(-1))
        scores = decoding.next(beams.running[:, :, length].reshape(-1))
    best = settings.num_return_sequences
    return beams.finished[:, :best, : T + int(beams.finished_lengths[:, :best].max())].reshape(B * best, -1)


def continuations(total, beams: Beams, length: int, settings: Settings, rng):
    """The best 2K continuations of each prompt: scores (B, 2K), the beams they come from (B, 2K), ids (B, 2K, L)."""
    B, K, V = total.shape
    flat = total.reshape(B, K * V)
    keep = min(max(2, 1 + len(settings.eos)) * K, K * V)
    # Gumbel top-k: draws without replacement
    best = top_indices(flat + rng.gumbel(size=flat.shape) if settings.do_sample else flat, keep)
    scores = np.take_along_axis(flat, best, axis=1)
    if settings.do_sample:  # as drawn; the best of them come first, as without sampling
        order = np.argsort(-scores, axis=1, kind="stable")
        best, scores = (np.take_along_axis(x, order, axis=1) for x in (best, scores))
    sources, tokens = best // V, best % V
    candidates = np.take_along_axis(beams.running, sources[:, :, None], axis=1)
    candidates[:, :, length] = tokens
    return scores, sources, candidates


def run_on(beams: Beams, top_scores, sources, candidates, over, K: int) -> np.ndarray:
    """Keeps the best K that have not ended; returns the beam that each continues, (B, K)."""
    scores = top_scores + over.astype(np.float32) * LOW
    chosen = top_indices(scores, K)
    beams.running = np.take_along_axis(candidates, chosen[:, :, None], axis=1)
    beams.running_scores = np.take_along_axis(scores, chosen, axis=1)
    return np.take_along_axis(sources, chosen, axis=1)


def finish(beams: Beams, top_scores, candidates, over, generated: int, settings: Settings) -> None:
    """Puts what ended among the best K continuations with the finished, and keeps the best K of those."""
    K = settings.num_beams
    ended = over & (np.arange(over.shape[1]) < K)
    scores = top_scores / np.float32(generated**settings.length_penalty)
    closed = ~beams.improvable
    if settings.early_stopping is True:
        closed = closed | beams.finished_mask.all(axis=1, keepdims=True)
    scores = scores + closed.astype(np.float32) * LOW + (~ended).astype(np.float32) * LOW
    merged = np.concatenate([beams.finished_scores, scores], axis=1)
    chosen = top_indices(merged, K)
    pick = lambda old, new: np.take_along_axis(np.concatenate([old, new], axis=1), chosen, axis=1)
    beams.finished = np.take_along_axis(np.concatenate([beams.finished, candidates], axis=1), chosen[:, :, None], axis=1)
    beams.finished_scores = np.take_along_axis(merged, chosen, axis=1)
    beams.finished_mask = pick(beams.finished_mask, ended)
    beams.finished_lengths = pick(beams.finished_lengths, np.full_like(chosen, generated, shape=ended.shape))


def check_improvable(beams: Beams, generated: int, settings: Settings) -> None:
    """False, for good, where the best running beam could no longer beat the worst finished one."""
    reach = settings.max_new_tokens if settings.early_stopping == "never" and settings.length_penalty > 0 else generated
    hope = beams.running_scores[:, :1] / np.float32(reach**settings.length_penalty)
    worst = np.where(beams.finished_mask, beams.finished_scores.min(axis=1, keepdims=True), LOW)
    beams.improvable &= (hope > worst).any(axis=1, keepdims=True)


SIFTED = 64  # scores whose maximum stands for them while the many are sifted


def top_indices(scores: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k largest per row, best first; of equal ones the first."""
    return np.stack([_top_of_row(row, k) for row in scores])


def _top_of_row(row: np.ndarray, k: int) -> np.ndarray:
    groups = len(row) // SIFTED
    if not 0 < 4 * k <= groups:
        return np.argsort(-row, kind="stable")[:k]
    tops = row[: groups * SIFTED].reshape(SIFTED, groups).max(axis=0)  # of every `groups`-th score: a maximum of long vectors
    reached = np.flatnonzero(~(row < np.partition(tops, groups - k)[groups - k]))  # k groups have a number as large: at least k
    return reached[np.argsort(-row[reached], kind="stable")[:k]]
