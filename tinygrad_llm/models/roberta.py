"""RoBERTa.   Liu, Ott, Goyal, et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach"

New in the paper: the recipe. Longer training on ten times the text, larger batches, masks drawn anew each time, no next-sentence task.
Differs from BERT: the layers are BERT's; one kind of segment; byte-level vocabulary of 50,265; positions count real tokens only and
start at padding's id + 1, so rows 0 and 1 of the table are unused; eps 1e-5; the classifier has a hidden layer of its own and no pooler.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from .. import nn
from ..autograd import Tensor
from ..nn import tap
from . import bert, heads, inputs
from .base import Model, Record, run_blocks
from .config import Config, ConfigError, choice, layers, rate, size, small, token
from .names import Table
from .outputs import ModelOutput
from .registry import Family, register

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class RobertaConfig(Config):
    model_type: ClassVar[str] = "roberta"

    vocab_size: int = size()
    hidden_size: int = size()
    num_hidden_layers: int = layers()
    num_attention_heads: int = size()
    intermediate_size: int = size()
    max_position_embeddings: int = size()
    type_vocab_size: int = size(1)
    hidden_act: str = choice("gelu", *nn.ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.1)
    attention_probs_dropout_prob: float = rate(0.1)
    classifier_dropout: Any = rate(None)
    layer_norm_eps: float = small(1e-5)
    pad_token_id: Any = token(1)
    bos_token_id: Any = token(0)
    eos_token_id: Any = token(2)

    def validate(self) -> None:
        self.divides("hidden_size", "num_attention_heads")
        if not isinstance(self.pad_token_id, int) or self.max_position_embeddings < self.pad_token_id + 2:
            raise ConfigError(
                f"max_position_embeddings = {self.max_position_embeddings} leaves no position after padding's id {self.pad_token_id}"
            )


def _sizes(hidden: int, depth: int, heads: int) -> dict[str, Any]:
    return {"hidden_size": hidden, "num_hidden_layers": depth, "num_attention_heads": heads, "intermediate_size": 4 * hidden,
            "vocab_size": 50265, "max_position_embeddings": 514}  # fmt: skip


PRESETS = {"roberta-base": _sizes(768, 12, 12), "roberta-large": _sizes(1024, 24, 16)}

# -- layer recipe ------------------------------------------------------------------------------------------------------

layer = bert.layer

# -- embeddings and model ----------------------------------------------------------------------------------------------


class _Roberta(Model):
    config_class = RobertaConfig
    base_prefix = "roberta"
    base_names = bert.NAMES
    tied = ("lm_head.decoder.weight", "lm_head.decoder.bias")
    unused = (r"lm_head\..*", r"(roberta\.)?pooler\..*")


class RobertaModel(_Roberta):
    """Tokens, positions and one segment, summed and normed; L post-norm blocks; the first position pooled."""

    def __init__(self, config: RobertaConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        c = config
        self.tokens = nn.Embedding(c.vocab_size, c.hidden_size, c.pad_token_id)
        self.positions = nn.LearnedPositions(c.max_position_embeddings, c.hidden_size, c.pad_token_id)
        self.segments = nn.Embedding(c.type_vocab_size, c.hidden_size)
        self.embed_norm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.drop = nn.Dropout(c.hidden_dropout_prob)
        self.layers = [layer(c) for _ in range(c.num_hidden_layers)]
        self.pooler = heads.Pooler(c.hidden_size) if add_pooling_layer else None

    def embed(self, input_ids: Any, token_type_ids: Any, position_ids: Any) -> Tensor:
        """(B, T) ids -> (B, T, D); a padding token stands at position padding's id, the n-th real one n after it."""
        c = self.config
        ids = inputs.token_ids(input_ids, c.vocab_size, longest=c.max_position_embeddings - c.pad_token_id - 1)
        segments = inputs.segment_ids(token_type_ids, ids.shape, c.type_vocab_size)
        real = ids != c.pad_token_id
        positions = np.cumsum(real, axis=1) * real + c.pad_token_id
        if position_ids is not None:
            positions = inputs.position_rows(position_ids, *ids.shape, 0, c.max_position_embeddings)
        return self.drop(self.embed_norm(self.tokens(ids) + self.segments(segments) + self.positions(positions)))

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        x = tap("embed", self.embed(input_ids, token_type_ids, position_ids))
        B, T, _ = x.shape
        mask = nn.from_attention_mask(attention_mask, B, T, T)
        record = Record(output_hidden_states, output_attentions)
        x = tap("final_norm", run_blocks(self.layers, x, lambda i: mask, record))
        pooled = None if self.pooler is None else self.pooler(x)
        return ModelOutput(last_hidden_state=x, pooler_output=pooled, hidden_states=record.states(x), attentions=record.patterns())


# -- heads -------------------------------------------------------------------------------------------------------------


class RobertaForMaskedLM(heads.MaskedLM, _Roberta):
    base_class, base_options = RobertaModel, {"add_pooling_layer": False}
    head_names: ClassVar[Table] = {"head.norm": "lm_head.layer_norm", "head": "lm_head"}
    unused = (*_Roberta.unused[1:], r"lm_head\.bias")  # untied, transformers keeps a bias that nothing uses

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        c = config
        self.head = heads.VocabularyHead(
            c.hidden_size, c.hidden_size, c.vocab_size, "gelu", c.layer_norm_eps, c.tie_word_embeddings
        )


class RobertaForSequenceClassification(heads.SequenceClassification, _Roberta):
    base_class, base_options, classifier_act = RobertaModel, {"add_pooling_layer": False}, "tanh"
    head_names: ClassVar[Table] = {"classifier.out": "classifier.out_proj"}


class RobertaForTokenClassification(heads.TokenClassification, _Roberta):
    base_class, base_options = RobertaModel, {"add_pooling_layer": False}


class RobertaForQuestionAnswering(heads.QuestionAnswering, _Roberta):
    base_class, base_options = RobertaModel, {"add_pooling_layer": False}


register(Family(RobertaConfig, PRESETS, {
    "base": RobertaModel, "masked_lm": RobertaForMaskedLM, "sequence_classification": RobertaForSequenceClassification,
    "token_classification": RobertaForTokenClassification, "question_answering": RobertaForQuestionAnswering,
}, default="base"))  # fmt: skip
