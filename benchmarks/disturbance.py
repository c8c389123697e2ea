"""How much slower does a training step get when another process keeps one of the cores busy?

The same step, alone and next to a loop that never rests, pinned to the last core. The loop is paused between turns. Compare a
contestant's two lines: their quotient is its slowdown.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from _checkpoints import checkpoint
from training_step import BATCH, CONTEXT, NANO, Batch, our_step, steps_on_a_batch, tight_gpt, torch_step

from tinygrad_llm.bench import Case, Options

# A busy loop that ends with the process that started it.
LOOP = """
import os, sys
parent, core = int(sys.argv[1]), int(sys.argv[2])
if hasattr(os, "sched_setaffinity"): os.sched_setaffinity(0, {core})
while os.getppid() == parent:
    for _ in range(10**6): pass
"""


def cases(options: Options) -> Iterator[Case]:
    yield step_case("alone", lambda step: step)
    yield step_case("one core busy", next_to_a_loop)


def step_case(name: str, around: Callable[[Callable[[], Any]], Callable[[], Any]]) -> Case:
    case = steps_on_a_batch(f"GPT 4 x 128 step, {name}", "gpt2", 65, BATCH, CONTEXT)

    @case.contestant("ours")
    def _(batch: Batch) -> Any:
        return around(our_step(checkpoint("gpt2", **NANO), batch))

    @case.contestant("torch")
    def _(batch: Batch) -> Any:
        return around(torch_step(*tight_gpt(checkpoint("gpt2", **NANO), batch)))

    return case


def next_to_a_loop(step: Callable[[], Any]) -> Callable[[], Any]:
    """The step with the loop running: started once, stopped and continued by signals around each call."""
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    loop = subprocess.Popen([sys.executable, "-c", LOOP, str(os.getpid()), str(core)])
    atexit.register(end, loop)
    time.sleep(0.2)
    loop.send_signal(signal.SIGSTOP)

    def disturbed() -> Any:
        loop.send_signal(signal.SIGCONT)
        try:
            return step()
        finally:
            loop.send_signal(signal.SIGSTOP)

    return disturbed


def end(loop: subprocess.Popen[bytes]) -> None:
    loop.send_signal(signal.SIGCONT)
    loop.kill()
    loop.wait()
