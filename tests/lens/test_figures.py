"""Figures for notebooks and papers."""

import subprocess
import sys

import numpy as np
import pytest

from tests.lens.small import IDS
from tinygrad_llm import lens
from tinygrad_llm.lens import figures


def test_the_lens_brings_its_figures():
    """By itself, in a process that has not imported them."""
    code = "import tinygrad_llm as tg, sys; assert 'tinygrad_llm.lens.figures' not in sys.modules; tg.lens.figures.attention"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "figures" in dir(lens)


def test_figures_show_the_numbers_and_any_token(gpt):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    tokens = ["$$", "$a_{$", *[f"t{i}" for i in range(IDS.shape[1] - 2)]]
    pattern = lens.patterns(gpt, input_ids=IDS)
    attention = figures.attention(pattern[0, 0, 0], tokens=tokens)
    scores = lens.detect_heads(gpt, rng=np.random.default_rng(0))
    heads = figures.heads(scores["induction"])
    layers = figures.logit_lens(lens.logit_lens(gpt, input_ids=IDS), decode=lambda i: "$$")
    found = lens.direct_logit_attribution(gpt, position=5, input_ids=IDS)
    bars = figures.attribution(found, limit=3)
    patching = figures.patching(np.linspace(-1, 1, 3 * len(tokens)).reshape(3, -1), tokens=tokens)
    for figure in (attention, heads, layers, bars, patching):
        figure.canvas.draw()
        plt.close(figure)
    image = lambda figure: figure.axes[0].images[0]
    np.testing.assert_array_equal(image(attention).get_array(), pattern[0, 0, 0])
    assert image(attention).get_clim() == image(layers).get_clim() == (0, 1)
    assert image(heads).get_clim() == (0, scores["induction"].max()) and image(patching).get_clim() == (-1, 1)
    assert image(figures.heads(np.array([[0.1, -0.4]]))).get_clim() == (-0.4, 0.4)
    np.testing.assert_array_equal(image(layers).get_array(), lens.logit_lens(gpt, input_ids=IDS).probabilities[:, 0, :, 0])
    inks = zip(heads.axes[0].texts, scores["induction"].flat)
    assert all((text.get_color() == "black") == (x > 0.6 * scores["induction"].max()) for text, x in inks), "dark on bright"
    assert [t.get_text() for t in heads.axes[0].texts] == [f"{x:.2f}" for x in scores["induction"].flat]
    assert [t.get_text() for t in patching.axes[0].get_xticklabels()] == tokens
    largest = np.abs(found.values).argsort()[-3:]
    assert [t.get_text() for t in bars.axes[0].get_yticklabels()] == [found.components[i] for i in largest]
    assert [bar.get_width() for bar in bars.axes[0].patches] == found.values[largest].tolist()
    colours = {bar.get_facecolor() for bar in figures.attribution(found, limit=99).axes[0].patches if bar.get_width() < 0}
    assert colours == {pytest.importorskip("matplotlib.colors").to_rgba(figures.ORANGE)}
    cross = figures.attention(np.eye(2, 3), tokens=["a", "b"], keys=["x", "y", "z"]).axes[0]
    assert [t.get_text() for t in cross.get_xticklabels()] == ["x", "y", "z"]
    assert [t.get_text() for t in cross.get_yticklabels()] == ["a", "b"]
    blank = figures.patching(np.eye(2), tokens=["\n", "  "]).axes[0]
    assert [t.get_text() for t in blank.get_xticklabels()] == ["⏎", "␣␣"] and blank.get_yticks().tolist() == [0, 1]
    assert figures.logit_lens(lens.logit_lens(gpt, input_ids=IDS), decode=lambda i: " ").axes[0].texts[0].get_text() == "␣"
    plt.close("all")
