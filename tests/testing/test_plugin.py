"""The pytest plugin in a fresh pytest process, as another project would meet it; and the sweep over all operations."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import cli
from tinygrad_llm.testing import sweep

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "tinygrad_llm.testing.pytest_plugin"
INSTALLED = any(e.value == PLUGIN for e in entry_points(group="pytest11"))
LOAD = [] if INSTALLED else ["-p", PLUGIN]

FOREIGN = """
import numpy as np

def forward(x, w): return x @ w
def backward(g, x, w): return g @ w.T, x.T @ g
X, W = np.ones((2, 3)), np.arange(6.0).reshape(3, 2)

def test_right(gradcheck):
    assert gradcheck(forward, backward, (X, W)) is True
    assert gradcheck(forward, backward=backward, inputs=(X, W)) is True
    assert gradcheck(inputs=(X, W), backward=backward, forward=forward) is True

def test_wrong(gradcheck):
    gradcheck(forward, lambda g, x, w: (g @ w.T, 2 * x.T @ g), (X, W))

def test_tensors(gradcheck):
    import tinygrad_llm as tg
    x, w = (tg.Tensor(a, requires_grad=True) for a in (X, W))
    assert gradcheck(lambda x: tg.tanh(x).sum(), x, fast=True, order=2)
    assert gradcheck(lambda x, w: tg.tanh(x @ w).sum(), (x, w))
"""


def run(folder, *args):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *LOAD, *args]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "" if INSTALLED else "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


def test_fixture(tmp_path):
    (tmp_path / "test_layer.py").write_text(FOREIGN)
    done = run(tmp_path)
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "input 1 (w)" in done.stdout and "every element is 2 times what it should be" in done.stdout
    assert "testing/compare.py" not in done.stdout and "testing/pytest_plugin.py" not in done.stdout, done.stdout


def test_it_imports_nothing_heavy(tmp_path):
    (tmp_path / "test_nothing.py").write_text(
        "import sys\ndef test():\n"
        "    assert not {'numba', 'torch', 'hypothesis', 'scipy', 'tinygrad_llm.testing.compare'} & set(sys.modules)\n"
    )
    done = run(tmp_path, "-p", "no:hypothesispytest", "-p", "no:_hypothesis_pytestplugin")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_testing_is_lazy():
    code = "import sys, tinygrad_llm as tg; tg.testing.check_vjp; assert not {'hypothesis', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_unknown_name_lists_what_there_is():
    with pytest.raises(AttributeError, match="check_vjp"):
        tg.testing.gradchek  # noqa: B018
    assert "gradcheck" in dir(tg.testing)


# -- tinygrad-llm gradcheck --------------------------------------------------------------------------------------------


def test_every_gradient_of_this_build(capsys):
    assert cli.main(["gradcheck", "--fast", "--order", "1"]) == 0
    table = capsys.readouterr().out
    for name in sweep.names():
        assert f"\n{name} " in table
    assert " 0 wrong" in table.splitlines()[-1] and "WRONG" not in table


def test_chosen_operations_as_json(capsys):
    assert cli.main(["gradcheck", "matmul", "argmax", "matmul", "--json"]) == 0  # each of them once
    captured = capsys.readouterr()
    matmul, argmax = json.loads(captured.out)
    assert (matmul["op"], matmul["first"], matmul["second"]) == ("matmul", "ok", "ok") and matmul["samples"] >= 3
    assert argmax["first"] == "-" and "operation" in captured.err
    last = captured.err.splitlines()[-1]
    assert last == f"1 operations checked on {matmul['samples']} samples, 0 wrong; 1 have no gradient to check"


def test_the_flags_reach_the_sweep(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(sweep, "sweep", lambda chosen, **named: seen.append((chosen, named)) or [])
    assert cli.main(["gradcheck", "sin"]) == cli.main(["gradcheck", "sin", "--fast", "--order", "1", "--seed", "7"]) == 0
    named = [{"order": 2, "fast": False, "seed": 0}, {"order": 1, "fast": True, "seed": 7}]
    assert seen == [(["sin"], chosen) for chosen in named]


def test_unknown_operation(capsys):
    assert cli.main(["gradcheck", "matmull"]) == 2
    assert cli.main(["gradcheck", "--seed", "-1", "exp"]) == 2
    assert "did you mean matmul" in capsys.readouterr().err


def test_a_wrong_rule_fails_the_command(capsys, monkeypatch):
    op = sweep.registry["sin"]
    monkeypatch.setattr(op, "rules", [lambda g, x: g * np.cos(x) * 1.001])
    assert cli.main(["gradcheck", "sin"]) == 1
    captured = capsys.readouterr()
    assert "WRONG" in captured.out and "op to blame: sin" in captured.err
