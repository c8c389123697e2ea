"""What a config.json means: keys left out, old words, keys that contradict each other; and what is written back."""

import dataclasses
import json

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.models import zoo
from tests.models.small import SMALL, edit
from tests.models.test_golden import GOLDEN

HEADS = dict(num_attention_heads=4, num_key_value_heads=2)
SIZES = dict(HEADS, hidden_size=16, intermediate_size=20, num_hidden_layers=3, vocab_size=40)
IDS = np.arange(14)[None]


def written(folder, name, head=None, **sizes):
    """A small model in a folder, its values large enough that a wrong window shows."""
    rng = np.random.default_rng(0)
    model = tg.models.create(name, head, rng=rng, **sizes)
    for value in model.parameters():
        value.data[...] = rng.standard_normal(value.shape)
    model.save(folder)
    return folder


def logits(folder, **changes):
    edit(folder, **changes)
    with tg.no_grad():
        return tg.models.load(folder)(IDS).logits.data


# -- sizes that follow others ------------------------------------------------------------------------------------------


def test_what_was_derived_is_derived_anew():
    config = tg.models.preset_config
    small = config("llama-7b", hidden_size=16, num_attention_heads=4)
    assert (small.num_key_value_heads, small.head_dim) == (4, 4)
    assert config("llama3.1-8b", num_attention_heads=16).num_key_value_heads == 8  # the preset's own
    assert small.replace(head_dim=6).replace(hidden_size=32).head_dim == 6  # the caller's own
    assert config("t5-small", num_layers=2).num_decoder_layers == 2
    assert config("t5-small", tie_word_embeddings=False).scale_decoder_outputs is False


@pytest.mark.parametrize(("key", "good", "bad"), [
    ("vocab_size", [1, 2**31 - 1], [0, 2**31, True, 5.0, None]),
    ("n_layer", [1, 10_000], [0, 10_001]),
    ("n_inner", [1, None], [0, "7"]),
    ("resid_pdrop", [0, 0.0, 0.999], [1, 1.0, -0.1, False, None, float("nan")]),
    ("layer_norm_epsilon", [1e-30, 1], [0, -1.0, float("inf"), float("nan"), True]),
    ("eos_token_id", [-1, 0, [3, 4], None], [-2, [], True, [3, True], 1.0, [[3]]]),
])  # fmt: skip
def test_where_the_values_of_a_key_end(key, good, bad):
    config = tg.models.preset_config("gpt2")
    for value in good:
        assert getattr(config.replace(**{key: value}), key) == value
    for value in bad:
        with pytest.raises(tg.models.ConfigError, match=f"^GPT2Config.{key}: expected .*, got"):
            config.replace(**{key: value})


def test_a_name_that_no_value_has_is_refused_and_its_neighbour_told():
    for name, hint in (("hiden_size", "; did you mean 'hidden_size'"), ("n_embed", "; did you mean 'n_embd'"), ("extra", "")):
        with pytest.raises(tg.models.ConfigError, match=f"GPT2Config has no '{name}'{hint}"):
            tg.models.preset_config("gpt2", **{name: 5})


def test_a_file_may_use_the_names_that_all_families_have_in_common():
    kind = tg.models.gpt2.GPT2Config
    own = dict(n_embd=12, n_layer=2, n_head=3, n_positions=9, n_inner=7, layer_norm_epsilon=1e-3)
    common = {{v: k for k, v in kind.attribute_map.items()}[name]: value for name, value in own.items()}
    read = kind.from_dict({"vocab_size": 23, **common, "model_type": "gpt2"})
    assert read == kind(vocab_size=23, bos_token_id=50256, eos_token_id=50256, **own)
    assert kind.from_dict(read.to_dict()) == kind.from_dict(read.to_dict() | {"model_type": "other"})


def test_what_a_caller_set_is_no_longer_derived():
    config = tg.models.preset_config("llama-7b")
    config.head_dim = 6
    assert config.replace(vocab_size=5).head_dim == 6


def test_one_word_for_all_rates_of_dropout_but_where_it_is_the_name_of_one():
    config = tg.models.preset_config
    rates = lambda found: {f.name: getattr(found, f.name) for f in dataclasses.fields(found) if "rate" in f.metadata}
    assert rates(config("gpt2", dropout=0.3)) == dict.fromkeys(THREE, 0.3)
    assert rates(config("bert-base", dropout=0.3)) == {**dict.fromkeys(ENCODER, 0.3), "classifier_dropout": None}
    assert rates(config("bart-base", dropout=0.3)) == {**rates(config("bart-base")), "dropout": 0.3}


