"""train as a user meets it, and what it says when something is wrong."""

import errno
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.cli.conftest import SMALL, short
from tinygrad_llm import models, training
from tinygrad_llm.cli._train_settings import free_directory
from tinygrad_llm.cli.train import follow
from tinygrad_llm.models import memory_limit
from tinygrad_llm.training import checkpoint, families, prepare, samples
from tinygrad_llm.training.claim import claimed
from tinygrad_llm.training.families import small_init
from tinygrad_llm.training.report import averaged, curves, thin, write_report


def test_train_writes_everything(train, corpus, tmp_path):
    code, out, err = train(corpus, "--json", "--sample-every", 4)
    assert code == 0
    result = json.loads(out)
    assert result["steps"] == 6 and not result["interrupted"] and result["best_loss"] < 4 and result["unigram_loss"] > 2
    run = tmp_path / "run"
    for name in ("config.json", "model.safetensors", "vocabulary.json", "log.jsonl", "report.html", "last/training.json",
                 "last/optimizer.safetensors", "best/model.safetensors"):  # fmt: skip
        assert (run / name).is_file(), name
    model = models.load(run)
    assert type(model).__name__ == "GPT2LMHeadModel" and model.config.n_embd == 16
    assert model.config.initializer_range == small_init(16) and small_init(128) == pytest.approx(0.0559, abs=1e-4)
    page = (run / "report.html").read_text()
    assert "<svg" in page and "http" not in page.replace("http-equiv", "") and "loss" in page
    assert "step 6/6" in err and "evaluation loss" in err and "\r" not in err, "plain lines, because this is no terminal"
    assert f"; model: {run}; report: {run / 'report.html'}\n" in err and re.search(r"^done in 0:\d\d; best loss \d", err, re.M)
    assert len([line for line in err.splitlines() if line.startswith("    ")]) >= 2, "samples, after step 4 and at the end"


def test_the_result_goes_to_a_file(train, corpus, tmp_path):
    code, out, _ = train(corpus, "--json", tmp_path / "result.json")
    assert code == 0 and out == "" and json.loads((tmp_path / "result.json").read_text())["steps"] == 6


def test_json_never_replaces_something_else(run, train, corpus, tmp_path):
    """`train --json corpus.txt`: the flag takes the corpus for its FILE."""
    result, before = tmp_path / "result.json", corpus.read_text()
    train(corpus)
    for words in (["train", "--out", tmp_path / "new", "--json"], ["eval", tmp_path / "run", corpus, "--json"]):
        code, _, err = run(*words, corpus)
        assert code == 2 and "holds no result" in short(err) and corpus.read_text() == before
        code, _, err = run(*words, tmp_path)
        assert code == 2 and "a directory" in short(err)
        code, _, err = run(*words, tmp_path / "no" / "x.json")
        assert code == 1 and "x.json: No such file" in short(err) and not (tmp_path / "new").exists()
    for _ in range(2):
        assert run("eval", tmp_path / "run", corpus, "--json", result)[0] == 0 and "perplexity" in json.loads(result.read_text())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_under_json_is_named(run, train, corpus, tmp_path):
    train(corpus)
    code, _, err = run("eval", tmp_path / "run", corpus, "--json", "/dev/full")
    assert code == 1 and short(err) == "tinygrad-llm: /dev/full: No space left on device"


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "t5", "bart", "llama"])
def test_other_families(family, train, corpus, run, tmp_path):
    code, _, err = train(corpus, "--model", family, "--context", 32, "--json")
    assert code == 0, err
    code, out, err = run("eval", tmp_path / "run", corpus, "--json")
    assert code == 0 and json.loads(out)["loss"] > 0, err
    prompt = {"t5": "the quick", "bart": "the quick", "llama": "the quick"}.get(family, "the [MASK]uick")
    code, out, err = run("generate", tmp_path / "run", "--prompt", prompt, "--tokens", 6)
    assert code == 0 and out.endswith("\n"), err


