"""The command line is tested in this process, on the plain kernels: no compilation, no start-up."""

import pytest

from tests.training.small import TEXT
from tinygrad_llm import cli
from tinygrad_llm.training import samples


@pytest.fixture(autouse=True)
def plain_kernels(plain_kernels):
    """For every test of this folder."""


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    """A run ends with 400 tokens of the model's writing, most of the time of these; 40 go on past the context as well.

    The tests that start a process of their own see all of them.
    """
    whole = samples.continuation
    monkeypatch.setattr(samples, "continuation", lambda model, tokenizer, tokens, rng: whole(model, tokenizer, min(tokens, 40), rng))


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT)
    return path


SMALL = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "16", "--batch", "4", "--steps", "6", "--eval-every", "3",
         "--save-every", "2", "--sample-every", "0"]  # fmt: skip


@pytest.fixture
def run(capsys):
    """run(*words) -> (code, stdout, stderr)."""

    def call(*words):
        capsys.readouterr()
        code = cli.main([str(w) for w in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def train(run, tmp_path):
    """train(file, *more) with small sizes into tmp_path/run; a later flag overrides an earlier one."""

    def call(file, *more, out=None):
        return run("train", file, *SMALL, "--out", out or tmp_path / "run", *more)

    return call


def short(err):
    """The message of a failure: one or two lines, no traceback."""
    lines = [line for line in err.splitlines() if line.startswith("tinygrad-llm: ")]
    assert len(lines) == 1 and "Traceback" not in err
    tail = err[err.index("tinygrad-llm: ") :].splitlines()
    assert len(tail) <= 2
    return "\n".join(tail)
