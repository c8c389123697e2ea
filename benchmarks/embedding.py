"""How fast are 1,000 sentences of mixed length turned into vectors, when padding is not computed?

A 6-layer, 384-wide BERT, mean of the last hidden states over real tokens. Both get the same batches of 32 with the same masks.
Operations are those of the products for real tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from _checkpoints import checkpoint

from tinygrad_llm.bench import Case, Options

SMALL = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536, "dropout": 0.0}
SENTENCES, BATCH, VOCABULARY = 1000, 32, 30522
Batches = list[tuple[np.ndarray, np.ndarray]]


def cases(options: Options) -> Iterator[Case]:
    for count in options.sizes(SENTENCES):
        yield embedding_case(count, options)


def batches_of(count: int, rng: np.random.Generator) -> tuple[Batches]:
    """Lengths as in ordinary text: log-normal about 20 words, 4 to 128 tokens."""
    lengths = np.clip(np.exp(rng.normal(3.0, 0.6, count)), 4, 128).astype(int)
    batches = []
    for start in range(0, count, BATCH):
        part = lengths[start : start + BATCH]
        mask = (np.arange(part.max()) < part[:, None]).astype(np.int64)
        batches.append((rng.integers(1, VOCABULARY, mask.shape) * mask, mask))
    return (batches,)


def products(batches: Batches) -> int:
    """Operations for real tokens: two for each number of a layer's weights, 4 K for each pair of two of a sentence in each head."""
    depth, D, F = SMALL["num_hidden_layers"], SMALL["hidden_size"], SMALL["intermediate_size"]
    lengths = np.concatenate([mask.sum(axis=1) for _, mask in batches])
    return int(depth * (2 * (4 * D * D + 2 * D * F) * lengths.sum() + 4 * D * (lengths**2).sum()))


def embedding_case(count: int, options: Options) -> Case:
    case = Case(
        f"BERT 6 x 384, {count} sentences",
        inputs=lambda rng: batches_of(count, rng),
        unit="sentence",
        work=count,
        flops=lambda: products(*batches_of(count, np.random.default_rng(options.seed))),
        fresh=True,
        tol=1e-4,
    )

    @case.contestant("ours")
    def _(batches: Batches) -> Any:
        import tinygrad_llm as tg

        model = tg.models.load(checkpoint("bert-base", **SMALL)).eval()
        body = getattr(model, "bert", model)

        def run() -> list[np.ndarray]:
            with tg.no_grad():
                return [body.sentence_embeddings(i, m).numpy() for i, m in batches]

        return run

    @case.contestant("transformers")
    def _(batches: Batches) -> Any:
        import torch
        from transformers import AutoModel

        model = AutoModel.from_pretrained(checkpoint("bert-base", **SMALL)).eval()

        def run() -> list[np.ndarray]:
            with torch.inference_mode():
                outputs = [model(torch.from_numpy(i), attention_mask=torch.from_numpy(m)) for i, m in batches]
            return [pool(out.last_hidden_state.numpy(), m) for out, (_, m) in zip(outputs, batches, strict=True)]

        return run

    return case


def pool(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean over real tokens: (B, T, D), (B, T) -> (B, D)"""
    weights = mask[:, :, None].astype(hidden.dtype)
    return np.where(weights > 0, hidden, 0).sum(axis=1) / weights.sum(axis=1)
