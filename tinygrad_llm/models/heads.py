"""Heads that several families share. A family's class names its base model and published names; the forward is here."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .. import nn
from ..autograd import Tensor
from ..autograd import functional as F
from ..nn.layers import output_weight
from . import inputs, losses
from .base import Model
from .config import Config
from .outputs import ModelOutput


class VocabularyHead(nn.Module):
    """logits = norm(act(x Wᵀ + b)) Eᵀ + bias, with E the embedding `tokens` (or `decoder`, if not tied).   BERT §3.1

    `act`: where it is not the layers'.
    """

    def __init__(self, c: Config, tokens: nn.Embedding, act: str | None = None) -> None:
        inner = tokens.weight.shape[1]
        self.dense = nn.Linear(c.hidden_size, inner)
        self.act = nn.activation(act or c.hidden_act)
        self.norm = nn.LayerNorm(inner, c.layer_norm_eps)
        self.decoder = None if c.tie_word_embeddings else nn.Linear(inner, c.vocab_size)
        self.bias = nn.init.parameter((c.vocab_size,), nn.init.zeros) if c.tie_word_embeddings else None

    def transform(self, x: Tensor) -> Tensor:
        return self.norm(self.act(self.dense(x)))

    def forward(self, hidden: Tensor, embedding: Tensor | nn.Int8Weight, labels: Any = None) -> tuple[Any, Tensor | None]:
        """(logits, loss) for hidden (B, T, D)."""
        output = embedding if self.decoder is None else self.decoder
        return losses.vocabulary(hidden, output, self.bias, labels, transform=self.transform, transform_reads=self.parameters())


def lm_head(c: Config) -> nn.Linear | None:
    """A language model's output matrix (V, D), or None where it is the token embedding."""
    return None if c.tie_word_embeddings else nn.Linear(c.hidden_size, c.vocab_size, bias=False)


class DenseClassifier(nn.Module):
    """act(x Wᵀ + b) W₂ᵀ + b₂ with dropout before each product: (B, D) -> (B, C)"""

    def __init__(self, width: int, classes: int, act: str, dropout: float) -> None:
        self.drop = nn.Dropout(dropout)
        self.dense = nn.Linear(width, width)
        self.act = nn.activation(act)
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.act(self.dense(self.drop(x)))))


class Pooler(nn.Module):
    """tanh(x₀ Wᵀ + b) of the first position: (B, T, D) -> (B, D)"""

    def __init__(self, width: int) -> None:
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(self.dense(x[:, 0]))


class WithHead(Model):
    """A model that holds its family's base model under `base_prefix`."""

    base_class: ClassVar[type[Model]]
    base_options: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        setattr(self, self.base_prefix, self.base_class(config, **self.base_options))

    @property
    def base(self) -> Any:
        return getattr(self, self.base_prefix)


class MaskedLM(WithHead):
    """Logits for every position; the loss looks where labels are not -100."""

    head_act: ClassVar[str | None] = None

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = VocabularyHead(config, self.base.tokens, self.head_act)

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> ModelOutput:
        out = self.base(input_ids, attention_mask, **kwargs)
        out.logits, out.loss = self.head(out.last_hidden_state, output_weight(self.base.tokens), labels)
        return out


class SequenceClassification(WithHead):
    """One row of logits per sequence, from the first position: pooled, or through a DenseClassifier."""

    classifier_act: ClassVar[str | None] = None

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        rate = classifier_rate(config)
        if self.classifier_act is None:
            self.drop, self.classifier = nn.Dropout(rate), nn.Linear(config.hidden_size, config.num_labels)
        else:
            self.classifier = DenseClassifier(config.hidden_size, config.num_labels, self.classifier_act, rate)

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> ModelOutput:
        out = self.base(input_ids, attention_mask, **kwargs)
        if self.classifier_act is None:
            out.logits = self.classifier(self.drop(out.pooler_output))  # (B, D) -> (B, C)
        else:
            out.logits = self.classifier(out.last_hidden_state[:, 0])  # (B, T, D) -> (B, C)
        out.loss = losses.classification(out.logits, labels, self.config.problem_type)
        return out


class LastTokenClassification(WithHead):
    """One row of logits per sequence, from the last real token, the position that has seen all others.   GPT §3.2

    Real is what attention_mask says or, without one or with one of pairs, what is not the config's pad token, if there is one.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> ModelOutput:
        out = self.base(input_ids, attention_mask, **kwargs)
        hidden = out.last_hidden_state
        out.logits = self.score(at_last(hidden, self.real(input_ids, attention_mask, *hidden.shape[:2])))  # (B, T, D) -> (B, C)
        out.loss = losses.classification(out.logits, labels, self.config.problem_type)
        return out

    def real(self, input_ids: Any, attention_mask: Any, B: int, T: int) -> np.ndarray:
        """(B, T) True at what is no padding."""
        mask = None if attention_mask is None else inputs.as_array(attention_mask, "attention_mask")
        if mask is not None and mask.ndim == 2:
            return mask[:, -T:] != 0
        if input_ids is None:
            return np.ones((B, T), bool)
        return inputs.as_array(input_ids, "input_ids") != self.config.pad_token_id


def at_last(hidden: Tensor, wanted: np.ndarray) -> Tensor:
    """The state at each row's last wanted position, at the very last where none is: (B, T, D), (B, T) bool -> (B, D)"""
    B, T = wanted.shape
    return hidden[np.arange(B), T - 1 - wanted[:, ::-1].argmax(axis=1)]


class TokenClassification(WithHead):
    """One row of logits per position."""

    rate: ClassVar[float | None] = None  # of the classifier's dropout, where configs do not say it

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.drop = nn.Dropout(classifier_rate(config) if self.rate is None else self.rate)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> ModelOutput:
        out = self.base(input_ids, attention_mask, **kwargs)
        out.logits = self.classifier(self.drop(out.last_hidden_state))  # (B, T, D) -> (B, T, C)
        out.loss = losses.tokens(out.logits, labels)
        return out


class QuestionAnswering(WithHead):
    """For every position, the logit that the answer starts there and the logit that it ends there."""

    def __init__(self, config: Config) -> None:
        # whatever head the checkpoint had before: transformers makes as many outputs here as the saved config has labels
        super().__init__(config if config.num_labels == 2 else config.replace(num_labels=2))
        self.qa_outputs = nn.Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        **kwargs: Any,
    ) -> ModelOutput:
        out = self.base(input_ids, attention_mask, **kwargs)
        both = self.qa_outputs(out.last_hidden_state)  # (B, T, D) -> (B, T, 2)
        out.start_logits, out.end_logits = both[..., 0], both[..., 1]
        out.loss = losses.span(out.start_logits, out.end_logits, start_positions, end_positions)
        return out


def classifier_rate(config: Config) -> float:
    """The classifier's own dropout rate where the config has one, else that of the hidden states."""
    own = config.classifier_dropout
    return config.hidden_dropout_prob if own is None else own
