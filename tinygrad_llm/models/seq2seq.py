"""Encoder-decoders: what the 2017 Transformer, BART and T5 share once their stacks are built.

A family's base model sets `tokens` (embeddings shared by both sides), `encoder` and `decoder`, and may say how ids
become vectors (`embed`). The stacks map (x, mask, record) and (x, mask, record, context, context_mask, cache)
to hidden states.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..autograd import Tensor
from ..nn.layers import output_weight
from . import inputs, losses
from .base import BaseModel, Model, Record, run_blocks
from .config import Config, ConfigError
from .heads import lm_head
from .outputs import ModelOutput


def shift_right(labels: Any, config: Config, name: str = "labels") -> np.ndarray:
    """Decoder inputs from labels (B, T): the start token, then all labels but the last; -100 becomes padding."""
    start, pad = config.decoder_start_token_id, config.pad_token_id
    if start is None or pad is None:
        raise ConfigError(f"decoder_start_token_id and pad_token_id must be set to make decoder inputs from {name}")
    labels = inputs.as_array(labels, name)
    if labels.ndim != 2:
        raise ValueError(f"{name}: expected shape (batch, positions), got {labels.shape}")
    labels = inputs.label_ids(labels, labels.shape, config.vocab_size, name)  # else the decoder's ids would be called wrong
    shifted = np.full_like(labels, start)
    shifted[:, 1:] = labels[:, :-1]
    return np.where(shifted == inputs.IGNORED, pad, shifted)


class Stack(nn.Module):
    """One side: what happens to the embeddings before the blocks (`enter`), the blocks, and what happens after (`leave`)."""

    layers: list[nn.Module]
    _recompute: bool = False  # see Model.recompute

    def enter(self, x: Tensor, mask: nn.Mask) -> tuple[Tensor, nn.Mask]:
        """Positions, norms, dropout on x (B, T, D); a family that biases the scores adds that to the mask."""
        return x, mask

    def leave(self, x: Tensor) -> Tensor:
        """The last norm, if there is one."""
        return x

    def forward(
        self, x: Tensor, mask: nn.Mask, record: Record, context: Any = None, context_mask: Any = None, cache: Any = None
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D); a decoder attends to `context` (B, S, D)."""
        x, mask = self.enter(x, mask)
        x = nn.tap("embed", x)
        cross = {} if context is None else {"context": context, "context_mask": context_mask}
        return nn.tap("final_norm", self.leave(run_blocks(self.layers, x, lambda i: mask, record, cache, self._recompute, **cross)))


class EncoderSide(BaseModel):
    """Token embeddings and the encoder's stack."""

    encoder: Stack

    def embed(self, ids: np.ndarray) -> Tensor:
        """(B, T) -> (B, T, D), on either side; positions come in the stacks."""
        return self.tokens(ids)

    def blocks(self) -> list[nn.Module]:
        return self.encoder.layers

    def encode(
        self, input_ids: Any = None, attention_mask: Any = None, output_hidden_states: bool = False,
        output_attentions: bool = False, inputs_embeds: Any = None,
    ) -> ModelOutput:  # fmt: skip
        """The encoder's states, to be passed as `encoder_outputs`."""
        x = inputs.token_vectors(self, self.embed, input_ids, inputs_embeds)
        B, S, _ = x.shape
        mask = nn.from_attention_mask(attention_mask, B, S, S)
        record = Record(output_hidden_states, output_attentions)
        x = self.encoder(x, mask, record)
        return ModelOutput(last_hidden_state=x, hidden_states=record.states(x), attentions=record.attentions)


