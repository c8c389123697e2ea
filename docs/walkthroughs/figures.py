"""Draws the figures of these pages: `python docs/walkthroughs/figures.py` runs each page's code and draws from what it leaves."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from tinygrad_llm.lens import figures

HERE = Path(__file__).resolve().parent
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(page: str) -> dict[str, Any]:
    """The names that a page's code leaves behind."""
    names: dict[str, Any] = {"__name__": "page"}
    with contextlib.redirect_stdout(io.StringIO()):
        for code in CODE.findall((HERE / f"{page}.md").read_text("utf-8")):
            exec(compile(code, f"{page}.md", "exec"), names)
    return names


def attention_backward(page: dict[str, Any]) -> Any:
    """P, dP and dS of one head, side by side."""
    figure, all_axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    maps = {"P: where it looks": page["P"], "dP: a little more of it": page["dP"], "dS: after softmax": page["dS"]}
    for axes, (title, values) in zip(all_axes, maps.items(), strict=True):
        one = values[0, 1]
        most = np.abs(one).max()
        signed = title[0] == "d"
        image = axes.imshow(one, cmap="PuOr_r" if signed else figures.MAP, vmin=-most if signed else 0, vmax=most if signed else 1)
        axes.set(title=title, xlabel="key", ylabel="query")
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def what_an_induction_head_is(page: dict[str, Any]) -> Any:
    """Loss and score over training, and the best head's pattern on one list read twice."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", width_ratios=[1.2, 1])
    steps, losses, scores = zip(*page["curve"], strict=True)
    left.plot(steps, losses, color=figures.BLUE)
    left.set(xlabel="step", ylim=(0, None))
    left.set_ylabel("loss of the batch", color=figures.BLUE)
    other = left.twinx()
    other.plot(steps, scores, color=figures.ORANGE, linestyle="--")
    other.set_ylim(0, 1)
    other.set_ylabel("best induction score", color=figures.ORANGE)
    layer, head = page["layer"], page["head"]
    signs = page["spell"](page["twice"][0])
    right.imshow(page["pattern"][layer, 0, head], cmap=figures.MAP, vmin=0, vmax=1)
    right.set_xticks(range(len(signs)), signs, fontsize=8)
    right.set_yticks(range(len(signs)), signs, fontsize=8)
    right.set(title=f"layer {layer}, head {head}", xlabel="key", ylabel="query")
    return figure


DRAWN = {"attention_backward": attention_backward, "what_an_induction_head_is": what_an_induction_head_is}


def main() -> None:
    for page in sys.argv[1:] or DRAWN:
        DRAWN[page](run(page)).savefig(HERE / f"{page}.png", dpi=90)
        plt.close("all")


if __name__ == "__main__":
    main()
