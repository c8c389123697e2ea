"""Draws the README's picture from a finished `make demo`: python -m docs.first_screen [RUN_DIRECTORY] [PICTURE.svg]

Left the loss while it trained, right one attention head reading a line of code, below what the model writes. Needs the extra viz.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of backend)

import tinygrad_llm as tg  # noqa: E402

PROMPT, TOKENS, LINES, READ = "def ", 600, 10, "return self.value(self.name)"


def losses(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """(step, smoothed loss) and (step, loss on held-out text), from the run's log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    training = np.array([(x["step"], x["smooth"]) for x in lines if "smooth" in x])
    held = np.array([(x["step"], x["eval_loss"]) for x in lines if "eval_loss" in x])
    return training, held


def clearest_head(model: tg.models.Model, ids: np.ndarray) -> tuple[str, np.ndarray]:
    """The head that looks back most decidedly: highest mean weight on a place before the last two. Its name and (T, T) pattern."""
    pattern = tg.lens.patterns(model, input_ids=ids)[:, 0]  # (L, H, T, T)
    far = np.tril(pattern, -2)[:, :, 4:].max(axis=-1).mean(axis=-1)
    layer, head = np.unravel_index(np.argmax(far), far.shape)
    return f"layer {layer}, head {head}", pattern[layer, head]


def write(model: tg.models.Model, tokenizer: Any, rng: np.random.Generator) -> str:
    """Longer than the model's context: a piece at a time, each from the end of what is there."""
    ids = tokenizer.encode(PROMPT).astype(np.int64)
    while len(ids) < TOKENS:
        window = ids[None, -32:]
        new = model.generate(window, max_new_tokens=30, do_sample=True, temperature=0.7, rng=rng)
        ids = np.concatenate([ids, new[0, window.shape[1] :]])
    return tokenizer.decode(ids)


def draw(run: Path, picture: Path) -> None:
    model, tokenizer = tg.models.load(run).eval(), tg.text.load(run)
    name, pattern = clearest_head(model, tokenizer.encode(READ)[None].astype(np.int64))
    training, held = losses(run)

    figure = plt.figure(figsize=(9, 5.5), layout="constrained")
    parts = figure.subplot_mosaic([["learns", "looks"], ["writes", "writes"]], height_ratios=[9, 4])
    left, right, below = parts["learns"], parts["looks"], parts["writes"]
    left.plot(*training.T, color="#9ca3af", linewidth=1, label="training, smoothed")
    left.plot(*held.T, "o-", color="#2563eb", markersize=4, label="held-out text")
    left.set(xlabel="step", ylabel="loss (nats per character)", title="it learns")
    left.legend(frameon=False)
    right.imshow(pattern, cmap="Blues", vmin=0)
    right.set(title=f"it looks back ({name})", xlabel="looked at", ylabel="reading")
    for axis in (right.xaxis, right.yaxis):
        axis.set_ticks(range(len(READ)), list(READ), fontsize=7, family="monospace")
    below.axis("off")
    below.set_title("it writes", loc="left")
    lines = write(model, tokenizer, np.random.default_rng(1)).splitlines()
    text = "\n".join([line.replace(" ", "\N{NO-BREAK SPACE}") for line in lines if line.strip()][:LINES])  # SVG drops others
    place = {"va": "top", "transform": below.transAxes, "in_layout": False}
    below.text(0, 1, text, family="monospace", fontsize=8, parse_math=False, **place)
    plt.rcParams |= {"svg.hashsalt": "first screen", "svg.fonttype": "none"}
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    arguments = [Path(a) for a in sys.argv[1:]]
    draw(*(arguments + [Path("runs/demo"), Path(__file__).with_name("first_screen.svg")][len(arguments) :]))
