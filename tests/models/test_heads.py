"""Another head on a checkpoint's base."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tinygrad_llm as tg
from tests.models.small import SMALL, TINY, edit, equal
from tinygrad_llm.models import differences


def test_another_head_on_a_published_base(tmp_path):
    base = tg.models.create("bert-base", "pretraining", rng=np.random.default_rng(0), **TINY)
    base.save(tmp_path)
    model = tg.models.load(tmp_path, architecture="BertForSequenceClassification", rng=np.random.default_rng(1))
    np.testing.assert_array_equal(model.bert.tokens.weight.data, base.bert.tokens.weight.data)
    assert model.classifier.weight.data.std() == pytest.approx(0.02, rel=0.5)
    edit(tmp_path, num_hidden_layers=2)
    with pytest.raises(ValueError, match=r"missing bert.encoder.layer.1"):
        tg.models.load(tmp_path, architecture="BertForSequenceClassification")


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