def test_translation_and_classification(train, run, tmp_path):
    pairs, labelled = tmp_path / "pairs.tsv", tmp_path / "labels.tsv"
    pairs.write_text("\n".join(f"{i} apples\t{i} pommes" for i in range(60)))
    labelled.write_text("label\ttext\n" + "ham\thello there\nspam\tbuy it now\n" * 30)
    assert train(pairs, "--model", "transformer", out=tmp_path / "t")[0] == 0
    result = json.loads(run("eval", tmp_path / "t", pairs, "--json")[1])
    assert result["objective"] == "translation" and 0 <= result["accuracy"] <= 1
    assert run("generate", tmp_path / "t", "--prompt", "3 apples", "--tokens", 4, "--beams", 2)[0] == 0
    plain = run("generate", tmp_path / "t", "--prompt", "3 apples", "--tokens", 12)
    assert plain[0] == 0 and run("generate", tmp_path / "t", "--prompt", "3 apples", "--tokens", 12, "--lookup", 3)[1] == plain[1]
    assert (
        train(labelled, "--model", "bert", "--objective", "classification", "--steps", 40, "--lr", 0.01, out=tmp_path / "c")[0] == 0
    )
    result = json.loads(run("eval", tmp_path / "c", labelled, "--json")[1])
    assert result["accuracy"] == 1.0 and result["objective"] == "classification"
    labelled.write_text("spam\tbuy it now\nham\thello there\nham\thello\n")
    for place in (tmp_path / "c", tmp_path / "c" / "best"):  # the second has no record of the run, but names its classes
        result = json.loads(run("eval", place, labelled, "--json")[1])
        assert result["accuracy"] == 1.0 and result["tokens"] == 3


def test_classes_that_are_numbers_stand_in_their_order(train, run, tmp_path):
    labelled = tmp_path / "labels.tsv"
    labelled.write_text("".join(f"{n}\tline {n}\n{n}\tmore of {n}\n" for n in (10, 9, 2, "x", 1)))
    assert train(labelled, "--model", "bert", "--objective", "classification", "--steps", 1, out=tmp_path / "c")[0] == 0
    assert list(models.load(tmp_path / "c").config.extra["id2label"].values()) == ["1", "2", "9", "10", "x"]


