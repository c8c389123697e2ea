"""How many tokens a second does generation reach, and how near is that to the memory's limit?

Greedy and beam decoding with random weights, the same for both, against transformers' generate. The tokens are validated to be the
same, all of them. One sequence reads every weight once per token, so the share of the limit is bandwidth's. Weights in eight bits
are set against float32 with the very weights that the eight bits stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from _checkpoints import checkpoint

import kernels
from tinygrad_llm.bench import Case, Options

NEW, PROMPT = 64, 32
#: read for each token; of T5's cross-attention the keys and values are made once for a source
GPT2_BYTES, T5_DECODER_BYTES = 4 * 124.4e6, 4 * 38.5e6


def cases(options: Options) -> Iterator[Case]:
    for B in options.sizes(1, 8):
        yield generation_case(f"GPT-2 124M, {B} sequence{'s' * (B > 1)}, {NEW} tokens", "gpt2", 50257, B, PROMPT, 1, GPT2_BYTES)
    yield generation_case("T5-small, 4 sequences, beam 4", "t5-small", 32128, 4, 64, 4, T5_DECODER_BYTES)
    yield int8_case(f"GPT-2 124M, weights in eight bits, 1 sequence, {NEW} tokens")


def new_tokens(name: str, vocabulary: int, B: int, T: int, weights: float) -> Case:
    """B · NEW tokens after prompts of T, for each of which `weights` bytes are read."""
    inputs = lambda rng: (rng.integers(2, vocabulary, (B, T)),)
    return Case(name, inputs, bytes=weights * NEW, unit="token", work=B * NEW, fresh=True, tol=0.0)


def generation_case(name: str, preset: str, vocabulary: int, B: int, T: int, beams: int, weights: float) -> Case:
    case = new_tokens(name, vocabulary, B, T, weights)

    @case.contestant("ours")
    def _(ids: np.ndarray) -> Any:
        import tinygrad_llm as tg

        model = tg.models.load(checkpoint(preset)).eval()
        return lambda: model.generate(ids, max_new_tokens=NEW, num_beams=beams)

    @case.contestant("transformers")
    def _(ids: np.ndarray) -> Any:
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

        kind = AutoModelForCausalLM if preset == "gpt2" else AutoModelForSeq2SeqLM
        model = kind.from_pretrained(checkpoint(preset)).eval()
        prompt = torch.from_numpy(ids)
        mask = torch.ones_like(prompt)
        return lambda: model.generate(
            prompt, attention_mask=mask, max_new_tokens=NEW, num_beams=beams, do_sample=False, pad_token_id=0
        )

    return case


def int8_case(name: str) -> Case:
    case = new_tokens(name, 50257, 1, PROMPT, GPT2_BYTES / 4)

    @case.contestant("ours")
    def _(ids: np.ndarray) -> Any:
        import tinygrad_llm as tg

        model = tg.models.load(checkpoint("gpt2")).eval().quantize()
        return lambda: model.generate(ids, max_new_tokens=NEW)

    @case.contestant("ours float32")
    def _(ids: np.ndarray) -> Any:
        import tinygrad_llm as tg
        from tinygrad_llm import nn

        model = tg.models.load(checkpoint("gpt2")).eval()
        table = model.transformer.tokens.weight.data
        model.lm_head = nn.Linear(table.shape[1], table.shape[0], bias=False)  # look-ups keep the floats
        model.lm_head.weight.data = table
        for module in model.modules():
            if isinstance(module, nn.Linear):
                q, scale = kernels.quantize_int8(module.weight.data)
                module.weight.data = q * scale[:, None]
        return lambda: model.generate(ids, max_new_tokens=NEW)

    return case
