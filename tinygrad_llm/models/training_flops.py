"""How many operations the products of a training step take, counted from the shapes; a multiply-add is two of them.

    forward     2 for each row and number of a weight; 4 K for each pair of a query and a key that it sees, in each head
    backward    twice that for weights, whose products have two gradients; 2.5 times for attention, which makes its scores anew
                (Dao et al. 2022 §3.1)

Of short sequences that is 6 for each token and parameter, embeddings apart (Kaplan et al. 2020 §2.1). Left out, because few:
norms, activations, the optimizer, poolers and classifiers, ELECTRA's drawing of words.
"""

from __future__ import annotations

from typing import Any

from .. import nn
from .base import Model
from .heads import VocabularyHead
from .training_memory import judged_rows

PER_WEIGHT = 2 + 4  # operations of a step for one row and one number of a weight
PER_PAIR = 4 + 10  # and for one pair of a query and a key, and one number of a head's width


def training_flops(model: Any, blocks: list[Any], batch: int, context: int, target: int | None) -> int:
    """For `batch` sequences of `context` tokens; an encoder-decoder's targets have `target` (None: as many)."""
    length = (target or context) if model.is_encoder_decoder else context
    source, ours = batch * context, batch * length
    base = model.without_head()
    weighed, pairs = outside(model, source, ours), 0
    for i, block in enumerate(blocks):
        cross, causal = block.cross, isinstance(block, nn.DecoderBlock)
        rows, T = (ours, length) if causal else (source, context)
        weighed += rows * (numbers(block.attn.q, block.attn.k, block.attn.v, block.attn.o) + numbers(*block.mlp.modules()))
        window = base.window(i) if causal and cross is None else None
        pairs += batch * inner(block.attn) * (seen(T, window) if causal else T * T)
        if cross is not None:
            weighed += ours * numbers(cross.q, cross.o) + source * numbers(cross.k, cross.v)
            pairs += ours * context * inner(cross)
    return PER_WEIGHT * weighed + PER_PAIR * pairs


def numbers(*modules: Any) -> int:
    """Of the weights of those that are Linear."""
    return sum(module.weight.size for module in modules if isinstance(module, nn.Linear))


def inner(attention: Any) -> int:
    """The width of all its heads together."""
    return attention.heads * attention.head_width


def seen(T: int, window: int | None) -> int:
    """Pairs of a query and a key: each of T positions sees itself and those before, the nearest `window` of them."""
    w = min(window or T, T)
    return w * T - w * (w - 1) // 2


def outside(model: Any, rows: int, predicting: int) -> int:
    """Rows times numbers of the weights around the blocks: embeddings widened, and what makes the logits of judged positions."""
    judged = judged_rows(model, predicting)
    total = judged * model.config.vocab_size * model.without_head().tokens.weight.shape[1]
    for module in model.modules():
        if isinstance(module, VocabularyHead):
            total += judged * numbers(module.dense)
        elif isinstance(module, Model):  # embeddings that are widened, and ELECTRA's discriminator, which judges all positions
            total += rows * numbers(getattr(module, "widen", None), getattr(module, "dense", None))
    return total
