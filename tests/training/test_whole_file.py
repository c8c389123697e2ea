"""A whole file is evaluated, each token once."""

import json

import numpy as np
import pytest

from tests.training.small import TEXT, prepared
from tinygrad_llm import models
from tinygrad_llm import text as texts
from tinygrad_llm.models.registry import preset_config, skeleton_of
from tinygrad_llm.objectives import span_corruption
from tinygrad_llm.text.base import sentinels_in
from tinygrad_llm.training import prepare
from tinygrad_llm.training.whole_file import class_names, evaluate_file, guess_objective, windows_for


@pytest.mark.parametrize("family", ["bert", "albert", "electra", "roberta", "t5", "bart"])
def test_a_whole_file_gives_one_answer(family, tmp_path):
    """Whatever the batch; and more text has more predictions."""
    data, model = prepared(family, tmp_path=tmp_path, context=32)
    (tmp_path / "training.json").write_text(json.dumps({"info": {"settings": {"context": 32}}}))
    evaluate = lambda n: evaluate_file(model, data.tokenizer, tmp_path / "corpus.txt", batch=n, run=tmp_path)
    answers = [evaluate(n) for n in (1, 7, 64)]
    assert len({a["tokens"] for a in answers}) == 1
    assert ("accuracy" in answers[0]) == (family == "roberta")  # the only one of them that fills masks alone
    assert [a["loss"] for a in answers[1:]] == pytest.approx([answers[0]["loss"]] * 2, rel=1e-5)
    (tmp_path / "corpus.txt").write_text(TEXT * 2)
    assert evaluate(64)["tokens"] == pytest.approx(2 * answers[0]["tokens"], rel=0.05)


@pytest.mark.parametrize("family", ["bert", "albert", "electra", "roberta", "t5", "bart"])
def test_a_short_file_is_evaluated_too(family, tmp_path):
    """Shorter than a window, or with fewer paragraphs than training asks for."""
    data, model = prepared(family, tmp_path=tmp_path, context=64)
    (tmp_path / "corpus.txt").write_text("the dog jumps. the fox is lazy.\n\npack my box. jump over it.")
    assert evaluate_file(model, data.tokenizer, tmp_path / "corpus.txt")["tokens"] > 2
    (tmp_path / "corpus.txt").write_text("fox")
    if family not in ("bert", "albert"):
        assert evaluate_file(model, data.tokenizer, tmp_path / "corpus.txt")["tokens"] > 0


@pytest.mark.parametrize("objective", ["causal", "masked", "masked+next_sentence", "translation", "classification"])
def test_a_file_is_evaluated_in_batches_of_the_size_that_was_asked_for(objective, tmp_path):
    """All of it, also where there is more than a training looks at between its steps."""
    lines = TEXT * 2 if objective in ("causal", "masked", "masked+next_sentence") else "ham\thello there\nspam\tbuy\n" * 300
    (tmp_path / "f").write_text(lines)
    choices = prepare.DataChoices(objective, "seq2seq" if objective == "translation" else "bert", 16, eval_batch=5, whole=True)
    data = prepare.prepare(tmp_path / "f", None, choices)
    batches = data.task.evaluation()
    assert all(len(batch["input_ids"]) == 5 for batch in batches[:-1]) and 0 < len(batches[-1]["input_ids"]) <= 5
    if "\t" in lines:
        assert sum(len(batch["labels"]) for batch in batches) == 600


def test_the_first_token_of_a_text_is_given(tmp_path):
    data, model = prepared("gpt2", tmp_path=tmp_path)
    (tmp_path / "corpus.txt").write_text("the")
    found = evaluate_file(model, data.tokenizer, tmp_path / "corpus.txt")
    assert found["tokens"] == 2 and found["loss_per_char"] == pytest.approx(found["loss"])
    (tmp_path / "corpus.txt").write_text("th")
    assert evaluate_file(model, data.tokenizer, tmp_path / "corpus.txt")["tokens"] == 1
    (tmp_path / "corpus.txt").write_text("t")
    with pytest.raises(ValueError, match="1 token, and the first one is not predicted"):
        evaluate_file(model, data.tokenizer, tmp_path / "corpus.txt")


def test_few_pairs_are_evaluated_too(tmp_path):
    (tmp_path / "f").write_text("one\ttwo\n")
    data = prepare.prepare(tmp_path / "f", None, prepare.DataChoices("translation", "seq2seq", 16, whole=True))
    assert [len(b["labels"]) for b in data.task.evaluation()] == [1]


