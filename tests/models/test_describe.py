"""The figures and tables of `describe` and `compare`, and the README made from built models."""

import json
from pathlib import Path

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import cli, models
from tinygrad_llm.models import differences
from tinygrad_llm.models.base import longest
from tinygrad_llm.models.registry import skeleton_of


def test_the_readme_is_what_the_models_say():
    readme = Path(differences.__file__).with_name("README.md").read_text("utf-8")
    assert readme == differences.readme(), "run: python -m tinygrad_llm.models.differences > tinygrad_llm/models/README.md"


def test_the_quoted_figures():
    assert tg.models.cards(175e9, 8.55, 24) == 63 == tg.models.cards(175e9)
    assert tg.models.cards(24e9, 1, 24) == 1 and tg.models.cards(24e9 + 1, 1, 24) == 2
    assert tg.models.cards(1.8e12, 8.55, 24) == 642
    assert tg.models.cards(175e9, 2, 24) == 15
    assert tg.models.cards(175e9, 16, 24) == 117


def test_describe_175_billion():
    found = tg.models.describe("gpt3-175b", batch=2, context=1000)
    assert found.parameters == 174_604_259_328 == sum(p.total for p in found.parts)
    assert {n for _, _, n in found.cards()} >= {15, 63, 117}
    memory = found.memory()
    assert memory["fp32"]["weights"] == 4 * found.parameters and memory["int8"]["weights"] == found.parameters
    assert memory["fp32"]["optimizer"] == 8 * found.parameters and "gradients" not in memory["int8"]
    assert memory["fp16"]["cache"] == 96 * 2 * 12288 * 2 * 2000
    half = tg.models.describe("gpt3-175b", batch=1, context=1000).memory()
    assert memory["fp32"]["activations"] == 2 * half["fp32"]["activations"]
    text = found.text()
    assert "63 cards" in text and "117 cards" in text and "8.55" in text and "24·10⁹" in text


def test_how_much_a_model_sees_at_once():
    """Rotary angles have no end, so that the config says for what they are made; RoBERTa counts two positions too many."""
    seen = {"gpt2": 1024, "llama-7b": 2048, "roberta-base": 512, "bert-base": 512, "bart-base": 1024, "t5-small": 512}
    assert {name: longest(skeleton_of(name)) for name in seen} == seen


def test_describe_reads_a_folder_and_a_number(tmp_path):
    model = tg.models.create("gpt2", n_layer=1, n_embd=8, n_head=2, vocab_size=11, n_positions=6)
    model.save(tmp_path)
    assert tg.models.describe(str(tmp_path)).parameters == model.num_parameters()
    assert "642 cards" in tg.models.describe("1.8e12").text()


def test_one_card_needs_no_explanation():
    text = tg.models.describe("gpt2").text()
    assert text.endswith(" 1 card") and "1 cards" not in text and "Why" not in text
    assert "Why the figures differ" in (seven := tg.models.describe("7e9").text()) and "1 cards" not in seven


