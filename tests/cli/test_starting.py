"""train --model DIR: runs that begin with trained weights."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.cli.conftest import short
from tests.training.small import causal_trainer
from tinygrad_llm import models, text

FEW = ["--batch", 4, "--eval-every", 2, "--save-every", 2, "--sample-every", 0]


@pytest.fixture
def go_on(run, tmp_path):
    """go_on(file, model, out, *more) in a folder of tmp_path."""

    def call(file, model, out, *more):
        return run("train", file, "--model", tmp_path / model, "--out", tmp_path / out, *FEW, *more)

    return call


def test_a_run_that_was_made_in_python_is_evaluated_and_gone_on_from(go_on, run, corpus, tmp_path):
    """It says nothing of itself, and is resumed where it was made."""
    causal_trainer(tmp_path / "run", steps=2).run()
    assert run("eval", tmp_path / "run", corpus)[0] == 0
    assert go_on(corpus, "run", "next", "--steps", 2)[0] == 0
    code, _, err = run("train", "--resume", tmp_path / "run")
    assert code == 1 and "this run was made in Python" in short(err)


def evaluations(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["eval_loss"] for line in lines if "eval_loss" in line]


def rates(run):
    return [line["lr"] for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if "lr" in line]


def test_a_run_begins_where_another_one_ended(train, go_on, corpus, tmp_path):
    assert train(corpus, "--lr", 0.01, "--dropout", 0.2)[0] == 0
    code, _, err = go_on(corpus, "run", "second", "--steps", 4, "--warmup", 0, "--schedule", "constant")
    assert code == 0 and f"begun with {tmp_path / 'run'}" in err, err
    first, second = evaluations(tmp_path / "run"), evaluations(tmp_path / "second")
    assert second[0] == pytest.approx(min(first)) and second[-1] < second[0]
    assert rates(tmp_path / "second") == [1e-4] * 4
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("run", "second")]
    assert configs[0] == configs[1] and configs[0]["resid_pdrop"] == 0.2
    assert go_on(corpus, "run", "third", "--steps", 1, "--dropout", 0, "--lr", 0.5)[0] == 0
    assert json.loads((tmp_path / "third" / "config.json").read_text())["resid_pdrop"] == 0 and rates(tmp_path / "third") == [0.5]


def test_it_is_resumed_without_the_folder_it_began_with(train, go_on, run, corpus, tmp_path):
    assert train(corpus, "--dropout", 0.2)[0] == 0
    constant = ["--schedule", "constant", "--context", 12]
    assert go_on(corpus, "run", "whole", "--steps", 4, *constant)[0] == 0
    assert go_on(corpus, "run", "cut", "--steps", 2, *constant)[0] == 0
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    code, _, err = run("train", "--resume", tmp_path / "cut", "--steps", 4)
    assert code == 0, err
    whole, cut = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys() and all(np.array_equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("family, more", [("bert", ["--objective", "masked"]), ("gpt2", [])])
def test_a_language_model_becomes_a_classifier(family, more, train, go_on, run, corpus, tmp_path):
    """With a new head for as many classes as the file has; a classifier that goes on keeps its classes, in their order."""
    lines = tmp_path / "lines.tsv"
    lines.write_text("c\tthe lazy dog\na\tquick zebras\nb\tfive boxing wizards jump\n" * 20)
    assert train(corpus, "--model", family, *more)[0] == 0
    code, _, err = go_on(lines, "run", "labels", "--objective", "classification", "--steps", 60, "--lr", 0.01)
    assert code == 0, err
    config = models.load(tmp_path / "labels").config
    assert config.num_labels == 3 and config.pad_token_id == text.load(tmp_path / "labels").special.get("pad")
    assert json.loads(run("eval", tmp_path / "labels", lines, "--json")[1])["accuracy"] == 1.0
    lines.write_text("b\tfive boxing wizards jump\na\tquick zebras\n" * 20)
    assert go_on(lines, "labels", "further", "--steps", 2)[0] == 0
    assert list(json.loads((tmp_path / "further" / "config.json").read_text())["id2label"].values()) == ["a", "b", "c"]
    assert json.loads(run("eval", tmp_path / "further", lines, "--json")[1])["accuracy"] == 1.0
    lines.write_text("b\tfive boxing\nd\tquick zebras\n" * 20)
    code, _, err = go_on(lines, "labels", "strange", "--steps", 2)
    assert code == 1 and "label 'd' is not one of the model's: a, b, c" in short(err)


def test_files_that_say_nothing_around_a_text_say_it_when_the_run_goes_on(train, go_on, run, corpus, tmp_path):
    """Those of older runs; of a decoder's, which has nothing there, a classifier's do."""
    pytest.importorskip("tokenizers")
    bpe = ["--tokenizer", "bpe", "--vocab", 300]
    assert train(corpus, "--model", "roberta", *bpe)[0] == 0
    tokenizer = text.load(tmp_path / "run")
    bos, eos, ids = tokenizer.special["bos"], tokenizer.special["eos"], tokenizer.encode("the fox").tolist()
    assert tokenizer.framed("the fox").tolist() == [bos, *ids, eos]
    tokenizer.frame(None, None)
    for place in (tmp_path / "run", tmp_path / "run" / "last"):
        tokenizer.save(place)
    assert go_on(corpus, "run", "second", "--steps", 1)[0] == 0 == run("train", "--resume", tmp_path / "run", "--steps", 7)[0]
    for place in ("second", "run"):
        assert text.load(tmp_path / place / "last").framed("the fox").tolist() == [bos, *ids, eos]
    assert train(corpus, "--model", "gpt2", "--tokenizer", tmp_path / "run", "--force")[0] == 0
    assert text.load(tmp_path / "run").framed("the fox").tolist() == ids
    lines = tmp_path / "lines.tsv"
    lines.write_text("a\tthe lazy dog\nb\tquick zebras\n" * 20)
    assert go_on(lines, "run", "labels", "--objective", "classification", "--steps", 1)[0] == 0
    assert text.load(tmp_path / "labels").framed("the fox").tolist() == [bos, *ids, eos]


def test_a_decoder_that_becomes_a_classifier_names_what_pads_its_texts(train, go_on, corpus, tmp_path):
    """GPT-2's tokenizer has an end of text alone. Without the id transformers takes one text at a time."""
    (tmp_path / "tokenizer").mkdir()
    text.train("chars", corpus.read_text(), style="gpt").save(tmp_path / "tokenizer")
    assert train(corpus, "--tokenizer", tmp_path / "tokenizer")[0] == 0
    assert models.load(tmp_path / "run").config.pad_token_id is None
    lines = tmp_path / "lines.tsv"
    lines.write_text("a\tthe lazy dog\nb\tquick zebras\n" * 20)
    assert go_on(lines, "run", "labels", "--objective", "classification", "--steps", 2)[0] == 0
    assert models.load(tmp_path / "labels").config.pad_token_id == text.load(tmp_path / "labels").special["eos"]


