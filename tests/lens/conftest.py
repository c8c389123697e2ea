"""Small models to look into."""

import numpy as np
import pytest

import tinygrad_llm as tg


@pytest.fixture(scope="module")
def gpt():
    tg.manual_seed(0)
    model = tg.models.create("gpt2", n_layer=3, n_head=4, n_embd=32, vocab_size=60, n_positions=64).eval()
    rng = np.random.default_rng(0)
    for name, p in model.named_parameters():
        if name.endswith("bias"):  # zero at the start, which would hide what they do
            p.data[:] = rng.normal(0, 0.1, p.shape)
    return model


@pytest.fixture(scope="module")
def bert():
    tg.manual_seed(1)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64, "vocab_size": 60}
    return tg.models.create("bert-base", **sizes).eval()


@pytest.fixture(scope="module")
def t5():
    tg.manual_seed(2)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4, "vocab_size": 60}
    return tg.models.create("t5-small", **sizes).eval()
