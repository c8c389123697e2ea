"""Every family, trained from the command line on real text with its own objective, gets below the best blind guess.

The text is the source of Python's own library; for the translation model each of its lines in a substitution cipher, with the
line itself as the target. What must be beaten is the loss of a model that ignores its input and knows the targets' frequencies.
"""

import codecs
import json

import pytest

import kernels
from tinygrad_llm.text import builtin_corpus
from tinygrad_llm.training import log

SIZES = ["--layers", 2, "--heads", 2, "--width", 32, "--context", 32, "--batch", 16, "--lr", 0.005, "--warmup", 10,
         "--sample-every", 0]  # fmt: skip

#: family -> steps. An encoder that fills gaps knows the frequencies after 50 steps and stays there until it finds the neighbours.
STEPS = {"gpt": 80, "gpt2": 80, "gpt3": 80, "llama": 80, "t5": 80, "bart": 80, "transformer": 80,
         "bert": 300, "albert": 300, "electra": 150, "roberta": 350}  # fmt: skip
#: Shared layers of width 32, or that learn faster, stay at the frequencies, on the library of one Python or another.
LARGER = {"albert": ["--heads", 4, "--width", 64, "--lr", 0.0015]}


@pytest.fixture(autouse=True)
def plain_kernels(same_threads_after):
    """Not here: all families together take some 1,700 steps, on the compiled kernels half the time."""
    kernels.set_num_threads(1)


@pytest.fixture(scope="module")
def ciphered(tmp_path_factory):
    """A file of pairs: a line with its letters moved by 13, and the line."""
    lines = [line.strip() for line in builtin_corpus().splitlines()]
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("\n".join(f"{codecs.encode(s, 'rot13')}\t{s}" for s in lines if 10 <= len(s) <= 28 and "\t" not in s))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("family", STEPS)
def test_the_loss_falls_below_that_of_target_frequencies(family, run, tmp_path, ciphered):
    steps, text = STEPS[family], [ciphered] if family == "transformer" else []
    words = ["train", *text, "--model", family, *SIZES, *LARGER.get(family, []), "--steps", steps, "--eval-every", steps]
    code, out, err = run(*words, "--out", tmp_path / "run", "--json")
    assert code == 0, err
    result = json.loads(out)
    first, last = (r for r in log.read(tmp_path / "run" / "log.jsonl") if "eval_loss" in r)
    assert first["eval_loss"] > result["unigram_loss"] > last["eval_loss"] == result["best_loss"]
