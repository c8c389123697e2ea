"""The operations of a step's products that `describe` counts, beside those that a step asks the kernels for."""

import numpy as np
import pytest

import kernels
import tinygrad_llm as tg
from kernels import reference_loss
from tinygrad_llm.autograd import ops_linalg
from tinygrad_llm.models.memory import describe
from tinygrad_llm.models.training_flops import seen

B, T, S = 2, 24, 14
ENCODER = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40, "max_position_embeddings": 32}
SIZES = {
    "gpt2": {"n_embd": 24, "n_head": 2, "n_layer": 2, "n_positions": 32},
    "gpt3-125m": {"n_embd": 24, "n_head": 2, "n_layer": 2, "n_positions": 32},
    "llama-7b": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
                 "intermediate_size": 40},
    "mistral-7b": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
                   "intermediate_size": 40, "sliding_window": 5},
    "bert-base": ENCODER | {"head": "masked_lm"},
    "albert-base": ENCODER | {"head": "masked_lm", "embedding_size": 12},
    "electra-small": ENCODER | {"head": "pretraining", "embedding_size": 12},
    "t5-small": {"d_model": 24, "num_heads": 3, "d_kv": 16, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 3},
    "bart-base": {"d_model": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 40,
                  "decoder_ffn_dim": 40, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 32},
}  # fmt: skip


def counted(monkeypatch, step):
    """Operations of all products of a step. Products by one row or column are sums, of biases or classifiers, and not counted."""
    total = [0]
    matmul, forward, backward = kernels.matmul, kernels.attention_forward, kernels.attention_backward

    def product(a, b, *args, transpose_a=False, transpose_b=False, **rest):
        if a.ndim > 1 and b.ndim > 1:
            k, m = a.shape[-2:] if transpose_a else a.shape[:-3:-1]
            n = b.shape[-2] if transpose_b else b.shape[-1]
            total[0] += 2 * a[..., 0, 0].size * m * k * n if min(m, k, n) > 2 else 0
        return matmul(a, b, *args, transpose_a=transpose_a, transpose_b=transpose_b, **rest)

    def attend(products, q, k, options):
        visible = np.ones((q.shape[2], k.shape[2]), bool)
        if options.get("is_causal"):
            visible = np.tril(visible)
            if options.get("window"):
                visible &= ~np.tril(visible, -options["window"])
        total[0] += 2 * products * q.shape[0] * q.shape[1] * q.shape[3] * int(visible.sum())

    def attention_forward(q, k, v, **options):
        attend(2, q, k, options)
        return forward(q, k, v, **options)

    def attention_backward(g, q, k, *args, **options):
        attend(5, q, k, options)
        return backward(g, q, k, *args, **options)

    for function in (attention_forward, attention_backward):
        monkeypatch.setattr(kernels, function.__name__, function)
    for place in (kernels, reference_loss):
        monkeypatch.setattr(place, "matmul", product)
    monkeypatch.setattr(ops_linalg, "SMALL", 0)  # no product goes to NumPy
    step()
    return total[0]


@pytest.mark.parametrize("name", SIZES)
def test_a_step_asks_for_the_products_that_describe_counts(monkeypatch, name):
    model = tg.models.create(name, vocab_size=50, dropout=0.0, rng=np.random.default_rng(0), **SIZES[name]).train()
    ids = np.arange(B * T).reshape(B, T) % 50
    labels = ids
    if SIZES[name].get("head") == "masked_lm":  # 15% of the places, as many as are judged
        labels = np.where(np.arange(B * T).reshape(B, T) % 6 == 0, ids, -100)
    if SIZES[name].get("head") == "pretraining":
        labels = ids % 2
    if model.is_encoder_decoder:
        labels = ids[:, :S]
    with kernels.use("numpy"):
        asked = counted(monkeypatch, lambda: model(input_ids=ids, labels=labels).loss.backward())
    found = describe(name, batch=B, context=T, target=S if model.is_encoder_decoder else None, vocab_size=50, **SIZES[name])
    assert found.training_flops == asked
    assert f"{asked / 1e9:,.4g}·10⁹ operations" in found.text() and found.as_dict()["training_flops"] == asked


def test_the_pairs_that_are_seen():
    for T in (1, 2, 7):
        for window in (None, 1, 3, 7, 9):
            mask = np.tril(np.ones((T, T), bool)) & ~np.tril(np.ones((T, T), bool), -(window or T))
            assert seen(T, window) == mask.sum()


def test_six_operations_for_each_token_and_parameter():
    """What scaling laws reckon with, where the vocabulary and attention weigh little."""
    found = describe("gpt3-175b", batch=1, context=512)
    assert found.training_flops == pytest.approx(6 * 512 * found.parameters, rel=0.01)
