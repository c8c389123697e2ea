"""Every family and head beside transformers, live: random small configurations, outputs, every gradient, and files both ways."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_model

import tinygrad_llm as tg
from tests.golden import make
from tests.models import compare, zoo
from tinygrad_llm import nn

SEEDS = (1, 2, 3, 4)


def quiet(model, folder):
    transformers.logging.disable_progress_bar()
    model.save_pretrained(folder)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_outputs_and_gradients(architecture, seed, tmp_path):
    case = zoo.case(architecture, seed)
    theirs = make.build(case, seed)
    quiet(theirs, tmp_path)
    for dtype, tolerance, gradient_tolerance in (("float32", 1e-4, 1e-3), ("float64", 1e-9, 1e-8)):
        with make.in_double():
            outputs, gradients = make.run(make.to_double(theirs), case)
        theirs.zero_grad()
        compare.check(tg.models.load(tmp_path, dtype=dtype), case, outputs, gradients, tolerance, gradient_tolerance)


@pytest.mark.parametrize("change", [3, -2])
@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "ElectraForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM", "T5Model",
                                          "BartForConditionalGeneration"])  # fmt: skip
def test_a_vocabulary_of_another_size(architecture, change, tmp_path):
    """transformers draws new rows from a normal distribution around the mean whose width is 1e-9 of the old rows' covariance."""
    case = zoo.case(architecture, 1)
    theirs = make.build(case, 1)
    quiet(theirs, tmp_path / "before")
    ours = tg.models.load(tmp_path / "before")
    theirs.resize_token_embeddings(ours.config.vocab_size + change)
    quiet(theirs, tmp_path / "after")
    ours.resize_token_embeddings(ours.config.vocab_size + change)
    again = tg.models.load(tmp_path / "after")
    assert ours.config.vocab_size == again.config.vocab_size
    for (name, p), (_, q) in zip(ours.named_parameters(), again.named_parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, atol=1e-3, err_msg=name)


SCALED = [dict(scale_attn_weights=False), dict(scale_attn_by_inverse_layer_idx=True),
          dict(scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True)]  # fmt: skip


@pytest.mark.parametrize(("architecture", "values"), [
    *[("GPT2LMHeadModel", scaled) for scaled in SCALED],
    *[(architecture, {"hidden_act": name}) for architecture in ("BertForMaskedLM", "LlamaForCausalLM") for name in nn.ACTIVATIONS],
])  # fmt: skip
def test_scores_and_activations_of_other_checkpoints(architecture, values, tmp_path):
    case = zoo.case(architecture, 1)
    case.config.update(values)
    theirs = make.build(case, 1)
    quiet(theirs, tmp_path)
    with make.in_double():
        outputs, gradients = make.run(make.to_double(theirs), case)
    out, got = compare.backward(tg.models.load(tmp_path, dtype="float64"), case)
    compare.check_outputs(out, {n: w for n, w in outputs.items() if n not in compare.LISTS}, case, 1e-9, 1e-5)
    compare.check_gradients(got, gradients, 1e-8)
    tg.models.load(tmp_path).save(tmp_path / "ours")
    saved = type(theirs.config).from_pretrained(tmp_path / "ours").to_dict()
    assert {key: saved[key] for key in values} == values


@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_what_we_save_transformers_loads(architecture, tmp_path):
    case = zoo.case(architecture, 5)
    theirs = make.build(case, 5)
    quiet(theirs, tmp_path / "theirs")
    tg.models.load(tmp_path / "theirs").save(tmp_path / "ours")
    again, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    again.eval().set_attn_implementation("eager")
    unused_bias = {n for n in info["missing_keys"] if n.endswith("predictions.bias") or n == "lm_head.bias"}
    assert not set(info["missing_keys"]) - (set() if case.config.get("tie_word_embeddings", True) else unused_bias)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    inputs = {n: torch.tensor(v) for n, v in case.inputs.items()}
    with torch.no_grad():
        before, after = theirs(**inputs), again(**inputs)
    name = next(n for n in compare.FIELDS if before.get(n) is not None)
    np.testing.assert_array_equal(after[name].numpy(), before[name].numpy())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("shard", ["50KB", "5GB"])
