"""A vocabulary that becomes larger or smaller."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.models.small import TINY
from tinygrad_llm.models.outputs import word_logits


@pytest.mark.parametrize(("name", "head"), [
    ("bert-base", "masked_lm"), ("bert-base", "pretraining"), ("roberta-base", "token_classification"), ("albert-base", "masked_lm"),
    ("electra-small", "masked_lm"), ("electra-small", "joint"), ("gpt2", "causal_lm"), ("gpt2", "base"), ("llama-7b", "causal_lm"),
    ("t5-small", "seq2seq_lm"), ("bart-base", "seq2seq_lm"), ("transformer-base", "seq2seq_lm"),
])  # fmt: skip
@pytest.mark.parametrize("change", [3, -2])
def test_a_vocabulary_becomes_larger_or_smaller(tmp_path, name, head, change):
    model = tg.models.create(name, head, rng=np.random.default_rng(0), **TINY)
    tokens, n = model.without_head().tokens.weight, model.config.vocab_size + change
    tokens.requires_grad_(False)
    before = {path: p.numpy().copy() for path, p in model.named_parameters()}
    assert model.resize_token_embeddings(n) is model and model.config.vocab_size == n
    assert model.without_head().tokens.weight is tokens and not tokens.requires_grad
    resized = 0
    for path, p in model.named_parameters():
        old, kept = before[path], min(len(p), len(before[path]))
        np.testing.assert_array_equal(p.data[:kept], old[:kept])
        if p.shape != old.shape:
            resized += 1
            mean = 0.0 if p.ndim == 1 and model.config.tie_word_embeddings else old.mean(axis=0)
            np.testing.assert_allclose(p.data[kept:], np.broadcast_to(mean, p.data[kept:].shape), rtol=1e-6, atol=1e-9)
    assert resized >= 1
    ids = np.arange(n - 4, n)[None]  # the last tokens among them
    inputs = {"decoder_input_ids": ids} if model.is_encoder_decoder else {"labels": ids} if head == "joint" else {}
    out = model(input_ids=ids, **inputs)
    logits = out.generator_logits if head == "joint" else word_logits(out)
    assert head in ("base", "token_classification") or logits.shape == (1, 4, n)
    if head != "joint":
        model.save(tmp_path)
        other = tg.models.load(tmp_path)
        assert all(np.array_equal(p.data, q.data) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_an_optimizer_that_was_there_before_the_vocabulary_grew_says_so():
    model = tg.models.create("gpt2", rng=np.random.default_rng(0), **TINY)
    optimizer = tg.optim.AdamW(model.parameters())
    model.resize_token_embeddings(model.config.vocab_size + 1)
    model(input_ids=[[1, 2]], labels=[[1, 2]]).loss.backward()
    with pytest.raises(ValueError, match=r"had shape \(\d+, 12\) when the optimizer was made and has \(\d+, 12\) now; make the opt"):
        optimizer.step()
