"""Small models for what is written with a cache."""

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm import nn


def attentive(name, **sizes):
    """One whose attention decides what comes out."""
    made = tg.models.create(name, rng=np.random.default_rng(1), **sizes).eval()
    for p in made.parameters():  # initial weights are so small that attention hardly matters
        p.data[...] += 0.2 * np.random.default_rng(p.size).standard_normal(p.shape).astype(np.float32)
    for part in made.modules():
        if isinstance(part, nn.MultiHeadAttention) and part.scale == 1.0:  # T5's: beside large scores its bias would decide nothing
            part.q.weight.data[...] *= 0.05
    return made
