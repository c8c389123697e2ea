"""`import tinygrad_llm` stays light: nothing heavy is imported before it is used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"numba", "llvmlite", "torch", "transformers", "matplotlib", "tokenizers", "huggingface_hub", "hypothesis"}
LIGHT = ["tinygrad_llm", "kernels", "tinygrad_llm.testing.pytest_plugin", "tinygrad_llm.cli"]


def modules_after(statement: str) -> set[str]:
    """Names in sys.modules after `statement` in a fresh interpreter that has no site hooks of ours loaded."""
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    return set(json.loads(out.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", LIGHT)
def test_import_brings_nothing_heavy(module):
    loaded = modules_after(f"import {module}")
    assert module in loaded
    assert not loaded & HEAVY, f"`import {module}` also imported {sorted(loaded & HEAVY)}; import them where used"


def test_the_probe_sees_a_heavy_import():
    assert "numba" in modules_after("import numba")


def test_the_package_can_be_reloaded_in_a_notebook():
    """Its names, such as `any`, stand in the place of Python's own by then."""
    modules_after("import importlib, tinygrad_llm as tg; tg.any; importlib.reload(tg); assert tg.any([True]).item()")


def test_help_loads_the_commands_alone():
    """What `--help` costs beside Python is what it loads."""
    loaded = modules_after("from tinygrad_llm import cli; cli.main(['--help'])")
    rooms = {name.split(".")[1] for name in loaded if name.startswith("tinygrad_llm.")}
    assert rooms == {"cli"}
    assert not loaded & (HEAVY | {"numpy", "safetensors", "tqdm"})
