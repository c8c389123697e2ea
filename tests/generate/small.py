"""Small models whose scores differ clearly, prompts for them, and a tokenizer of letters."""

import numpy as np

from tinygrad_llm import models

V, PAD, EOS, MASK = 24, 0, 1, 2


def vary(model, seed=0):
    """Weights large enough that the tokens' scores differ clearly."""
    rng = np.random.default_rng(seed)
    for _, p in model.named_parameters():
        if p.ndim >= 2:
            p.data[...] = rng.normal(0, 0.3, p.shape)
    return model


def decoder(seed=0, **roles):
    return vary(models.create("gpt2", n_layer=2, n_head=2, n_embd=16, n_positions=32, vocab_size=V, dropout=0.0,
                              bos_token_id=None, **({"eos_token_id": None, "pad_token_id": PAD} | roles)), seed)  # fmt: skip


def seq2seq(seed=0):
    return vary(models.create("t5-small", d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=2,
                              vocab_size=V, dropout=0.0, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD),
                seed)  # fmt: skip


def bart(head=None, **changes):
    return vary(models.create("bart-base", head, **({
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": V, "max_position_embeddings": 8, "dropout": 0.0,
        "eos_token_id": None, "forced_eos_token_id": None} | changes)))  # fmt: skip


def prompts(seed, rows=2, length=5):
    return np.random.default_rng(seed).integers(3, V, (rows, length))


class Letters:
    def decode(self, ids):
        return "".join(chr(97 + int(i)) for i in ids)