def test_half_precision_and_shards_are_read_exactly(dtype, shard, tmp_path):
    case = zoo.case("LlamaForCausalLM", 6)
    theirs = make.build(case, 6).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path, max_shard_size="3KB" if shard == "50KB" else shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "50KB")
    ours = tg.models.load(tmp_path)
    wanted = dict(theirs.named_parameters())
    parameters = dict(ours.named_parameters())
    for name, place in ours.weight_names().items():
        np.testing.assert_array_equal(parameters[name].data, wanted[place.name].detach().float().numpy())
    ours.save(tmp_path / "again", dtype=dtype, shard_bytes=3000)
    back = type(theirs).from_pretrained(tmp_path / "again", dtype=getattr(torch, dtype))
    for name, value in back.named_parameters():
        assert torch.equal(value, wanted[name]), name


@pytest.mark.parametrize("untied", [True, False])
def test_a_t5_1_1_that_transformers_saves_anew(untied, tmp_path):
    """Its config says the same whether the output matrix is one of its own or not."""
    case = zoo.case("T5ForConditionalGeneration", 1)
    case.config |= dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    theirs = make.build(case, 1)
    theirs.lm_head.weight = torch.nn.Parameter(theirs.shared.weight.detach() * (0.5 if untied else 1.0))
    inputs = {n: torch.tensor(v) for n, v in case.inputs.items()}
    with torch.no_grad():
        wanted = theirs(**inputs).logits.numpy()
    save_model(theirs, str(tmp_path / "model.safetensors"))
    (tmp_path / "config.json").write_text(json.dumps(case.config | {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}))
    quiet(type(theirs).from_pretrained(tmp_path), tmp_path / "anew")
    assert json.loads((tmp_path / "anew" / "config.json").read_text())["tie_word_embeddings"] is True
    ours = tg.models.load(tmp_path / "anew")
    np.testing.assert_allclose(ours(**case.inputs).logits.data, wanted, rtol=0, atol=1e-4)
    assert tg.models.registry.skeleton_of(tmp_path / "anew").num_parameters() == ours.num_parameters()
    ours.save(tmp_path / "ours")
    with torch.no_grad():
        back = type(theirs).from_pretrained(tmp_path / "ours")(**inputs).logits.numpy()
    np.testing.assert_allclose(back, wanted, rtol=0, atol=1e-4)


SMALL = dict(hidden_size=16, intermediate_size=9, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, vocab_size=9)
LINEAR = {"type": "linear", "factor": 2.0}


@pytest.mark.parametrize(("family", "config", "edits"), [
    ("Qwen2", dict(use_sliding_window=True, sliding_window=4, max_window_layers=2), {"layer_types": ...}),
    ("Qwen3", dict(use_sliding_window=True, sliding_window=4, max_window_layers=1), {"layer_types": ...}),
    ("Qwen2", {}, {"use_sliding_window": True, "sliding_window": 4, "layer_types": ...}),
    ("Llama", {}, {"rope_parameters": LINEAR, "rope_theta": 500.0}),
    ("Llama", {}, {"rope_scaling": LINEAR, "rope_theta": 500.0}),
    ("Llama", {}, {"use_sliding_window": True, "sliding_window": 3}),
    ("Mistral", dict(sliding_window=3), {}),
    ("Mistral", dict(sliding_window=3), {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
])  # fmt: skip
def test_windows_and_rotary_angles_of_old_and_new_config_files(family, config, edits, tmp_path):
    """The same file in both libraries, and what we save from it: both times the same logits."""
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**SMALL, **config))
    for value in theirs.parameters():
        torch.nn.init.normal_(value, std=0.3)
    quiet(theirs, tmp_path)
    path, ids = tmp_path / "config.json", np.arange(14)[None] % 9
    path.write_text(json.dumps({k: v for k, v in {**json.loads(path.read_text()), **edits}.items() if v is not ...}))
    ours = tg.models.load(tmp_path)
    ours.save(tmp_path / "again")
    for folder in (tmp_path, tmp_path / "again"):
        with torch.no_grad():
            read = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
            wanted = read(torch.tensor(ids)).logits
        np.testing.assert_allclose(ours(ids).logits.data, wanted.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in tg.models.list() if not n.startswith(("gpt3", "transformer"))])
