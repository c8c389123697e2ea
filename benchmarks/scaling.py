"""How does the cost of a training step grow with length, batch, parameters and threads?

A 4-layer, 256-wide character GPT, and GPT-2's sizes; below the table stand the fitted exponents, --plots draws each family.
Theory: 1 in batch; in length, 1 for the projections and 2 for attention, which takes over at a few times the width; 1 in
parameters, where the optimizer's reading of 28 bytes a parameter and the products of a short batch weigh alike; -1 in threads.
PyTorch runs where two programs of that size fit side by side in 24 GB and a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from _checkpoints import checkpoint
from training_step import Batch, our_step, step_flops, steps_on_a_batch, tight_gpt, torch_step

from tinygrad_llm.bench import Case, Options

CHARACTERS = {"vocab_size": 65, "n_embd": 256, "n_head": 4, "n_layer": 4, "dropout": 0.0}
LENGTHS = (64, 256, 1024, 4096, 8192, 16384, 32768)
LONGEST_FOR_TWO, LARGEST_FOR_TWO = 8192, "gpt2"
SIZES = {  # millions of parameters: preset, overrides
    11: ("gpt2", {"vocab_size": 65, "n_positions": 256, "n_embd": 384, "n_head": 6, "n_layer": 6}),
    124: ("gpt2", {}),
    355: ("gpt2-medium", {}),
    774: ("gpt2-large", {}),
}


def cases(options: Options) -> Iterator[Case]:
    for T in options.sizes(*LENGTHS):
        yield step_case(f"batch 1, length {T}", 1, T, rivals=T <= LONGEST_FOR_TWO)
    for B in (1, 2, 4, 8, 16, 32):
        yield step_case(f"length 64, batch {B}", B, 64)
    for millions, (preset, overrides) in SIZES.items():
        name = f"batch 1, length 64, million parameters {millions}"
        yield step_case(name, 1, 64, None, preset, overrides, preset == LARGEST_FOR_TWO)
    threads = 1
    while threads <= options.threads:
        yield step_case(f"batch 8, length 256, threads {threads}", 8, 256, threads)
        threads *= 2


def step_case(
    name: str, B: int, T: int, threads: int | None = None, preset: str = "gpt2", overrides: Any = CHARACTERS, rivals: bool = True
) -> Case:
    model = {**overrides, "dropout": 0.0, "n_positions": max(T, overrides.get("n_positions", T))}
    flops = partial(step_flops, preset, model, B, T)
    case = steps_on_a_batch(name, "gpt2", 65, B, T, threads=threads, flops=flops)

    @case.contestant("ours")
    def _(batch: Batch) -> Any:
        return our_step(checkpoint(preset, **model), batch)

    if rivals:

        @case.contestant("torch")
        def _(batch: Batch) -> Any:
            return torch_step(*tight_gpt(checkpoint(preset, **model), batch))

    return case
