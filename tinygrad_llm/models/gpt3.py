"""GPT-3.   Brown, Mann, Ryder, Subbiah, et al. 2020, "Language Models are Few-Shot Learners"

New in the paper: size. A model a hundred times larger does tasks from a few examples in its prompt, without any training.
Differs from GPT-2: every second layer sees only a band of near positions ("alternating dense and locally banded sparse
attention patterns", §2.1, after the Sparse Transformer); 2048 positions; no dropout is mentioned. The weights were never
published, so `save` writes GPT-2's names under a config of its own, which transformers does not know.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from .. import nn
from . import gpt2
from .config import choice, rate, size
from .heads import LastTokenClassification
from .registry import Family, register
from .stacks import CausalLM, GPTConfig

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class GPT3Config(GPTConfig):
    model_type: ClassVar[str] = "gpt3"
    attribute_map: ClassVar[dict[str, str]] = gpt2.GPT2Config.attribute_map

    n_inner: Any = size(None)
    band: int = size(128)  # positions that a banded layer sees, its own included: the Sparse Transformer's; the paper gives none
    activation_function: str = choice("gelu_new", *nn.ACTIVATIONS)
    embd_pdrop: float = rate(0.0)
    attn_pdrop: float = rate(0.0)
    resid_pdrop: float = rate(0.0)

    def score_scale(self, i: int) -> float:
        """K^-1/2 in every layer."""
        return (self.n_embd // self.n_head) ** -0.5


def _sizes(depth: int, width: int, heads: int) -> dict[str, Any]:
    return {"vocab_size": 50257, "n_positions": 2048, "bos_token_id": 50256, "eos_token_id": 50256,
            "n_layer": depth, "n_embd": width, "n_head": heads}  # fmt: skip


# Table 2.1, with two entries put right by the counts of table D.1: 1.3B has 16 heads (24 × 128 is not 2048), 13B is 5120 wide
PRESETS = {
    "gpt3-125m": _sizes(12, 768, 12), "gpt3-350m": _sizes(24, 1024, 16), "gpt3-760m": _sizes(24, 1536, 16),
    "gpt3-1.3b": _sizes(24, 2048, 16), "gpt3-2.7b": _sizes(32, 2560, 32), "gpt3-6.7b": _sizes(32, 4096, 32),
    "gpt3-13b": _sizes(40, 5120, 40), "gpt3-175b": _sizes(96, 12288, 96),
}  # fmt: skip

# -- layer recipe ------------------------------------------------------------------------------------------------------

layer = gpt2.layer


# -- embeddings and model ----------------------------------------------------------------------------------------------


class _GPT3(gpt2._GPT2):
    config_class = GPT3Config


class GPT3Model(_GPT3, gpt2.GPT2Model):
    """GPT-2's model with attention dense and banded in turn."""

    def window(self, i: int) -> int | None:
        """Layers 0, 2, 4, ... see everything before them; 1, 3, 5, ... a band."""
        return self.config.band if i % 2 else None


# -- heads -------------------------------------------------------------------------------------------------------------


class GPT3LMHeadModel(CausalLM, _GPT3):
    """Next-token logits; the output matrix is the token embedding."""

    base_class = GPT3Model


class GPT3ForSequenceClassification(LastTokenClassification, _GPT3):
    base_class = GPT3Model


register(Family(GPT3Config, PRESETS, {
    "base": GPT3Model, "causal_lm": GPT3LMHeadModel, "sequence_classification": GPT3ForSequenceClassification,
}, default="causal_lm"))  # fmt: skip
