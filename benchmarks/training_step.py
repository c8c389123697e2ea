"""How long is a whole training step (forward, backward, clip, AdamW), and how much memory does it take?

Same weights, same batches, no dropout, AdamW with weight decay on matrices. GPT shapes race the tight PyTorch model
of _torch_gpt.py, eager and compiled; BERT-base and T5-small race transformers; the character model also races JAX, tinygrad,
HIPS autograd and MyGrad. Every contestant has a process of its own, whose peak memory is reported. What is validated is the
loss and the gradient's norm of the first step. Operations are those of all products, as `tinygrad-llm describe` counts them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _checkpoints import checkpoint

from tinygrad_llm.bench import Case, Options

Batch = dict[str, np.ndarray]
LEARNING_RATE, DECAY, CLIP = 1e-4, 0.1, 1.0

GPT2 = {"dropout": 0.0}
CHARACTERS = {"vocab_size": 65, "n_positions": 256, "n_embd": 384, "n_head": 6, "n_layer": 6, "dropout": 0.0}
BATCH, CONTEXT = 12, 64  # of nanoGPT's recipe
NANO = {"vocab_size": 65, "n_positions": CONTEXT, "n_embd": 128, "n_head": 4, "n_layer": 4, "dropout": 0.0}

# libraries that train the character model only; HIPS autograd and MyGrad differentiate the same plain NumPy code
OTHERS = {"autograd": "_numpy_gpt", "mygrad": "_numpy_gpt", "jax": "_jax_gpt", "tinygrad": "_tinygrad_gpt"}

# name: preset, overrides, vocabulary, batch, length, length of the target (encoder-decoder only)
SHAPES: dict[str, tuple[str, dict[str, Any], int, int, int, int]] = {
    "nanoGPT on a CPU, 4 x 128, B12 T64": ("gpt2", NANO, 65, BATCH, CONTEXT, 0),
    "characters, 6 x 384, B8 T256": ("gpt2", CHARACTERS, 65, 8, 256, 0),
    "GPT-2 124M, B1 T256": ("gpt2", GPT2, 50257, 1, 256, 0),
    "GPT-2 124M, B4 T256": ("gpt2", GPT2, 50257, 4, 256, 0),
    "BERT-base masked, B4 T128": ("bert-base", {"dropout": 0.0, "head": "masked_lm"}, 30522, 4, 128, 0),
    "T5-small, B4 128 to 64": ("t5-small", {"dropout": 0.0}, 32128, 4, 128, 64),
}


def cases(options: Options) -> Iterator[Case]:
    return map(step_case, options.picked(SHAPES))


def batch_of(preset: str, vocabulary: int, B: int, T: int, S: int, rng: np.random.Generator) -> Batch:
    ids = rng.integers(0, vocabulary, (B, T))
    if preset == "gpt2":
        return {"input_ids": ids, "labels": ids}
    if preset == "t5-small":
        return {"input_ids": ids, "labels": rng.integers(0, vocabulary, (B, S))}
    return {"input_ids": ids, "labels": np.where(rng.random((B, T)) < 0.15, ids, -100)}


def steps_on_a_batch(name: str, preset: str, vocabulary: int, B: int, T: int, S: int = 0, **more: Any) -> Case:
    """A case whose calls are training steps on one batch, in a process of its own; `tol` is of the larger of loss and norm."""
    options = {"unit": "token", "work": B * (T + S), "fresh": True, "tol": 2e-4, **more}
    return Case(name, lambda rng: (batch_of(preset, vocabulary, B, T, S, rng),), **options)


def step_case(name: str) -> Case:
    preset, overrides, vocabulary, B, T, S = SHAPES[name]
    case = steps_on_a_batch(name, preset, vocabulary, B, T, S, flops=partial(step_flops, preset, overrides, B, T, S))
    torch_loss = tight_gpt if preset == "gpt2" else from_transformers

    @case.contestant("ours")
    def _(batch: Batch) -> Any:
        return our_step(checkpoint(preset, **overrides), batch)

    @case.contestant("torch")
    def _(batch: Batch) -> Any:
        return torch_step(*torch_loss(checkpoint(preset, **overrides), batch))

    @case.contestant("compile")
    def _(batch: Batch) -> Any:
        import torch

        model, loss = torch_loss(checkpoint(preset, **overrides), batch)
        return torch_step(model, torch.compile(loss))

    if overrides is CHARACTERS:
        for name, module in OTHERS.items():
            case.contestant(name)(other_contestant(name, module))
    return case


def other_contestant(name: str, module: str) -> Callable[[Batch], Any]:
    """`NAME_step` of a module beside this file: the same model written for another library."""

    def setup(batch: Batch) -> Any:
        maker = getattr(importlib.import_module(module), f"{name}_step")
        return maker(checkpoint("gpt2", **CHARACTERS), batch["input_ids"], LEARNING_RATE, DECAY, CLIP)

    return setup


def step_flops(preset: str, overrides: dict[str, Any], B: int, T: int, S: int = 0) -> int:
    """Operations of all products of a step, of an encoder-decoder with targets of length S."""
    from tinygrad_llm.models.memory import describe

    return describe(preset, batch=B, context=T, target=S or None, **overrides).training_flops


def our_step(folder: Path, batch: Batch, recompute: bool = False) -> Callable[[], Any]:
    import tinygrad_llm as tg

    model = tg.models.load(folder).train()
    model.recompute = recompute
    groups = tg.optim.decay_groups(model.named_parameters(), DECAY)
    optimizer = tg.optim.AdamW(groups, lr=LEARNING_RATE)

    def step() -> tuple[float, float]:
        loss = model(**batch).loss
        loss.backward()
        norm = optimizer.clip_and_step(CLIP)
        optimizer.zero_grad()
        return float(loss.item()), float(norm)

    return step


def tight_gpt(folder: Path, batch: Batch) -> tuple[Any, Callable[[], Any]]:
    import torch
    from _torch_gpt import load

    model = load(folder)
    ids = torch.from_numpy(batch["input_ids"])
    labels = torch.full_like(ids, -100)
    labels[:, :-1] = ids[:, 1:]
    return model, lambda: model(ids, labels)


def from_transformers(folder: Path, batch: Batch) -> tuple[Any, Callable[[], Any]]:
    import torch
    from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    kind = AutoModelForSeq2SeqLM if "t5" in folder.name else AutoModelForMaskedLM
    model = kind.from_pretrained(folder).train()
    tensors = {k: torch.from_numpy(v) for k, v in batch.items()}
    return model, lambda: model(**tensors).loss


def torch_step(model: Any, loss_of: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)

    def step() -> tuple[float, float]:
        loss = loss_of()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item(), norm.item()

    return step