class EncoderDecoder(EncoderSide):
    """A base model with both stacks; also the protocol of generation: `encode` once, then call with `encoder_outputs`."""

    is_encoder_decoder = True
    decoder: Stack

    def blocks(self) -> list[nn.Module]:
        """Those of the encoder, then those of the decoder."""
        return [*self.encoder.layers, *self.decoder.layers]

    def make_cache(self, capacity: int = 256) -> nn.KVCache:
        return nn.KVCache(len(self.decoder.layers), min(capacity, self.positions_limit() or capacity))

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: ModelOutput | tuple[Any, ...] | None = None,
        past_key_values: nn.KVCache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        inputs_embeds: Any = None,
        decoder_inputs_embeds: Any = None,
    ) -> ModelOutput:
        """`inputs_embeds` and `decoder_inputs_embeds` (B, T, D) stand for what `embed` makes of the two sides' ids,
        `encoder_outputs` for what `encode` would give: that, or a tuple of the last hidden states and what else there is."""
        encoded = encoder_outputs
        if encoded is None:
            encoded = self.encode(input_ids, attention_mask, output_hidden_states, output_attentions, inputs_embeds)
        elif isinstance(encoded, tuple):
            encoded = ModelOutput(**dict(zip(("last_hidden_state", "hidden_states", "attentions"), encoded)))
        context = encoded.last_hidden_state
        cache = self.make_cache() if use_cache and past_key_values is None else past_key_values
        past = inputs.past_length(cache)
        x = inputs.token_vectors(self, self.embed, decoder_input_ids, decoder_inputs_embeds, past, "decoder_input_ids")
        B, T, _ = x.shape
        if context.shape[0] != B:
            raise ValueError(f"decoder_input_ids: {B} rows, but the encoder saw {context.shape[0]}")
        mask = nn.from_attention_mask(decoder_attention_mask, B, T, past + T, causal=True, offset=past)
        context_mask = nn.from_attention_mask(attention_mask, B, T, context.shape[1])
        record = Record(output_hidden_states, output_attentions)
        x = self.decoder(x, mask, record, context, context_mask, cache)
        if cache is not None:
            cache.advance(T)
        return ModelOutput(
            last_hidden_state=x, past_key_values=cache, decoder_hidden_states=record.states(x),
            decoder_attentions=record.attentions, cross_attentions=record.cross, encoder_last_hidden_state=context,
            encoder_hidden_states=encoded.hidden_states, encoder_attentions=encoded.attentions,
        )  # fmt: skip


class Seq2SeqLM(Model):
    """Next-token logits over an EncoderDecoder, which it holds or is itself; with labels alone, the decoder reads them shifted
    right. The output matrix is the token embedding, or `lm_head` where they are not tied."""

    is_encoder_decoder = True
    can_generate = True
    logits_bias: np.ndarray | None = None  # a constant (1, V) that is added

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lm_head = lm_head(config)

    def make_cache(self, capacity: int = 256) -> nn.KVCache:
        return EncoderDecoder.make_cache(self.without_head(), capacity)

    def encode(self, *args: Any, **kwargs: Any) -> ModelOutput:
        """The encoder's states, to be passed as `encoder_outputs`."""
        return EncoderDecoder.encode(self.without_head(), *args, **kwargs)

    def scale(self) -> float:
        """What the decoder's states are multiplied with before the output matrix."""
        return 1.0

    def label_smoothing(self) -> float:
        """The share of the labels' probability that is spread over the vocabulary."""
        return 0.0

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, decoder_input_ids: Any = None, labels: Any = None, **kwargs: Any
    ) -> ModelOutput:
        """The base model's output with logits (B, T, V) and, given labels (B, T), the loss."""
        base = self.without_head()
        if decoder_input_ids is None and labels is not None and kwargs.get("decoder_inputs_embeds") is None:
            decoder_input_ids = shift_right(labels, self.config)
        states = super().forward if base is self else base
        out = states(input_ids, attention_mask, decoder_input_ids, **kwargs)
        hidden, scale = out.last_hidden_state, self.scale()
        hidden = hidden if scale == 1.0 else hidden * scale
        output = output_weight(base.tokens) if self.lm_head is None else self.lm_head
        bias = None if self.logits_bias is None else Tensor(self.logits_bias[0].astype(hidden.dtype, copy=False))
        out.logits, out.loss = losses.vocabulary(hidden, output, bias, labels, label_smoothing=self.label_smoothing())
        return out
