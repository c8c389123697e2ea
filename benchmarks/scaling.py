"""How does the cost of a training step grow with length, with batch, and with threads?

A 4-layer, 256-wide character GPT, one family of cases per axis; --plots draws each family on log axes with the fitted exponent.
Theory: linear in batch; in length, linear for the projections and quadratic for attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from _checkpoints import checkpoint
from training_step import batch_of, our_step, tight_gpt, torch_step

from tinygrad_llm.bench import Case, Options

LONGEST = 4096
MODEL = {"vocab_size": 65, "n_positions": LONGEST, "n_embd": 256, "n_head": 4, "n_layer": 4, "dropout": 0.0}


def cases(options: Options) -> Iterator[Case]:
    for T in options.sizes(64, 128, 256, 512, 1024, 2048, 4096):
        yield step_case(f"batch 1, length {T}", 1, T)
    for B in (1, 2, 4, 8, 16, 32):
        yield step_case(f"length 64, batch {B}", B, 64)
    threads = 1
    while threads <= options.threads:
        yield step_case(f"batch 8, length 256, threads {threads}", 8, 256, threads)
        threads *= 2


def step_case(name: str, B: int, T: int, threads: int | None = None) -> Case:
    case = Case(
        name,
        inputs=lambda rng: (batch_of("gpt2", 65, B, T, 0, rng),),
        unit="token",
        work=B * T,
        fresh=True,
        threads=threads,
        tol=2e-4,
    )

    @case.contestant("ours")
    def _(batch: dict[str, np.ndarray]) -> Any:
        return our_step(checkpoint("gpt2", **MODEL), batch)

    @case.contestant("torch")
    def _(batch: dict[str, np.ndarray]) -> Any:
        return torch_step(*tight_gpt(checkpoint("gpt2", **MODEL), batch))

    return case
