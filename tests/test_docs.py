"""The pages of docs/ tell the truth: their snippets run and print what they say, and quoted lines stand in the source."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_llm as tg

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("backward.md", "from_numpy.md", "from_pytorch.md", "gradient_checking.md")
BLOCK = re.compile(r"^```python(?: from (\S+))?\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(source file or empty, code, printed text) of every Python block."""
    return BLOCK.findall((ROOT / "docs" / page).read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_snippets_print_what_the_page_says(page, tmp_path, monkeypatch):
    """All of a page's snippets in order, in one namespace, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    ran = 0
    for source, code, printed in blocks(page):
        if source:
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, f"docs/{page}", "exec"), namespace)
        assert out.getvalue().split() == printed.split(), f"{code}\nprints\n{out.getvalue()}\nthe page says\n{printed}"
        ran += 1
    assert ran >= 5


def test_einops_learns_of_a_tensor_as_the_page_says():
    import einops

    page = (ROOT / "docs" / "from_pytorch.md").read_text("utf-8")
    ((code, printed),) = re.findall(r"^```python needs einops\n(.*?)^```\n\n```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    out, names = io.StringIO(), {"tg": tg}
    with contextlib.redirect_stdout(out):
        exec(code, names)
    assert out.getvalue() == printed
    x = tg.Tensor(np.arange(24.0).reshape(2, 3, 4), requires_grad=True)
    for reduction in ("mean", "sum", "max", "min", "prod"):
        expected = einops.reduce(x.numpy(), "a b (c d) -> d a", reduction, c=2)
        np.testing.assert_array_equal(einops.reduce(x, "a b (c d) -> d a", reduction, c=2).numpy(), expected)
    pairs = einops.einsum(x, x, "a b one, a c one -> a b c")
    np.testing.assert_allclose(pairs.numpy(), x.numpy() @ x.numpy().swapaxes(1, 2))
    joined, shapes = einops.pack([x, x[:, 0]], "a * k")
    assert joined.shape == (2, 4, 4) and [p.shape for p in einops.unpack(joined, shapes, "a * k")] == [(2, 3, 4), (2, 4)]
    stacked = einops.rearrange([x, x], "n a b c -> a (n b) c")
    (pairs.sum() + stacked.sum() + einops.repeat(x, "a b c -> a b c n", n=2).sum()).backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy().sum(axis=1, keepdims=True) + np.full(x.shape, 4.0))


def test_scipys_optimizers_find_the_minimum_that_the_page_finds():
    from scipy import optimize

    page: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for _, code, _ in blocks("from_numpy.md")[:2]:
            exec(compile(code, "docs/from_numpy.md", "exec"), page)
    for options in ({"method": "L-BFGS-B"}, {"method": "trust-ncg", "hessp": page["curvature"]}):
        found = optimize.minimize(page["value_and_gradient"], page["start"], jac=True, **options)
        assert abs(found.x - page["theta"]).max() < 1e-3, options


@pytest.mark.parametrize("page", PAGES)
def test_quoted_lines_are_the_sources_own(page):
    """A quoted block stands in the file word for word; a line of dots leaves lines out."""
    for source, code, _ in blocks(page):
        if not source:
            continue
        text, position = (ROOT / source).read_text("utf-8"), 0
        for piece in re.split(r"^\.\.\.\n", code, flags=re.MULTILINE):
            found = text.find(piece, position)
            assert found >= 0, f"docs/{page} quotes {source}, which no longer says\n{piece}"
            position = found + len(piece)


def test_the_page_on_backward_quotes_the_engine():
    quoted = [source for source, _, _ in blocks("backward.md") if source]
    assert quoted.count("tinygrad_llm/autograd/engine.py") >= 6


def links(path: Path) -> set[Path]:
    """What a page links to, but for the web."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {(path.parent / target).resolve() for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text)}


def test_links_between_pages_lead_somewhere():
    folders = ("docs", "examples", "tinygrad_llm")
    for path in [*ROOT.glob("*.md"), *(path for folder in folders for path in (ROOT / folder).rglob("*.md"))]:
        for target in links(path):
            assert target.exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_every_page_is_found_from_the_readme():
    missing = {*(ROOT / "docs").rglob("*.md")} - links(ROOT / "README.md")
    assert not missing, f"README.md has no link to {sorted(str(path.relative_to(ROOT)) for path in missing)}"
