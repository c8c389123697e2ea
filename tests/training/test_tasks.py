"""Every family's own task: batches are what its objective says, and a short training lowers the loss."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.training.small import TEXT, prepared
from tinygrad_llm import models, training
from tinygrad_llm import text as texts
from tinygrad_llm.data import IGNORE
from tinygrad_llm.generate import sliding
from tinygrad_llm.models.registry import skeleton_of
from tinygrad_llm.objectives import span_corruption
from tinygrad_llm.text.base import sentinels_in
from tinygrad_llm.training import prepare, samples
from tinygrad_llm.training.families import HEADS, RECIPES, recipe_for
from tinygrad_llm.training.samples import sample
from tinygrad_llm.training.whole_file import class_names, evaluate_file, guess_objective, windows_for

WINDOWED = ["gpt2", "gpt", "gpt3", "llama", "roberta", "electra", "t5", "bart", "bert", "albert"]


@pytest.mark.parametrize("family", WINDOWED)
def test_families_learn_their_own_objective(family, tmp_path):
    data, model = prepared(family, tmp_path=tmp_path, context=32)
    options = training.Options(steps=30, batch=8, lr=1e-2, warmup=3, eval_every=15, seed=1)
    trainer = training.Trainer(model, data.task, options)
    trainer.run()
    batches = data.task.evaluation()
    first = training.evaluate(data.task, prepared(family, tmp_path=tmp_path, context=32)[1], batches)["loss"]
    assert trainer.best < first - 0.3, f"{family}: {first} -> {trainer.best}"
    for batch in batches:
        assert batch["input_ids"].shape[1] <= 32 and min(data.task.counts(batch).values()) > 0


@pytest.mark.parametrize("family", WINDOWED)
def test_tasks_resume(family, tmp_path):
    data, _ = prepared(family, tmp_path=tmp_path)
    twin, _ = prepared(family, tmp_path=tmp_path, seed=5)
    data.task.draw(3)
    twin.task.load_state_dict(data.task.state_dict())
    a, b = data.task.draw(3), twin.task.draw(3)
    assert all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("objective", HEADS)
def test_what_is_drawn_hangs_on_the_seed(objective, tmp_path):
    lines = "ham\thello there\nspam\tbuy now\n" * 20 if objective in ("translation", "classification") else TEXT
    (tmp_path / "f").write_text(lines)
    style = "t5" if objective in ("translation", "span_corruption", "text_infilling") else "bert"
    one, same, other = (prepare.prepare(tmp_path / "f", None, prepare.DataChoices(objective, style, 16, seed=seed)).task.draw(8)
                        for seed in (1, 1, 2))  # fmt: skip
    assert all(np.array_equal(one[k], same[k]) for k in one)
    assert any(one[k].shape != other[k].shape or not np.array_equal(one[k], other[k]) for k in one)


def test_a_long_context_has_markers_for_all_its_spans(tmp_path):
    data, _ = prepared("t5", TEXT * 2, tmp_path, context=600)
    assert data.task.draw(2)["input_ids"].shape[0] == 2


@pytest.mark.parametrize("family", ["t5", "bart", "transformer"])
@pytest.mark.parametrize("objective", ["text_infilling", "span_corruption"])
def test_encoder_decoders_learn_each_others_objectives(family, objective, tmp_path):
    data, model = prepared(family, tmp_path=tmp_path, objective=objective)
    trainer = training.Trainer(model, data.task, training.Options(steps=2, batch=4, eval_every=1))
    assert trainer.run()["best_loss"] > 0 and data.task.objective == objective


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_masked_window_is_framed_and_fills_the_context(family, tmp_path):
    data, _ = prepared(family, tmp_path=tmp_path, context=32, objective="masked")
    batch, special = data.task.draw(6), data.tokenizer.special
    text = np.where(batch["labels"] == IGNORE, batch["input_ids"], batch["labels"])
    assert text.shape == (6, 32) and (text[:, 0] == special["cls"]).all() and (text[:, -1] == special["sep"]).all()
    assert not np.isin(text[:, 1:-1], [special["cls"], special["sep"]]).any()


def test_every_family_has_a_recipe():
    assert set(RECIPES) == set(models.families)
    assert recipe_for("bert-large")[0] == "bert"
    for name in models.list():
        assert recipe_for(name)[0] in RECIPES, "also those that are not called after their family, as mistral-7b"
    with pytest.raises(ValueError, match="--model: expected one of gpt, gpt2"):
        recipe_for("gpt9")


def test_translation_pairs(tmp_path):
    lines = [f"{i} apples\t{i} Äpfel" for i in range(40)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    choices = prepare.DataChoices("translation", "seq2seq", 16)
    data = prepare.prepare(tmp_path / "pairs.tsv", None, choices)
    assert data.info == {"pairs": 40, "longest": 9} and data.task.smoothing == choices.label_smoothing == 0.1
    batch = data.task.draw(4)
    eos = data.tokenizer.special["eos"]
    for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"]):
        source, target = data.tokenizer.decode(ids[mask == 1][:-1]), data.tokenizer.decode(labels[labels >= 0][:-1])
        assert f"{source}\t{target}" in lines and labels[labels >= 0][-1] == eos
    (tmp_path / "en").write_text("\n".join(p.split("\t")[0] for p in lines))
    (tmp_path / "de").write_text("\n".join(p.split("\t")[1] for p in lines))
    two = prepare.prepare(tmp_path / "en", tmp_path / "de", choices)
    assert np.array_equal(two.task.draw(4)["labels"], batch["labels"])


@pytest.mark.parametrize(
    ("objective", "content", "message"),
    [
        ("translation", "one\ttwo\nthree\n", "line 2: expected SOURCE<tab>TARGET"),
        ("translation", "one\ttwo\n", "1 pairs; at least 10"),
        ("classification", "ham\thello\nspam\n", "line 2: expected LABEL<tab>TEXT"),
        ("classification", "".join(f"{i}\ttext\n" for i in range(10)), "9 different labels in 9 lines"),
        ("masked+next_sentence", "one line\nonly", "at least 4"),
        ("causal", "short", "fewer than one window of 17; use a longer text or a shorter context"),
    ],
)
def test_files_that_do_not_fit_the_objective(tmp_path, objective, content, message):
    (tmp_path / "f").write_text(content)
    with pytest.raises(ValueError, match=message):
        prepare.prepare(tmp_path / "f", None, prepare.DataChoices(objective, "bert", 16))


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


@pytest.mark.parametrize("family", ["bert", "albert"])
@pytest.mark.parametrize("paragraphs", [4, 9, 14])
def test_few_paragraphs_hold_out_a_stranger(family, paragraphs, tmp_path):
    """Next-sentence prediction draws from another document, so that one alone cannot be evaluated."""
    data, _ = prepared(family, "the fox jumps. it is quick.\n\n" * paragraphs, tmp_path)
    assert len(data.task.held) == 2 and len(data.task.train) == paragraphs - 2
    assert data.info["documents"] == paragraphs and data.info["tokens"] == len("the fox jumps.it is quick.") * paragraphs
    data.task.evaluation()


def test_a_noisy_text_fits_into_the_shortest_context(tmp_path):
    """Masks of length 0 made one in a thousand texts longer than the model's eight positions."""
    data, _ = prepared("bart", tmp_path=tmp_path, context=8)
    assert data.task.draw(8_000)["input_ids"].shape[1] == 8


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


