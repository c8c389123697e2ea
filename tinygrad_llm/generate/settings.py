"""The choices of one call of generate, checked before any work is done."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from . import filters

LARGEST_LOG = math.log(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Settings:
    """See `generate` for what each one means."""

    max_new_tokens: int = 20
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    num_beams: int = 1
    num_return_sequences: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    eos: tuple[int, ...] = ()
    pad: int = 0
    padding_id: int | None = None  # what is padding in a prompt without attention_mask
    forced_bos_token_id: int | None = None  # BART's models for summaries begin with it
    forced_eos_token_id: int | list[int] | None = None  # what the last token must be where the length runs out
    no_repeat_ngram_size: int | None = None
    bad_words_ids: list[list[int]] | None = None
    min_length: int | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    encoder_repetition_penalty: float = 1.0
    encoder_no_repeat_ngram_size: int | None = None
    exponential_decay_length_penalty: tuple[int, float] | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    renormalize_logits: bool = False
    begin: int = 1  # how many ids there are before the first new one
    unseen: int = 0  # how many positions before those have vectors in place of ids
    source: np.ndarray | None = None  # (B, S) what the encoder reads, or a decoder's prompt
    logits_processor: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = ()
    prompt_lookup_num_tokens: int | None = None
    stop_strings: tuple[str, ...] = ()
    tokenizer: Any = None
    stream: Callable[[np.ndarray], None] | None = None

    def __post_init__(self):
        def need(good: bool, name: str, expected: str) -> None:
            if not good:
                raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

        for name, least, or_none in (("max_new_tokens", 1, ""), ("num_beams", 1, ""), ("num_return_sequences", 1, ""),
                                     ("top_k", 1, ", or None"), ("no_repeat_ngram_size", 0, ", or None"),
                                     ("encoder_no_repeat_ngram_size", 0, ", or None"),
                                     ("min_length", 0, ", or None")):  # fmt: skip
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and value >= least
            need(whole or (value is None and bool(or_none)), name, f"a whole number of at least {least}{or_none}")
        for name in ("temperature", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty",
                     "encoder_repetition_penalty", "length_penalty"):  # fmt: skip
            value = getattr(self, name)
            need(isinstance(value, Real) or (value is None and getattr(Settings, name) is None), name, "a number")
        if self.num_beams > 1:
            need(self.num_return_sequences <= self.num_beams, "num_return_sequences", f"at most num_beams = {self.num_beams}")
        else:
            need(self.num_return_sequences == 1 or self.do_sample, "num_return_sequences",
                 "1 with do_sample=False and one beam: all would be the same")  # fmt: skip
        need(self.temperature > 0, "temperature", "a number above 0 (for the most probable token: do_sample=False)")
        need(self.top_p is None or 0 < self.top_p <= 1, "top_p", "a number in (0, 1] or None")
        need(self.min_p is None or 0 <= self.min_p <= 1, "min_p", "a number in [0, 1] or None")
        need(self.typical_p is None or 0 < self.typical_p <= 1, "typical_p", "a number in (0, 1] or None")
        for name in ("epsilon_cutoff", "eta_cutoff"):
            need(0 <= (getattr(self, name) or 0) < 1, name, "a number in [0, 1) or None")
        for name in ("repetition_penalty", "encoder_repetition_penalty"):
            need(getattr(self, name) > 0, name, "a number above 0")
        need(len(self.exponential_decay_length_penalty or (0, 1)) == 2, "exponential_decay_length_penalty",
             "(how many new tokens come before it, the factor with each further one)")  # fmt: skip
        reach = abs(self.length_penalty) * math.log(self.max_new_tokens)
        need(reach < LARGEST_LOG, "length_penalty", f"a p so that {self.max_new_tokens}^p is neither 0 nor infinite")
        for name, place in (("forced_bos_token_id", "first"), ("forced_eos_token_id", "last")):
            value = getattr(self, name)
            forced = set() if value is None else set(np.atleast_1d(value).tolist())
            need(not forced or not forced <= set(self.suppress_tokens or ()), "suppress_tokens",
                 f"none that must come {place}, {name} = {value}")  # fmt: skip
        need(self.early_stopping in (True, False, "never"), "early_stopping", "True, False or 'never'")
        need(not self.stop_strings or self.tokenizer is not None, "tokenizer", "a tokenizer, to look for stop_strings")
        need(self.stream is None or callable(self.stream), "stream", "a function of each step's tokens (B,), or None")
        need(self.stream is None or self.num_beams == 1, "stream", "None with num_beams > 1: a beam's tokens are known at the end")

        need(all(map(callable, self.logits_processor)), "logits_processor", "functions of (ids, scores) that return scores")
        n = self.prompt_lookup_num_tokens
        if n is not None:
            whole = isinstance(n, int | np.integer) and not isinstance(n, bool)
            need(whole and n >= 1, "prompt_lookup_num_tokens", "a whole number of at least 1, or None")
            need(not self.do_sample, "do_sample", "False with prompt_lookup_num_tokens: guesses are checked against the best token")
            need(self.num_beams == 1, "num_beams", "1 with prompt_lookup_num_tokens")

    @property
    def copies(self) -> int:
        """Rows of the model that each prompt takes."""
        return max(self.num_beams, self.num_return_sequences)

    def process(self, scores: np.ndarray, ids: np.ndarray, last: bool, padding: np.ndarray | None = None) -> np.ndarray:
        """Scores of the next token (B, V) after the penalties and filters.

        ids (B, T) is what came before, the first padding[b] of them none of the text; last: there is room for one more.
        """
        prompts = lambda: np.repeat(self.source, len(scores) // len(self.source), axis=0)
        if self.encoder_repetition_penalty != 1.0:  # in favour of what the prompt has
            scores = filters.repetition_penalty(scores, prompts(), 1 / self.encoder_repetition_penalty)
        if self.repetition_penalty != 1.0:
            scores = filters.repetition_penalty(scores, ids, self.repetition_penalty, padding)
        if self.no_repeat_ngram_size:
            scores = filters.no_repeated_ngram(scores, ids, self.no_repeat_ngram_size)
        if self.encoder_no_repeat_ngram_size:
            scores = filters.no_repeated_ngram(scores, ids, self.encoder_no_repeat_ngram_size, prompts())
        if self.bad_words_ids:
            ends = [[end] for end in self.eos]  # as in transformers, the end of a text is no bad word
            scores = filters.no_bad_words(scores, ids, [word for word in self.bad_words_ids if word not in ends])
        if self.min_length and self.unseen + ids.shape[1] < self.min_length:
            scores = filters.without(scores, self.eos)
        if self.forced_bos_token_id is not None and ids.shape[1] == 1:
            scores = filters.only(scores, self.forced_bos_token_id)
        if self.forced_eos_token_id is not None and last:
            scores = filters.only(scores, self.forced_eos_token_id)
        if self.exponential_decay_length_penalty:
            start, factor = self.exponential_decay_length_penalty
            beyond = ids.shape[1] - self.begin - start
            scores = filters.drawn_to_the_end(scores, self.eos, factor**beyond) if beyond > 0 else scores
        if self.suppress_tokens:
            scores = filters.without(scores, self.suppress_tokens)
        if self.begin_suppress_tokens and ids.shape[1] == self.begin + (self.begin == 1 and self.forced_bos_token_id is not None):
            scores = filters.without(scores, self.begin_suppress_tokens)
        for processor in self.logits_processor:
            scores = filters.processed(scores, ids, processor)
        scores = self.sifted(scores) if self.do_sample else scores
        return filters.log_softmax(scores) if self.renormalize_logits else scores

    def sifted(self, scores: np.ndarray) -> np.ndarray:
        """The scores (B, V) of the tokens among which is drawn."""
        if self.temperature != 1.0:
            scores = filters.temperature(scores, self.temperature)
        if self.top_k is not None:
            scores = filters.top_k(scores, self.top_k)
        if self.top_p is not None and self.top_p < 1.0:
            scores = filters.top_p(scores, self.top_p)
        if self.min_p is not None:
            scores = filters.min_p(scores, self.min_p)
        if self.typical_p is not None and self.typical_p < 1.0:
            scores = filters.typical_p(scores, self.typical_p)
        if self.epsilon_cutoff:
            scores = filters.cutoff(scores, self.epsilon_cutoff)
        if self.eta_cutoff:
            scores = filters.cutoff(scores, self.eta_cutoff, by_entropy=True)
        return scores

    def ended(self, ids: np.ndarray) -> np.ndarray:
        """(B,) True where the last token of ids (B, T) ends its sequence."""
        over = np.zeros(len(ids), bool)
        for end in self.eos:  # one or two: np.isin takes 0.15 ms of every token
            over |= ids[:, -1] == end
        if self.stop_strings:
            over |= np.array([stops(row, self.stop_strings, self.tokenizer) for row in ids])
        return over


def stops(ids: np.ndarray, stop_strings: Sequence[str], tokenizer: Any) -> bool:
    """Whether the last token of ids (T,) completes a stop string, which may begin in the prompt."""
    tail = ids[-1 - max((len(stop.encode()) for stop in stop_strings), default=0) :]  # a token is at least one byte of the text
    text, before = tokenizer.decode(tail), tokenizer.decode(tail[:-1])
    old = len(before.rstrip("\ufffd"))  # a character whose bytes had not all come counts as new
    return any(text.find(stop, max(old + 1 - len(stop), 0)) >= 0 for stop in stop_strings)
