"""Checkpoints: names old and new are read, and what does not fit is said before it costs memory."""

import gc
import json
import os
import re
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tinygrad_llm as tg
from tests.models.small import SMALL, TINY, edit, equal
from tinygrad_llm.models import checkpoint


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


def test_what_the_hub_does_not_give_is_named(monkeypatch):
    def fails(name, allow_patterns):
        raise ValueError("no network")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=fails))
    with pytest.raises(FileNotFoundError, match="^runs/dmo: no such directory, and the Hub did not give it: no network"):
        tg.models.load("runs/dmo")


def test_a_folder_may_lie_in_the_users_home(saved, monkeypatch):
    model, folder = saved
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(folder.parent))
    equal(model, tg.models.load(f"~/{folder.name}"))


def test_what_a_caller_asks_for_goes_before_what_the_config_says(saved):
    _, folder = saved
    model = tg.models.load(folder, architecture="GPT2ForSequenceClassification", num_labels=5, resid_pdrop=0.25)
    assert model.score.weight.shape == (5, 12) and model.transformer.layers[0].drop.p == 0.25
    with pytest.raises(ValueError, match="^architecture: unknown architecture 'GPT2'"):
        tg.models.load(folder, architecture="GPT2")


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
