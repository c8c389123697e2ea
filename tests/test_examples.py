"""The examples run as they stand, at small size, and learn: what they print is read and checked."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(p.name for p in (ROOT / "examples").glob("*.py"))


def run(name: str, *words: str) -> str:
    """What an example prints, run in a process of its own as a reader would."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / name), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs_and_its_loss_falls(name):
    out = run(name, "--steps", "20")
    losses = [float(x) for x in re.findall(r"held-out loss (\d+\.\d+)", out)]
    assert len(losses) == 6, out
    assert losses[-1] < losses[0] - 0.3, out


def test_your_own_text_is_used(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("abc abc abd\n" * 400)
    out = run("gpt_on_your_text.py", str(path), "--steps", "15")
    assert "4,320 characters" in out
    assert set(out.split("It writes:")[1]) <= set("abcd \n")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_page(name):
    lines = (ROOT / "examples" / name).read_text("utf-8").splitlines()
    assert len(lines) <= 100 and max(map(len, lines)) <= 132