def classifier(tmp_path, labels):
    """(model, tokenizer) for so many classes."""
    (tmp_path / "f").write_text("".join(f"{label}\tsome text {label}\n" for label in labels * 10))
    data = prepare.prepare(tmp_path / "f", None, prepare.DataChoices("classification", "bert", 16))
    model = models.create("bert-base", "sequence_classification", num_hidden_layers=1, num_attention_heads=1, hidden_size=8,
                          intermediate_size=8, vocab_size=data.tokenizer.vocab_size, num_labels=len(labels), dropout=0.0,
                          rng=np.random.default_rng(0))  # fmt: skip
    return model, data.tokenizer


def test_the_classes_are_those_of_the_model(tmp_path):
    """Whatever the file has of them, in whatever order: a class seen once, in the first line, is no header."""
    model, tokenizer = classifier(tmp_path, ["a", "b", "c"])
    model.config.extra["id2label"] = {"0": "c", "1": "a", "2": "b"}
    model.classifier.bias.data[:] = [9, 0, 0]  # always class 0
    evaluate = lambda content: ((tmp_path / "f").write_text(content), evaluate_file(model, tokenizer, tmp_path / "f"))[1]
    assert evaluate("c\tsome text\na\ttext\na\ttext\na\ttext\n")["accuracy"] == 0.25
    assert evaluate("c\tsome text\n")["accuracy"] == 1
    assert evaluate("label\ttext\nc\tsome text\n")["accuracy"] == 1
    with pytest.raises(ValueError, match="label 'd' is not one of the model's: c, a, b"):
        evaluate("c\ttext\nd\ttext\nd\ttext\n")
    del model.config.extra["id2label"]
    with pytest.raises(ValueError, match="2 different labels, and the model has 3 classes"):
        evaluate("b\ttext\nc\ttext\n" * 2)


def test_names_of_classes_are_those_that_somebody_gave():
    named = lambda *names: class_names(preset_config("bert-base", id2label=dict(enumerate(names))))
    letters = [*"abcdefghijk"]  # eleven, as 10 comes after 9 and not after 1
    assert named(*letters) == letters and named("LABEL_1", "LABEL_0") == ["LABEL_1", "LABEL_0"]
    assert named("LABEL_0", "LABEL_1") is None and class_names(preset_config("bert-base")) is None


@pytest.mark.parametrize(("name", "head", "plain", "pairs"), [
    ("gpt2", "causal_lm", "causal", "causal"), ("llama-7b", "causal_lm", "causal", "causal"),
    ("bert-base", "masked_lm", "masked", "masked"), ("roberta-base", "sequence_classification", "classification", "classification"),
    ("t5-small", "seq2seq_lm", "span_corruption", "translation"), ("bart-base", "seq2seq_lm", "text_infilling", "translation"),
    ("transformer-base", "seq2seq_lm", "translation", "translation"),
    ("bart-base", "sequence_classification", "classification", "classification"),
])  # fmt: skip
def test_what_a_head_is_for(name, head, plain, pairs, tmp_path):
    """An encoder-decoder translates where a file's first line has a tab, or another file has the other language."""
    model = skeleton_of(name, head=head)
    (tmp_path / "text").write_text("one\ntwo\tzwei\n")
    (tmp_path / "pairs").write_text("one\teins\ntwo\tzwei\n")
    assert guess_objective(model, tmp_path / "text", None) == plain
    assert guess_objective(model, tmp_path / "pairs", None) == guess_objective(model, tmp_path / "text", "other") == pairs
    with pytest.raises(ValueError, match="BertModel: eval scores the objectives causal, .*; this head has none of them"):
        guess_objective(skeleton_of("bert-base"), tmp_path / "text", None)


def test_spans_have_a_window_that_their_sentinels_suffice_for():
    """0.05 spans a token, and one sentinel more: eval takes windows of so many tokens."""
    for sentinels in (2, 3, 6):
        tokenizer = texts.train("chars", "ab", style="t5", sentinels=sentinels)
        most = windows_for(tokenizer)
        corrupt = lambda n, tokenizer=tokenizer: span_corruption(np.full(n, 9), sentinels=sentinels_in(tokenizer.special))
        assert most == 20 * (sentinels - 1) and corrupt(most)
        with pytest.raises(ValueError, match="use shorter sequences or more sentinels"):
            corrupt(most + 20)
