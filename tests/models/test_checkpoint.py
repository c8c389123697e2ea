"""Reading and writing checkpoints: exact, lean, atomic; and every mistake named before it costs memory."""

import gc
import json
import os
import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import tinygrad_llm as tg
from tinygrad_llm.models import checkpoint, differences, saving, tensor_file
from tinygrad_llm.models.outputs import word_logits
from tinygrad_llm.models.tensor_file import TensorFile, to_bfloat16, write

SIZES = dict(n_embd=12, n_layer=2, n_head=3, vocab_size=23, n_positions=9)
SMALL = dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, vocab_size=23)
TINY = SMALL | dict(intermediate_size=9)


@pytest.fixture
def saved(tmp_path):
    """A small GPT-2 in a folder: (model, folder)."""
    model = tg.models.create("gpt2", rng=np.random.default_rng(0), **SIZES)
    model.save(tmp_path)
    return model, tmp_path


def edit(folder, **changes):
    """Change keys of config.json; a value of ... removes the key."""
    path = folder / "config.json"
    values = {k: v for k, v in {**json.loads(path.read_text()), **changes}.items() if v is not ...}
    path.write_text(json.dumps(values))


def equal(a, b):
    ours, theirs = dict(a.named_parameters()), dict(b.named_parameters())
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        np.testing.assert_array_equal(value.data, theirs[name].data, err_msg=name)


# -- what is written is read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt", "gpt3-125m", "transformer-base", "electra-small"])
def test_families_that_transformers_cannot_judge_come_back(name, tmp_path):
    more = {"d_ff": 9, "decoder_layers": 1} if name.startswith("trans") else {"intermediate_size": 16, "embedding_size": 6}
    more = {} if name.startswith("gpt") else more
    sizes = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=4, vocab_size=23, max_position_embeddings=9, **more)
    model = tg.models.create(name, "joint" if name.startswith("electra") else None, rng=np.random.default_rng(0), **sizes)
    model.save(tmp_path)
    again = tg.models.load(tmp_path)
    assert type(again) is type(model)
    equal(model, again)
    if name.startswith("electra"):
        assert again.generator.electra.tokens is again.discriminator.electra.tokens


def test_the_library_of_the_format_reads_our_files(saved):
    model, folder = saved
    stored = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(stored["transformer.h.1.mlp.c_fc.weight"], model.transformer.layers[1].mlp.up.weight.data.T)
    q = model.transformer.layers[0].attn.q.weight.data
    np.testing.assert_array_equal(stored["transformer.h.0.attn.c_attn.weight"][:, :12], q.T)
    assert "lm_head.weight" not in stored


@pytest.mark.parametrize("prefix", [True, False])
def test_names_with_and_without_the_prefix(saved, prefix):
    model, folder = saved
    stored = load_file(folder / "model.safetensors")
    renamed = {n if prefix else n.removeprefix("transformer."): v for n, v in stored.items()}
    renamed["h.0.attn.bias"] = np.ones((1, 1, 9, 9), np.float32)  # the causal mask, which old files hold
    save_file(renamed, folder / "model.safetensors")
    equal(model, tg.models.load(folder))
    edit(folder, architectures=["GPT2Model"])
    equal(model.transformer, tg.models.load(folder))


