"""How long does nanoGPT's CPU recipe take on Tiny Shakespeare, from process start to the trained model?

Whole programs side by side: `tinygrad-llm train` (with its evaluation, checkpoint and report), also with `--precision bfloat16`,
the same recipe in PyTorch, and that compiled. What is validated is the loss on the held-out tenth: within 3% of each other's,
since random numbers differ.
Needs tinyshakespeare.txt in the folder that the environment variable TINYGRAD_LLM_DATA names. --size sets the steps.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from training_step import BATCH, CONTEXT, NANO, step_flops

from tinygrad_llm.bench import Case, Options, Skip
from tinygrad_llm.bench.child import output_of

STEPS, RUNS = 2000, 2


def cases(options: Options) -> Iterator[Case]:
    for steps in options.sizes(STEPS):
        yield recipe_case(steps)


def text_file() -> Path:
    text = Path(os.environ.get("TINYGRAD_LLM_DATA", ".")) / "tinyshakespeare.txt"
    if not text.is_file():
        raise Skip("needs tinyshakespeare.txt; name its folder in the environment variable TINYGRAD_LLM_DATA")
    return text


def recipe_case(steps: int) -> Case:
    flops = lambda: steps * step_flops("gpt2", NANO, BATCH, CONTEXT)
    case = Case(f"nanoGPT on Tiny Shakespeare, {steps} steps", flops=flops, unit="step", work=steps, runs=RUNS, tol=0.03)
    for name, precision in (("ours", "float32"), ("ours bfloat16", "bfloat16")):
        case.contestant(name)(partial(our_program, steps, precision))
    for name, compiled in (("torch", "0"), ("compile", "1")):
        case.contestant(name)(partial(torch_program, steps, compiled))
    return case


def our_program(steps: int, precision: str) -> Callable[[], float]:
    text = text_file()

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            every = ["--eval-every", str(steps), "--save-every", "0", "--sample-every", "0"]
            command = ["-m", "tinygrad_llm", "train", str(text), "--no-bias", "--steps", str(steps), *every]
            return last_line(*command, "--precision", precision, "--out", str(out), "--json")["best_loss"]

    return run


def torch_program(steps: int, compiled: str) -> Callable[[], float]:
    text, recipe = text_file(), Path(__file__).resolve().with_name("_torch_recipe.py")
    return lambda: last_line(str(recipe), str(text), str(steps), compiled)["loss"]


def last_line(*arguments: str) -> dict[str, float]:
    """The JSON that a Python program prints last."""
    return json.loads(output_of(*arguments).splitlines()[-1])