@pytest.mark.parametrize(("number", "count"), [("1_750", 1750), ("1,750,000", 1_750_000), ("1.75e3", 1750), ("2E+4", 20_000), ("7", 7), ("1", 1)])
def test_a_number_of_parameters_may_be_written_in_any_way(number, count):
    found = tg.models.describe(number, card_gb=1e-6, bytes_per_parameter=2.0)
    assert found.parameters == count and not found.parts and found.training is None
    assert [n for what, each, n in found.cards() if each == 2.0] == [-(-2 * count // 1000)] * 2


@pytest.mark.parametrize(("number", "message"), [("0.5", "at least one parameter"), ("0", "at least one parameter"), ("1e999", "more parameters")])
def test_a_number_of_parameters_that_is_none(number, message):
    with pytest.raises(ValueError, match=message):
        tg.models.describe(number)


def test_bytes_are_said_in_their_unit():
    """In powers of ten, as cards are sold."""
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 30, "n_positions": 8}
    found = tg.models.describe("gpt2", batch=3, context=4, **sizes)
    row = next(line.split() for line in found.text().splitlines() if line.startswith("  fp32"))
    memory = found.memory()["fp32"]
    assert row[1:3] == [f"{memory['weights'] / 1e3:.4g}", "kB"] and memory["gradients"] == memory["weights"] == 4 * found.parameters
    assert memory["activations"] == 4 * found.kept_per_token * 12 and memory["cache"] == 4 * 2 * 2 * 12 * 12
    assert "2 · 12×12" in found.text() and f"{found.parameters:,} parameters" in found.text()
    shares = [float(line.split()[-1][:-1]) for line in found.text().splitlines() if line.startswith("  ") and line.endswith("%")]
    assert len(shares) == len(found.parts) and sum(shares) == pytest.approx(100, abs=0.05 * len(shares))


@pytest.mark.parametrize("bad", [{"batch": 0}, {"context": -1}, {"card_gb": 0.0}, {"bytes_per_parameter": float("inf")}])
def test_describe_refuses_nonsense(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        tg.models.describe("gpt2", **bad)


def test_a_target_is_an_encoder_decoders():
    assert tg.models.describe("t5-small", target=9).training
    with pytest.raises(ValueError, match="gpt2 has none; leave it out"):
        tg.models.describe("gpt2", target=9)
    with pytest.raises(ValueError, match="context 1025: gpt2 has 1024 positions"):
        tg.models.describe("gpt2", context=1025)
    assert tg.models.describe("llama-7b", context=4096).context == 4096, "rotary positions do not end"
    for asked in ({"batch": 2}, {"context": 8}, {"target": 8}):
        with pytest.raises(ValueError, match="1e9 is a number of parameters alone; leave them out"):
            tg.models.describe("1e9", **asked)


def test_compare_names_what_differs_and_only_that():
    rows = {row: (a, b) for row, a, b in tg.models.compare("bert", "t5")}
    assert rows["norm"][0].startswith("LayerNorm, after") and rows["norm"][1].startswith("RMSNorm, before")
    assert rows["positions"] == ("learned, 512", "trained bias on the scores, 32 buckets of distance, shared by the layers")
    assert "scores not scaled" in rows["attention"][1]
    assert tg.models.compare("gpt2", "gpt2") == []
    assert tg.models.compare("BERT", "T5") == tg.models.compare("bert", "t5")
    assert [row for row, _, _ in tg.models.compare("mistral-7b", "llama3.1-8b")] == ["embeddings", "window"]


def test_every_family_says_what_its_paper_added():
    for family in tg.models.families:
        assert len(differences.facts(family)["new"]) > 20, family


def test_the_commands(capsys):
    assert cli.main(["describe", "gpt3-175b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 174_604_259_328
    assert cli.main(["describe", "gpt3-175b", "--batch", "4", "--context", "512"]) == 0
    assert "memory at batch 4, context 512" in capsys.readouterr().out
    assert cli.main(["compare", "bert", "t5"]) == 0
    assert "RMSNorm" in capsys.readouterr().out
    assert cli.main(["compare", "bert", "t5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["row"], r["bert"], r["t5"]) for r in rows] == tg.models.compare("bert", "t5")
    assert cli.main(["describe", "gpt-9"]) == 1
    assert "no model named 'gpt-9'" in capsys.readouterr().err
    assert cli.main(["compare", "bert"]) == 2


@pytest.mark.parametrize("name", ["t5-small", "bart-base", "gpt2"])
def test_the_cache_described_is_the_cache_filled(name):
    """As many positions on both sides: the keys and values of the source are kept as well."""
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 30}
    model = models.create(name, **sizes)
    ids = np.arange(1, 7)[None]
    inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if model.is_encoder_decoder else {})}
    cache = model.make_cache(6)
    with tg.no_grad():
        model(**inputs, past_key_values=cache)
    held = sum(a.nbytes for layer in cache.layers for a in (layer.k, layer.v, *(x.data for x in layer.cross or ())))
    assert models.describe(name, context=6, **sizes).memory()["fp32"]["cache"] == held


def test_compare_sees_an_encoder_of_another_depth(tmp_path):
    sizes = {"d_model": 12, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
             "vocab_size": 30, "decoder_layers": 1}  # fmt: skip
    for depth in (1, 3):
        models.create("bart-base", encoder_layers=depth, **sizes).save(tmp_path / str(depth))
    rows = models.compare(str(tmp_path / "1"), str(tmp_path / "3"))
    assert rows == [("layers", "1", "encoder 3, decoder 1")]