def test_names_of_old_files(tmp_path):
    """gamma and beta; buffers that any code can make; and of BART's one table all three names, without the prefix."""
    model = tg.models.create("bert-base", "masked_lm", **TINY)
    for i, value in enumerate(model.parameters()):
        value.data[...] = i
    model.save(tmp_path)
    path = tmp_path / "model.safetensors"
    old = {n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v for n, v in load_file(path).items()}
    assert sum(n.endswith(("gamma", "beta")) for n in old) == 8
    save_file({**old, "bert.embeddings.position_ids": np.arange(9)[None]}, path)
    equal(model, tg.models.load(tmp_path))

    model = tg.models.create("llama-7b", **TINY)
    model.save(tmp_path)
    save_file({**load_file(path), "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)}, path)
    equal(model, tg.models.load(tmp_path))

    model = tg.models.create("bart-base", "seq2seq_lm", decoder_layers=1, **SMALL)
    model.save(tmp_path)
    bare = {n.removeprefix("model."): v for n, v in load_file(path).items()}
    save_file({**bare, **{f"{side}.embed_tokens.weight": bare["shared.weight"] for side in ("encoder", "decoder")}}, path)
    equal(model, tg.models.load(tmp_path))
    save_file({n if n == "final_logits_bias" else f"model.{n}": v for n, v in load_file(path).items()}, path)
    edit(tmp_path, architectures=["BartModel"])
    equal(model.model, tg.models.load(tmp_path))


def test_what_is_no_checkpoint_is_said(saved, monkeypatch):
    model, folder = saved
    with pytest.raises(ValueError, match="save: dtype 'int8' is not supported; there are float64, float32, float16, bfloat16"):
        model.save(folder / "other", dtype="int8")
    assert not (folder / "other").exists()
    edit(folder, architectures=..., model_type=...)
    with pytest.raises(tg.models.ConfigError, match="config.json: missing architectures .and model_type.; supported .* gpt2"):
        tg.models.load(folder)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"somebody/model: no such directory; .* pip install 'tinygrad-llm\[hub\]'"):
        tg.models.load("somebody/model")
    for name in ("a/b/c", "./here", "/gone", str(folder / "gone")):
        with pytest.raises(FileNotFoundError, match="no such directory$"):
            tg.models.load(name)


def test_how_another_model_generates_does_not_stay_behind(saved):
    model, folder = saved
    (folder / "generation_config.json").write_text('{"num_beams": 4}')
    assert tg.models.load(folder).generation_config == {"num_beams": 4}
    tg.models.load(folder).save(folder)
    assert tg.models.load(folder).generation_config == {"num_beams": 4}
    model.save(folder)
    assert not (folder / "generation_config.json").exists() and tg.models.load(folder).generation_config is None


@pytest.mark.parametrize("chunk", [1, 60, 1 << 20])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_of_any_shape_are_read_in_pieces_of_any_size(chunk, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_file, "CHUNK", chunk)
    values = {"matrix": np.arange(35.0, dtype=np.float32).reshape(5, 7), "number": np.float32(3.0).reshape(()),
              "empty": np.zeros((0, 3), np.float32), "again": np.arange(35.0, dtype=np.float32).reshape(5, 7)}  # fmt: skip
    values["other"] = values["matrix"] + np.eye(5, 7, k=2, dtype=np.float32)
    write(tmp_path / "f.safetensors", [(n, v.shape, lambda v=v: v) for n, v in values.items()], dtype, {"format": "pt"})
    entries = TensorFile(tmp_path / "f.safetensors").entries()

    def read(name, shape, *how):
        out = np.full(shape, np.nan, np.float32)
        entries[name].copy_to(out, *how)
        return out

    for name, value in values.items():
        np.testing.assert_array_equal(read(name, value.shape), value)
    np.testing.assert_array_equal(read("matrix", (7, 5), True), values["matrix"].T)
    np.testing.assert_array_equal(read("matrix", (2, 7), False, (2, 4)), values["matrix"][2:4])
    np.testing.assert_array_equal(read("matrix", (3, 5), True, (4, 7)), values["matrix"].T[4:7])
    with pytest.raises(tg.models.CheckpointError, match=r"f.safetensors: matrix: expected \(7, 5\), got \(5, 7\)"):
        read("matrix", (7, 5))
    if chunk > 1:  # less than a number of the file
        same = lambda a, b: tensor_file.same(entries[a], entries[b])
        assert same("matrix", "again") and not same("matrix", "other") and not same("matrix", "empty")


def test_a_folder_may_lie_in_the_users_home(saved, monkeypatch):
    model, folder = saved
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(folder.parent))
    equal(model, tg.models.load(f"~/{folder.name}"))


def test_shards_and_what_an_earlier_save_left(saved):
    model, folder = saved
    model.save(folder, shard_bytes=3000)
    shards = sorted(p.name for p in folder.glob("*.safetensors"))
    assert len(shards) > 2 and "model.safetensors" not in shards
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    sizes = [[value.nbytes for value in load_file(folder / name).values()] for name in shards]
    assert index["metadata"]["total_size"] == sum(map(sum, sizes)) and set(index["weight_map"].values()) == set(shards)
    assert all(sum(one) <= 3000 or len(one) == 1 for one in sizes), "at most so many bytes, but one tensor at least"
    assert all(sum(one) + sum(two) > 3000 for one, two in zip(sizes, sizes[1:]))
    for name in shards:
        with safe_open(folder / name, "np") as file:
            assert file.metadata() == {"format": "pt"}  # without, transformers refuses it
    assert shards == [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    equal(model, tg.models.load(folder))
    two = [(name, (3,), None) for name in "ab"]
    assert [len(saving.split(two, 4, limit)) for limit in (24, 23)] == [1, 2]
    others = ["model-ema.safetensors", "model_best.safetensors", "model.safetensors.bak"]
    for name in others:
        (folder / name).write_text("somebody's")
    model.save(folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*others, "config.json", "model.safetensors"])


def test_bfloat16_is_exact_for_every_pattern(tmp_path):
    patterns = np.arange(2**16, dtype=np.uint16)
    values = (patterns.astype(np.uint32) << 16).view(np.float32)
    write(tmp_path / "all.safetensors", [("x", values.shape, lambda: values)], "bfloat16", {})
    got = np.empty(values.shape, np.float32)
    TensorFile(tmp_path / "all.safetensors").entries()["x"].copy_to(got)
    np.testing.assert_array_equal(got, values)
    with safe_open(str(tmp_path / "all.safetensors"), framework="numpy") as file:
        assert file.get_slice("x").get_dtype() == "BF16"


