"""Finding question files and the contestants that can take part."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from tinygrad_llm.bench.case import PACKAGES
from tinygrad_llm.bench.child import ROOT

FOLDERS = (Path(__file__).resolve().parent / "questions", ROOT / "benchmarks")


def question_folder() -> Path:
    """benchmarks/ of a source checkout, or the copy installed beside this file."""
    for folder in FOLDERS:
        if (folder / "__init__.py").is_file():
            return folder
    raise FileNotFoundError(f"no benchmark questions at {' nor '.join(map(str, FOLDERS))}")


def question_names() -> list[str]:
    return sorted(p.stem for p in question_folder().glob("*.py") if not p.stem.startswith("_"))


def find_question(name: str) -> Path:
    """A question's name, or the path of a person's own file."""
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise LookupError(f"no benchmark file {name!r}")
        return path.resolve()
    if name not in question_names():
        raise LookupError(f"no benchmark named {name!r}; there are: {', '.join(question_names())}, or give a file.py")
    return question_folder() / f"{name}.py"


class _Source(SourceFileLoader):
    """Compiles the file as it is now. Kept bytecode is told by size and second: an edit that changes neither would not count."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_question(path: str | Path) -> ModuleType:
    """Import a question file by path, under a name that cannot meet another module's."""
    path = Path(path)
    name = f"_question_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Source(name, str(path)))
    if spec is None or spec.loader is None:
        raise LookupError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # helpers beside the file, also those imported when a contestant is set up
    try:
        spec.loader.exec_module(module)
    except (LookupError, ValueError) as error:  # the file's own mistake, not one of the command line's
        raise RuntimeError(f"{path}: {type(error).__name__}: {error}") from error
    if not hasattr(module, "cases"):
        raise LookupError(f"{path.name} has no function `cases(options)`; see the docstring of tinygrad_llm.bench")
    return module


def missing_package(contestant: str) -> str | None:
    """Why a contestant cannot take part here, or None."""
    package = PACKAGES.get(contestant)
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    return f"the package {package!r} is not installed; pip install 'tinygrad-llm[peers]' brings all contestants"