def test_a_classifier_without_names_needs_as_many_labels_as_classes(go_on, corpus, tmp_path, train):
    lines = tmp_path / "lines.tsv"
    lines.write_text("c\tthe lazy dog\na\tquick zebras\nb\tfive boxing wizards jump\n" * 20)
    assert train(corpus, "--model", "bert", "--objective", "masked")[0] == 0
    model = models.load(tmp_path / "run", architecture="BertForSequenceClassification")
    model.save(tmp_path / "run" / "two")
    (tmp_path / "run" / "two" / "vocabulary.json").write_text((tmp_path / "run" / "vocabulary.json").read_text())
    code, _, err = go_on(lines, "run/two", "out", "--steps", 2)
    assert code == 1 and "its head knows 2 classes, and the file has 3 labels" in short(err)


def test_an_encoder_decoder_learns_to_translate(train, go_on, run, corpus, tmp_path):
    """And goes on with it: the run says what it was for, its head does not."""
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("lazy dog\tquick fox\nfive wizards\tdaft zebras\n" * 20)
    assert train(corpus, "--model", "t5")[0] == 0
    assert go_on(pairs, "run", "pairs", "--objective", "translation", "--steps", 2)[0] == 0
    assert go_on(pairs, "pairs", "further", "--steps", 2)[0] == 0
    assert json.loads((tmp_path / "further" / "last" / "training.json").read_text())["info"]["objective"] == "translation"


