"""What callers pass to a model, refused by the name of the argument."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.models.small import SIZES, SMALL


@pytest.mark.parametrize(("inputs", "error", "message"), [
    ({}, ValueError, "input_ids: missing"),
    ({"input_ids": [[1, 23]]}, ValueError, "input_ids: id 23 is outside the vocabulary of 23"),
    ({"input_ids": [[-1, 2]]}, ValueError, "input_ids: id -1 is outside"),
    ({"input_ids": [1, 2]}, ValueError, r"input_ids: expected shape \(batch, positions\)"),
    ({"input_ids": [[1, 2], [3]]}, ValueError, "input_ids: rows of different lengths"),
    ({"input_ids": [[1.0, 2.0]]}, TypeError, "input_ids: expected integers"),
    ({"input_ids": [[1] * 10]}, ValueError, "input_ids: 10 positions, the model has 9"),
    ({"input_ids": [[1, 2]], "attention_mask": [[1, 1, 1]]}, ValueError, r"attention_mask: expected shape \(1, 2\)"),
    ({"input_ids": [[1, 2]], "attention_mask": [[1, 2]]}, ValueError, "attention_mask: expected 0 and 1"),
    ({"input_ids": [[1, 2]], "labels": [[1, 2, 3]]}, ValueError, r"labels: expected shape \(1, 2\)"),
    ({"input_ids": [[1, 2]], "labels": [[1, 99]]}, ValueError, r"labels: 99 is outside \[0, 23\)"),
    ({"input_ids": [[1, 2]], "position_ids": [[0, 9]]}, ValueError, "position_ids: expected 0 to 8"),
    ({"input_ids": [[1, 2]], "position_ids": [[-1, 0]]}, ValueError, "position_ids: expected 0 to 8"),
    ({"input_ids": [[1, 2]], "position_ids": [[0.0, 1.0]]}, ValueError, r"position_ids: expected integers of shape \(1, 2\)"),
    ({"input_ids": [[1, 2]], "position_ids": [[0, 1], [0, 1]]}, ValueError, r"position_ids: expected integers of shape \(1, 2\)"),
    ({"input_ids": np.zeros((1, 0), int)}, ValueError, r"input_ids: expected shape .* neither of them 0, got \(1, 0\)"),
    ({"input_ids": np.zeros((0, 2), int)}, ValueError, r"input_ids: expected shape .* neither of them 0, got \(0, 2\)"),
    ({"input_ids": [[1, 2]], "labels": [[1.0, 2.0]]}, TypeError, "labels: expected integers, got float64"),
    ({"input_ids": [[1, 2]], "labels": [[-1, 2]]}, ValueError, "labels: -1 is outside"),
])  # fmt: skip
def test_bad_inputs_are_refused_by_argument(inputs, error, message):
    model = tg.models.create("gpt2", rng=np.random.default_rng(0), **SIZES)
    with pytest.raises(error, match=message):
        model(**inputs)


def test_positions_without_an_end_still_have_a_beginning():
    model = tg.models.create("llama-7b", hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=23)
    with pytest.raises(ValueError, match="position_ids: expected 0 or more, got -1 to 5000"):
        model(input_ids=[[1, 2]], position_ids=[[-1, 5000]])


@pytest.mark.parametrize(("inputs", "message"), [
    ({"token_type_ids": [[0, 1, 0]]}, r"token_type_ids: expected shape \(2, 3\), got \(1, 3\)"),
    ({"token_type_ids": [[0, 1, 2]] * 2}, "token_type_ids: id 2 is outside the vocabulary of 2"),
    ({"start_positions": [0], "end_positions": [1, 2]}, r"start_positions: expected shape \(2,\), got \(1,\)"),
    ({"start_positions": [0, 1], "end_positions": [1, 2, 2]}, r"end_positions: expected shape \(2,\), got \(3,\)"),
])  # fmt: skip
def test_bad_inputs_of_questions_are_refused_by_argument(inputs, message):
    model = tg.models.create("bert-base", "question_answering", **SMALL)
    ids = [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match=message):
        model(ids, **inputs)


@pytest.mark.parametrize(("name", "key"), [("bert-base", "next_sentence_label"), ("albert-base", "sentence_order_label")])
def test_a_bad_label_of_sentences_is_refused_by_argument(name, key):
    model = tg.models.create(name, "pretraining", **SMALL)
    with pytest.raises(ValueError, match=rf"^{key}: 2 is outside \[0, 2\)"):
        model([[1, 2, 3]], **{key: [2]})


def test_an_answer_that_ends_beyond_the_text_counts_for_its_beginning_alone():
    model = tg.models.create("bert-base", "question_answering", **SMALL)
    ids = [[1, 2, 3], [4, 5, 6]]
    out = model.eval()(ids)
    cost = lambda logits, i: np.log(np.exp(logits.data).sum(-1)) - logits.data[:, i]
    start = (cost(out.start_logits, 0)[0] + cost(out.start_logits, 1)[1]) / 2
    assert model(ids, start_positions=[0, 1]).loss is model(ids, end_positions=[0, 1]).loss is None
    for beyond in (3, 99):
        for first in (0, -2):  # before the text is its beginning, as in transformers
            loss = model(ids, start_positions=[first, 1], end_positions=[2, beyond]).loss.item()
            assert loss == pytest.approx((start + cost(out.end_logits, 2)[0]) / 2, rel=1e-5)
