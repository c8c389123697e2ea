"""What a training step of this package takes at its worst moment, predicted from the shapes: float32, AdamW, Numba's kernels.

    peak = weights + moments + max(activations + output layer, between, gradients) + passing

When backward starts, everything that it needs is alive and the only gradient is that of the output layer's matrix; when it
ends, the activations are gone and all gradients are there. In between the one gives way to the other, with two exceptions:
a layer that runs again (ALBERT) has its gradients after its last run, with the activations of all other runs still there; and
ELECTRA's pair draws words from the logits of the masked places, and adds up two gradients of one embedding. What the process
takes before there is a model (interpreter, libraries, compiled kernels: 170 MB on Linux) is not counted.

`benchmarks/memory.py` compares with processes that train. Nothing is recomputed. Left out, because small: statistics of norms
and of attention, ids, and T5's table of distances.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..nn.feedforward import FUSED
from ..nn.layers import LEAST_WIDTH
from .registry import head_of

WIDTH = 4  # bytes of a float32
#: the part of all positions whose tokens a head predicts; ELECTRA's discriminator judges all, and has no vocabulary
JUDGED = {"causal_lm": 1.0, "seq2seq_lm": 1.0, "masked_lm": 0.15, "pretraining": 0.15, "joint": 0.15}
LOGITS = 64 << 20  # bytes of a chunk of logits, see kernels.reference_loss.default_chunk
PASSING = 3  # arrays as wide as the feed-forward's inside that its backward holds for a moment
WORKSPACES = 4 << 20  # packed blocks of products and tiles of attention, kept per thread


@dataclass
class TrainingMemory:
    """Bytes by part, and at the worst moment."""

    weights: int
    moments: int
    gradients: int
    activations: int  # kept for backward by all layers
    output: int  # one chunk of logits, and the gradient of the matrix that makes them
    passing: int
    between: int = 0  # activations, gradients and logits at a moment that may be worse than backward's start and end

    @property
    def peak(self) -> int:
        return self.weights + self.moments + max(self.activations + self.output, self.between, self.gradients) + self.passing

    def as_dict(self) -> dict[str, int]:
        return asdict(self) | {"peak": self.peak}


def training_memory(model: Any, blocks: list[Any], batch: int, context: int, target: int | None) -> TrainingMemory:
    """For `batch` sequences of `context` tokens; an encoder-decoder's targets have `target` (None: as many)."""
    source = batch * context
    ours = batch * (target or context) if model.is_encoder_decoder else source
    rows = [source if model.is_encoder_decoder and block.cross is None else ours for block in blocks]
    D = max(block.attn.q.weight.shape[1] for block in blocks)
    numbers = [n * block_numbers(block) + source * cross_numbers(block) for block, n in zip(blocks, rows, strict=True)]
    kept = sum(numbers) + 3 * D * ours  # the last norm's input, the hidden states that are judged, and their gradient
    weights = WIDTH * model.num_parameters()
    logits, matrix = output_layer(model, ours)
    between = 0
    if head_of(model) == "joint":
        drawn = 5 * math.ceil(JUDGED["joint"] * ours) * model.config.vocab_size  # logits of the masked, noise, their sum
        drawing = WIDTH * (sum(numbers[: len(model.generator.electra.layers)]) + drawn) + logits + matrix
        between = max(drawing, weights + 2 * matrix)
    elif len({id(block) for block in blocks}) < len(blocks):  # the run before has made its feed-forward's gradients, to be added
        last = blocks[-1]
        between = WIDTH * (kept - numbers[-1] + last.num_parameters() + last.mlp.num_parameters()) + matrix
    widest = max(n * block.mlp.up.weight.shape[0] for block, n in zip(blocks, rows, strict=True))
    return TrainingMemory(
        weights, 2 * weights, weights, WIDTH * kept, logits + matrix, PASSING * WIDTH * widest + WORKSPACES, between
    )


def output_layer(model: Any, rows: int) -> tuple[int, int]:
    """Logits, made chunk by chunk of the judged rows alone, and the gradient of their matrix; 0 for a head without a vocabulary.

    The matrix is as wide as the token embedding, which ALBERT and ELECTRA make narrower than the layers.
    """
    judged, classes = judged_rows(model, rows), model.config.vocab_size
    width = model.without_head().tokens.weight.shape[1]
    return (min(LOGITS, WIDTH * judged * classes), WIDTH * classes * width) if judged else (0, 0)


def judged_rows(model: Any, rows: int) -> int:
    """How many of so many positions have their tokens predicted."""
    head = head_of(model)
    share = 0.0 if (model.config.model_type, head) == ("electra", "pretraining") else JUDGED.get(head, 0.0)
    return math.ceil(share * rows)


def attention_numbers(part: Any) -> int:
    """Of a query's position: the norm's input and output, q, and z."""
    return 2 * part.q.weight.shape[1] + 2 * part.heads * part.head_width


def block_numbers(block: Any) -> int:
    """Numbers per position that backward needs: residual streams, norms' outputs, q, k, v, z and feed-forward values."""
    F, D = block.mlp.up.weight.shape
    total = attention_numbers(block.attn) + 2 * block.attn.kv_heads * block.attn.head_width
    if block.cross is not None:
        total += attention_numbers(block.cross)
    in_one = block.mlp.gate is None and block.mlp.act_name in FUSED and min(F, D) >= LEAST_WIDTH  # keeps its inside once
    return total + 2 * D + F * (3 if block.mlp.gate is not None else 1 if in_one else 2)


def cross_numbers(block: Any) -> int:
    """Numbers per position of the encoder's output: the keys and values that a decoder's block makes of it."""
    return 0 if block.cross is None else 2 * block.cross.kv_heads * block.cross.head_width
