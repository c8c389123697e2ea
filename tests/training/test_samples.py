"""Samples show what a model has learnt."""

import numpy as np
import pytest

from tests.training.small import prepared
from tinygrad_llm import text as texts
from tinygrad_llm.data import IGNORE
from tinygrad_llm.training import samples
from tinygrad_llm.training.samples import sample


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


def test_a_text_begins_with_a_line_end_or_the_first_character():
    assert [samples.opening(texts.train("chars", letters)) for letters in ("ba\n", "ba")] == ["\n", "a"]
