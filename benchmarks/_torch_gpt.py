"""A GPT-2 in PyTorch as people train it for speed: fused attention, one projection for q, k and v, fused AdamW.

Reads a GPT-2 checkpoint in Hugging Face's layout. In size and arithmetic
it is transformers' GPT2LMHeadModel, without its bookkeeping.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool):
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width, bias), nn.Linear(width, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = (part.view(B, T, self.heads, -1).transpose(1, 2) for part in self.c_attn(x).split(D, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, D))


class FeedForward(nn.Module):
    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width, bias), nn.Linear(4 * width, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
        self.attn, self.mlp = Attention(width, heads, bias), FeedForward(width, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """ids, labels (B, T) -> the mean cross-entropy of labels, already moved by one."""

    def __init__(self, vocabulary: int, positions: int, width: int, heads: int, layers: int, bias: bool = True):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.h = nn.ModuleList([Block(width, heads, bias) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width, bias=bias)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.reshape(-1))


def load(folder: Path) -> GPT:
    """The model of a checkpoint. Hugging Face stores GPT-2's projections transposed."""
    c = json.loads((folder / "config.json").read_text("utf-8"))
    model = GPT(c["vocab_size"], c["n_positions"], c["n_embd"], c["n_head"], c["n_layer"])
    saved = {k.removeprefix("transformer."): v for k, v in load_file(folder / "model.safetensors").items()}
    wanted = dict(model.named_parameters())
    projections = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    state = {k: saved[k].T.contiguous() if k.endswith(projections) else saved[k] for k in wanted}
    model.load_state_dict(state)
    return model
