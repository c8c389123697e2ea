"""The questions of benchmarks/ run, at sizes that take seconds, without the other contestants."""

import numpy as np
import pytest

from tinygrad_llm.bench import Options, discover
from tinygrad_llm.bench.run import Question


def ask(name, sizes):
    options = Options(threads=1, size=sizes, seconds=0.01)
    said = []
    record = Question(discover.find_question(name), options, [], said.append, lambda *_: None).run()
    assert record["failed"] is None, record["failed"]
    return record, said


@pytest.mark.parametrize(
    ("name", "sizes", "cases"), [("overhead", (8,), 2), ("training_step", (1,), 1), ("lens", (1,), 1), ("precision", (1,), 1)]
)
def test_ours_runs(name, sizes, cases):
    record, _ = ask(name, sizes)
    assert len(record["cases"]) == cases
    assert all(case["contestants"]["ours"]["median"] > 0 for case in record["cases"])


def test_a_question_without_its_data_says_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGRAD_LLM_DATA", str(tmp_path))
    record, said = ask("training_run", (1,))
    assert record["cases"][0]["contestants"] == {}
    assert any("TINYGRAD_LLM_DATA" in line for line in said)


def test_the_bytes_that_a_t5_decoder_reads_for_a_token():
    """All of it but what makes keys and values of the source, and the table of tokens, which is the output layer."""
    from tinygrad_llm import models

    generation = discover.load_question(discover.find_question("generation"))
    read = sum(p.total for p in models.describe("t5-small").parts if p.name == "tokens.weight"
               or p.name.startswith("decoder.") and not p.name.endswith(("cross.k.weight", "cross.v.weight")))  # fmt: skip
    assert abs(generation.T5_DECODER_BYTES / (4 * read) - 1) < 0.01


def test_the_operations_of_the_questions_with_whole_models():
    """Of the two that train, those that `describe` counts; of sentences without padding, those of their real tokens."""
    train, sentences = (discover.load_question(discover.find_question(name)) for name in ("training_step", "embedding"))
    (nano,) = train.cases(Options(size=(1,)))
    # 6 for each weight of the layers and of the output, 14 for each pair of positions and number of a head's width
    assert nano.flops() == 12 * (6 * 64 * (4 * 12 * 128**2 + 65 * 128) + 4 * 14 * 128 * (64 * 65 // 2))
    batches = [(np.ones((2, 5), int), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]))]
    assert sentences.products(batches) == 6 * (2 * 12 * 384**2 * 8 + 4 * 384 * (9 + 25))
    (case,) = sentences.cases(Options(size=(40,), seed=3))
    assert case.flops() == sentences.products(*case.inputs(np.random.default_rng(3)))