# -- Llama's relatives -------------------------------------------------------------------------------------------------


def test_windows_begin_at_a_layer(tmp_path):
    folder = written(tmp_path, "qwen2-0.5b", **SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=2)
    full, sliding = "full_attention", "sliding_attention"
    told = logits(folder, layer_types=[full, full, sliding])
    np.testing.assert_array_equal(logits(folder, layer_types=...), told)
    everywhere = logits(folder, max_window_layers=0)
    np.testing.assert_array_equal(logits(folder, layer_types=[sliding] * 3), everywhere)
    nowhere = logits(folder, layer_types=..., max_window_layers=...)  # 28, more than there are
    np.testing.assert_array_equal(logits(folder, use_sliding_window=False), nowhere)
    assert np.abs(told - everywhere).max() > 0.01 and np.abs(told - nowhere).max() > 0.01


@pytest.mark.parametrize("name", ["qwen2-0.5b", "qwen3-0.6b"])
def test_nothing_is_written_for_a_window_nobody_spoke_of(name, tmp_path):
    """transformers' Qwen configs refuse a null there, as what a `create`d model would have."""
    folder = written(tmp_path, name, **SIZES)
    told = json.loads((folder / "config.json").read_text())
    assert "use_sliding_window" not in told and "layer_types" not in told
    edit(folder, use_sliding_window=None)  # as files of ours once said
    assert tg.models.load(folder).config.window(2) is None


def test_llama_has_no_windows(tmp_path):
    folder = written(tmp_path, "llama-7b", **SIZES)
    before = logits(folder)
    after = logits(folder, use_sliding_window=True, sliding_window=3, layer_types=["sliding_attention"] * 3)
    np.testing.assert_array_equal(after, before)


def test_without_a_model_type_the_class_name_decides(tmp_path):
    folder = written(tmp_path, "mistral-7b", **SIZES, sliding_window=3)
    before = logits(folder)
    np.testing.assert_array_equal(logits(folder, model_type=...), before)
    edit(folder, architectures=...)
    assert tg.models.load(folder, architecture="MistralForCausalLM").config.model_type == "mistral"
    edit(folder, model_type="mistral", architectures=...)
    values = json.loads((folder / "config.json").read_text())
    assert tg.models.llama.LlamaConfig.from_dict(values).model_type == "mistral"
    assert "layer_types" not in json.loads((folder / "config.json").read_text())  # it would make a Ministral of it


@pytest.mark.parametrize("spelling", [
    {"rope_parameters": {"type": "linear", "factor": 2.0, "rope_theta": 500.0}},
    {"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 500.0},
    {"rope_parameters": ..., "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 500.0},
])  # fmt: skip
def test_spellings_of_rotary_scaling(spelling, tmp_path):
    folder = written(tmp_path, "llama-7b", **SIZES)
    plain = logits(folder)
    scaled = logits(folder, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0})
    np.testing.assert_array_equal(logits(folder, **spelling), scaled)
    assert np.abs(plain - scaled).max() > 0.01


def test_llama3_scaling_knows_the_context_it_was_trained_with(tmp_path):
    folder = written(tmp_path, "llama-7b", **SIZES, max_position_embeddings=32)
    rope = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 50.0}
    told = logits(folder, rope_parameters={**rope, "original_max_position_embeddings": 32})
    np.testing.assert_array_equal(logits(folder, rope_parameters=rope), told)


