"""Texts longer than a model's context."""

import numpy as np

from tinygrad_llm import models
from tinygrad_llm.generate import sliding


def test_beyond_the_context_the_last_half_of_it_is_the_prompt(monkeypatch):
    seen = []

    def generate(model, ids, max_new_tokens, **options):
        seen.append((ids.tolist(), max_new_tokens))
        return np.append(ids, 100 + len(seen) * 10 + np.arange(max_new_tokens))[None]

    monkeypatch.setattr(sliding, "generate", generate)
    model = models.skeleton("gpt2", n_positions=8)
    out = sliding.continue_ids(model, np.arange(5), 12, None).tolist()
    assert out == [0, 1, 2, 3, 4, 110, 111, 112, 120, 121, 122, 123, 130, 131, 132, 133, 140]
    assert seen == [(out[:5], 3), (out[4:8], 4), (out[8:12], 4), (out[12:16], 1)]