def test_transformers_reads_the_config_of_every_preset(name, tmp_path):
    """Its configs check types: a null where it wants true or false is refused."""
    config = tg.models.preset_config(name)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    read = transformers.AutoConfig.from_pretrained(tmp_path)
    assert read.model_type == config.model_type
    assert read.vocab_size == config.vocab_size


@pytest.mark.parametrize("architecture", [
    "GPT2LMHeadModel", "RobertaForMaskedLM", "BartForConditionalGeneration", "T5ForConditionalGeneration",
])  # fmt: skip
def test_files_that_keep_the_other_name_of_a_tied_matrix(architecture, tmp_path):
    case = zoo.case(architecture, 1)
    case.config["tie_word_embeddings"] = True
    theirs = make.build(case, 1)
    quiet(theirs, tmp_path)
    wanted = tg.models.load(tmp_path)(**case.inputs).logits.data
    save_model(theirs, str(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(tg.models.load(tmp_path)(**case.inputs).logits.data, wanted)


@pytest.mark.parametrize("seed", (1, 2))
@pytest.mark.parametrize("architecture", [a for a in zoo.ARCHITECTURES if a != "BartForSequenceClassification"])  # needs the end tokens
def test_vectors_in_place_of_ids(architecture, seed, tmp_path):
    """inputs_embeds on either side: outputs, and the gradient that reaches the vectors."""
    case = zoo.case(architecture, seed)
    theirs = make.build(case, seed)
    quiet(theirs, tmp_path)
    ours = tg.models.load(tmp_path, dtype="float64")
    rng, width = np.random.default_rng(seed), theirs.get_input_embeddings().weight.shape[1]
    names = {"input_ids": "inputs_embeds", "decoder_input_ids": "decoder_inputs_embeds"}
    given = {new: rng.normal(size=(*case.inputs.pop(old).shape, width)) for old, new in names.items() if old in case.inputs}
    if case.decoder and architecture.endswith("Classification"):
        case.inputs.pop("attention_mask")  # transformers takes the last vector, be it padding
    vectors = {name: tg.Tensor(x, requires_grad=True) for name, x in given.items()}
    out = ours(**case.inputs, **vectors)
    with make.in_double():
        leaves = {name: torch.tensor(x, requires_grad=True) for name, x in given.items()}
        tensors = {name: torch.tensor(x) for name, x in case.inputs.items()}
        expected = make.to_double(theirs)(**tensors, **leaves)
    real = case.inputs.get("attention_mask", np.ones(given["inputs_embeds"].shape[:2])) == 1
    name = next(n for n in ("logits", "prediction_logits", "start_logits", "last_hidden_state") if n in expected)
    got, want = getattr(out, name), getattr(expected, name)
    weight = np.sin(np.arange(want.numel())).reshape(tuple(want.shape))
    if case.decoder and want.ndim == 3:
        weight = weight * real[..., None]
    np.testing.assert_allclose(got.data * (weight != 0), want.detach().numpy() * (weight != 0), rtol=1e-7, atol=1e-9)
    (got * weight).sum().backward()
    (want * torch.tensor(weight)).sum().backward()
    for name, leaf in leaves.items():
        np.testing.assert_allclose(vectors[name].grad.data, leaf.grad.numpy(), rtol=1e-6, atol=1e-9, err_msg=name)
