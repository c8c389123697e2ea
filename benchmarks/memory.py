"""How does the memory of a training step grow with length, what does recomputing save, and does `describe` predict it?

Peak resident memory of a process that makes a few steps of a 6-layer, 384-wide GPT: the last column is the answer,
times are beside it. Then, for the shapes of training_step.py, a fresh process trains three steps, and what it takes above the
loaded program must be within 10% of what `tinygrad-llm describe` predicts, or the question fails. --size picks lengths for the
first part and leaves the second out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _checkpoints import checkpoint
from training_step import SHAPES, Batch, batch_of, our_step, tight_gpt, torch_step

from tinygrad_llm import models
from tinygrad_llm.bench import Case, Options, Skip
from tinygrad_llm.bench.child import output_of

LONGEST = 2048
MODEL = {"vocab_size": 65, "n_positions": LONGEST, "n_embd": 384, "n_head": 6, "n_layer": 6, "dropout": 0.0}


def cases(options: Options) -> Iterator[Case]:
    for T in options.sizes(128, 512, 2048):
        yield length_case(T)
    if not options.size:
        for name in SHAPES:
            yield prediction_case(name, options.threads)


def length_case(T: int) -> Case:
    case = Case(f"6 x 384 GPT, B2, T {T}", inputs=lambda rng: (batch_of("gpt2", 65, 2, T, 0, rng),), fresh=True, tol=2e-4)

    @case.contestant("ours")
    def _(batch: Batch) -> Callable[[], Any]:
        return our_step(checkpoint("gpt2", **MODEL), batch)

    @case.contestant("ours recomputing")
    def _(batch: Batch) -> Callable[[], Any]:
        return our_step(checkpoint("gpt2", **MODEL), batch, recompute=True)

    @case.contestant("torch")
    def _(batch: Batch) -> Callable[[], Any]:
        return torch_step(*tight_gpt(checkpoint("gpt2", **MODEL), batch))

    return case


def prediction_case(name: str, threads: int) -> Case:
    """The measured peak in megabytes, judged by the predicted one; the time is that of three steps with start-up."""
    preset, overrides, _, batch, context, target = SHAPES[name]
    predicted = models.describe(preset, batch=batch, context=context, target=target or None, **overrides).training.peak / 1e6
    case = Case(f"{name}: within 10% of {predicted:.0f} MB", expected=lambda: predicted, runs=1, tol=0.1)

    @case.contestant("ours")
    def _() -> Callable[[], float]:
        if not Path("/proc/self/clear_refs").exists():
            raise Skip("measuring the peak needs Linux's /proc")
        words = [preset, json.dumps(overrides), str(batch), str(context), str(target)]
        return lambda: measured(words, threads)["peak_above_base"] / 1e6

    return case


def measured(words: list[str], threads: int) -> dict[str, int]:
    """What _peak.py prints, from a process of its own."""
    return json.loads(output_of(str(Path(__file__).with_name("_peak.py")), *words, NUMBA_NUM_THREADS=str(threads)))
