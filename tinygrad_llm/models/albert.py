"""ALBERT.   Lan, Chen, Goodman, Gimpel, Sharma, Soricut 2019, "ALBERT: A Lite BERT for Self-supervised Learning"

New in the paper: one layer's parameters serve all L layers; tokens have narrow vectors (128) that one matrix widens to D;
instead of next-sentence prediction, tell whether two consecutive segments stand in order (SOP).
Differs from BERT: that, the tanh form of GELU, and, as in version 2 of the checkpoints, no dropout. Its gradients lean on
accumulation: each shared parameter collects L contributions.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from .. import nn
from ..nn.layers import output_weight
from . import bert, heads, losses
from .base import Model
from .config import choice, layers, rate, size
from .names import Table
from .outputs import ModelOutput
from .registry import Family, register
from .stacks import Encoder, EncoderConfig

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class AlbertConfig(EncoderConfig):
    model_type: ClassVar[str] = "albert"
    absent: ClassVar[dict[str, Any]] = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    attribute_map: ClassVar[dict[str, str]] = {"classifier_dropout": "classifier_dropout_prob"}
    ignored: ClassVar[frozenset[str]] = frozenset({"gap_size", "net_structure_type", "num_memory_blocks", "down_scale_factor"})

    embedding_size: int = size()
    num_hidden_groups: int = layers(1)
    inner_group_num: int = layers(1)
    hidden_act: str = choice("gelu_new", *nn.ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.0)
    attention_probs_dropout_prob: float = rate(0.0)
    classifier_dropout_prob: float = rate(0.1)

    def validate(self) -> None:
        super().validate()
        self.divides("num_hidden_layers", "num_hidden_groups")


def _sizes(hidden: int, depth: int, heads: int) -> dict[str, Any]:
    return {"hidden_size": hidden, "num_hidden_layers": depth, "num_attention_heads": heads, "intermediate_size": 4 * hidden,
            "embedding_size": 128, "vocab_size": 30000, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 2,
            "eos_token_id": 3}  # fmt: skip


PRESETS = {"albert-base": _sizes(768, 12, 12), "albert-large": _sizes(1024, 24, 16), "albert-xlarge": _sizes(2048, 24, 16),
           "albert-xxlarge": _sizes(4096, 12, 64)}  # fmt: skip

# -- layer recipe ------------------------------------------------------------------------------------------------------

layer = bert.layer

# -- embeddings and model ----------------------------------------------------------------------------------------------


class _Albert(Model):
    config_class = AlbertConfig
    base_prefix = "albert"
    unused = (r"predictions\..*", r"sop_classifier\..*", r"(albert\.)?pooler\..*")

    @property
    def base_names(self) -> Table:  # type: ignore[override]
        inner = self.config.inner_group_num
        table: Table = {
            "tokens": "embeddings.word_embeddings", "positions": "embeddings.position_embeddings",
            "segments": "embeddings.token_type_embeddings", "embed_norm": "embeddings.LayerNorm",
            "widen": "encoder.embedding_hidden_mapping_in", "pooler.dense": "pooler",
        }  # fmt: skip
        parts = {"attn.q": "attention.query", "attn.k": "attention.key", "attn.v": "attention.value", "attn.o": "attention.dense",
                 "attn_norm": "attention.LayerNorm", "mlp.up": "ffn", "mlp.down": "ffn_output",
                 "mlp_norm": "full_layer_layer_norm"}  # fmt: skip
        for i in range(self.config.num_hidden_groups * inner):
            place = f"encoder.albert_layer_groups.{i // inner}.albert_layers.{i % inner}"
            table |= {f"shared.{i}.{ours}": f"{place}.{theirs}" for ours, theirs in parts.items()}
        return table


class AlbertModel(Encoder, _Albert):
    """Narrow embeddings, normed and widened; the shared blocks L times; the first position pooled."""

    def __init__(self, config: AlbertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config, config.embedding_size)
        self.widen = nn.Linear(config.embedding_size, config.hidden_size)
        self.shared = [layer(config) for _ in range(config.num_hidden_groups * config.inner_group_num)]
        self.pooler = heads.Pooler(config.hidden_size) if add_pooling_layer else None

    def blocks(self) -> list[Any]:
        """The blocks in the order in which they run; with one group, the same block L times."""
        c = self.config
        per_group = c.num_hidden_layers // c.num_hidden_groups
        return [
            self.shared[i // per_group * c.inner_group_num + j]
            for i in range(c.num_hidden_layers)
            for j in range(c.inner_group_num)
        ]


# -- heads -------------------------------------------------------------------------------------------------------------

HEAD_NAMES: Table = {"head.norm": "predictions.LayerNorm", "head": "predictions", "order": "sop_classifier.classifier"}
TIED = {"predictions.decoder.weight": "albert.tokens.weight", "predictions.decoder.bias": "head.bias"}


class AlbertForMaskedLM(heads.MaskedLM, _Albert):
    base_class, base_options, head_names, tied = AlbertModel, {"add_pooling_layer": False}, HEAD_NAMES, TIED


class AlbertForPreTraining(heads.WithHead, _Albert):
    """Masked words, and whether the two segments stand in order (class 0) or were swapped (class 1)."""

    base_class, head_names, tied = AlbertModel, HEAD_NAMES, TIED

    def __init__(self, config: AlbertConfig) -> None:
        super().__init__(config)
        self.head = heads.VocabularyHead(config, self.albert.tokens)
        self.drop = nn.Dropout(config.classifier_dropout_prob)
        self.order = nn.Linear(config.hidden_size, config.num_labels)

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, sentence_order_label: Any = None, **kwargs: Any
    ) -> ModelOutput:
        out = self.albert(input_ids, attention_mask, **kwargs)
        out.prediction_logits, masked = self.head(out.last_hidden_state, output_weight(self.albert.tokens), labels)
        out.sop_logits = self.order(self.drop(out.pooler_output))
        out.loss = losses.add(masked, losses.rows(out.sop_logits, sentence_order_label, "sentence_order_label"))
        return out


class AlbertForSequenceClassification(heads.SequenceClassification, _Albert):
    base_class = AlbertModel


class AlbertForTokenClassification(heads.TokenClassification, _Albert):
    base_class, base_options = AlbertModel, {"add_pooling_layer": False}


class AlbertForQuestionAnswering(heads.QuestionAnswering, _Albert):
    base_class, base_options = AlbertModel, {"add_pooling_layer": False}


register(Family(AlbertConfig, PRESETS, {
    "base": AlbertModel, "masked_lm": AlbertForMaskedLM, "pretraining": AlbertForPreTraining,
    "sequence_classification": AlbertForSequenceClassification, "token_classification": AlbertForTokenClassification,
    "question_answering": AlbertForQuestionAnswering,
}, default="base"))  # fmt: skip
