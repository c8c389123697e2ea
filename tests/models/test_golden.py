"""Every family and head gives transformers' outputs and gradients, from files made once by tests/golden/make.py.

One file holds a small model's weights, inputs, and in float64: loss, logits, every hidden state and attention pattern, every gradient.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import tinygrad_llm as tg
from tests.models import compare, zoo

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def read(architecture, folder):
    """The golden file as (checkpoint written to `folder`, case, expected outputs, expected gradients)."""
    stored = np.load(GOLDEN / f"{architecture}.npz")
    part = lambda prefix: {n.removeprefix(prefix): stored[n] for n in stored.files if n.startswith(prefix)}
    (folder / "config.json").write_text(str(stored["config"]))
    save_file({n: np.ascontiguousarray(w) for n, w in part("weight/").items()}, folder / "model.safetensors")
    case = zoo.Case(architecture, "", json.loads(str(stored["config"])), part("input/"), decoder=architecture in zoo.DECODERS)
    found: dict = {}
    for name, value in part("out/").items():
        field, i = name.split("/")
        found.setdefault(field, {})[int(i)] = value
    outputs = {f: [v[i] for i in range(len(v))] if f in compare.LISTS else v[0] for f, v in found.items()}
    return case, outputs, part("grad/")


@pytest.mark.parametrize(("dtype", "tolerance", "gradient_tolerance"), [("float32", 1e-4, 1e-3), ("float64", 1e-9, 1e-8)])
@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_outputs_and_every_gradient(architecture, dtype, tolerance, gradient_tolerance, tmp_path):
    case, outputs, gradients = read(architecture, tmp_path)
    compare.check(tg.models.load(tmp_path, dtype=dtype), case, outputs, gradients, tolerance, gradient_tolerance)


def test_a_wrong_gradient_is_caught(tmp_path):
    case, _, gradients = read("GPT2LMHeadModel", tmp_path)
    model = tg.models.load(tmp_path)
    _, got = compare.backward(model, case)
    name = "transformer.h.0.mlp.c_fc.weight"
    got[name] = got[name] * 1.002
    with pytest.raises(AssertionError, match="c_fc"):
        compare.check_gradients(got, gradients, 1e-3)
