"""inspect and describe on what train makes."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import short
from tests.training.small import saved
from tinygrad_llm import models
from tinygrad_llm.cli import inspect


def page_data(path):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S).group(1))


@pytest.mark.parametrize("family", ["bert", "albert", "electra", "bart"])
def test_a_page_of_each_kind(family, train, corpus, run, tmp_path):
    assert train(corpus, "--model", family, "--steps", 1, "--eval-every", 0)[0] == 0
    code, _, err = run("inspect", tmp_path / "run", "--text", "the quick", "--out", tmp_path / "page.html")
    assert code == 0, err
    assert page_data(tmp_path / "page.html")["lens"]["rows"]


@pytest.mark.parametrize("family", ["bert", "electra", "bart", "gpt2"])
def test_a_classifier_is_looked_into_and_names_classes(family, train, run, tmp_path):
    labelled = tmp_path / "labels.tsv"
    labelled.write_text("label\ttext\n" + "ham\thello there\nspam\tbuy it now\n" * 30)
    words = ["--model", family, "--objective", "classification", "--steps", 1, "--eval-every", 0]
    assert train(labelled, *words)[0] == 0
    code, _, err = run("inspect", tmp_path / "run", "--text", "hello", "--out", tmp_path / "page.html")
    assert code == 0, err
    shown = page_data(tmp_path / "page.html")["tokens"]
    framed = {"bart": ["</s>", "<s>", *"hello"], "gpt2": ["<s>", *"hello", "</s>"]}  # BART's decoder is one behind
    assert shown == framed.get(family, ["[CLS]", *"hello", "[SEP]"]), "as in training"
    code, out, err = run("generate", tmp_path / "run", "--prompt", "hello")
    assert code == 0 and sorted(out.split()[::2]) == ["ham", "spam"], err
    code, _, err = run("inspect", tmp_path / "run", "--text", "hello", "--target", "now", "--out", tmp_path / "two.html")
    assert code == 2 and "--target" in short(err)


def test_a_run_killed_before_its_first_save(train, corpus, run, tmp_path):
    """It has its best checkpoint only, which generate takes."""
    train(corpus)
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "run" / "best", killed / "best")
    code, _, err = run("inspect", killed, "--text", "the quick", "--out", tmp_path / "page.html")
    assert code == 0, err
    code, out, err = run("describe", killed)
    assert code == 0 and f"{models.load(tmp_path / 'run').num_parameters():,} parameters" in out, err
    (tmp_path / "empty").mkdir()
    for words in (["inspect", tmp_path / "empty", "--text", "a"], ["describe", tmp_path / "empty"]):
        code, _, err = run(*words)
        assert code == 1 and "no model here" in short(err)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["gpt2", "--batch", 0], 2, "--batch: expected a finite number above 0, got 0"),
        (["gpt2", "--card-gb", "nan"], 2, "--card-gb: expected a finite number above 0, got nan"),
        (["1e400"], 1, "1e400 is more parameters than a float holds"),
        (["0"], 1, "expected at least one parameter, got 0"),
        (["gtp-2-mini"], 1, "no model named 'gtp-2-mini', and no such directory"),
        (["broken"], 1, "config.json: not valid JSON"),
    ],
)
def test_what_describe_cannot_read(words, code, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": ')
    (tmp_path / "gpt2").mkdir()  # a preset's name all the same
    got, _, err = run("describe", *words)
    assert got == code and message in short(err)


def test_a_preset_is_described_beside_a_folder_called_so_and_a_model_in_it_before(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preset = run("describe", "gpt2", "--json")
    (tmp_path / "gpt2").mkdir()
    assert preset[0] == 0 and run("describe", "gpt2", "--json")[:2] == preset[:2]
    models.create("gpt2", n_layer=1, n_embd=16, n_head=2, vocab_size=30).save(tmp_path / "gpt2")
    code, out, _ = run("describe", "gpt2", "--json")
    assert code == 0 and json.loads(out)["parameters"] == models.load(tmp_path / "gpt2").num_parameters()


def test_a_page_is_no_directory(run, tmp_path):
    code, _, err = run("inspect", tmp_path, "--text", "a", "--out", tmp_path, "--force")
    assert code == 2 and f"--out {tmp_path}: this is a directory, not a file" in short(err)


def test_a_page_on_a_full_disk(tmp_path, monkeypatch):
    def full(path, *args, **kwargs):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"No space left on device: .*page\.html'"):
        inspect.write_page("<html>", tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_page_leaves_a_pipe_and_a_link_what_they_are(tmp_path):
    pipe, link, page = tmp_path / "pipe", tmp_path / "link.html", tmp_path / "page.html"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        inspect.write_page("<html>", pipe)
        assert pipe.is_fifo() and os.read(reader, 100) == b"<html>"
    finally:
        os.close(reader)
    link.symlink_to(page.name)
    for text in ("<html>", "<html lang>"):  # where there is no page yet, and where there is one
        inspect.write_page(text, link)
        assert link.is_symlink() and page.read_text() == text and not page.is_symlink()


def test_what_the_flags_of_describe_say_is_described(run):
    words = ["--batch", 3, "--context", 20, "--target", 7, "--card-gb", 12, "--bytes-per-parameter", 3]
    found = models.describe("t5-small", batch=3, context=20, target=7, card_gb=12.0, bytes_per_parameter=3.0)
    assert json.loads(run("describe", "t5-small", *words, "--json")[1]) == json.loads(json.dumps(found.as_dict()))
    assert run("describe", "t5-small", *words) == (0, found.text() + "\n", "")


def test_the_decoder_reads_the_target_behind_its_start_token(run, tmp_path):
    data, model = saved("bart", tmp_path)
    code, _, err = run("inspect", tmp_path / "model", "--text", "the quick", "--target", "fox", "--out", tmp_path / "page.html")
    assert code == 0, err
    page = page_data(tmp_path / "page.html")
    assert page["tokens"] == [data.tokenizer.decode([model.config.decoder_start_token_id]), *"fox"]
    source = [*"the quick", "</s>"]  # as in training
    assert [kind["keys"] for kind in page["attention"]] == [source, page["tokens"], source]
    code, _, err = run("inspect", tmp_path / "model", "--text", "the quick", "--out", tmp_path / "own.html")
    assert code == 0, err
    written = model.eval().generate(data.tokenizer.encode("the quick"), max_new_tokens=15)[0]  # with its start token all that fits
    shown = page_data(tmp_path / "own.html")["tokens"]
    assert shown == [inspect.token_text(data.tokenizer, i) for i in written] != list("the quick")


def test_one_letter_has_a_page_and_a_long_text_a_short_title(run, tmp_path):
    data, model = saved("gpt2", tmp_path, context=100)
    for text, title in (("t", "model: t"), ("t" * 60, "model: " + "t" * 60), ("t" * 61, "model: " + "t" * 57 + "...")):
        code, _, err = run("inspect", tmp_path / "model", "--text", text, "--out", tmp_path / "page.html", "--force")
        assert code == 0, err
        page = page_data(tmp_path / "page.html")
        assert page["title"] == title and page["tokens"] == list(text)
        assert len(page["histograms"]) == (1 if len(text) == 1 else 2), "of one token there is no loss, and no gradient"


def test_of_roberta_two_positions_are_never_read(run, tmp_path):
    """Its config counts those of padding."""
    data, model = saved("roberta", tmp_path)
    code, _, err = run("inspect", tmp_path / "model", "--text", "t" * 15, "--out", tmp_path / "page.html")
    assert code == 1 and "the text has 17 tokens, the model reads 16; shorten --text" in err
