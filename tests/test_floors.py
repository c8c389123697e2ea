"""Imports go downhill: each floor knows only the floors below it.

    kernels -> autograd -> nn -> models -> generate, training -> lens -> cli
                        data, objectives ^

The check reads every source file (imports inside functions count too) and resolves each import to the floor it
reaches. `import tinygrad_llm as tg` reaches autograd, which is what the facade re-exports; `tg.models` reaches models.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "tinygrad_llm"

BELOW_MODELS = {"kernels", "autograd", "nn"}
LIBRARY = {*BELOW_MODELS, "models", "text", "data", "objectives", "optim"}
EVERYTHING = {*LIBRARY, "generate", "training", "lens", "testing", "bench", "cli"}

GROUND = "_check"  # what every floor but the kernels stands on: checks of numbers, NumPy alone

KNOWS: dict[str, set[str]] = {
    GROUND: set(),
    "kernels": set(),
    "autograd": {"kernels"},
    "testing": {"autograd", "kernels"},
    "nn": {"autograd", "kernels"},
    "models": BELOW_MODELS,
    "text": set(),
    "data": {"text"},
    "objectives": {"autograd", "data", "text"},
    "optim": {"autograd", "kernels"},
    "generate": {*BELOW_MODELS, "models", "text", "data"},
    "training": {*LIBRARY, "generate"},
    "lens": {*LIBRARY, "generate", "training"},
    "bench": EVERYTHING - {"cli", "bench"},
    "cli": EVERYTHING,
    "__main__": {"cli"},
    "__init__": EVERYTHING - {"cli", "bench"},
}

# Uphill by contract, inside a function only: (from, to) -> why.
DEFERRED = {
    ("models", "generate"): "model.generate(...) is a method; the decoding loop lives above the models",
    ("text", "autograd"): "errors that say how another library's name is written here: one table holds them all, elsewhere.py",
    ("data", "autograd"): "errors that say how another library's name is written here: one table holds them all, elsewhere.py",
}


def floor_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    if parts[0] == "kernels":
        return "kernels"
    floor = Path(parts[1]).stem
    return "autograd" if floor == "functional" else floor  # functional.py is a door to autograd/functional.py


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """`from ..nn import x` in tinygrad_llm/models/bert.py -> "tinygrad_llm.nn"."""
    if not node.level:
        return node.module or ""
    package = path.relative_to(ROOT).parent.parts
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def reached(module: str) -> str | None:
    """The floor a dotted module name stands on; None for other people's packages."""
    head, *rest = module.split(".")
    if head == "kernels":
        return "kernels"
    if head != PACKAGE:
        return None
    return rest[0] if rest else "autograd"


def import_targets(node: ast.AST, path: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = absolute(node, path)
        if module == PACKAGE:  # a submodule, or a name of the facade
            return [f"{PACKAGE}.{a.name}" if a.name in KNOWS else PACKAGE for a in node.names]
        return [module]
    return []


def facade_names(tree: ast.AST) -> set[str]:
    """The names under which a file holds the package itself: {"tg"} after `import tinygrad_llm as tg`."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == PACKAGE
    }


def uphill_imports(source: str, path: Path) -> list[str]:
    """One line per import in `source` that reaches a floor its file must not know."""
    tree = ast.parse(source, str(path))
    home, facade = floor_of(path), facade_names(tree)
    in_function = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    complaints = []
    for node in ast.walk(tree):
        floors = [reached(name) for name in import_targets(node, path)]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in facade:
            floors = [node.attr] if node.attr in KNOWS else []
        for floor in floors:
            if floor is None or floor == home or floor in KNOWS[home] or (floor == GROUND and home != "kernels"):
                continue
            if (home, floor) in DEFERRED and id(node) in in_function:
                continue
            complaints.append(f"{path.relative_to(ROOT)}:{node.lineno}: {home} must not know {floor}")
    return complaints


def source_files() -> list[Path]:
    return sorted(p for folder in ("kernels", PACKAGE) for p in (ROOT / folder).rglob("*.py"))


def test_every_file_stands_on_a_floor():
    strangers = sorted({floor_of(p) for p in source_files()} - set(KNOWS))
    assert not strangers, f"give these a line in KNOWS (tests/test_floors.py), saying what they may import: {strangers}"


def test_the_table_itself_goes_downhill():
    """Following KNOWS from any floor never comes back to it."""

    def climb(floor: str, trail: tuple[str, ...]) -> None:
        assert floor not in trail, f"the table has a loop: {' -> '.join((*trail, floor))}"
        for below in sorted(KNOWS[floor]):
            if below != floor:
                climb(below, (*trail, floor))

    for floor in KNOWS:
        climb(floor, ())


def test_imports_go_downhill():
    complaints = [line for path in source_files() for line in uphill_imports(path.read_text("utf-8"), path)]
    assert not complaints, "imports go uphill:\n" + "\n".join(complaints)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("kernels/matmul.py", "import tinygrad_llm"),
        ("kernels/matmul.py", "from tinygrad_llm.autograd import Tensor"),
        ("tinygrad_llm/autograd/ops.py", "from ..nn import Module"),
        ("tinygrad_llm/nn/linear.py", "from tinygrad_llm import models"),
        ("tinygrad_llm/nn/linear.py", "def f():\n    import tinygrad_llm.models.bert"),
        ("tinygrad_llm/nn/linear.py", "import tinygrad_llm as tg\nx = tg.models.list()"),
        ("tinygrad_llm/models/bert.py", "from tinygrad_llm.generate import greedy"),
        ("tinygrad_llm/data/batch.py", "from tinygrad_llm.models import load"),
        ("tinygrad_llm/training/loop.py", "from tinygrad_llm import cli"),
        ("tinygrad_llm/lens/report.py", "from ..cli.main import main"),
        ("tinygrad_llm/testing/check.py", "from tinygrad_llm.nn import Linear"),
    ],
)
def test_an_uphill_import_is_caught(file, source):
    assert uphill_imports(source, ROOT / file), f"not caught: {source!r} in {file}"


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("tinygrad_llm/autograd/ops.py", "import kernels\nfrom .op import op"),
        ("tinygrad_llm/nn/linear.py", "import tinygrad_llm as tg\nfrom tinygrad_llm import functional as F"),
        ("tinygrad_llm/models/gpt2.py", "def generate():\n    from tinygrad_llm.generate import greedy"),
        ("tinygrad_llm/cli/train.py", "from tinygrad_llm import training, lens, bench"),
    ],
)
def test_a_downhill_import_is_not(file, source):
    assert uphill_imports(source, ROOT / file) == []
