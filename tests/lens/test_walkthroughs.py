"""The walk-throughs of docs/walkthroughs run and print what they say: words exactly, numbers within a tolerance.

The last bits of float32 differ between hosts. A page that needs a wider tolerance than 2 in the last printed digit has it in TOLERANCE,
as a share of the number or an absolute difference, whichever is larger.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "walkthroughs"
PAGES = sorted(page.name for page in FOLDER.glob("*.md"))
TOLERANCE = {"what_an_induction_head_is.md": 0.25}  # 500 steps of training: rounding decides the path, not where it ends
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def same(printed: str, promised: str, tolerance: float) -> bool:
    """Words alike, and each number with a decimal point near its promise. Whole numbers are words: counts and shapes."""
    words, said = printed.split(), promised.split()
    if len(words) != len(said):
        return False
    return all(_near(a, b, tolerance) for a, b in zip(words, said, strict=True))


def _near(word: str, promised: str, tolerance: float) -> bool:
    if word == promised:
        return True
    if NUMBER.sub("#", word) != NUMBER.sub("#", promised):
        return False
    pairs = zip(NUMBER.findall(word), NUMBER.findall(promised), strict=True)
    return all(a == b or ("." in a and "." in b and abs(float(a) - float(b)) <= _room(b, tolerance)) for a, b in pairs)


def _room(promised: str, tolerance: float) -> float:
    last_digit = 10.0 ** -len(promised.partition(".")[2])
    return max(2.001 * last_digit, tolerance * max(1.0, abs(float(promised))))


def test_the_comparison_itself():
    assert same("loss 1.25 of 3", "loss 1.30 of 3", 0.1)
    assert not same("loss 1.25 of 3", "loss 1.50 of 3", 0.1)
    assert not same("loss 1.25 of 3", "loss 1.25 of 4", 0.1)
    assert not same("True 1.0", "False 1.0", 0.1)
    assert not same("loss nan", "loss 1.0", 0.1)


@pytest.mark.parametrize("page", PAGES)  # a page may say how many threads it wants
def test_page_prints_what_it_says(page, tmp_path, monkeypatch, same_threads_after):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    found = BLOCK.findall((FOLDER / page).read_text("utf-8"))
    assert sum(bool(promised) for _, promised in found) >= 3
    for code, promised in found:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, f"docs/walkthroughs/{page}", "exec"), names)
        assert same(out.getvalue(), promised, TOLERANCE.get(page, 0.0)), (
            f"{code}\nprints\n{out.getvalue()}\nthe page says\n{promised}"
        )


@pytest.mark.parametrize("page", PAGES)
def test_links_and_figures_are_there(page):
    text = (FOLDER / page).read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (FOLDER / target).exists(), f"docs/walkthroughs/{page} points to {target}, which is not there"
