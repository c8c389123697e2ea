"""The README tells the truth: its snippets run and print what it says, and its file tree is the tree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_llm.bench import report

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```\n(?:\n?```text\n(.*?)^```)?", README, re.MULTILINE | re.DOTALL)
TREE = re.search(r"^```tree\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def same_text(printed: str, claimed: str) -> bool:
    """Equal word for word; numbers may differ by one in their last digit shown."""
    ours, theirs = printed.split(), claimed.split()
    return len(ours) == len(theirs) and all(same_word(a, b) for a, b in zip(ours, theirs, strict=True))


def same_word(a: str, b: str) -> bool:
    if a == b:
        return True
    x, y = a.strip("[](),"), b.strip("[](),")
    if not re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", y) or a.replace(x, "", 1) != b.replace(y, "", 1):
        return False
    mantissa, _, power = y.partition("e")
    unit = 10.0 ** (int(power or 0) - len(mantissa.split(".")[1]))
    try:
        return abs(float(x) - float(y)) <= 1.001 * unit
    except ValueError:
        return False


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet_prints_what_it_says(number, tmp_path):
    code, claimed = SNIPPETS[number]
    script = tmp_path / "snippet.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", "utf-8")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert same_text(done.stdout, claimed), f"the README says\n{claimed}\nbut the snippet prints\n{done.stdout}"


def test_there_is_a_first_snippet_and_it_is_short():
    assert SNIPPETS and SNIPPETS[0][1], "the first Python example is followed by what it prints"
    assert len(SNIPPETS[0][0].splitlines()) <= 12


@pytest.mark.parametrize(
    ("printed", "claimed", "same"),
    [
        ("loss 4.5678", "loss 4.5678", True),
        ("loss 4.5679", "loss 4.5678", True),
        ("loss 4.5698", "loss 4.5678", False),
        ("[1.01, 2.00]", "[1.00, 2.00]", True),
        ("[1.03, 2.00]", "[1.00, 2.00]", False),
        ("1.0e-12", "1.1e-12", True),
        ("True", "False", False),
        ("3 4", "3", False),
        ("5", "4", False),
    ],
)
def test_the_comparison_itself(printed, claimed, same):
    assert same_text(printed, claimed) is same


def test_its_picture_is_drawn_from_a_run(tmp_path):
    """`python -m docs.first_screen RUN PICTURE`, of a run of four steps."""
    pytest.importorskip("matplotlib", reason="matplotlib draws the picture; pip install 'tinygrad-llm[viz]'")
    sizes = "--layers 1 --heads 1 --width 8 --context 64 --batch 2 --steps 4 --eval-every 2 --sample-every 0"
    for command in (["tinygrad_llm", "train", *sizes.split(), "--out", "run"], ["docs.first_screen", "run", "picture.svg"]):
        command = [sys.executable, "-m", *(str(tmp_path / word) if word in ("run", "picture.svg") else word for word in command)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    assert "held-out text" in (tmp_path / "picture.svg").read_text("utf-8")


def tree_entries() -> dict[str, str]:
    """{path: caption} of the indented list in the README; a folder ends in a slash and holds what is indented under it."""
    assert TREE, "the README has a ```tree block"
    entries, parents = {}, []
    for line in TREE[1].splitlines():
        found = re.fullmatch(r"( *)(\S+) +(\S.*)", line)
        assert found, f"a line of the tree is `indent path  caption`, got {line!r}"
        depth = len(found[1]) // 2
        parents = parents[:depth]
        entries["".join([*parents, found[2]])] = found[3]
        parents.append(found[2])
    return entries


def test_every_path_in_the_tree_exists():
    for path in tree_entries():
        there = ROOT / path
        assert there.is_dir() if path.endswith("/") else there.is_file(), f"{path} is in the README's tree but not here"


def test_every_folder_is_in_the_tree_with_a_caption():
    """The top level, and the floors inside tinygrad_llm."""
    entries = tree_entries()
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    folders = set()
    for path in tracked.stdout.splitlines():
        parts = path.split("/")
        if len(parts) > 1 and not parts[0].startswith("."):
            folders.add(f"{parts[0]}/")
            if parts[0] == "tinygrad_llm" and len(parts) > 2:
                folders.add(f"tinygrad_llm/{parts[1]}/")
    missing = sorted(folders - set(entries))
    assert not missing, f"the README's tree has no line for {missing}"


def test_the_benchmark_table_is_the_committed_results():
    """`tinygrad-llm bench --show docs/benchmarks.json --readme README.md --markdown docs/results.md` makes both."""
    block = re.search(r"<!-- benchmarks -->\n(.*?)\n?<!-- /benchmarks -->", README, re.DOTALL)
    assert block, "the README has a place for the table"
    assert block[1] == report.summary(report.read(ROOT / "docs" / "benchmarks.json"))


@pytest.mark.parametrize("machine", ["", "_amx", "_avx2"])
def test_the_tables_of_results_are_the_committed_results(machine):
    results = report.read(ROOT / "docs" / f"benchmarks{machine}.json")
    assert (ROOT / "docs" / f"results{machine}.md").read_text("utf-8") == report.markdown(results) + "\n"


def test_it_says_what_people_must_know():
    assert re.search(r"not affiliated with tinygrad", README, re.IGNORECASE)
    assert "make demo" in README and "make test" in README
    assert "pip uninstall kernels" in README