def test_bfloat16_rounds_to_nearest_even():
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], np.float32)
    got = (to_bfloat16(ties).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(got, np.array([1.0, 1 + 2**-6, 1 + 2**-7], np.float32))


@pytest.mark.parametrize(("asked", "stored"), [("float16", np.float16), ("float64", np.float64)])
def test_other_precisions(saved, asked, stored):
    model, folder = saved
    model.save(folder, dtype=asked)
    assert load_file(folder / "model.safetensors")["transformer.ln_f.weight"].dtype == stored
    again = tg.models.load(folder)
    assert again.transformer.tokens.weight.dtype == (np.float64 if asked == "float64" else np.float32)
    assert tg.models.load(folder, dtype="float64").transformer.tokens.weight.dtype == np.float64


def test_the_config_comes_last(saved, monkeypatch):
    """A folder has one only when all that it describes is there."""
    model, folder = saved
    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (moved.append(new.name), replace(old, new)))
    model.save(folder, shard_bytes=3000)
    kinds = [name.rpartition(".")[2] for name in moved]
    assert kinds == sorted(kinds, reverse=True) and set(kinds) == {"safetensors", "json"}


def test_a_failed_save_leaves_the_old_files(saved, monkeypatch):
    model, folder = saved
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_another_head_on_a_published_base(tmp_path):
    base = tg.models.create("bert-base", "pretraining", rng=np.random.default_rng(0), **TINY)
    base.save(tmp_path)
    model = tg.models.load(tmp_path, architecture="BertForSequenceClassification", rng=np.random.default_rng(1))
    np.testing.assert_array_equal(model.bert.tokens.weight.data, base.bert.tokens.weight.data)
    assert model.classifier.weight.data.std() == pytest.approx(0.02, rel=0.5)
    edit(tmp_path, num_hidden_layers=2)
    with pytest.raises(ValueError, match=r"missing bert.encoder.layer.1"):
        tg.models.load(tmp_path, architecture="BertForSequenceClassification")


def test_what_a_caller_asks_for_goes_before_what_the_config_says(saved):
    _, folder = saved
    model = tg.models.load(folder, architecture="GPT2ForSequenceClassification", num_labels=5, resid_pdrop=0.25)
    assert model.score.weight.shape == (5, 12) and model.transformer.layers[0].drop.p == 0.25
    with pytest.raises(ValueError, match="^architecture: unknown architecture 'GPT2'"):
        tg.models.load(folder, architecture="GPT2")


