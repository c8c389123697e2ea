"""nanoGPT's CPU recipe in PyTorch, as a program: python _torch_recipe.py TEXT STEPS COMPILE(0|1). Prints one JSON line.

4 layers, 4 heads, width 128, context 64, batch 12; AdamW, lr 1e-3 with 100 warm-up steps and cosine to 1e-4, beta2 0.99,
weight decay 0.1 on matrices, clip 1; no dropout, no bias. First 90% of the characters train, the rest validates.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch
from _torch_gpt import GPT
from torch import Tensor

CONTEXT, WIDTH, BATCH, RATE, LEAST, WARMUP = 64, 128, 12, 1e-3, 1e-4, 100


def rate_at(step: int, steps: int) -> float:
    if step < WARMUP:
        return RATE * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / max(1, steps - WARMUP)
    return LEAST + 0.5 * (1 + math.cos(math.pi * share)) * (RATE - LEAST)


def initialise(model: GPT) -> None:
    """GPT-2's, residual projections divided by sqrt(2 layers), with the deviation `tinygrad-llm train` takes for the width."""
    deviation = math.sqrt(2 / (5 * WIDTH))
    for name, p in model.named_parameters():
        if p.ndim >= 2:
            scale = deviation / math.sqrt(2 * len(model.h)) if name.endswith("c_proj.weight") else deviation
            torch.nn.init.normal_(p, std=scale)


def validation_loss(model: GPT, held: Tensor) -> float:
    """Mean over the held-out characters, in windows that do not overlap."""
    count = (len(held) - 1) // CONTEXT
    x = held[: count * CONTEXT].view(count, CONTEXT)
    y = held[1 : count * CONTEXT + 1].view(count, CONTEXT)
    with torch.no_grad():
        return sum(model(a, b).item() * len(a) for a, b in zip(x.split(64), y.split(64), strict=True)) / count


def main(path: str, steps: int, compiled: bool) -> None:
    torch.manual_seed(1337)
    text = Path(path).read_text("utf-8")
    characters = sorted(set(text))
    index = {c: i for i, c in enumerate(characters)}
    ids = torch.tensor([index[c] for c in text])
    train, held = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]
    model = GPT(len(characters), CONTEXT, WIDTH, 4, 4, bias=False)
    initialise(model)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
    run = torch.compile(model) if compiled else model
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps)
        at = torch.randint(len(train) - CONTEXT, (BATCH,))
        x = torch.stack([train[i : i + CONTEXT] for i in at])
        y = torch.stack([train[i + 1 : i + 1 + CONTEXT] for i in at])
        loss = run(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    print(json.dumps({"loss": validation_loss(model, held)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")