def test_a_directory_called_as_a_kind_of_tokenizer(tmp_path, monkeypatch):
    (tmp_path / "chars").mkdir()
    monkeypatch.chdir(tmp_path)
    assert prepared("gpt2", tmp_path=tmp_path)[0].tokenizer.kind == "chars"


def test_lines_end_at_line_ends_alone(tmp_path):
    """str.splitlines cuts at eight more characters, which stand inside of texts."""
    odd = "a\u2028b\u0085c\x0bd\x0ce"
    (tmp_path / "en").write_bytes("\r\n".join([odd] * 12).encode())
    (tmp_path / "de").write_text("\n".join(["Satz"] * 12) + "\n", "utf-8")
    assert prepare.read_pairs(tmp_path / "en", tmp_path / "de") == [(odd, "Satz")] * 12
    (tmp_path / "f").write_text(f"ham\t{odd}\nspam\tbuy now\n" * 10, "utf-8")
    data = prepare.prepare(tmp_path / "f", None, prepare.DataChoices("classification", "bert", 16))
    assert data.info["examples"] == 20
    (tmp_path / "f").write_text("one\ttwo\n\nthree\n")
    with pytest.raises(ValueError, match="line 3: expected SOURCE<tab>TARGET"):
        prepare.read_pairs(tmp_path / "f")


