"""How does the memory of a training step grow with length, and what does recomputing each block in backward save?

Peak resident memory of a process that makes a few steps of a 6-layer, 384-wide GPT: the last column is the answer,
times are beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from _checkpoints import checkpoint
from training_step import batch_of, our_step, tight_gpt, torch_step

from tinygrad_llm.bench import Case, Options

LONGEST = 2048
MODEL = {"vocab_size": 65, "n_positions": LONGEST, "n_embd": 384, "n_head": 6, "n_layer": 6, "dropout": 0.0}


def cases(options: Options) -> Iterator[Case]:
    for T in options.sizes(128, 512, 2048):
        yield length_case(T)


def length_case(T: int) -> Case:
    case = Case(f"6 x 384 GPT, B2, T {T}", inputs=lambda rng: (batch_of("gpt2", 65, 2, T, 0, rng),), fresh=True, tol=2e-4)

    @case.contestant("ours")
    def _(batch: dict[str, np.ndarray]) -> Callable[[], Any]:
        return our_step(checkpoint("gpt2", **MODEL), batch)

    @case.contestant("ours recomputing")
    def _(batch: dict[str, np.ndarray]) -> Callable[[], Any]:
        return our_step(checkpoint("gpt2", **MODEL), batch, recompute=True)

    @case.contestant("torch")
    def _(batch: dict[str, np.ndarray]) -> Callable[[], Any]:
        return torch_step(*tight_gpt(checkpoint("gpt2", **MODEL), batch))

    return case