@pytest.mark.parametrize(("changes", "message"), [
    ({"layer_types": ["full_attention", "chunked_attention"]}, "layer_types: expected a list of full_attention and"),
    ({"layer_types": "full"}, "layer_types: expected a list"),
    ({"layer_types": ["full_attention"]}, "layer_types names 1 layers, num_hidden_layers = 3"),
    ({"layer_types": ["sliding_attention"] * 3}, "use_sliding_window must be true"),
    ({"rope_parameters": [1]}, r"rope_parameters .*: expected an object, got \[1\]"),
    ({"rope_scaling": "linear"}, "rope_parameters .*: expected an object, got 'linear'"),
    ({"rope_parameters": {"rope_type": ["linear"]}}, "rope_parameters.rope_type = .* is not supported"),
    ({"rope_parameters": {"rope_type": "linear"}}, "rope_parameters.factor: expected a positive number, got None"),
    ({"rope_parameters": {"rope_type": "llama3", "factor": 2}}, "rope_parameters.low_freq_factor: expected a positive number"),
    ({"rope_parameters": {"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4}}, "must exceed"),
    ({"rope_parameters": None, "rope_theta": None}, "rope_parameters.rope_theta: expected a positive number, got None"),
    ({"rope_parameters": {"rope_theta": "1e4"}}, "rope_parameters.rope_theta: expected a positive number, got '1e4'"),
])  # fmt: skip
def test_a_bad_llama_config_is_refused_by_key(changes, message, tmp_path):
    folder = written(tmp_path, "qwen2-0.5b", **SIZES)
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        tg.models.load(folder)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(("sizes", "message"), [
    ({"hidden_size": 18}, "hidden_size = 18 is not a multiple of num_attention_heads = 4"),
    ({"num_key_value_heads": 3}, "num_attention_heads = 4 is not a multiple of num_key_value_heads = 3"),
    ({"hidden_size": 12}, "head_dim = 3 is odd"), ({"head_dim": 5}, "head_dim = 5 is odd"),
])  # fmt: skip
def test_heads_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(tg.models.ConfigError, match=message):
        tg.models.preset_config("llama-7b", **{**SIZES, **sizes})
    assert tg.models.preset_config("llama-7b", **{**SIZES, "hidden_size": 18, "head_dim": 4}).head_dim == 4


@pytest.mark.parametrize(("name", "key"), [("mistral-7b", "attention_bias"), ("qwen2-0.5b", "attention_bias"),
                                           ("mistral-7b", "mlp_bias"), ("qwen2-0.5b", "mlp_bias"), ("qwen3-0.6b", "mlp_bias")])  # fmt: skip
def test_biases_that_a_type_has_no_place_for(name, key, tmp_path):
    """transformers reads past the key: a file that has it is the model without, and no model is made that it could not read."""
    folder = written(tmp_path, name, **SIZES)
    np.testing.assert_array_equal(logits(folder, **{key: True}), logits(folder))
    with pytest.raises(ValueError, match=f"{key}: expected false for {name.split('-')[0]}, only llama"):
        tg.models.create(name, **SIZES, **{key: True})


@pytest.mark.parametrize(("name", "sizes", "message"), [
    *((name, {"hidden_size": 18}, " = 18 is not a multiple of .* = 4")
      for name in ("bert-base", "roberta-base", "albert-base", "electra-small", "gpt", "gpt2", "gpt3-125m", "bart-base", "transformer-base")),
    ("bart-base", {"hidden_size": 24, "decoder_attention_heads": 5}, "d_model = 24 is not a multiple of decoder_attention_heads = 5"),
    ("albert-base", {"num_hidden_groups": 5}, "num_hidden_layers = 12 is not a multiple of num_hidden_groups = 5"),
    ("roberta-base", {"max_position_embeddings": 2}, "max_position_embeddings = 2 leaves none after padding's id 1"),
    ("roberta-base", {"pad_token_id": None}, "leaves none after padding's id None"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(name, sizes, message):
    with pytest.raises(tg.models.ConfigError, match=message):
        tg.models.preset_config(name, **{"num_attention_heads": 4, **sizes})
    tg.models.preset_config("roberta-base", max_position_embeddings=3)  # one


# -- GPT-2's relatives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_width", [True, False])
@pytest.mark.parametrize("by_layer", [True, False])
def test_what_divides_the_scores(by_width, by_layer, tmp_path):
    """Scores divided by a number are those of queries divided by it."""
    folder = written(tmp_path, "gpt2", n_embd=16, n_layer=3, n_head=4, vocab_size=40, n_positions=20)
    got = logits(folder, scale_attn_weights=by_width, scale_attn_by_inverse_layer_idx=by_layer, reorder_and_upcast_attn=True)
    edit(folder, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False)
    plain = tg.models.load(folder)
    for i, block in enumerate(plain.transformer.layers):
        for value in block.attn.q.parameters():
            value.data[...] *= (1 if by_width else 2) / (i + 1 if by_layer else 1)  # heads are 4 wide
    with tg.no_grad():
        np.testing.assert_allclose(got, plain(IDS).logits.data, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("word", "function"), [("gelu", "gelu_new"), ("relu", "relu"), ("silu", "silu"), ("swish", "silu")])
def test_gpts_words_for_activations(word, function):
    model = tg.models.create("gpt", n_embd=12, n_layer=1, n_head=2, vocab_size=23, n_positions=9, afn=word)
    x = tg.Tensor(np.linspace(-2, 2, 9))
    np.testing.assert_array_equal(model.transformer.layers[0].mlp.act(x).data, tg.nn.activation(function)(x).data)


# -- the other families ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "message"), [
    ({"dense_act_fn": "silu"}, "dense_act_fn = 'silu' contradicts feed_forward_proj = 'gated-gelu'"),
    ({"is_gated_act": False}, "is_gated_act = False contradicts feed_forward_proj = 'gated-gelu'"),
    ({"dense_act_fn": "gelu_new", "is_gated_act": True}, None),
])  # fmt: skip
def test_t5_says_its_feed_forward_twice(changes, message, tmp_path):
    folder = written(tmp_path, "t5-v1_1-small", d_model=12, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=23)
    edit(folder, **changes)
    if message is None:
        assert tg.models.load(folder).config.replace(feed_forward_proj="relu").act == "relu"
    else:
        with pytest.raises(ValueError, match=message):
            tg.models.load(folder)


def test_a_t5_1_1_whose_config_says_that_it_is_tied(tmp_path):
    folder = written(tmp_path, "t5-v1_1-small", d_model=12, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=23)
    before = tg.models.load(folder)
    edit(folder, tie_word_embeddings=True)  # as transformers 5 saves it, with scale_decoder_outputs = false
    edit(folder, architectures=["T5WithLMHeadModel"])  # as the first files called it
    after = tg.models.load(folder)
    np.testing.assert_array_equal(after.lm_head.weight.data, before.lm_head.weight.data)
    assert tg.models.registry.skeleton_of(folder).num_parameters() == before.num_parameters()
    after.save(tmp_path / "shards", shard_bytes=1000)
    edit(tmp_path / "shards", tie_word_embeddings=True)
    np.testing.assert_array_equal(tg.models.load(tmp_path / "shards").lm_head.weight.data, before.lm_head.weight.data)
    tied = type(after)(after.config.replace(tie_word_embeddings=True, scale_decoder_outputs=False))
    tied.save(tmp_path / "tied")  # one matrix in the file
    assert tg.models.load(tmp_path / "tied").lm_head is None
    edit(folder, scale_decoder_outputs=True)
    with pytest.raises(ValueError, match="lm_head.weight differs from shared.weight"):
        tg.models.load(folder)


@pytest.mark.parametrize(("buckets", "farthest", "fits"), [(32, 20, True), (32, 17, True), (32, 16, False), (3, 128, False)])
def test_t5_buckets_reach_beyond_the_distances_that_have_their_own(buckets, farthest, fits):
    sizes = dict(d_model=12, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=23, relative_attention_num_buckets=buckets)
    create = lambda: tg.models.create("t5-small", relative_attention_max_distance=farthest, **sizes)
    if fits:
        ids = np.arange(40)[None] % 23
        assert np.isfinite(create()(input_ids=ids, decoder_input_ids=ids).logits.data).all()
    else:
        with pytest.raises(ValueError, match=f"relative_attention_num_buckets of at least 4 .* got {buckets} and {farthest}"):
            create()


@pytest.mark.parametrize(("name", "ids"), [
    ("bert-base", (0, None, None)), ("electra-small", (0, None, None)), ("albert-base", (0, 2, 3)), ("roberta-base", (1, 0, 2)),
    ("gpt2", (None, 50256, 50256)), ("llama-7b", (None, 1, 2)), ("mistral-7b", (None, 1, 2)), ("qwen2-0.5b", (None, None, None)),
])  # fmt: skip
def test_token_ids_that_a_file_leaves_out(name, ids, tmp_path):
    keys = ("pad_token_id", "bos_token_id", "eos_token_id")
    more = {"num_key_value_heads": 2} if name.startswith(("mistral", "qwen")) else {}
    folder = written(tmp_path, name, **SMALL, **more)
    edit(folder, **dict.fromkeys(keys, ...))
    config = tg.models.load(folder).config
    assert tuple(getattr(config, key) for key in keys) == ids
    edit(folder, **dict.fromkeys(keys))  # null is not left out
    if name != "roberta-base":  # whose positions count from padding's id
        assert tg.models.load(folder).config.eos_token_id is None


WINDOWS = {"layer_types", "sliding_window", "use_sliding_window"}  # transformers writes what it makes of them
DEFAULTS = {"type_vocab_size"}  # which `zoo` chooses as they are


@pytest.mark.parametrize("architecture", [
    "BertModel", "RobertaModel", "AlbertModel", "ElectraModel", "OpenAIGPTModel", "GPT2Model", "LlamaModel", "MistralForCausalLM",
    "Qwen2ForCausalLM", "Qwen3ForCausalLM", "T5Model", "BartModel",
])  # fmt: skip
def test_a_key_that_a_file_leaves_out_means_what_transformers_takes_it_for(architecture):
    """Its own default, which it wrote into the golden files wherever `zoo` did not choose a value."""
    whole = json.loads(str(np.load(GOLDEN / f"{architecture}.npz")["config"]))
    kind = tg.models.registry.by_architecture(architecture, "", None)[0].config
    chosen, found = zoo.case(architecture, 0).config, []
    for field in dataclasses.fields(kind):
        if field.name in whole and field.name not in WINDOWS | (set(chosen) - DEFAULTS) and field.default is not dataclasses.MISSING:
            found.append(field.name)
            without = kind.from_dict({key: value for key, value in whole.items() if key != field.name})
            assert getattr(without, field.name) == whole[field.name], field.name
    assert len(found) >= 5


THREE = ("embd_pdrop", "attn_pdrop", "resid_pdrop")
ENCODER = ("hidden_dropout_prob", "attention_probs_dropout_prob")
RATES = {
    "bert-base": (0.1, ENCODER), "roberta-base": (0.1, ENCODER), "electra-small": (0.1, ENCODER), "albert-base": (0.0, ENCODER),
    "gpt": (0.1, THREE), "gpt2": (0.1, THREE), "gpt3-125m": (0.0, THREE), "t5-small": (0.1, ("dropout_rate",)),
    "bart-base": (0.1, ("dropout",)), "transformer-base": (0.1, ("dropout",)),
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_dropout_is_that_of_the_papers(name):
    """Where a config says nothing. The others, which `zoo` does not choose, are seen above."""
    rate, keys = RATES[name]
    config = tg.models.preset_config(name)
    assert {key: getattr(config, key) for key in keys} == dict.fromkeys(keys, rate)
    assert getattr(config, "classifier_dropout_prob", 0.1) == 0.1  # ALBERT's alone has one of its own
    assert name != "roberta-base" or config.layer_norm_eps == 1e-5  # fairseq's; a file without means 1e-12


def test_the_number_of_labels_survives_a_save(tmp_path):
    folder = written(tmp_path / "a", "bert-base", "pretraining", **SMALL, max_position_embeddings=9)
    edit(folder, num_labels=5, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})
    model = tg.models.load(folder, architecture="BertForSequenceClassification")
    for labels, changed in ((5, model), (7, type(model)(model.config.replace(num_labels=7))), (2, None)):
        if changed is None:  # the file's own two names are kept
            changed = type(model)(model.config.replace(num_labels=2))
        changed.save(tmp_path / "b")
        values = json.loads((tmp_path / "b" / "config.json").read_text())
        assert len(values["id2label"]) == len(values["label2id"]) == labels
        assert tg.models.load(tmp_path / "b").classifier.weight.shape == (labels, 12)
    assert values["id2label"] == {"0": "no", "1": "yes"}


def test_the_classes_have_names(tmp_path):
    names, numbers = {0: "O", 1: "B-PER", 2: "I-PER"}, {"O": 0, "B-PER": 1, "I-PER": 2}
    for given in ({"id2label": names}, {"label2id": numbers}, {"id2label": names, "label2id": numbers, "num_labels": 3}):
        config = tg.models.preset_config("bert-base", **given)
        assert (config.num_labels, config.id2label, config.label2id) == (3, names, numbers)
    config = tg.models.preset_config("bert-base", num_labels=2)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"} and config.label2id == {"LABEL_0": 0, "LABEL_1": 1}
    config.id2label = {"1": "yes", "0": "no"}  # a JSON file's keys
    assert config.id2label == {0: "no", 1: "yes"} and config.replace(num_labels=3).id2label[2] == "LABEL_2"
    config.label2id = numbers
    assert config.num_labels == 3 and config.id2label == names

    folder = written(tmp_path / "a", "bert-base", "masked_lm", **SMALL, max_position_embeddings=9)
    model = tg.models.load(folder, architecture="BertForTokenClassification", id2label=names)
    assert model.classifier.weight.shape == (3, 12)
    model.save(tmp_path / "b")
    values = json.loads((tmp_path / "b" / "config.json").read_text())
    assert values["id2label"] == {"0": "O", "1": "B-PER", "2": "I-PER"} and values["label2id"] == numbers
    assert tg.models.load(tmp_path / "b").config.id2label == names


@pytest.mark.parametrize(("name", "word", "ours"), [
    ("gpt2", "block_size", "max_position_embeddings"), ("gpt2", "d_model", "hidden_size"), ("bert-base", "num_classes", "num_labels"),
    ("llama-7b", "n_heads", "num_attention_heads"), ("t5-small", "dim_feedforward", "intermediate_size"), ("gpt2", "n_hed", "n_head"),
])  # fmt: skip
def test_a_word_of_other_libraries_is_known(name, word, ours):
    with pytest.raises(tg.models.ConfigError, match=f"has no '{word}'; did you mean '{ours}'\\?$"):
        tg.models.preset_config(name, **{word: 2})


@pytest.mark.parametrize(("given", "message"), [
    ({"id2label": {0: "a", 2: "b"}}, r"expected the classes 0, 1, 2, \.\.\. by name, each once, got \[0, 2\]"),
    ({"id2label": {}}, "expected the classes 0, 1, 2"),
    ({"id2label": {0: "a", 1: "a"}}, "expected one name for each class and the same in both"),
    ({"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}}, "expected one name for each class and the same in both"),
    ({"id2label": {0: "a", 1: "b"}, "num_labels": 3}, "num_labels = 3, but there are names for 2 classes"),
    ({"id2label": ["a", "b"]}, r"id2label: expected a dict of the classes' names and numbers, got \['a', 'b'\]"),
])  # fmt: skip
def test_names_that_name_no_classes(given, message):
    with pytest.raises(tg.models.ConfigError, match=message):
        tg.models.preset_config("bert-base", **given)


@pytest.mark.parametrize(("name", "keys"), [
    ("gpt2", {"_num_labels": 1, "_attn_implementation_autoset": True, "xla_device": True, "transformers_weights": "other"}),
    ("gpt2", {"author": "N. N.", "created_date": "2021-04-28", "license": "MIT"}),
    ("bert-base", {"position_embedding_type": "absolute", "is_decoder": False}),
    ("bart-base", {"normalize_before": False, "static_position_embeddings": False, "normalize_embedding": True, "add_bias_logits": False,
                   "force_bos_token_to_be_generated": False, "num_hidden_layers": 1, "encoder_layerdrop": 0.0}),
    ("gpt", {"n_special": 40}),
    ("bert-base", {"use_return_dict": True, "cls_token_id": 1, "mask_token_id": 2}),
    ("bert-base", {"language": "english", "name": "Bert", "vocab_size_or_config_json_file": 23, "embedding_size": 12}),
    ("bert-base", {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity", "adapters": {"fusions": {}}}),
    ("roberta-base", {"sentence_transformers": {"version": "4.0.1"}, "crf_state_dict": {"transitions": [[1.0]]}}),
    ("albert-base", {"directionality": "bidi", "pooler_type": "first_token_transform", "pooler_fc_size": 768}),
    ("bart-base", {"extra_pos_embeddings": 0, "_num_labels": 3, "save_step": 58, "kobart_version": 2.0}),
    ("llama-7b", {"is_llama_config": True, "rope_interleaved": False, "unsloth_fixed": True, "unsloth_version": "2024.9"}),
    ("llama-7b", {"_flash_attn_2_enabled": True}),
])  # fmt: skip
def test_keys_of_published_files_that_change_no_number(name, keys, tmp_path):
    folder = written(tmp_path, name, **SMALL, max_position_embeddings=9)
    edit(folder, **keys)
    model = tg.models.load(folder)
    assert "transformers_weights" not in model.config.to_dict()  # it names a file, and ours has another name