def test_a_header_is_no_example(tmp_path):
    (tmp_path / "f").write_text("label\ttext\n" + "ham\thello there\nspam\tbuy now\n" * 10)
    data = prepare.prepare(tmp_path / "f", None, prepare.DataChoices("classification", "bert", 16))
    assert data.info["labels"] == ["ham", "spam"] and data.info["examples"] == 20


def test_a_large_file_is_read_from_disk(tmp_path, monkeypatch):
    """The same windows, whether the tokens are in memory or in a file."""
    (tmp_path / "f").write_text(TEXT)
    choices = prepare.DataChoices("causal", "plain", 16)
    small = prepare.prepare(tmp_path / "f", None, choices, scratch=tmp_path / "out")
    monkeypatch.setattr(prepare, "IN_MEMORY", 100)
    with gzip.open(tmp_path / "f.gz", "wt") as file:
        file.write(TEXT)
    packed = prepare.prepare(tmp_path / "f.gz", None, choices, scratch=tmp_path / "packed")
    large = prepare.prepare(tmp_path / "f", None, choices, scratch=tmp_path / "out")
    assert (tmp_path / "out" / "tokens.bin").is_file()
    again = prepare.prepare(tmp_path / "f", None, choices, tokenizer=small.tokenizer, scratch=tmp_path / "out")
    assert again.tokenizer is small.tokenizer, "one that is given is not trained anew"
    with pytest.raises(ValueError, match="--target is for translation"):
        prepare.prepare(tmp_path / "f", tmp_path / "f", choices)
    for _ in range(3):
        ids = small.task.draw(5)["input_ids"]
        assert np.array_equal(ids, large.task.draw(5)["input_ids"]) and np.array_equal(ids, packed.task.draw(5)["input_ids"])
    assert all(np.array_equal(a["labels"], b["labels"]) for a, b in zip(small.task.evaluation(), large.task.evaluation()))


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_of_a_text_in_which_nothing_was_masked(seed, tmp_path, monkeypatch):
    """A short one has no [MASK] now and then: then its first token is hidden, and every line is as long as the text."""
    data, model = prepared("bert", tmp_path=tmp_path, context=8, objective="masked")
    batch = data.task.evaluation()[0]
    text = np.where(batch["labels"] == IGNORE, batch["input_ids"], batch["labels"])
    plain = batch | {"input_ids": text[seed:], "labels": np.full_like(text[seed:], IGNORE)}
    wider = {name: np.pad(plain[name], ((0, 0), (0, 2)), constant_values=fill) for name, fill in (("input_ids", 0), ("labels", IGNORE))}
    wider["attention_mask"] = np.pad(np.ones_like(plain["input_ids"]), ((0, 0), (0, 2)))
    for shown in (plain, wider):
        monkeypatch.setattr(data.task, "evaluation", lambda shown=shown: [shown])
        masked, guessed, truth = sample(model, data.task, data.tokenizer).splitlines()
        assert truth == f"text    {data.tokenizer.decode(text[seed, 1:-1])!r}", "without its padding"
        assert masked.count("[MASK]") == 1 and "[MASK]" not in truth and guessed.startswith("model")


