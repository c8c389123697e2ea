"""BERT.   Devlin, Chang, Lee, Toutanova 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"

New in the paper: an encoder alone, trained to fill in masked words and to tell whether two sentences follow each other, then
fine-tuned for each task with one more layer.
Differs from the 2017 encoder: learned positions and segment embeddings, summed and normed; GELU instead of ReLU; dropout on
attention; a first position [CLS] whose vector stands for the sequence.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from .. import nn
from ..nn.layers import output_weight
from . import heads, losses
from .base import Model
from .config import rate
from .names import Table
from .outputs import ModelOutput
from .registry import Family, register
from .stacks import Encoder, EncoderConfig

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class BertConfig(EncoderConfig):
    model_type: ClassVar[str] = "bert"
    absent: ClassVar[dict[str, Any]] = {"pad_token_id": 0}
    ignored: ClassVar[frozenset[str]] = frozenset({"embedding_size"})

    classifier_dropout: Any = rate(None)


def _sizes(hidden: int, depth: int, heads: int) -> dict[str, Any]:
    return {"hidden_size": hidden, "num_hidden_layers": depth, "num_attention_heads": heads, "intermediate_size": 4 * hidden,
            "vocab_size": 30522, "max_position_embeddings": 512, "pad_token_id": 0}  # fmt: skip


PRESETS = {
    "bert-base": _sizes(768, 12, 12), "bert-large": _sizes(1024, 24, 16),
    "bert-tiny": _sizes(128, 2, 2), "bert-mini": _sizes(256, 4, 4),
    "bert-small": _sizes(512, 4, 8), "bert-medium": _sizes(512, 8, 8),
}  # fmt: skip

# -- layer recipe ------------------------------------------------------------------------------------------------------


def layer(c: Any) -> nn.EncoderBlock:
    """Post-norm, biases everywhere, exact GELU."""
    attn = nn.MultiHeadAttention(c.hidden_size, c.num_attention_heads, dropout=c.attention_probs_dropout_prob)
    mlp = nn.FeedForward(c.hidden_size, c.intermediate_size, c.hidden_act)
    norm = lambda: nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
    return nn.EncoderBlock(attn, mlp, norm(), norm(), norm_first=False, dropout=c.hidden_dropout_prob)


# -- embeddings and model ----------------------------------------------------------------------------------------------

NAMES: Table = {
    "tokens": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "segments": "embeddings.token_type_embeddings",
    "embed_norm": "embeddings.LayerNorm",
    "layers.*.attn.q": "encoder.layer.*.attention.self.query",
    "layers.*.attn.k": "encoder.layer.*.attention.self.key",
    "layers.*.attn.v": "encoder.layer.*.attention.self.value",
    "layers.*.attn.o": "encoder.layer.*.attention.output.dense",
    "layers.*.attn_norm": "encoder.layer.*.attention.output.LayerNorm",
    "layers.*.mlp.up": "encoder.layer.*.intermediate.dense",
    "layers.*.mlp.down": "encoder.layer.*.output.dense",
    "layers.*.mlp_norm": "encoder.layer.*.output.LayerNorm",
    "pooler.dense": "pooler.dense",
}


class _Bert(Model):
    config_class = BertConfig
    base_prefix = "bert"
    base_names = NAMES
    unused = (r"cls\..*", r"(bert\.)?pooler\..*")  # the published files hold the heads of pretraining


class BertModel(Encoder, _Bert):
    """Tokens, positions and segments, summed and normed; L post-norm blocks; the first position pooled."""

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config, config.hidden_size)
        self.layers = [layer(config) for _ in range(config.num_hidden_layers)]
        self.pooler = heads.Pooler(config.hidden_size) if add_pooling_layer else None


# -- heads -------------------------------------------------------------------------------------------------------------

HEAD_NAMES: Table = {
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head.decoder": "cls.predictions.decoder",
    "head.bias": "cls.predictions.bias",
    "relation": "cls.seq_relationship",
}


TIED = {"cls.predictions.decoder.weight": "bert.tokens.weight", "cls.predictions.decoder.bias": "head.bias"}


class BertForMaskedLM(heads.MaskedLM, _Bert):
    base_class, base_options = BertModel, {"add_pooling_layer": False}
    head_names, tied = HEAD_NAMES, TIED


class BertForNextSentencePrediction(heads.WithHead, _Bert):
    """Whether the second segment follows the first (class 0) or is from elsewhere (class 1)."""

    base_class, head_names = BertModel, HEAD_NAMES

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.relation = nn.Linear(config.hidden_size, 2)

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> ModelOutput:
        out = self.bert(input_ids, attention_mask, **kwargs)
        out.logits = self.relation(out.pooler_output)
        out.loss = losses.rows(out.logits, labels)
        return out


class BertForPreTraining(heads.WithHead, _Bert):
    """Both tasks of the paper; the loss is the sum of those whose labels are given."""

    base_class, head_names, tied = BertModel, HEAD_NAMES, TIED

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.head = heads.VocabularyHead(config, self.bert.tokens)
        self.relation = nn.Linear(config.hidden_size, 2)

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, next_sentence_label: Any = None, **kwargs: Any
    ) -> ModelOutput:
        out = self.bert(input_ids, attention_mask, **kwargs)
        out.prediction_logits, masked = self.head(out.last_hidden_state, output_weight(self.bert.tokens), labels)
        out.seq_relationship_logits = self.relation(out.pooler_output)
        out.loss = losses.add(masked, losses.rows(out.seq_relationship_logits, next_sentence_label, "next_sentence_label"))
        return out


class BertForSequenceClassification(heads.SequenceClassification, _Bert):
    base_class = BertModel


class BertForTokenClassification(heads.TokenClassification, _Bert):
    base_class, base_options = BertModel, {"add_pooling_layer": False}


class BertForQuestionAnswering(heads.QuestionAnswering, _Bert):
    base_class, base_options = BertModel, {"add_pooling_layer": False}


register(Family(BertConfig, PRESETS, {
    "base": BertModel, "masked_lm": BertForMaskedLM, "next_sentence_prediction": BertForNextSentencePrediction,
    "pretraining": BertForPreTraining, "sequence_classification": BertForSequenceClassification,
    "token_classification": BertForTokenClassification, "question_answering": BertForQuestionAnswering,
}, default="base"))  # fmt: skip