@pytest.mark.parametrize(("name", "head"), [
    ("bert-base", "masked_lm"), ("bert-base", "pretraining"), ("roberta-base", "token_classification"), ("albert-base", "masked_lm"),
    ("electra-small", "masked_lm"), ("electra-small", "joint"), ("gpt2", "causal_lm"), ("gpt2", "base"), ("llama-7b", "causal_lm"),
    ("t5-small", "seq2seq_lm"), ("bart-base", "seq2seq_lm"), ("transformer-base", "seq2seq_lm"),
])  # fmt: skip
@pytest.mark.parametrize("change", [3, -2])
def test_a_vocabulary_becomes_larger_or_smaller(tmp_path, name, head, change):
    model = tg.models.create(name, head, rng=np.random.default_rng(0), **TINY)
    tokens, n = model.without_head().tokens.weight, model.config.vocab_size + change
    tokens.requires_grad_(False)
    before = {path: p.numpy().copy() for path, p in model.named_parameters()}
    assert model.resize_token_embeddings(n) is model and model.config.vocab_size == n
    assert model.without_head().tokens.weight is tokens and not tokens.requires_grad
    resized = 0
    for path, p in model.named_parameters():
        old, kept = before[path], min(len(p), len(before[path]))
        np.testing.assert_array_equal(p.data[:kept], old[:kept])
        if p.shape != old.shape:
            resized += 1
            mean = 0.0 if p.ndim == 1 and model.config.tie_word_embeddings else old.mean(axis=0)
            np.testing.assert_allclose(p.data[kept:], np.broadcast_to(mean, p.data[kept:].shape), rtol=1e-6, atol=1e-9)
    assert resized >= 1
    ids = np.arange(n - 4, n)[None]  # the last tokens among them
    inputs = {"decoder_input_ids": ids} if model.is_encoder_decoder else {"labels": ids} if head == "joint" else {}
    out = model(input_ids=ids, **inputs)
    logits = out.generator_logits if head == "joint" else word_logits(out)
    assert head in ("base", "token_classification") or logits.shape == (1, 4, n)
    if head != "joint":
        model.save(tmp_path)
        other = tg.models.load(tmp_path)
        assert all(np.array_equal(p.data, q.data) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_an_optimizer_that_was_there_before_the_vocabulary_grew_says_so():
    model = tg.models.create("gpt2", rng=np.random.default_rng(0), **TINY)
    optimizer = tg.optim.AdamW(model.parameters())
    model.resize_token_embeddings(model.config.vocab_size + 1)
    model(input_ids=[[1, 2]], labels=[[1, 2]]).loss.backward()
    with pytest.raises(ValueError, match=r"had shape \(\d+, 12\) when the optimizer was made and has \(\d+, 12\) now; make the opt"):
        optimizer.step()


@pytest.mark.parametrize("name", ["bert-base", "roberta-base", "gpt2", "bart-base"])
def test_a_head_for_another_number_of_labels_is_new_where_it_is_asked_for(tmp_path, name):
    model = tg.models.create(name, "sequence_classification", num_labels=3, rng=np.random.default_rng(0), **TINY)
    model.save(tmp_path)
    architecture = type(model).__name__
    with pytest.raises(tg.models.CheckpointError, match=rf"architecture='{architecture}' and num_labels=\.\.\. make a new head"):
        tg.models.load(tmp_path, num_labels=5)
    with pytest.raises(tg.models.CheckpointError, match="the config asks for"):
        edit(tmp_path, id2label={str(i): "abcd"[i] for i in range(4)}, num_labels=4)
        tg.models.load(tmp_path, architecture=architecture)
    for names in ({"num_labels": 5}, {"id2label": dict(enumerate("abcde"))}):
        other = tg.models.load(tmp_path, architecture=architecture, rng=np.random.default_rng(1), **names)
        for (path, old), (_, new) in zip(model.named_parameters(), other.named_parameters(), strict=True):
            if old.shape == new.shape:
                np.testing.assert_array_equal(old.data, new.data, err_msg=path)
            else:
                assert (old.shape[0], new.shape[0]) == (3, 5) and np.isfinite(new.data).all()
        assert sum(old.shape != p.shape for old, p in zip(model.parameters(), other.parameters(), strict=True)) in (1, 2)
    same = tg.models.load(tmp_path, architecture=architecture, num_labels=3)
    assert all(np.array_equal(p.data, q.data) for p, q in zip(model.parameters(), same.parameters(), strict=True))


def test_questions_on_a_classifier_s_base_have_two_labels(tmp_path):
    """transformers takes the number of outputs from the config that we save."""
    tg.models.create("bert-base", "sequence_classification", num_labels=3, rng=np.random.default_rng(0), **TINY).save(tmp_path)
    edit(tmp_path, id2label={"0": "yes", "1": "no", "2": "maybe"})
    tg.models.load(tmp_path, architecture="BertForQuestionAnswering").save(tmp_path / "questions")
    config = json.loads((tmp_path / "questions" / "config.json").read_text())
    assert len(config["id2label"]) == len(config["label2id"]) == 2


@pytest.mark.parametrize(("name", "architecture"), [
    ("gpt", "OpenAIGPTForSequenceClassification"), ("gpt2", "GPT2ForSequenceClassification"),
    ("gpt2", "GPT2ForTokenClassification"), ("gpt3-125m", "GPT3ForSequenceClassification"),
    ("llama-7b", "LlamaForTokenClassification"), ("llama-7b", "LlamaForSequenceClassification"), ("qwen3-0.6b", "Qwen3ForSequenceClassification"),
])  # fmt: skip
def test_a_language_model_starts_a_classifier(name, architecture, tmp_path):
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=23)
    sizes |= {} if "gpt" in name else dict(num_key_value_heads=1, intermediate_size=9, head_dim=8)
    base = tg.models.create(name, rng=np.random.default_rng(0), **sizes)
    base.save(tmp_path)
    model = tg.models.load(tmp_path, architecture=architecture, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(model.base.tokens.weight.data, base.base.tokens.weight.data)
    model.save(tmp_path / "tuned")
    assert json.loads((tmp_path / "tuned" / "config.json").read_text())["architectures"] == [architecture]
    again, ids = tg.models.load(tmp_path / "tuned"), [[5, 6, 7]]
    np.testing.assert_array_equal(again(ids).logits.data, model(ids).logits.data)


@pytest.mark.parametrize("name", ["gpt", "gpt2", "gpt3-125m", "llama-7b"])
def test_a_decoder_classifies_by_its_last_real_token(name):
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=23)
    sizes |= {} if "gpt" in name else dict(intermediate_size=9)
    model = tg.models.create(name, "sequence_classification", rng=np.random.default_rng(0), pad_token_id=0, **sizes).eval()
    texts = [[5, 6, 7], [8, 9, 10, 11, 12]]
    alone = [model([text]).logits.data[0] for text in texts]
    padded, mask = np.array([[5, 6, 7, 0, 0], texts[1]]), np.array([[1, 1, 1, 0, 0], [1] * 5])
    for out in (model(padded, mask), model(padded), model(np.where(mask, padded, 3), mask, labels=[0, 1])):
        np.testing.assert_allclose(out.logits.data, alone, rtol=1e-5, atol=1e-6)
    assert out.loss is not None and model([[0, 0]]).logits.shape == (1, 2)
    vectors = model.base.tokens(np.array(texts[1:])).data
    np.testing.assert_allclose(model(inputs_embeds=vectors).logits.data, alone[1:], rtol=1e-5, atol=1e-6)
    pairs = np.tril(np.ones((5, 5), int)) * mask[:, None]
    for form in (pairs, pairs[:, None]):
        np.testing.assert_allclose(model(padded, form).logits.data, alone, rtol=1e-5, atol=1e-6)
    with tg.no_grad():  # the first positions from a cache
        cache = model.base.make_cache()
        model(padded[:, :2], mask[:, :2], past_key_values=cache)
        out = model(padded[:, 2:], mask, past_key_values=cache)
    np.testing.assert_allclose(out.logits.data, alone, rtol=1e-4, atol=1e-5)
    unpadded = tg.models.create(name, "sequence_classification", rng=np.random.default_rng(0), pad_token_id=None, **sizes).eval()
    np.testing.assert_allclose(unpadded(padded).logits.data[0], model(padded[:1], [[1] * 5]).logits.data[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "architecture"), [
    ("bert-base", "BertForSequenceClassification"), ("bert-base", "BertModel"), ("bert-base", "BertForNextSentencePrediction"),
    ("albert-base", "AlbertForSequenceClassification"),
])  # fmt: skip
def test_a_masked_language_model_has_no_pooler_and_starts_a_classifier_all_the_same(name, architecture, tmp_path):
    tg.models.create(name, "masked_lm", rng=np.random.default_rng(0), **TINY | dict(num_hidden_layers=2)).save(tmp_path)
    model = tg.models.load(tmp_path, architecture=architecture, rng=np.random.default_rng(1))
    base = model.base if model.holds_base() else model
    assert base.pooler.dense.weight.data.std() == pytest.approx(0.02, rel=0.5)
    kept = tg.models.load(tmp_path).base.tokens.weight.data
    np.testing.assert_array_equal(base.tokens.weight.data, kept)


