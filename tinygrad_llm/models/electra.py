"""ELECTRA.   Clark, Luong, Le, Manning 2020, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators"

New in the paper: a small generator fills in masked tokens, and the model that is kept, the discriminator, says for every token
whether it was replaced. All positions teach, not the masked seventh alone. Both are trained together and share their embeddings.
Differs from BERT: embeddings may be narrower than the layers (then one matrix widens them, as in ALBERT); no pooler; its
classifier uses GELU.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from .. import nn
from ..autograd import Tensor, generator, no_grad
from ..autograd import functional as F
from ..nn.layers import output_weight
from . import bert, heads, inputs
from .base import Model
from .config import rate, size, small
from .names import Table
from .outputs import Later, ModelOutput
from .registry import Family, register
from .stacks import Encoder, EncoderConfig

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class ElectraConfig(EncoderConfig):
    model_type: ClassVar[str] = "electra"
    absent: ClassVar[dict[str, Any]] = {"pad_token_id": 0}

    embedding_size: int = size()
    classifier_dropout: Any = rate(None)
    generator_size: float = small(0.25)  # the generator's width, heads and feed-forward as a share of the discriminator's
    discriminator_weight: float = small(50.0)  # λ of the joint loss

    def for_generator(self) -> ElectraConfig:
        """The generator's config: the same depth and embeddings, all else `generator_size` times as wide."""
        sizes = ("hidden_size", "num_attention_heads", "intermediate_size")
        scaled = {name: max(1, int(getattr(self, name) * self.generator_size)) for name in sizes}
        return dataclasses.replace(self, **scaled)


def _sizes(embedding: int, hidden: int, depth: int, heads: int) -> dict[str, Any]:
    return {"embedding_size": embedding, "hidden_size": hidden, "num_hidden_layers": depth, "num_attention_heads": heads,
            "intermediate_size": 4 * hidden, "vocab_size": 30522, "max_position_embeddings": 512, "pad_token_id": 0}  # fmt: skip


PRESETS = {"electra-small": _sizes(128, 256, 12, 4), "electra-base": _sizes(768, 768, 12, 12) | {"generator_size": 1 / 3},
           "electra-large": _sizes(1024, 1024, 24, 16)}  # fmt: skip

# -- layer recipe ------------------------------------------------------------------------------------------------------

layer = bert.layer

# -- embeddings and model ----------------------------------------------------------------------------------------------


class _Electra(Model):
    config_class = ElectraConfig
    base_prefix = "electra"
    base_names: ClassVar[Table] = {**bert.NAMES, "widen": "embeddings_project"}
    unused = (r"discriminator_predictions\..*", r"generator_(predictions|lm_head)\..*")


class ElectraModel(Encoder, _Electra):
    """Embeddings, normed, and widened where they are narrower; L post-norm blocks."""

    def __init__(self, config: ElectraConfig) -> None:
        super().__init__(config, config.embedding_size)
        self.widen = nn.Linear(config.embedding_size, config.hidden_size) if config.embedding_size != config.hidden_size else None
        self.layers = [layer(config) for _ in range(config.num_hidden_layers)]


# -- heads -------------------------------------------------------------------------------------------------------------


