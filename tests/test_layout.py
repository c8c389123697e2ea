"""The tree is installable: every folder of Python files is a package, and metadata names things that exist."""

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_source_folder_is_a_package():
    folders = {p.parent for top in ("kernels", "tinygrad_llm") for p in (ROOT / top).rglob("*.py")}
    missing = sorted(str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").is_file())
    assert not missing, f"a wheel would lack these folders, which have no __init__.py: {missing}"


def test_a_source_archive_holds_what_its_tests_read():
    """Every file of the folders that MANIFEST.in takes."""
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    rules = [line.split()[1:] for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines() if line.startswith("recursive")]
    missing = [path for path in tracked.stdout.splitlines() for folder, *patterns in rules
               if path.startswith(f"{folder}/") and not any(fnmatch(Path(path).name, p) for p in patterns)]
    assert not missing, f"MANIFEST.in leaves out {missing}"


def test_entry_points_name_modules_that_exist():
    targets = [*PROJECT["scripts"].values(), *PROJECT["entry-points"]["pytest11"].values()]
    for target in targets:
        path = ROOT / Path(*target.split(":")[0].split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), target


def test_the_licence_is_the_one_declared():
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text and "Version 2.0" in text and "END OF TERMS AND CONDITIONS" in text


def test_bad_numpy_versions_are_excluded():
    numpy = next(d for d in PROJECT["dependencies"] if d.startswith("numpy"))
    assert "!=2.4.0" in numpy and "!=2.4.1" in numpy


def test_contributing_sections_stay_short():
    sections = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("\n## ")[1:]
    assert [s.splitlines()[0] for s in sections] == ["Add an op", "Add a kernel", "Add a model family"]
    for section in sections:
        assert len(section.splitlines()) - 1 < 25, f"{section.splitlines()[0]}: 25 lines or more"
