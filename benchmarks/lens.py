"""What does it cost that every inner value can be seen: when nobody looks, and when all attention patterns are recorded?

Nobody looks: a training step as shipped against the same step with every `tap` of the library made an identity, as if there
were no lens. The time of a tap must drown in that of a step, also of one so small that calls outweigh arithmetic.
Recording: GPT-2 124M reads 256 tokens, plain and with the patterns of its 144 heads kept, which the fused kernel never forms.
Ratios are their time over ours: "ours without taps" at 1.00 is a lens that costs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from _checkpoints import checkpoint
from training_step import BATCH, CONTEXT, NANO, Batch, our_step, steps_on_a_batch

from tinygrad_llm.bench import Case, Options

TINY = {"vocab_size": 65, "n_positions": 64, "n_embd": 32, "n_head": 2, "n_layer": 2, "dropout": 0.0}
STEPS: dict[str, tuple[dict[str, Any], int, int]] = {
    "step of a GPT 2 x 32, B1 T16": (TINY, 1, 16),
    "step of a GPT 4 x 128, B12 T64": (NANO, BATCH, CONTEXT),
}
LENGTH = 256


def cases(options: Options) -> Iterator[Case]:
    return iter(options.picked([*(step_case(name, *step) for name, step in STEPS.items()), patterns_case()]))


def step_case(name: str, sizes: dict[str, Any], B: int, T: int) -> Case:
    case = steps_on_a_batch(name, "gpt2", 65, B, T, tol=1e-6)

    @case.contestant("ours")
    def _(batch: Batch) -> Any:
        return our_step(checkpoint("gpt2", **sizes), batch)

    @case.contestant("ours without taps")
    def _(batch: Batch) -> Any:
        step = our_step(checkpoint("gpt2", **sizes), batch)
        remove_taps()
        return step

    return case


def remove_taps() -> None:
    """Make every `tap` that the library's modules call an identity, and `wanted` a constant False, in this process."""
    from tinygrad_llm.nn.tap import tap, wanted

    found = 0
    for name, module in list(sys.modules.items()):
        for key, value in list(vars(module).items()) if name.startswith("tinygrad_llm") else ():
            if value is tap:
                setattr(module, key, lambda name, value: value)
            elif value is wanted:
                setattr(module, key, lambda *names: False)
            else:
                continue
            found += 1
    if found < 6:  # attention (both), blocks, feed-forward, the models' stacks and losses
        raise RuntimeError(f"found {found} uses of taps to remove; they must have moved, and this would compare like with like")


def patterns_case() -> Case:
    def inputs(rng: np.random.Generator) -> tuple[Batch]:
        return ({"input_ids": rng.integers(0, 50257, (1, LENGTH))},)

    case = Case(f"GPT-2 124M reads {LENGTH} tokens", inputs, unit="token", work=LENGTH, fresh=True, tol=1e-4)

    @case.contestant("ours")
    def _(batch: Batch) -> Any:
        return reader(batch)

    @case.contestant("ours recording patterns")
    def _(batch: Batch) -> Any:
        return reader(batch, "*.attn.pattern")

    return case


def reader(batch: Batch, *patterns: str) -> Any:
    """A forward run with all logits, with what the patterns name recorded."""
    import tinygrad_llm as tg
    from tinygrad_llm import lens

    model = tg.models.load(checkpoint("gpt2", dropout=0.0)).eval()

    def plain() -> np.ndarray:
        with tg.no_grad():
            return model(**batch).logits.data

    def recording() -> np.ndarray:
        with lens.record(model, *patterns) as values:
            logits = plain()
        if len(values) != 12:
            raise RuntimeError(f"recorded {len(values)} patterns of 12 layers")
        return logits

    return recording if patterns else plain