def test_classes_that_are_numbers_stand_in_their_order(tmp_path):
    """2 before 10, and numbers before names; a text may have tabs of its own."""
    (tmp_path / "f").write_text("".join(f"{label}\tsome\ttext\n" for label in ("10", "b", "9", "-1", "a")) * 4)
    data = prepare.prepare(tmp_path / "f", None, prepare.DataChoices("classification", "bert", 16))
    assert data.info["labels"] == ["-1", "9", "10", "a", "b"]
    ids, label = data.task.source.items[0]
    assert data.tokenizer.decode(ids) == "some\ttext" and label == 2


def test_a_class_in_every_line_is_none(tmp_path):
    """Two classes are few enough for two lines; one alone leaves nothing to tell apart."""
    choices = prepare.DataChoices("classification", "bert", 16)
    (tmp_path / "f").write_text("ham\thello\nspam\tbuy\nham\thi\n")
    assert prepare.prepare(tmp_path / "f", None, choices).info["labels"] == ["ham", "spam"]
    (tmp_path / "f").write_text("ham\thello\n" * 9)
    with pytest.raises(ValueError, match="1 different labels in 9 lines"):
        prepare.prepare(tmp_path / "f", None, choices)


def test_documents_are_paragraphs_of_a_few_sentences():
    """One of a single sentence goes on with the next; a long one is cut, and a sentence left over is no document."""
    text = "One. Two!\n \nalone?\n\nthree; four: five. six.\nseven\nlast"
    assert prepare.documents(text, longest=3, least=2) == [["One.", "Two!"], ["alone?", "three;", "four:"], ["five.", "six.", "seven"]]
    assert [len(d) for d in prepare.documents("word. " * 61 + "\n\n", least=1)] == [30, 30]
    with pytest.raises(ValueError, match="the text has 2 paragraphs .* need at least 3"):
        prepare.documents("a. b.\n\nc. d.", least=3)


def test_what_stands_in_a_file_of_pairs(tmp_path):
    """Spaces around a text and what follows a second tab are none of it; a pair with one side empty is none."""
    (tmp_path / "f").write_text("one \t eins\tnoun\n\tzwei\nthree\t\n\nfour\tvier\n")
    assert prepare.read_pairs(tmp_path / "f", least=2) == [("one", "eins"), ("four", "vier")]
    (tmp_path / "g").write_text("eins\n")
    with pytest.raises(ValueError, match=r"f has 5 lines and .*g has 1; they must be translations line by line"):
        prepare.read_pairs(tmp_path / "f", tmp_path / "g")


def test_only_marks_that_are_tokens_end_sentences(tmp_path):
    tokenizer = texts.train("chars", "abc. d!\n", style="bert")  # which has no question mark, and says [UNK] for it
    assert prepare.sentence_ends(tokenizer) == [int(tokenizer.encode(mark)[0]) for mark in ".!\n"]
    assert prepare.sentence_ends(texts.train("chars", "abc")) == []
    data, _ = prepared("bart", tmp_path=tmp_path)
    assert len(data.task.ends) == 3 and data.task.ends == prepare.sentence_ends(data.tokenizer)


def test_names_of_classes_are_those_that_somebody_gave():
    named = lambda names: class_names(SimpleNamespace(extra={"id2label": names}))
    assert named({"10": "k", "2": "c", "0": "a"}) == ["a", "c", "k"]
    assert named({"0": "LABEL_0", "1": "LABEL_1"}) is None and named({"0": "LABEL_1", "1": "LABEL_0"}) == ["LABEL_1", "LABEL_0"]
    assert named({}) is None


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


