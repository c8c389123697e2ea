"""How long does nanoGPT's CPU recipe take on Tiny Shakespeare, from process start to the trained model?

Whole programs side by side: `tinygrad-llm train` (with its evaluation, checkpoint and report), also with `--precision bfloat16`,
the same recipe in PyTorch, and that compiled. What is validated is the loss on the held-out tenth: within 3% of each other's,
since random numbers differ.
Needs tinyshakespeare.txt in the folder that the environment variable TINYGRAD_LLM_DATA names. --size sets the steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tinygrad_llm.bench import Case, Options, Skip
from tinygrad_llm.bench.child import environment

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
    case = Case(f"nanoGPT on Tiny Shakespeare, {steps} steps", unit="step", work=steps, runs=RUNS, tol=0.03)
    for name, precision in (("ours", "float32"), ("ours bfloat16", "bfloat16")):
        case.contestant(name)(our_program(steps, precision))
    for name, compiled in (("torch", "0"), ("compile", "1")):
        case.contestant(name)(torch_program(steps, compiled))
    return case


def our_program(steps: int, precision: str) -> Callable[[], Callable[[], float]]:
    def setup() -> Callable[[], float]:
        text = text_file()

        def run() -> float:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "run"
                every = ["--eval-every", str(steps), "--save-every", "0", "--sample-every", "0"]
                command = ["-m", "tinygrad_llm", "train", str(text), "--no-bias", "--steps", str(steps), *every]
                return program(*command, "--precision", precision, "--out", str(out), "--json")["best_loss"]

        return run

    return setup


def torch_program(steps: int, compiled: str) -> Callable[[], Callable[[], float]]:
    def setup() -> Callable[[], float]:
        text = text_file()
        recipe = str(Path(__file__).resolve().parent / "_torch_recipe.py")
        return lambda: program(recipe, str(text), str(steps), compiled)["loss"]

    return setup


def program(*arguments: str) -> dict[str, float]:
    """Run a Python program to its end; the last line that it prints is JSON."""
    done = subprocess.run([sys.executable, *arguments], env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