def test_a_trained_t5_may_be_narrower_than_its_heads_together(run, go_on, corpus, tmp_path):
    """T5 1.1's small one has 6 heads of 64 columns and a width of 512, which 6 does not divide."""
    tokenizer = text.train("chars", corpus.read_text(), style="t5")
    sizes = {"d_model": 16, "num_heads": 3, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 1}
    models.create("t5-v1_1-small", vocab_size=tokenizer.vocab_size, **sizes).save(tmp_path / "small")
    tokenizer.save(tmp_path / "small")
    (tmp_path / "pairs.tsv").write_text("lazy dog\tquick fox\nfive wizards\tdaft zebras\n" * 20)
    code, _, err = go_on(tmp_path / "pairs.tsv", "small", "out", "--steps", 2, "--objective", "translation")
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--width", 32], "--width: the model in"),
        (["--tokenizer", "bytes"], "--tokenizer: the model in"),
        (["--context", 17], "--context 17: the model in .* has 16 positions"),
        (["--objective", "masked"], "--objective masked: gpt2 has no head for it"),
        (["--objective", "guess"], "--objective: expected one of causal, .* got 'guess'"),
    ],
)
def test_what_the_checkpoint_decides_itself(train, go_on, corpus, tmp_path, words, message):
    assert train(corpus)[0] == 0
    code, _, err = go_on(corpus, "run", "out", "--steps", 2, *words)
    assert code == 2 and not (tmp_path / "out").exists()
    assert re.search(message, short(err))


def test_no_run_replaces_the_model_that_it_begins_with(train, go_on, corpus, tmp_path):
    """Until it has saved its own, that would be the only copy."""
    assert train(corpus)[0] == 0
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for model, out in (("run", "run"), ("run/last", "run"), ("link", "run"), ("run", "link")):
        code, _, err = go_on(corpus, model, out, "--steps", 2, "--force")
        assert code == 2 and "would replace the model that it begins with" in short(err)
    assert models.load(tmp_path / "run").config.n_embd == 16


def test_words_that_the_model_does_not_know_are_refused_before_another_run_is_replaced(train, go_on, corpus, tmp_path):
    assert train(corpus)[0] == 0 and train(corpus, out=tmp_path / "kept")[0] == 0
    models.create("gpt2", vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=16).save(tmp_path / "run" / "few")
    (tmp_path / "run" / "few" / "vocabulary.json").write_text((tmp_path / "run" / "vocabulary.json").read_text())
    code, _, err = go_on(corpus, "run/few", "kept", "--steps", 2, "--force")
    assert code == 1 and re.search("its tokenizer has .* tokens, and the model knows 20", short(err))
    assert (tmp_path / "kept" / "model.safetensors").exists()


def test_a_discriminator_alone_has_no_generator_to_go_on_with(train, go_on, corpus, tmp_path):
    assert train(corpus, "--model", "electra")[0] == 0
    models.load(tmp_path / "run").discriminator.save(tmp_path / "run" / "published")
    (tmp_path / "run" / "published" / "vocabulary.json").write_text((tmp_path / "run" / "vocabulary.json").read_text())
    code, _, err = go_on(corpus, "run/published", "out", "--steps", 2)
    assert code == 2 and "has no generator; it can be trained on masked or classification" in short(err)
    assert go_on(corpus, "run/published", "out", "--steps", 2, "--objective", "masked")[0] == 0


def test_names_come_before_folders(run, train, corpus, tmp_path, monkeypatch):
    """A folder that is called like a family changes no command that was written without it."""
    monkeypatch.chdir(tmp_path)
    assert train(corpus, out="gpt2")[0] == 0
    small = ["--layers", 1, "--heads", 1, "--width", 8, "--context", 8]
    assert run("train", corpus, "--model", "gpt2", *small, "--steps", 1, "--out", "new")[0] == 0
    assert run("train", corpus, "--model", "./gpt2", "--steps", 1, "--out", "old")[0] == 0
    assert [models.load(name).config.n_embd for name in ("new", "old")] == [8, 16]
    (tmp_path / "nothing").mkdir()
    code, _, err = run("train", corpus, "--model", "nothing", "--steps", 1, "--out", "x")
    assert code == 1 and "no model here" in short(err)