@pytest.mark.parametrize(("name", "head", "architecture", "more"), [
    ("bert-base", "pretraining", "BertModel", []), ("bert-base", "pretraining", "BertForMaskedLM", []),
    ("albert-base", "pretraining", "AlbertModel", []), ("albert-base", "pretraining", "AlbertForMaskedLM", []),
    ("roberta-base", "base", "RobertaModel", ["lm_head.dense.weight"]),
    ("roberta-base", "masked_lm", "RobertaForMaskedLM", ["roberta.pooler.dense.weight", "lm_head.bias"]),  # not tied
    ("electra-small", "pretraining", "ElectraModel", ["generator_lm_head.weight", "generator_predictions.dense.weight"]),
    ("bart-base", "seq2seq_lm", "BartModel", ["encoder.version"]),
    ("bart-base", "seq2seq_lm", "BartForConditionalGeneration", ["model.decoder.version"]),
])  # fmt: skip
def test_a_file_may_hold_more_than_the_class_that_its_config_names(name, head, architecture, more, tmp_path):
    """The heads of pretraining, mostly, that published files have."""
    sizes = SMALL | (dict(decoder_layers=1, decoder_attention_heads=2) if name == "bart-base" else dict(intermediate_size=9))
    model = tg.models.create(name, head, rng=np.random.default_rng(0), tie_word_embeddings=name != "roberta-base", **sizes)
    model.save(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({**load_file(path), **{n: np.zeros(1, np.float32) for n in more}}, path)
    edit(tmp_path, architectures=[architecture])
    tokens = tg.models.load(tmp_path).without_head().tokens.weight.data
    np.testing.assert_array_equal(tokens, model.without_head().tokens.weight.data)


@pytest.mark.parametrize(("name", "bias"), [("bert-base", "cls.predictions"), ("roberta-base", "lm_head"), ("albert-base", "predictions")])
def test_the_bias_of_a_masked_language_model_may_lie_under_either_name(name, bias, tmp_path):
    model = tg.models.create(name, "masked_lm", rng=np.random.default_rng(0), **TINY)
    model.head.bias.data[...] = np.arange(23)
    model.save(tmp_path)
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    values = stored.pop(f"{bias}.bias")
    save_file({**stored, f"{bias}.decoder.bias": values}, path)
    equal(model, tg.models.load(tmp_path))
    save_file({**stored, f"{bias}.bias": values, f"{bias}.decoder.bias": values + 1}, path)
    with pytest.raises(ValueError, match=f"{bias}.decoder.bias differs from {bias}.bias"):
        tg.models.load(tmp_path)


def test_another_head_of_the_same_name_stays_behind(tmp_path):
    tg.models.create("roberta-base", "sequence_classification", rng=np.random.default_rng(0), **TINY).save(tmp_path)
    model = tg.models.load(tmp_path, architecture="RobertaForTokenClassification")  # classifier.weight, not classifier.dense.weight
    assert model.classifier.weight.shape == (2, 12)


def test_another_head_takes_all_of_the_base(tmp_path):
    tg.models.create("bert-base", "pretraining", rng=np.random.default_rng(0), **TINY | dict(num_hidden_layers=2)).save(tmp_path)
    edit(tmp_path, num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"left over bert.encoder.layer.1"):
        tg.models.load(tmp_path, architecture="BertForSequenceClassification")


def test_an_untied_t5_without_its_head(tmp_path):
    sizes = dict(d_model=16, vocab_size=20, d_ff=8, d_kv=4, num_layers=1, num_heads=2)
    model = tg.models.create("t5-v1_1-small", rng=np.random.default_rng(0), **sizes)
    model.save(tmp_path)
    base = tg.models.load(tmp_path, architecture="T5Model")
    np.testing.assert_array_equal(base.tokens.weight.data, model.tokens.weight.data)


def test_the_encoder_of_a_t5_makes_vectors_of_sentences(tmp_path):
    sizes = dict(d_model=16, vocab_size=20, d_ff=8, d_kv=4, num_layers=2, num_heads=2)
    whole = tg.models.create("t5-small", rng=np.random.default_rng(0), **sizes).eval()
    whole.save(tmp_path)
    model = tg.models.load(tmp_path, architecture="T5EncoderModel").eval()
    ids, mask = np.array([[5, 6, 7, 0], [8, 9, 10, 11]]), np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(model(ids, mask).last_hidden_state.data, whole.encode(ids, mask).last_hidden_state.data)
    vectors = model.sentence_embeddings(ids, mask).data
    np.testing.assert_allclose(vectors[0], model(ids[:1, :3]).last_hidden_state.data[0].mean(axis=0), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "encoder")
    edit(tmp_path / "encoder", is_encoder_decoder=False)  # as transformers writes it
    np.testing.assert_array_equal(tg.models.load(tmp_path / "encoder").sentence_embeddings(ids, mask).data, vectors)
    found = differences.facts(str(tmp_path / "encoder"))
    assert (found["stack"], found["window"], found["layers"]) == ("encoder", "all", "2")
    with pytest.raises(TypeError, match="T5EncoderModel cannot generate"):
        model.generate(ids)


TWINS = {
    "gpt": ("tokens_embed.weight", ["lm_head.weight"]), "gpt2": ("transformer.wte.weight", ["lm_head.weight"]),
    "qwen2-0.5b": ("model.embed_tokens.weight", ["lm_head.weight"]),
    "bart-base": ("model.shared.weight", ["lm_head.weight", "model.encoder.embed_tokens.weight",
                                          "model.decoder.embed_tokens.weight"]),
    "t5-small": ("shared.weight", ["lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]),
    **dict.fromkeys(("bart-base/base", "t5-small/base"),
                    ("shared.weight", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])),
    "bart-base/sequence_classification": ("model.shared.weight", ["model.encoder.embed_tokens.weight",
                                                                  "model.decoder.embed_tokens.weight"]),
    "t5-small/encoder": ("shared.weight", ["encoder.embed_tokens.weight"]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "twin"), [(name, twin) for name, (_, twins) in TWINS.items() for twin in twins])
def test_a_tied_matrix_may_lie_under_either_name(name, twin, tmp_path):
    preset, _, head = name.partition("/")
    more = {"bart-base": dict(decoder_layers=1, max_position_embeddings=9), "qwen2-0.5b": dict(intermediate_size=9)}.get(preset, {})
    model = tg.models.create(preset, head or None, rng=np.random.default_rng(0), **SMALL, **more)
    model.save(tmp_path)
    path, published = tmp_path / "model.safetensors", TWINS[name][0]
    stored = load_file(path)
    whole = published if published in stored else f"transformer.{published}"
    matrix = stored.pop(whole)
    save_file({**stored, twin: matrix}, path)  # as safetensors.torch.save_model does, which keeps the first name
    equal(model, tg.models.load(tmp_path))
    half = matrix.astype(np.float16)
    save_file({**stored, whole: half.astype(np.float32), twin: half}, path)  # equal numbers in another dtype
    tg.models.load(tmp_path)
    save_file({**stored, whole: matrix, twin: matrix + 1}, path)
    with pytest.raises(ValueError, match=f"{twin} differs from {whole}, but .* has one matrix for both"):
        tg.models.load(tmp_path)


def test_a_bart_of_several_embeddings_is_refused(tmp_path):
    sizes = dict(hidden_size=12, num_hidden_layers=1, decoder_layers=1, num_attention_heads=2, vocab_size=23)
    tg.models.create("bart-base", rng=np.random.default_rng(0), **sizes).save(tmp_path)
    edit(tmp_path, tie_word_embeddings=False)
    with pytest.raises(ValueError, match="config.json: tie_word_embeddings = False is not supported"):
        tg.models.load(tmp_path)


def test_models_compute_in_single_or_double_precision(saved):
    _, folder = saved
    for dtype in ("float16", "bfloat16", np.int64):
        with pytest.raises(ValueError, match="models compute in float32 or float64"):
            tg.models.load(folder, dtype=dtype)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak of memory from /proc")
def test_loading_takes_little_more_than_the_weights(tmp_path):
    """Peak memory of a process that loads, less that of one that only imports: at most 1.3 times the weights."""
    model = tg.models.create("gpt2", n_embd=512, n_layer=4, n_head=8, vocab_size=30000, rng=np.random.default_rng(0))
    model.save(tmp_path)
    nbytes = 4 * model.num_parameters()
    script = """
        import re, sys
        import tinygrad_llm as tg, tinygrad_llm.models
        peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1))
        before = peak()
        model = tg.models.load(sys.argv[1])
        print(peak() - before)
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=True)
    assert 0.9 * nbytes < int(out.stdout) <= 1.3 * nbytes, int(out.stdout) / nbytes


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "message"), [
    ({"n_embd": ...}, "missing n_embd"),
    ({"n_layer": ..., "vocab_size": ...}, "missing vocab_size, n_layer"),
    ({"n_embd": 13}, "n_embd = 13 is not a multiple of n_head = 3"),
    ({"n_layer": 10**9}, "n_layer: expected an int from 1 to 10000"),
    ({"n_layer": -2}, "n_layer: expected an int"),
    ({"vocab_size": 2**31}, "vocab_size: expected an int from 1 to 2147483647"),
    ({"n_head": 1.5}, "n_head: expected an int"),
    ({"n_head": True}, "n_head: expected an int"),
    ({"vocab_size": "23"}, "vocab_size: expected an int"),
    ({"resid_pdrop": 1.5}, r"resid_pdrop: expected a probability in \[0, 1\)"),
    ({"layer_norm_epsilon": 0}, "layer_norm_epsilon: expected a positive number"),
    ({"activation_function": "sine"}, "activation_function: expected one of 'gelu_new'"),
    ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: expected true or false"),
    ({"eos_token_id": "end"}, "eos_token_id: expected a token id"),
    ({"n_heads": 4}, "unknown key 'n_heads' = 4.*did you mean 'n_head'"),
    ({"mixture_of_experts": 8}, "unknown key 'mixture_of_experts'"),
    ({"add_cross_attention": True}, "add_cross_attention = True is not supported"),
    ({"is_decoder": True}, "is_decoder = True is not supported, only False"),
    ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key' is not supported"),
    ({"quantization": {"group_size": 64, "bits": 4}}, "quantization: quantized weights are not supported"),
    ({"scale_attn_weights": 0.5}, "scale_attn_weights: expected true or false"),
    ({"architectures": ["GPT2LMHeadModle"]}, "unknown architecture 'GPT2LMHeadModle'; did you mean 'GPT2LMHeadModel'"),
    ({"architectures": ["SwinModel"]}, "unknown architecture 'SwinModel'"),
    ({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}, "its model_type 'mixtral' is not supported, only bert"),
    ({"architectures": ["GPT2DoubleHeadsModel"]},
     "supported are GPT2ForSequenceClassification, GPT2ForTokenClassification, GPT2LMHeadModel, GPT2Model; with architecture="),
    ({"quantization_config": {"bits": 4}}, "quantization_config: quantized weights are not supported"),
    ({"architectures": ..., "model_type": "swin"}, "unknown model_type 'swin'"),
    ({"model_type": "swin"}, "GPT2LMHeadModel does not go with model_type 'swin', only gpt2"),
    ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM does not go with model_type 'gpt2', only bert"),
    ({"architectures": "GPT2LMHeadModel"}, "architectures: expected a list"),
    ({"architectures": [3]}, r"architectures: expected a list of class names, got \[3\]"),
])  # fmt: skip
def test_a_bad_config_is_refused_by_key(saved, changes, message):
    _, folder = saved
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        tg.models.load(folder)
    assert "config.json" in str(caught.value)


def test_an_absurd_size_costs_no_memory(saved):
    import tracemalloc

    _, folder = saved
    edit(folder, n_embd=3 * 10**8, vocab_size=2 * 10**9)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"model.safetensors: transformer.wte.weight has shape \(23, 12\)"):
            tg.models.load(folder)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_wrong_weights_are_refused_by_name(saved):
    _, folder = saved
    path = folder / "model.safetensors"
    stored = load_file(path)
    part = "transformer.h.1.mlp.c_fc.weight"
    for change, message in [
        ({part: None}, f"missing {part}"),
        ({"transformer.h.7.mlp.c_fc.weight": stored[part]}, "left over transformer.h.7.mlp.c_fc.weight"),
        ({part: np.ascontiguousarray(stored[part].T)}, r"c_fc.weight has shape \(48, 12\), the config asks for \(12, 48\)"),
        ({part: stored[part].astype(np.int64)}, "c_fc.weight has dtype I64, expected floats"),
        ({"lm_head.weight": stored["transformer.wte.weight"] + 1}, "lm_head.weight differs from transformer.wte.weight"),
    ]:
        save_file({n: v for n, v in {**stored, **change}.items() if v is not None}, path)
        with pytest.raises(ValueError, match=message):
            tg.models.load(folder)
    save_file({**stored, "lm_head.weight": stored["transformer.wte.weight"].copy()}, path)
    tg.models.load(folder)  # tied, and stored twice: fine


def test_four_names_are_told_and_how_many_more():
    assert [checkpoint.some(list("abcdef")[:n]) for n in (1, 4, 5, 6)] == ["a", "a, b, c, d", "a, b, c, d and 1 more", "a, b, c, d and 2 more"]


def test_an_output_matrix_of_its_own_does_not_stand_for_the_embedding(tmp_path):
    tg.models.create("qwen2-0.5b", num_key_value_heads=2, tie_word_embeddings=False, **TINY).save(tmp_path)
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    del stored["model.embed_tokens.weight"]
    save_file(stored, path)
    with pytest.raises(tg.models.CheckpointError, match="missing model.embed_tokens.weight$"):
        tg.models.load(tmp_path)


def test_broken_files_are_named(saved, monkeypatch):
    _, folder = saved
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: not a complete safetensors file"):
        tg.models.load(folder)
    path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="neither model.safetensors nor .* found pytorch_model.bin"):
        tg.models.load(folder)
    for content in (b"{", b'{"a":' * 100_000, b'{"a": "\xff"}'):
        (folder / "config.json").write_bytes(content)
        with pytest.raises(ValueError, match="config.json: not valid JSON"):
            tg.models.load(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="config.json: expected a JSON object, got list"):
        tg.models.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="no config.json there"):
        tg.models.load(folder)
    (folder / "notes").write_text("x")
    monkeypatch.chdir(folder)
    with pytest.raises(NotADirectoryError, match="notes: expected a checkpoint's directory, got a file"):
        tg.models.load("notes")  # not looked for on the Hub
    with pytest.raises(FileNotFoundError, match="no such directory"):
        tg.models.load(folder / "nowhere")


def test_a_shard_that_is_not_there(saved):
    model, folder = saved
    model.save(folder, shard_bytes=3000)
    sorted(folder.glob("*.safetensors"))[1].unlink()
    with pytest.raises(FileNotFoundError, match="index.json names model-00002-of"):
        tg.models.load(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../../etc/passwd"}}))
    with pytest.raises(FileNotFoundError, match="passwd"):
        tg.models.load(folder)
    (folder / "below").mkdir()
    save_file({"x": np.zeros(1, np.float32)}, folder / "below" / "x.safetensors")
    index.write_text(json.dumps({"weight_map": {"x": "below/x.safetensors"}}))
    with pytest.raises(FileNotFoundError, match="names below/x.safetensors, which is not in that folder"):
        tg.models.load(folder)
    index.write_text(json.dumps({"weight_map": {"x": 3}}))
    with pytest.raises(ValueError, match="weight_map: expected a file's name for x, got 3"):
        tg.models.load(folder)
    index.write_text(json.dumps({"weight_map": {"x": next(folder.glob("model-00001-of-*")).name}}))
    with pytest.raises(ValueError, match="x should be in model-00001-of-.*, and is not"):
        tg.models.load(folder)
    index.write_text(json.dumps({"metadata": {}}))
    with pytest.raises(ValueError, match="index.json: missing weight_map"):
        tg.models.load(folder)


def test_create_names_what_it_does_not_know():
    with pytest.raises(ValueError, match="has no 'num_layers'; did you mean"):
        tg.models.create("gpt2", num_layers=3)
    with pytest.raises(ValueError, match="no head 'masked_lm'; there are base, causal_lm"):
        tg.models.create("gpt2", "masked_lm")
    with pytest.raises(TypeError, match="expected a GPT2Config, got LlamaConfig"):
        tg.models.gpt2.GPT2Model(tg.models.preset_config("llama-7b"))


# -- inputs ------------------------------------------------------------------------------------------------------------


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


def test_saving_after_surgery_says_that_the_config_does_not_describe_it(tmp_path):
    model = tg.models.create("llama-7b", num_hidden_layers=2, hidden_size=16, intermediate_size=32, num_attention_heads=2, vocab_size=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "plain")
    model.lm_head.weight = model.model.tokens.weight
    with pytest.warns(UserWarning, match=r"load will refuse .*tied, .*: lm_head\.weight; change model\.config"):
        model.save(tmp_path / "tied")
    with pytest.raises(tg.models.CheckpointError, match="missing lm_head.weight"):
        tg.models.load(tmp_path / "tied")
    model.config = model.config.replace(tie_word_embeddings=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "tied")
    ids = np.array([[1, 5, 3]])
    np.testing.assert_array_equal(tg.models.load(tmp_path / "tied")(input_ids=ids).logits.data, model(input_ids=ids).logits.data)


def test_an_adapter_is_saved_under_its_own_names_beside_the_published_ones(tmp_path):
    class Adapted(tg.nn.Module):
        def __init__(self, base):
            self.base = base
            self.down, self.up = (tg.Tensor(np.full(s, n, np.float32), requires_grad=True) for n, s in ((1, (2, 16)), (2, (16, 2))))

        def forward(self, x):
            return self.base(x) + tg.functional.linear(tg.functional.linear(x, self.down), self.up)

    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=20, n_positions=8)
    attn = model.transformer.layers[0].attn
    attn.q = Adapted(attn.q)
    with pytest.warns(UserWarning, match=r"load will refuse .*attn\.q\.base\.bias"):
        model.save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    for name, value in attn.named_parameters("transformer.layers.0.attn"):
        if not name.startswith("transformer.layers.0.attn.o"):
            np.testing.assert_array_equal(stored[name], value.data, err_msg=name)
    assert stored["transformer.h.1.attn.c_attn.weight"].shape == (16, 48)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=9, vocab_size=23)
    model = tg.models.create("bert-base", "base", **sizes)  # one published tensor for each of ours
    model.layers[0].attn.q = Adapted(model.layers[0].attn.q)
    with pytest.warns(UserWarning, match="load will refuse"):
        model.save(tmp_path)
    stored = set(load_file(tmp_path / "model.safetensors"))
    assert {n for n in stored if ".q" in n} == {f"layers.0.attn.q.{n}" for n in ("up", "down", "base.weight", "base.bias")}


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files in /proc")
def test_loading_closes_its_file_without_the_garbage_collector(saved):
    _, folder = saved
    open_files = lambda: len(os.listdir("/proc/self/fd"))  # noqa: E731
    gc.collect()
    gc.disable()
    try:
        before = open_files()
        for _ in range(5):
            tg.models.load(folder)
        assert open_files() == before
    finally:
        gc.enable()
