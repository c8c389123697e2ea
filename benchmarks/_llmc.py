"""llm.c's CPU program as a contestant: its files, and a process that goes on only while it is its turn.

The program (train_gpt2, built from train_gpt2.c) reads gpt2_124M.bin and token files below the folder that it runs in, trains
with B = 4, T = 64 for 41 steps and says after each:  step 3: train loss 5.266 (took 1201.5 ms)
Before steps 0, 10, 20, ... it evaluates, so a measurement stays within steps 1 to 9.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

MODEL_MAGIC, MODEL_VERSION, TOKENS_MAGIC, TOKENS_VERSION = 20240326, 3, 20240520, 1
ROUND_VOCABULARY = 128  # the program wants the vocabulary padded to a multiple of this
B, T, LAST_STEP = 4, 64, 9
STEP = re.compile(r"step (\d+): train loss (\S+) \(took (\S+) ms\)")

# llm.c's parameter tensors in the order of its file; True: Hugging Face's (in, out) is its (out, in)
LAYERS = [
    ("ln_1.weight", False), ("ln_1.bias", False), ("attn.c_attn.weight", True), ("attn.c_attn.bias", False),
    ("attn.c_proj.weight", True), ("attn.c_proj.bias", False), ("ln_2.weight", False), ("ln_2.bias", False),
    ("mlp.c_fc.weight", True), ("mlp.c_fc.bias", False), ("mlp.c_proj.weight", True), ("mlp.c_proj.bias", False),
]  # fmt: skip


def header(*fields: int) -> bytes:
    """256 int32, of which the first few say something."""
    numbers = np.zeros(256, np.int32)
    numbers[: len(fields)] = fields
    return numbers.tobytes()


def write_model(checkpoint: Path, to: Path) -> None:
    """A GPT-2 checkpoint in Hugging Face's layout as llm.c's float32 file: each kind of tensor for all layers."""
    c = json.loads((checkpoint / "config.json").read_text("utf-8"))
    saved = {k.removeprefix("transformer."): v for k, v in load_file(checkpoint / "model.safetensors").items()}
    padded = -(-c["vocab_size"] // ROUND_VOCABULARY) * ROUND_VOCABULARY
    beside = to.with_name(to.name + ".tmp")
    with open(beside, "wb") as file:
        sizes = (c["n_positions"], c["vocab_size"], c["n_layer"], c["n_head"], c["n_embd"], padded)
        file.write(header(MODEL_MAGIC, MODEL_VERSION, *sizes))
        file.write(np.pad(saved["wte.weight"], ((0, padded - c["vocab_size"]), (0, 0))).astype(np.float32).tobytes())
        file.write(saved["wpe.weight"].astype(np.float32).tobytes())
        for name, turned in LAYERS:
            for layer in range(c["n_layer"]):
                value = saved[f"h.{layer}.{name}"]
                file.write(np.ascontiguousarray(value.T if turned else value, np.float32).tobytes())
        for name in ("ln_f.weight", "ln_f.bias"):
            file.write(saved[name].astype(np.float32).tobytes())
    os.replace(beside, to)


def write_tokens(tokens: np.ndarray, folder: Path) -> None:
    """The files that the program trains and evaluates on; of B · T + 1 tokens, so that its shuffling loader has one batch."""
    data = folder / "dev" / "data" / "tinyshakespeare"
    data.mkdir(parents=True, exist_ok=True)
    for part in ("train", "val"):
        content = header(TOKENS_MAGIC, TOKENS_VERSION, len(tokens)) + tokens.astype(np.uint16).tobytes()
        (data / f"tiny_shakespeare_{part}.bin").write_bytes(content)


class Program:
    """train_gpt2, stopped (SIGSTOP) after the step that was asked for. Its output goes through a terminal, line by line."""

    def __init__(self, binary: Path, folder: Path) -> None:
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen([str(binary)], cwd=folder, stdout=theirs, stderr=subprocess.STDOUT)
        os.close(theirs)
        self.lines = os.fdopen(ours, "r", encoding="utf-8", errors="replace", newline="\n")
        self.said: list[str] = []
        self.steps: list[tuple[float, float]] = []  # (loss, milliseconds by the program's own clock)

    def run_to(self, step: int) -> None:
        """Let it go on until it has made this step (counted from 0)."""
        if step > LAST_STEP:
            raise ValueError(f"step {step} of llm.c's program comes after an evaluation; measure up to step {LAST_STEP}")
        self.process.send_signal(signal.SIGCONT)
        while len(self.steps) <= step:
            line = self.next_line()
            if found := STEP.match(line):
                self.steps.append((float(found[2]), float(found[3])))
        self.process.send_signal(signal.SIGSTOP)

    def next_line(self) -> str:
        try:
            line = self.lines.readline()
        except OSError:  # Linux says "input/output error" where the other end of a terminal is closed
            line = ""
        if not line:
            raise RuntimeError(f"llm.c's program ended with code {self.process.wait()}:\n" + "".join(self.said[-10:]))
        self.said.append(line)
        return line

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.lines.close()
