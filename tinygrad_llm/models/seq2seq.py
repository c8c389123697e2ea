"""Encoder-decoders: what the 2017 Transformer, BART and T5 share once their stacks are built.

A family's base model sets `tokens` (embeddings shared by both sides), `encoder` and `decoder`, and says how ids become vectors (`embed_source`,
`embed_target`). The stacks map (x, mask, record) and (x, mask, record, context, context_mask, cache) to hidden states.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..autograd import Tensor
from . import inputs
from .base import Model, Record
from .config import ConfigError
from .outputs import ModelOutput


def shift_right(labels: Any, start: int | None, pad: int | None) -> np.ndarray:
    """Decoder inputs from labels (B, T): the start token, then all labels but the last; -100 becomes padding."""
    if start is None or pad is None:
        raise ConfigError("decoder_start_token_id and pad_token_id must be set to make decoder inputs from labels")
    labels = inputs.as_array(labels, "labels")
    if labels.ndim != 2:
        raise ValueError(f"labels: expected shape (batch, positions), got {labels.shape}")
    shifted = np.full_like(labels, start)
    shifted[:, 1:] = labels[:, :-1]
    return np.where(shifted == -100, pad, shifted)


class EncoderDecoder(Model):
    """A base model with both stacks; also the protocol of generation: `encode` once, then call with `encoder_outputs`."""

    is_encoder_decoder = True
    tokens: nn.Embedding
    encoder: nn.Module
    decoder: nn.Module

    def embed_source(self, ids: np.ndarray) -> Tensor:
        """(B, S) -> (B, S, D)"""
        raise NotImplementedError

    def embed_target(self, ids: np.ndarray, past: int) -> Tensor:
        """(B, T) -> (B, T, D), for ids whose first position is `past`."""
        raise NotImplementedError

    def positions(self) -> int | None:
        """How many positions there are, None for no limit."""
        return None

    def make_cache(self, capacity: int = 256) -> nn.KVCache:
        return nn.KVCache(len(self.decoder.layers), min(capacity, self.positions() or capacity))

    def encode(
        self, input_ids: Any, attention_mask: Any = None, output_hidden_states: bool = False, output_attentions: bool = False
    ) -> ModelOutput:
        """The encoder's states, to be passed as `encoder_outputs`."""
        ids = inputs.token_ids(input_ids, self.config.vocab_size, longest=self.positions())
        B, S = ids.shape
        mask = nn.from_attention_mask(attention_mask, B, S, S)
        record = Record(output_hidden_states, output_attentions)
        x = self.encoder(nn.tap("embed", self.embed_source(ids)), mask, record)
        return ModelOutput(last_hidden_state=x, hidden_states=record.states(x), attentions=record.patterns())

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: ModelOutput | None = None,
        past_key_values: nn.KVCache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        encoded = encoder_outputs
        if encoded is None:
            encoded = self.encode(input_ids, attention_mask, output_hidden_states, output_attentions)
        context = encoded.last_hidden_state
        cache = self.make_cache() if use_cache and past_key_values is None else past_key_values
        past = 0 if cache is None else cache.length
        ids = inputs.token_ids(decoder_input_ids, self.config.vocab_size, "decoder_input_ids", self.positions(), past)
        B, T = ids.shape
        if context.shape[0] != B:
            raise ValueError(f"decoder_input_ids: {B} rows, but the encoder saw {context.shape[0]}")
        mask = nn.from_attention_mask(decoder_attention_mask, B, T, past + T, causal=True, offset=past)
        context_mask = nn.from_attention_mask(attention_mask, B, T, context.shape[1])
        record = Record(output_hidden_states, output_attentions)
        x = self.decoder(nn.tap("embed", self.embed_target(ids, past)), mask, record, context, context_mask, cache)
        if cache is not None:
            cache.advance(T)
        return ModelOutput(
            last_hidden_state=x, past_key_values=cache, decoder_hidden_states=record.states(x), decoder_attentions=record.patterns(),
            cross_attentions=record.cross_patterns(), encoder_last_hidden_state=context,
            encoder_hidden_states=encoded.hidden_states, encoder_attentions=encoded.attentions,
        )  # fmt: skip