def test_what_the_flags_say_reaches_data_and_model(train, tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    pairs, asked = tmp_path / "pairs.tsv", {}
    pairs.write_text("\n".join(f"{i} apples\t{i} pommes" for i in range(60)))

    def watched(module, name):
        plain = getattr(module, name)

        def call(*args, **options):
            asked[name] = (args, options, str(options["rng"].bit_generator.state) if "rng" in options else None)
            return plain(*args, **options)

        monkeypatch.setattr(module, name, call)

    watched(prepare, "prepare")
    watched(families, "small_model")
    flags = ["--model", "transformer", "--seed", 7, "--label-smoothing", 0.25, "--vocab", 70, "--tokenizer", "unigram", "--dropout", 0.5,
             "--context", 24, "--steps", 1]  # fmt: skip
    assert train(pairs, *flags)[0] == 0
    choices = asked["prepare"][0][2]
    assert (choices.seed, choices.label_smoothing, choices.vocab, choices.tokenizer, choices.context) == (7, 0.25, 70, "unigram", 24)
    _, sizes, state = asked["small_model"]
    assert {k: sizes[k] for k in ("layers", "heads", "width", "context", "dropout", "init")} == {
        "layers": 1, "heads": 2, "width": 16, "context": 24, "dropout": 0.5, "init": None}  # fmt: skip
    assert state == str(np.random.default_rng(7).bit_generator.state)
    assert train(pairs, "--init", 0.3, "--steps", 1, "--force")[0] == 0 and asked["small_model"][1]["init"] == 0.3


def test_a_run_is_resumed_from_anywhere(train, corpus, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(corpus.name)[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, _, err = run("train", "--resume", tmp_path / "run", "--steps", 8)
    assert code == 0 and "step 8/8" in err


def test_biases_stay_where_they_are_without_them(train, corpus, tmp_path):
    assert train(corpus, "--no-bias")[0] == 0
    found = dict(models.load(tmp_path / "run").named_parameters())
    biases = [name for name in found if name.endswith("bias")]
    assert len(biases) > 5 and not any(found[name].data.any() for name in biases)
    assert all(found[name].data.std() > 0 for name in found if name not in biases), "the rest has learnt"


def test_sentence_pairs_of_a_text_without_sentences(train, tmp_path):
    line = tmp_path / "line.txt"
    line.write_text("one line " * 90)
    code, _, err = train(line, "--model", "bert")
    assert code == 1 and "paragraphs by an empty line, or train with the objective masked" in short(err)


def test_a_vocabulary_that_was_learnt_is_named_to_repeat_a_run(train, corpus, tmp_path):
    pytest.importorskip("tokenizers")
    words = ["--model", "bert", "--objective", "masked"]
    assert train(corpus, *words, "--tokenizer", "unigram", "--vocab", 80, out=tmp_path / "first")[0] == 0
    assert train(corpus, *words, "--tokenizer", tmp_path / "first", out=tmp_path / "again")[0] == 0
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "first" / "last" / file).read_bytes() == (tmp_path / "again" / "last" / file).read_bytes()


def test_the_built_in_corpus(run, tmp_path, monkeypatch):
    """No file, no --out: a new directory each time."""
    monkeypatch.chdir(tmp_path)
    for expected in ("gpt2-python", "gpt2-python-2"):
        code, _, err = run("train", *SMALL, "--steps", 1)
        assert code == 0 and (tmp_path / "runs" / expected / "model.safetensors").is_file(), err


def test_a_run_has_its_directory_for_itself(train, corpus, run, tmp_path, monkeypatch):
    with claimed(tmp_path / "run"):
        code, _, err = train(corpus)
        assert code == 1 and "another run is writing here now" in short(err)
    assert not (tmp_path / "run").exists(), "nothing was begun"
    train(corpus)
    with claimed(tmp_path / "run"):
        for words in (["--force", "--out"], ["--resume"]):
            code, _, err = run("train", *words, tmp_path / "run", *([corpus, *SMALL] if "--force" in words else []))
            assert code == 1 and "another run is writing here now" in short(err)
    monkeypatch.chdir(tmp_path)
    both = [free_directory(tmp_path / "runs", "gpt2-corpus") for _ in range(2)]
    assert both[0] != both[1] and all(place.is_dir() for place in both)


def test_a_run_killed_while_it_read_its_data_is_in_nobodys_way(train, corpus, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").touch()
    assert train(tmp_path / "nothing.txt")[0] == 1 and train(corpus)[0] == 0


def test_the_tokens_of_a_run_that_never_began_are_in_nobodys_way(train, corpus, tmp_path, monkeypatch):
    """A large text's tokens are in OUT before the run begins; one without a log is somebody's own file."""
    monkeypatch.setattr(prepare, "IN_MEMORY", 100)
    out = tmp_path / "run"
    code, _, err = train(corpus, "--batch", 10**12)
    assert code == 1 and "out of memory" in short(err) and not out.exists()
    out.mkdir()
    for name in ("tokens.bin", "tokens.bin.new"):  # killed
        (out / name).touch()
        code, _, err = train(corpus)
        assert code == 2 and "something else" in short(err) and (out / name).exists()
        (out / "log.jsonl").touch()
        assert train(corpus, "--batch", 10**12)[0] == 1 and list(out.iterdir()) == []
    (out / "tokens.bin.new").touch()
    (out / "log.jsonl").touch()
    assert train(corpus)[0] == 0 and not (out / "tokens.bin.new").exists()
    assert train(corpus, "--batch", 10**12, "--force")[0] == 1 and (out / "tokens.bin").exists()


def test_an_early_stop_says_so_and_how_to_go_on(train, corpus, run, tmp_path):
    code, _, err = train(corpus, "--steps", 20, "--eval-every", 1, "--patience", 2, "--lr", 1e-30)
    said = "the run stopped at step 2 for want of progress (--patience 2)"
    assert code == 0 and said in err
    code, _, err = run("train", "--resume", tmp_path / "run")
    assert code == 0 and f"nothing left to do: {said}; a larger --patience goes on, 0 to the last step" in err
    code, _, err = run("train", "--resume", tmp_path / "run", "--patience", 0)
    assert code == 0 and "step 20/20" in err and "for want" not in err


def test_resume_after_the_end_goes_further(train, corpus, run, tmp_path):
    train(corpus)
    for words in ([], ["--steps", 2]):
        code, _, err = run("train", "--resume", tmp_path / "run", *words)
        assert code == 0 and "nothing left to do: the run has taken 6 steps; --steps N goes on to N" in err
    code, _, err = run("train", "--resume", tmp_path / "run", "--steps", 8)
    assert code == 0 and "from step 6" in err and "step 8/8" in err
    for words, said in ((["--width", 32], "was made with 16"), (["--tokenizer", "bytes"], "was made with chars")):
        code, _, err = run("train", "--resume", tmp_path / "run", *words)
        assert code == 2 and said in short(err)
    assert run("train", "--resume", tmp_path / "run", "--warmup", 2, "--tokenizer", "chars", "--steps", 9)[0] == 0


def test_a_resumed_run_says_that_its_text_was_changed(train, corpus, run, tmp_path):
    train(corpus)
    shorter = corpus.read_text()[:-9]
    for text, said in ((shorter, True), (None, False), (shorter[::-1], True)):
        if text:
            corpus.write_text(text)
        code, _, err = run("train", "--resume", tmp_path / "run", "--steps", 8)
        assert code == 0 and ("the text is another one than before" in err) == said, err


@pytest.mark.skipif(sys.platform == "win32", reason="makes a pipe")
def test_the_same_text_packed_or_from_a_pipe_is_no_other(train, corpus, run, tmp_path):
    packed, pipe = tmp_path / "corpus.gz", tmp_path / "pipe"
    os.mkfifo(pipe)

    def pour():
        return subprocess.Popen(["cp", str(corpus), str(pipe)])

    for first, then in ((packed, packed), (packed, corpus), (corpus, packed), (pipe, corpus), (corpus, pipe)):
        for place, more in ((first, [*SMALL, "--force", "--out"]), (then, ["--steps", 8, "--resume"])):
            packed.write_bytes(gzip.compress(corpus.read_bytes(), 1 if more[0] == "--steps" else 9))
            other = pour() if place == pipe else None
            code, _, err = run("train", place, *more, tmp_path / "run")
            assert code == 0 and "another one" not in err and (other is None or other.wait() == 0), (first, then, err)
    corpus.rename(tmp_path / "moved")
    assert train(tmp_path / "moved", "--force")[0] == 0
    (tmp_path / "moved").unlink()
    code, _, err = run("train", "--resume", tmp_path / "run")
    assert code == 1 and short(err).endswith(f"moved: no such file; name the text again:  tinygrad-llm train FILE --resume {tmp_path / 'run'}")


def test_the_average_of_a_falling_loss_is_not_above_it():
    points = averaged([(step, 5 - 0.01 * step) for step in range(301)])
    assert points[150] == (150, pytest.approx(3.5)) and averaged([(3, 2.0)]) == [(3, 2.0)] and averaged([]) == []


def test_the_curve_of_a_loss_fills_the_picture():
    picture = curves([(1, 4.0), (2, 2.0)], [(2, 3.0)])
    assert "points='380.0,10.0 710.0,290.0'" in picture and "cx=710.0 cy=150.0" in picture and ">step 2<" in picture
    labels = re.findall(r"y=([\d.]+) text-anchor=end font-size=12>([\d.]+)<", picture)
    assert labels == [("294.0", "2.00"), ("154.0", "3.00"), ("14.0", "4.00")]
    assert "points='710.0,290.0'" in curves([(5, 2.0)], []), "a loss that stays the same lies at the bottom"
    assert "No step was taken" in curves([], [])


@pytest.mark.parametrize("steps", [1, 1500, 1501, 2999, 3001])
def test_a_page_of_a_long_run_stays_small(steps):
    points = thin(list(range(steps)))
    assert min(steps, 750) <= len(points) <= 1500 and points[0] == 0


def test_what_a_model_writes_is_text_on_its_page(tmp_path):
    (tmp_path / "log.jsonl").write_text("")
    page = write_report(tmp_path, "<title>", {"<key>": "<value>"}, "<sample>").read_text("utf-8")
    for word in ("title", "key", "value", "sample"):
        assert f"&lt;{word}&gt;" in page and f"<{word}>" not in page.replace("<title>&lt;", "")
    assert "A sample" not in write_report(tmp_path, "a classifier", {}, "").read_text("utf-8")


def test_a_bfloat16_run_stays_one_when_resumed(train, corpus, run, tmp_path):
    train(corpus, "--precision", "bfloat16")
    code, _, err = run("train", "--resume", tmp_path / "run", "--precision", "float32")
    assert code == 2 and "was made with bfloat16" in short(err)
    code, _, err = run("train", "--resume", tmp_path / "run", "--steps", 8)
    assert code == 0 and "step 8/8" in err
    assert checkpoint.read_state(tmp_path / "run" / "last")[0]["kept"]["precision"] == "bfloat16"


def test_killed_and_resumed_is_the_same_run(corpus, run, tmp_path):
    """A real process, killed without warning; its continuation ends with the bits of a run that was left alone."""
    words = ["train", str(corpus), *SMALL, "--steps", "60", "--dropout", "0.1"]
    environment = os.environ | {"TINYGRAD_LLM_KERNELS": "numpy"}
    command = [sys.executable, "-m", "tinygrad_llm", *words, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while checkpoint.find(tmp_path / "killed" / "last") is None and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert checkpoint.find(tmp_path / "killed" / "last") is not None
    assert run("train", "--resume", tmp_path / "killed")[0] == 0
    assert run(*words, "--out", tmp_path / "straight")[0] == 0
    for name in ("model.safetensors", "last/optimizer.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number, corpus, run, tmp_path):
    command = [
        sys.executable,
        "-m",
        "tinygrad_llm",
        "train",
        str(corpus),
        *SMALL,
        "--steps",
        "100000",
        "--out",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, env=os.environ | {"TINYGRAD_LLM_KERNELS": "numpy"}, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while checkpoint.find(tmp_path / "run" / "last") is None and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and f"tinygrad-llm train --resume {tmp_path / 'run'}" in err and "Traceback" not in err
    step = json.loads((tmp_path / "run" / "last" / "training.json").read_text())["step"]
    code, _, err = run("train", "--resume", tmp_path / "run", "--steps", step + 2)
    assert code == 0 and f"from step {step}" in err


@pytest.mark.parametrize("end", ["2>&1 | head -n 1", "2>&-"])
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_nobody_has_to_read_the_progress(corpus, tmp_path, end):
    words = [sys.executable, "-m", "tinygrad_llm", "train", str(corpus), *SMALL, "--eval-every", "1", "--out", str(tmp_path / "run")]
    shell = f"({shlex.join(words)}; echo $? > {shlex.quote(str(tmp_path / 'code'))}) {end}"
    subprocess.run(["sh", "-c", shell], env=os.environ | {"TINYGRAD_LLM_KERNELS": "numpy"}, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "code").read_text() == "0\n" and checkpoint.read_state(tmp_path / "run" / "last")[0]["step"] == 6
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("end, code", [(None, 0), (FloatingPointError("step 3"), 1)])
def test_the_other_processes_train_what_the_first_one_sends(end, code, monkeypatch):
    ran = []

    class Noted:
        def __init__(self, *sent, processes):
            self.given = sent, processes

        def run(self):
            ran.append(self.given)
            if end is not None:
                raise end

    class Other:
        def from_first(self):
            return "model", "task", "options"

    other = Other()
    monkeypatch.setattr(training, "Trainer", Noted)
    assert follow(other) == code and ran == [(("model", "task", "options"), other)]


# -- bad input ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"hello", "fewer than one window of 17; use a longer text or a shorter context"),
        (b"\x00\x01\x02" * 500, "binary"),
        ("Grüße ".encode("latin-1") * 100, "not UTF-8"),
    ],
)
def test_bad_files(train, tmp_path, content, message):
    path = tmp_path / "input.txt"
    if content is not None:
        path.write_bytes(content)
    code, _, err = train(path)
    assert code == 1 and message in short(err) and not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--width", 30, "--heads", 4], "--width 30 does not divide by --heads 4"),
        (["--steps", 0], "--steps: expected at least 1"),
        (["--layers", 0], "--layers: expected at least 1"),
        (["--heads", 0], "--heads: expected at least 1"),
        (["--width", 0], "--width: expected at least 1"),
        (["--context", 7], "--context: expected at least 8"),
        (["--vocab", 0], "--vocab: expected at least 1"),
        (["--seed", -1], "--seed: expected at least 0"),
        (["--dropout", 1.5], "--dropout"),
        (["--lr", -1], "--lr"),
        (["--init", 0], "--init: expected a finite number above 0"),
        (["--init", 0.1, "--model", "t5"], "t5-small gives each matrix a deviation of its own"),
        (["--batch", 0], "--batch"),
        (["--model", "gpt9"], "--model: expected one of"),
        (["--objective", "guess"], "--objective: expected one of"),
        (["--model", "bert", "--objective", "masked+sentence_order"], "bert has no head for it; it can do masked"),
        (["--model", "albert", "--objective", "masked+next_sentence"], "albert has no head for it"),
        (["--model", "electra", "--objective", "masked+next_sentence"], "electra has no head for it"),
        (["--model", "gpt2", "--objective", "masked"], "gpt2 has no head for it; it can do causal"),
        (["--steps", "many"], "invalid int value"),
        (["--min-lr", 2], "--min-lr: expected a fraction of lr"),
        (["--min-lr", "nan"], "--min-lr"),
        (["--lr", "inf"], "--lr: expected a finite number above 0"),
        (["--clip", "nan"], "--clip"),
        (["--weight-decay", "nan"], "--weight-decay"),
        (["--weight-decay", "inf"], "--weight-decay: expected a finite number"),
        (["--beta2", 1], "--beta2: expected at least 0 and below 1"),
        (["--init", "inf"], "--init"),
        (["--label-smoothing", 2], "--label-smoothing: expected a share below 1"),
        (["--label-smoothing", "nan"], "--label-smoothing"),
        (["--tokenizer", "foo"], "--tokenizer: expected one of"),
        (["--tokenizer", "BPE", "--vocab", 300], "--tokenizer: expected one of"),
        (["--tokenizer", "bpe", "--vocab", 5], "--vocab: byte-level BPE has 256 bytes"),
        (["--tokenizer", "unigram", "--vocab", 3], "--vocab: unigram cannot learn 3 tokens from this text"),
        (["--model", "llama", "--width", 6], "3 columns a head; rotary positions need pairs"),
        (["--vocab", 300], "--vocab does nothing with --tokenizer chars; leave it out"),
        (["--label-smoothing", 0.1], "--label-smoothing does nothing with --objective causal; leave it out"),
        (["--schedule", "constant", "--min-lr", 0], "--min-lr does nothing with --schedule constant; leave it out"),
        (["--optimizer", "sgd", "--beta2", 0.9], "--beta2 does nothing with --optimizer sgd; leave it out"),
        (["--model", "llama", "--no-bias"], "--no-bias does nothing with --model llama, which has none; leave it out"),
        (["--patience", 2, "--eval-every", 0], "--patience: expected 0 where nothing is evaluated (eval_every 0), got 2"),
        (["--target", "x.txt"], "no such file"),
    ],
)
def test_bad_settings(train, corpus, tmp_path, words, message):
    code, _, err = train(corpus, *words)
    assert code in (1, 2) and message in err and "Traceback" not in err
    assert code == 2 or words[0] == "--target"
    assert not (tmp_path / "run").exists()


def test_a_step_that_cannot_fit_is_refused_before_anything_is_replaced(train, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_limit, "memory_limit", lambda: 20_000_000)
    assert train(corpus)[0] == 0
    for more in ([], ["--model", "t5"], ["--optimizer", "sgd"]):
        code, _, err = train(corpus, "--batch", 10_000, "--force", *more)
        assert code == 1 and "out of memory: a step of 10000 x 16 tokens needs" in err
        assert err.rstrip().endswith("the machine has 20 MB; use a smaller model, batch or context")
    assert (tmp_path / "run" / "report.html").exists()
    lines = tmp_path / "lines.tsv"
    lines.write_text("good\tyes\nbad\tno\n" * 30)  # short texts: a context that none of them fills takes nothing
    assert train(lines, "--objective", "classification", "--context", 100_000, "--width", 4, "--batch", 60, "--force", "--steps", 1)[0] == 0


def test_ctrl_c_after_the_last_step_says_how_to_go_on(train, corpus, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(samples, "continuation", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        code, _, err = train(corpus)
    assert code == 1 and f"stopped at step 6, saved; go on with:  tinygrad-llm train --resume {tmp_path / 'run'}" in err
    code, _, err = run("train", "--resume", tmp_path / "run")
    assert code == 0 and (tmp_path / "run" / "report.html").exists(), err


def test_blocks_that_run_again_leave_the_same_bits(train, corpus, tmp_path, monkeypatch):
    asked = []
    switch = models.Model.recompute
    monkeypatch.setattr(models.Model, "recompute", property(switch.fget, lambda m, on: (asked.append(on), switch.fset(m, on))))
    for out, more in (("plain", []), ("again", ["--recompute"])):
        assert train(corpus, "--dropout", 0.2, *more, out=tmp_path / out)[0] == 0
    assert asked == [False, True]
    kept, again = (load_file(tmp_path / out / "last" / "model.safetensors") for out in ("plain", "again"))
    assert all(np.array_equal(kept[name], again[name]) for name in kept)


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5", "electra", "albert", "bart"])
@pytest.mark.skipif(memory_limit.memory_limit() is None, reason="a system that does not tell how much memory there is")
def test_a_step_larger_than_the_machines_memory_is_refused_before_it_begins(train, corpus, tmp_path, family):
    code, _, err = train(corpus, "--model", family, "--batch", 10**12)
    assert code == 1 and "out of memory: a step of 1000000000000 x " in short(err)
    assert not (tmp_path / "run").exists()


def test_nothing_is_overwritten_without_force(train, corpus, tmp_path):
    train(corpus)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    code, _, err = train(corpus, "--seed", 5)
    assert code == 2 and "--resume goes on with it, --force replaces it" in short(err)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    assert train(corpus, "--seed", 5, "--force")[0] == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != before


def test_force_leaves_nothing_of_the_old_run(train, corpus, tmp_path):
    """Its tokenizer would be taken for the new one's; its model and report for the new run's, should that die at its start."""
    run = tmp_path / "run"
    train(corpus)
    (run / "mine.txt").write_text("kept")
    assert train(tmp_path / "nothing.txt", "--force")[0] == 1 and (run / "report.html").is_file(), "nothing is lost to a wrong name"
    words = ["--force", "--model", "llama", "--seed", 5, "--save-every", 0, "--eval-every", 0]
    with pytest.MonkeyPatch.context() as m:
        m.setattr(training.Trainer, "run", lambda self: (_ for _ in ()).throw(RuntimeError("killed")))
        assert train(corpus, *words)[0] == 1
    assert sorted(p.name for p in run.iterdir()) == ["log.jsonl", "mine.txt"]
    train(corpus)
    assert train(corpus, "--tokenizer", "bpe", "--vocab", 280, "--force")[0] == 0
    assert (run / "tokenizer.json").is_file() and not (run / "vocabulary.json").exists()


def test_a_directory_with_something_else_is_left_alone(train, corpus, tmp_path):
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"meow")
    for more in ([], ["--force"]):
        code, _, err = train(corpus, *more, out=other)
        assert code == 2 and "something else" in short(err) and [p.name for p in other.iterdir()] == ["cat.jpg"]
    code, _, err = train(corpus, out=other / "cat.jpg")
    assert code == 2 and "this is a file" in short(err)


@pytest.mark.parametrize("content", ["our web server's log\n", '{"level": "info"}\n', "[1, 2]\n"])
def test_a_foreign_log_is_left_alone(train, corpus, tmp_path, content):
    other = tmp_path / "logs"
    other.mkdir()
    (other / "log.jsonl").write_text(content)
    for more in ([], ["--force"]):
        code, _, err = train(corpus, *more, out=other)
        assert code == 2 and "something else" in short(err)
    assert (other / "log.jsonl").read_text() == content and len(list(other.iterdir())) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="makes a link")
def test_a_link_to_nothing(train, corpus, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    code, _, err = train(corpus, "--force", out=tmp_path / "link")
    assert code == 2 and f"a link to {tmp_path / 'gone'}, which is not there" in short(err)


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_disk_full_from_the_start(corpus, tmp_path):
    """Every file may have 20 kB, which no checkpoint fits into."""
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    command = [sys.executable, "-c", limited + "from tinygrad_llm.cli import main; sys.exit(main(sys.argv[1:]))"]
    words = ["train", str(corpus), *SMALL, "--width", "32", "--out", str(tmp_path / "run")]
    done = subprocess.run(command + words, env=os.environ | {"TINYGRAD_LLM_KERNELS": "numpy"}, capture_output=True, text=True)
    assert done.returncode == 1 and "File too large" in short(done.stderr) and "start again with --force" in short(done.stderr)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_full_disk(train, corpus, tmp_path, monkeypatch):
    """The disk is full at the second checkpoint: the first one stays good."""
    calls = []
    original = checkpoint.write_state

    def full(*args):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "optimizer.safetensors")
        return original(*args)

    monkeypatch.setattr(checkpoint, "write_state", full)
    code, _, err = train(corpus)
    assert code == 1 and "No space left on device" in short(err)
    assert f"tinygrad-llm train --resume {tmp_path / 'run'}" in short(err)
    assert checkpoint.read_state(checkpoint.find(tmp_path / "run" / "last"))[0]["step"] == 2


def test_a_disk_full_at_the_report(train, corpus, tmp_path, monkeypatch):
    """All is saved by then, and the advice is that of a full disk."""

    def full(*args):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr("tinygrad_llm.training.report.write_plot", full)
    code, _, err = train(corpus)
    assert code == 1 and short(err).startswith(f"tinygrad-llm: {tmp_path / 'run'}: File too large")
    assert f"tinygrad-llm train --resume {tmp_path / 'run'}" in short(err)


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_disk_full_in_the_midst_of_a_checkpoint(train, corpus, tmp_path, monkeypatch):
    """The model still fits, the optimizer's arrays (two for each weight) do not."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    write = checkpoint.write_state

    def limited(directory, *rest):
        resource.setrlimit(resource.RLIMIT_FSIZE, ((directory / "model.safetensors").stat().st_size, before[1]))
        write(directory, *rest)

    monkeypatch.setattr(checkpoint, "write_state", limited)
    try:
        code, _, err = train(corpus)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1 and "File too large" in short(err) and "start again with --force" in short(err)


def test_a_damaged_run_names_the_file(train, corpus, run, tmp_path):
    """And `eval` needs nothing of the optimizer."""
    train(corpus)
    last = tmp_path / "run" / "last"
    arrays, state = ((last / name).read_bytes() for name in ("optimizer.safetensors", "training.json"))
    (last / "optimizer.safetensors").write_bytes(arrays[:100])
    assert run("eval", tmp_path / "run", corpus)[0] == 0
    code, _, err = run("train", "--resume", tmp_path / "run")
    assert code == 1 and f"{last / 'optimizer.safetensors'}: damaged" in short(err)
    (last / "optimizer.safetensors").unlink()
    assert run("eval", tmp_path / "run", corpus)[0] == 0
    for file in (last / "training.json", tmp_path / "run" / "vocabulary.json"):
        for content in (b"", state[:30]):
            file.write_bytes(content)
            code, _, err = run("eval", tmp_path / "run", corpus)
            assert code == 1 and f"{file}: damaged" in short(err)
        file.write_bytes(state)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_the_advice_after_divergence_can_be_followed(train, corpus, run, tmp_path):
    wild = ["--lr", 1e36, "--warmup", 4, "--eval-every", 0, "--save-every", 1]
    code, _, err = train(corpus, *wild)
    assert code == 1 and f"tinygrad-llm train --resume {tmp_path / 'run'} --lr X" in short(err) and "not finite" in short(err)
    step = checkpoint.read_info(tmp_path / "run" / "last")["step"]
    assert f"from step {step} " in err
    code, _, err = run("train", "--resume", tmp_path / "run", "--lr", 1e-4, "--min-lr", 1)
    assert code == 1 and "is spoilt already. Start again" in short(err), "here one step was too much"
    code, _, err = train(corpus, *wild, "--save-every", 0, "--warmup", 0, "--force")
    assert code == 1 and "nothing was saved" in short(err) and "--resume" not in short(err)
