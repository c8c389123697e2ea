"""How long does llm.c's CPU program take for GPT-2 124M's training step, B4 T64, and how long do we?

Build it with  gcc -O3 -march=native -fopenmp -DOMP train_gpt2.c -o train_gpt2 -lm  in a checkout of llm.c and name the binary in
the environment variable LLMC. Same weights, the same batch in every step, AdamW without decay or clipping, as the program
has it. A turn is --size steps (2), after one that nobody times; the losses of all steps so far must agree.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _checkpoints import checkpoint
from _llmc import LAST_STEP, B, Program, T, write_model, write_tokens
from training_step import step_flops

from tinygrad_llm.bench import Case, Options, Skip

VOCABULARY, TURNS = 50257, 2
RATE = 1e-4  # compiled into the program, with beta2 0.999 and eps 1e-8


def cases(options: Options) -> Iterator[Case]:
    for steps in options.sizes(2):
        if TURNS * steps > LAST_STEP:
            raise ValueError(f"llmc: {TURNS} turns of {steps} steps; the program evaluates after step {LAST_STEP}, take at most 4")
        yield step_case(steps)


def step_case(steps: int) -> Case:
    case = Case(
        f"GPT-2 124M, B{B} T{T}, {steps} steps",
        inputs=lambda rng: (rng.integers(0, VOCABULARY, B * T + 1),),
        runs=TURNS,
        unit="token",
        work=steps * B * T,
        flops=lambda: steps * step_flops("gpt2", {}, B, T),
        tol=1e-3,
    )

    @case.contestant("ours")
    def _(tokens: np.ndarray) -> Callable[[], Any]:
        return turns_of(steps, our_step(tokens))

    @case.contestant("llm.c")
    def _(tokens: np.ndarray) -> Callable[[], Any]:
        return llmc_turns(steps, tokens)

    return case


def turns_of(steps: int, step: Callable[[], float]) -> Callable[[], list[float]]:
    """The losses so far after every turn of `steps` steps; the first step is made here."""
    losses = [step()]

    def turn() -> list[float]:
        losses.extend(step() for _ in range(steps))
        return losses

    return turn


def our_step(tokens: np.ndarray) -> Callable[[], float]:
    """llm.c's loss: every one of the B · T places is judged, the last of a row by the first token of the next."""
    import tinygrad_llm as tg
    from tinygrad_llm import functional as F

    ids, targets = tokens[:-1].reshape(B, T), tokens[1:]
    model = tg.models.load(checkpoint("gpt2", dropout=0.0)).train()
    optimizer = tg.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)

    def step() -> float:
        hidden = model.transformer(input_ids=ids).last_hidden_state
        loss = F.linear_cross_entropy(hidden.reshape(B * T, -1), model.transformer.tokens.weight, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return step


def llmc_turns(steps: int, tokens: np.ndarray) -> Callable[[], list[float]]:
    program = Program(*prepared(tokens))
    atexit.register(program.end)
    program.run_to(0)
    done = [0]

    def turn() -> list[float]:
        done[0] += steps
        program.run_to(done[0])
        return [loss for loss, _ in program.steps]

    return turn


def prepared(tokens: np.ndarray) -> tuple[Path, Path]:
    """(the program, a folder with the files that it reads)."""
    named = os.environ.get("LLMC")
    if not named:
        raise Skip("name llm.c's train_gpt2 in the environment variable LLMC; this file's docstring says how to build it")
    binary = Path(named).resolve()
    if not os.access(binary, os.X_OK) or binary.is_dir():
        raise Skip(f"LLMC={named}: no program there")
    weights = checkpoint("gpt2", dropout=0.0)
    folder = weights.with_name(weights.name + "-llmc")
    folder.mkdir(exist_ok=True)
    if not (folder / "gpt2_124M.bin").is_file():
        write_model(weights, folder / "gpt2_124M.bin")
    write_tokens(tokens, folder)
    return binary, folder
