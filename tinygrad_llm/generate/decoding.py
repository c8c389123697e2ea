"""One step of a model at a time, behind one interface: `first()`, `next(tokens)` and `reorder(rows)`.

For guesses that must be checked there are `following(ids)`, the scores after each of several tokens, and `rewind(length)`.

The rest of generation knows nothing about caches, masks, positions, or whether there is an encoder.
"""

from typing import Any

import numpy as np

from ..autograd import Tensor, no_grad
from ..nn import KVCache


def reserve(model, length: int, new_tokens: int, given: KVCache | None = None) -> KVCache:
    """A cache for `length` ids and all new ones but the last, which the model never reads; an error where positions run out.
    One that was given serves, too: it grows."""
    needed = length + new_tokens - 1
    cache = model.make_cache(needed)
    if cache.capacity < needed:
        raise ValueError(f"there are {length} tokens and {new_tokens} are to follow, but the model has {cache.capacity} "
                         f"positions; shorten the prompt or ask for at most {max(cache.capacity + 1 - length, 0)}")  # fmt: skip
    return cache if given is None else given


class Decoding:
    """What both kinds have in common; `go_on(ids)` is the model on the ids (B, T) that follow."""

    cache: KVCache
    source: np.ndarray  # text to look up guesses in, besides what is being written
    padding: np.ndarray | None = None  # (B,) how many ids in front are padding

    def go_on(self, ids: np.ndarray) -> Any:
        raise NotImplementedError

    @no_grad()
    def next(self, tokens: np.ndarray) -> np.ndarray:
        """Scores after one more token (B,) of each sequence: (B, V) float32."""
        return last_scores(self.go_on(tokens[:, None]))

    @no_grad()
    def following(self, ids: np.ndarray) -> np.ndarray:
        """One sequence goes on with ids (T,): the scores after each of them, (T, V) float32."""
        return self.go_on(ids[None]).logits._data[0].astype(np.float32, copy=False)

    def rewind(self, length: int) -> None:
        """Forget the ids from `length` on."""
        self.cache.truncate(length)


class Decoder(Decoding):
    """A decoder-only model that goes on from ids (B, T) or vectors (B, T, D), left-padded where attention_mask (B, T) is 0.
    The first of them may lie in a cache already."""

    def __init__(self, model, prompt: np.ndarray, mask: np.ndarray, new_tokens: int, cache: KVCache | None = None):
        self.model, self.prompt, self.mask, self.length = model, prompt, mask, prompt.shape[1]
        self.cache = reserve(model, self.length, new_tokens, cache)
        self.padded = not mask.all()
        self.places = np.where(mask != 0, np.cumsum(mask, axis=1) - 1, 0)  # (B, T), 0 at padding
        self.source = np.empty(0, np.int64)
        self.padding = np.argmax(mask != 0, axis=1) if self.padded and prompt.ndim == 2 else None

    @no_grad()
    def first(self) -> np.ndarray:
        past = self.cache.length
        return last_scores(self.call(self.places[:, past:], logits_to_keep=1, **{reading(self.prompt): self.prompt[:, past:]}))

    def go_on(self, ids: np.ndarray) -> Any:
        """Positions follow the prompt's last one."""
        if not self.padded:
            return self.call(None, input_ids=ids)
        B, T = ids.shape
        self.mask = np.concatenate([self.mask, np.ones((B, T), dtype=self.mask.dtype)], axis=1)
        written = self.cache.length + 1 - self.length
        return self.call(self.places[:, -1:] + np.arange(written, written + T), input_ids=ids)

    def call(self, positions, **extra):
        if self.padded:
            extra |= {"attention_mask": self.mask, "position_ids": positions}
        return self.model(past_key_values=self.cache, **extra)

    def rewind(self, length: int) -> None:
        super().rewind(length)
        if self.padded:
            self.mask = self.mask[:, :length]

    def reorder(self, rows: np.ndarray) -> None:
        self.cache.reorder(rows)
        self.mask = self.mask[rows]


class Seq2Seq(Decoding):
    """An encoder-decoder: the source is encoded once; decoding begins at ids (B, T), usually one start token."""

    def __init__(self, model, source: np.ndarray, mask: np.ndarray, ids: np.ndarray, new_tokens: int, copies: int = 1):
        self.model, self.ids, self.source, self.copies = model, np.repeat(ids, copies, axis=0), source[0], copies
        self.cache = reserve(model, ids.shape[1], new_tokens)
        self.cache.copies = copies
        with no_grad():
            self.encoded = model.encode(attention_mask=mask, **{reading(source): source})
        self.encoded.last_hidden_state = Tensor(np.repeat(self.encoded.last_hidden_state._data, copies, axis=0))
        self.mask = np.repeat(mask, copies, axis=0)

    @no_grad()
    def first(self) -> np.ndarray:
        return last_scores(self.go_on(self.ids))

    def go_on(self, ids: np.ndarray) -> Any:
        return self.model(encoder_outputs=self.encoded, attention_mask=self.mask, decoder_input_ids=ids,
                          past_key_values=self.cache)

    def reorder(self, rows: np.ndarray) -> None:
        own = np.arange(len(rows)) // self.copies
        self.cache.reorder(rows, shared_source=np.array_equal(rows // self.copies, own))


def reading(prompt: np.ndarray) -> str:
    """What a model's call names ids (B, T), or the vectors (B, T, D) that stand for them."""
    return "inputs_embeds" if prompt.ndim == 3 else "input_ids"


def last_scores(output) -> np.ndarray:
    """Scores of the next token, (B, V) float32."""
    return output.logits._data[:, -1].astype(np.float32, copy=False)