def test_beyond_the_context_the_last_half_of_it_is_the_prompt(monkeypatch):
    seen = []

    def generate(model, ids, max_new_tokens, **options):
        seen.append((ids.tolist(), max_new_tokens))
        return np.append(ids, 100 + len(seen) * 10 + np.arange(max_new_tokens))[None]

    monkeypatch.setattr(sliding, "generate", generate)
    model = models.skeleton("gpt2", n_positions=8)
    out = sliding.continue_ids(model, np.arange(5), 12, None).tolist()
    assert out == [0, 1, 2, 3, 4, 110, 111, 112, 120, 121, 122, 123, 130, 131, 132, 133, 140]
    assert seen == [(out[:5], 3), (out[4:8], 4), (out[8:12], 4), (out[12:16], 1)]


def test_a_sample_of_a_translation_shows_texts_without_their_padding(tmp_path):
    """The shortest source, which is padded to the length of the others."""
    lines = "".join(f"{'many ' * (i % 5)}apples\t{'viele ' * (i % 3)}Äpfel\n" for i in range(40))
    data, model = prepared("transformer", lines, tmp_path, context=48)
    batch, special = data.task.evaluation()[0], data.tokenizer.special
    words = int(batch["attention_mask"][0].sum())
    assert words < batch["input_ids"].shape[1]
    new = model.generate(batch["input_ids"][:1, :words], max_new_tokens=len(batch["labels"][0]), eos_token_id=special["eos"])[0, 1:]
    shown = (batch["input_ids"][0, :words], batch["labels"][0][batch["labels"][0] >= 0], new[: np.argmax(np.append(new, special["eos"]) == special["eos"])])
    lines = [f"{name:8}{data.tokenizer.decode(ids)!r}" for name, ids in zip(("source", "target", "model"), shown)]
    assert sample(model, data.task, data.tokenizer).splitlines() == lines and "<pad>" not in lines[0] + lines[1]


@pytest.mark.parametrize("family", ["gpt2", "t5", "bart", "bert", "roberta", "electra"])
def test_every_kind_of_model_shows_what_it_has_learnt(family, tmp_path):
    data, model = prepared(family, tmp_path=tmp_path, context=32)
    shown = [sample(model, data.task, data.tokenizer, tokens=20, seed=seed) for seed in (1, 1, 2)]
    assert shown[0] and shown[0] == shown[1]
    if family == "gpt2":
        assert shown[0] != shown[2] and not shown[0].startswith("\n")
    else:
        words = ["source", "target", "model"] if family in ("t5", "bart") else ["masked", "model", "text"]
        assert [line.split()[0] for line in shown[0].splitlines()] == words


@pytest.mark.parametrize("objective, wanted", [("translation", "a file of pairs"), ("classification", "a file with one LABEL<tab>TEXT")])
def test_no_corpus_is_built_in_for_pairs_and_labels(objective, wanted):
    with pytest.raises(ValueError, match=f"{objective} needs {wanted}"):
        prepare.prepare(None, None, prepare.DataChoices(objective, "seq2seq", 16))


def test_spans_have_a_window_that_their_sentinels_suffice_for():
    """0.05 spans a token, and one sentinel more: eval takes windows of so many tokens."""
    for sentinels in (2, 3, 6):
        tokenizer = texts.train("chars", "ab", style="t5", sentinels=sentinels)
        most = windows_for(tokenizer)
        corrupt = lambda n, tokenizer=tokenizer: span_corruption(np.full(n, 9), sentinels=sentinels_in(tokenizer.special))
        assert most == 20 * (sentinels - 1) and corrupt(most)
        with pytest.raises(ValueError, match="use shorter sequences or more sentinels"):
            corrupt(most + 20)


def test_a_text_begins_with_a_line_end_or_the_first_character():
    assert [samples.opening(texts.train("chars", letters)) for letters in ("ba\n", "ba")] == ["\n", "a"]
