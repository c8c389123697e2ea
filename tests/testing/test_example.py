"""The example project passes, run as its own project; and its tests notice a mistake in its layer."""

from __future__ import annotations

import re
import shutil

import pytest

from .test_plugin import ROOT, run

EXAMPLE = ROOT / "examples" / "gradcheck_your_layer"


@pytest.fixture
def project(tmp_path):
    return shutil.copytree(EXAMPLE, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", ".*"))


def test_it_passes(project):
    done = run(project)
    assert done.returncode == 0 and "6 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("dn * r], axis=1)", "dn], axis=1)", "input 1 (h)"),
        ("dn * c * r * (1 - r)", "dn * c * r", "input 0 (x)"),
        ("(h - n) * z", "(n - h) * z", "input 0 (x)"),
        ("+ g * z, x.T", ", x.T", "input 1 (h)"),
        ("da.sum(axis=0)", "da", "(b): the gradient has shape"),
    ],
)
def test_a_mistake_in_the_layer_is_named(project, right, wrong, named):
    layer = project / "layers.py"
    text = layer.read_text("utf-8")
    assert text.count(right) == 1
    layer.write_text(text.replace(right, wrong), "utf-8")
    done = run(project, "-k", "test_gru and not any_size")
    assert done.returncode == 1 and named in done.stdout, done.stdout + done.stderr


def test_the_readme_shows_the_message_one_gets(project):
    said = (EXAMPLE / "README.md").read_text("utf-8").split("```text\n")[1].split("```")[0].splitlines()
    layer = project / "layers.py"
    layer.write_text(layer.read_text("utf-8").replace("dn * r], axis=1)", "dn], axis=1)"), "utf-8")
    shown = run(project, "-k", "test_gru and not any_size").stdout
    for line in said:
        assert re.split(r"\d{4,}|\(", line)[0].strip() in shown, f"{line}\n{shown}"  # up to where roundings may differ