class ElectraForPreTraining(heads.WithHead, _Electra):
    """The discriminator: for every position, the logit that its token was replaced. Labels are 0 and 1."""

    base_class = ElectraModel
    head_names: ClassVar[Table] = {"dense": "discriminator_predictions.dense", "out": "discriminator_predictions.dense_prediction"}

    def __init__(self, config: ElectraConfig) -> None:
        super().__init__(config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out = nn.Linear(config.hidden_size, 1)

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> ModelOutput:
        out = self.electra(input_ids, attention_mask, **kwargs)
        x = nn.activation(self.config.hidden_act)(self.dense(out.last_hidden_state))
        out.logits = self.out(x)[..., 0]  # (B, T, D) -> (B, T)
        if labels is not None:
            replaced = inputs.label_ids(labels, out.logits.shape, 2).astype(out.logits.dtype)
            mask = None if attention_mask is None else inputs.as_array(attention_mask, "attention_mask")
            real = slice(None) if mask is None or mask.ndim > 2 else mask.astype(bool)  # a mask of pairs names no padding
            out.loss = F.binary_cross_entropy_with_logits(out.logits[real], Tensor(replaced[real]))
        return out


class ElectraForMaskedLM(heads.MaskedLM, _Electra):
    """The generator."""

    base_class, head_act = ElectraModel, "gelu"
    tied = {"generator_lm_head.weight": "electra.tokens.weight"}
    head_names: ClassVar[Table] = {
        "head.dense": "generator_predictions.dense", "head.norm": "generator_predictions.LayerNorm",
        "head.decoder": "generator_lm_head", "head.bias": "generator_lm_head.bias",
    }  # fmt: skip


class ElectraForJointPreTraining(Model):
    """Both, trained together: loss = generator's + λ · discriminator's. Token and position embeddings are one and the same.

    Call with masked `input_ids` and `labels` (the original token where masked, -100 elsewhere). The generator's guesses are
    sampled, and no gradient flows through that. To publish, save `model.discriminator`; `save` writes both in one.
    """

    config_class = ElectraConfig

    def __init__(self, config: ElectraConfig) -> None:
        super().__init__(config)
        self.discriminator = ElectraForPreTraining(config)
        self.generator = ElectraForMaskedLM(config.for_generator())
        self.generator.electra.tokens = self.discriminator.electra.tokens
        self.generator.electra.positions = self.discriminator.electra.positions

    def without_head(self) -> Model:
        """The discriminator's, which is the one that is kept."""
        return self.discriminator.electra

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, rng: Any = None, **kwargs: Any
    ) -> ModelOutput:
        guess = self.generator(input_ids, attention_mask, labels=labels, **kwargs)
        ids = inputs.token_ids(input_ids, self.config.vocab_size)
        labels = inputs.label_ids(labels, ids.shape, self.config.vocab_size)
        masked = labels != inputs.IGNORED
        shape = (int(masked.sum()), self.config.vocab_size)
        noise = generator(rng).gumbel(size=shape)  # argmax(logits + Gumbel) samples the softmax
        corrupted = ids.copy()
        corrupted[masked] = (self._logits_at(masked, guess) + noise).argmax(axis=-1)
        replaced = masked & (corrupted != labels)
        out = self.discriminator(corrupted, attention_mask, labels=replaced.astype(np.int64), **kwargs)
        return ModelOutput(
            loss=guess.loss + out.loss * self.config.discriminator_weight, logits=out.logits,
            generator_logits=guess.values["logits"],
            generator_loss=guess.loss, discriminator_loss=out.loss, corrupted_ids=corrupted,
            last_hidden_state=out.last_hidden_state,
        )  # fmt: skip

    def _logits_at(self, masked: np.ndarray, guess: ModelOutput) -> np.ndarray:
        """The generator's logits (N, V) where `masked` (B, T): of all places they would be the largest array of a step."""
        if not isinstance(guess.values["logits"], Later):  # a lens looks at them, or changes them
            return guess.logits._data[masked]
        with no_grad():
            hidden = Tensor(guess.last_hidden_state._data[masked][None])
            return self.generator.head(hidden, output_weight(self.generator.base.tokens))[0]._data[0]


class ElectraForSequenceClassification(heads.SequenceClassification, _Electra):
    base_class, classifier_act = ElectraModel, "gelu"
    head_names: ClassVar[Table] = {"classifier.out": "classifier.out_proj"}


class ElectraForTokenClassification(heads.TokenClassification, _Electra):
    base_class = ElectraModel


class ElectraForQuestionAnswering(heads.QuestionAnswering, _Electra):
    base_class = ElectraModel


register(Family(ElectraConfig, PRESETS, {
    "base": ElectraModel, "pretraining": ElectraForPreTraining, "masked_lm": ElectraForMaskedLM,
    "joint": ElectraForJointPreTraining, "sequence_classification": ElectraForSequenceClassification,
    "token_classification": ElectraForTokenClassification, "question_answering": ElectraForQuestionAnswering,
}, default="base"))  # fmt: skip
