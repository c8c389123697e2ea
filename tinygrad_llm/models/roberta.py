"""RoBERTa.   Liu, Ott, Goyal, et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach"

New in the paper: the recipe. Longer training on ten times the text, larger batches, masks drawn anew, no next-sentence task.
Differs from BERT: not in its layers, but: one kind of segment; byte-level vocabulary of 50,265; positions count real tokens only
and start at padding's id + 1, so rows 0 and 1 of the table are unused; eps 1e-5; a classifier with a hidden layer, no pooler.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from . import bert, heads, inputs
from .base import Model
from .config import ConfigError, rate, size, small, token
from .names import Table
from .registry import Family, register
from .stacks import Encoder, EncoderConfig

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class RobertaConfig(EncoderConfig):
    model_type: ClassVar[str] = "roberta"
    absent: ClassVar[dict[str, Any]] = {"layer_norm_eps": 1e-12, "type_vocab_size": 2}

    type_vocab_size: int = size(1)
    classifier_dropout: Any = rate(None)
    layer_norm_eps: float = small(1e-5)
    pad_token_id: Any = token(1)
    bos_token_id: Any = token(0)
    eos_token_id: Any = token(2)

    def validate(self) -> None:
        super().validate()
        if not isinstance(self.pad_token_id, int) or self.max_position_embeddings < self.pad_token_id + 2:
            raise ConfigError(
                f"max_position_embeddings = {self.max_position_embeddings} leaves none after padding's id {self.pad_token_id}"
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
    unused = (r"lm_head\..*", r"(roberta\.)?pooler\..*")


class RobertaModel(Encoder, _Roberta):
    """Tokens, positions and one segment, summed and normed; L post-norm blocks; the first position pooled."""

    def __init__(self, config: RobertaConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config, config.hidden_size, config.pad_token_id)
        self.layers = [layer(config) for _ in range(config.num_hidden_layers)]
        self.pooler = heads.Pooler(config.hidden_size) if add_pooling_layer else None

    def place(self, input_ids: Any, position_ids: Any, B: int, T: int) -> np.ndarray:
        """A padding token stands at position padding's id, the n-th real one n after it."""
        if position_ids is not None:
            return super().place(input_ids, position_ids, B, T)
        real = np.ones((B, T), bool) if input_ids is None else inputs.as_array(input_ids, "input_ids") != self.config.pad_token_id
        return np.cumsum(real, axis=1) * real + self.config.pad_token_id

    def positions_limit(self) -> int:
        return self.config.max_position_embeddings - self.config.pad_token_id - 1


# -- heads -------------------------------------------------------------------------------------------------------------


class RobertaForMaskedLM(heads.MaskedLM, _Roberta):
    base_class, base_options, head_act = RobertaModel, {"add_pooling_layer": False}, "gelu"
    head_names: ClassVar[Table] = {"head.norm": "lm_head.layer_norm", "head": "lm_head"}
    tied = {"lm_head.decoder.weight": "roberta.tokens.weight", "lm_head.decoder.bias": "head.bias"}
    unused = (*_Roberta.unused[1:], r"lm_head\.bias")  # untied, transformers keeps a bias that nothing uses


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
