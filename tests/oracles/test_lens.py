"""Every recorded value of GPT-2, BERT and T5 against the same value inside transformers, caught there by hooks."""

import numpy as np
import pytest
import torch
import transformers

import tinygrad_llm as tg
from tinygrad_llm import lens

B, T, S, H = 2, 13, 7, 4
IDS = np.random.default_rng(0).integers(1, 60, (B, T))
TARGETS = np.random.default_rng(1).integers(1, 60, (B, S))


def heads(x):
    return x.reshape(*x.shape[:2], H, -1)  # (B, T, H·K) -> (B, T, H, K)


def third(i):
    return lambda x: heads(np.split(x, 3, axis=-1)[i])


# our name -> (module of transformers, its "in"put or "out"put, what to make of it); {i} is the layer
GPT2 = {
    "blocks.{i}.resid_pre": ("transformer.h.{i}", "in", None),
    "blocks.{i}.attn.q": ("transformer.h.{i}.attn.c_attn", "out", third(0)),
    "blocks.{i}.attn.k": ("transformer.h.{i}.attn.c_attn", "out", third(1)),
    "blocks.{i}.attn.v": ("transformer.h.{i}.attn.c_attn", "out", third(2)),
    "blocks.{i}.attn.pattern": ("transformer.h.{i}.attn", "out1", None),
    "blocks.{i}.attn.z": ("transformer.h.{i}.attn.c_proj", "in", heads),
    "blocks.{i}.attn_out": ("transformer.h.{i}.attn.c_proj", "out", None),
    "blocks.{i}.resid_mid": ("transformer.h.{i}.ln_2", "in", None),
    "blocks.{i}.mlp_pre": ("transformer.h.{i}.mlp.c_fc", "out", None),
    "blocks.{i}.mlp_post": ("transformer.h.{i}.mlp.c_proj", "in", None),
    "blocks.{i}.mlp_out": ("transformer.h.{i}.mlp", "out", None),
    "blocks.{i}.resid_post": ("transformer.h.{i}", "out", None),
    "final_norm": ("transformer.ln_f", "out", None),
    "logits": ("lm_head", "out", None),
}
BERT = {
    "embed": ("bert.embeddings", "out", None),
    "blocks.{i}.resid_pre": ("bert.encoder.layer.{i}", "in", None),
    "blocks.{i}.attn.q": ("bert.encoder.layer.{i}.attention.self.query", "out", heads),
    "blocks.{i}.attn.k": ("bert.encoder.layer.{i}.attention.self.key", "out", heads),
    "blocks.{i}.attn.v": ("bert.encoder.layer.{i}.attention.self.value", "out", heads),
    "blocks.{i}.attn.pattern": ("bert.encoder.layer.{i}.attention.self", "out1", None),
    "blocks.{i}.attn.z": ("bert.encoder.layer.{i}.attention.output.dense", "in", heads),
    "blocks.{i}.attn_out": ("bert.encoder.layer.{i}.attention.output.dense", "out", None),
    "blocks.{i}.resid_mid": ("bert.encoder.layer.{i}.attention.output.LayerNorm", "out", None),
    "blocks.{i}.mlp_pre": ("bert.encoder.layer.{i}.intermediate.dense", "out", None),
    "blocks.{i}.mlp_post": ("bert.encoder.layer.{i}.intermediate", "out", None),
    "blocks.{i}.mlp_out": ("bert.encoder.layer.{i}.output.dense", "out", None),
    "blocks.{i}.resid_post": ("bert.encoder.layer.{i}.output.LayerNorm", "out", None),
    "final_norm": ("bert.encoder", "out", None),
    "logits": ("cls.predictions.decoder", "out", None),
}
T5 = {"logits": ("lm_head", "out", None)}
for side, feed in (("encoder", 1), ("decoder", 2)):
    block = f"{side}.block.{{i}}"
    for ours, attention in (("attn", f"{block}.layer.0.SelfAttention"), ("cross", f"{block}.layer.1.EncDecAttention")):
        if side == "encoder" and ours == "cross":
            continue
        T5 |= {f"{side}.blocks.{{i}}.{ours}.{tap}": (f"{attention}.{tap}", "out", heads) for tap in "qkv"}
        T5[f"{side}.blocks.{{i}}.{ours}_out"] = (f"{attention}.o", "out", None)
        T5[f"{side}.blocks.{{i}}.{ours}.z"] = (f"{attention}.o", "in", heads)
    T5 |= {
        f"{side}.blocks.{{i}}.resid_pre": (block, "in", None),
        f"{side}.blocks.{{i}}.resid_mid": (f"{block}.layer.{feed}", "in", None),
        f"{side}.blocks.{{i}}.mlp_pre": (f"{block}.layer.{feed}.DenseReluDense.wi", "out", None),
        f"{side}.blocks.{{i}}.mlp_post": (f"{block}.layer.{feed}.DenseReluDense.wo", "in", None),
        f"{side}.blocks.{{i}}.mlp_out": (f"{block}.layer.{feed}.DenseReluDense", "out", None),
        f"{side}.blocks.{{i}}.resid_post": (block, "out", None),
        f"{side}.final_norm": (f"{side}.final_layer_norm", "out", None),
    }

SMALL = {"vocab_size": 60, "attn_implementation": "eager"}


def gpt2():
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=H, n_positions=32, bos_token_id=0, eos_token_id=0, **SMALL)
    return transformers.GPT2LMHeadModel(config)


def bert():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": H, "intermediate_size": 48}
    return transformers.BertForMaskedLM(transformers.BertConfig(**sizes, **SMALL))


def t5():
    config = transformers.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=H, decoder_start_token_id=0, **SMALL)
    return transformers.T5ForConditionalGeneration(config)


CASES = {"gpt2": (GPT2, gpt2), "bert": (BERT, bert), "t5": (T5, t5)}


def caught(theirs, table, layers, inputs):
    """{our name: array}: what the hooks caught in one run of the transformers model."""
    found, handles = {}, []
    modules = dict(theirs.named_modules())

    def watch(name, path, where, change):
        def keep(module, args, kwargs, output):
            value = args[0] if where == "in" and args else kwargs.get("hidden_states") if where == "in" else output
            if where == "out1":
                value = output[1]
            elif not torch.is_tensor(value):
                value = value[0]
            array = value.detach().numpy()
            found[name] = array if change is None else change(array)

        handles.append(modules[path].register_forward_hook(keep, with_kwargs=True))

    for name, (path, where, change) in table.items():
        for i in range(layers) if "{i}" in name else [0]:
            watch(name.format(i=i), path.format(i=i), where, change)
    with torch.no_grad():
        out = theirs(**{key: torch.from_numpy(value) for key, value in inputs.items()}, output_attentions=True)
    for handle in handles:
        handle.remove()
    if "encoder_attentions" in out:
        for i in range(layers):
            found[f"encoder.blocks.{i}.attn.pattern"] = out.encoder_attentions[i].numpy()
            found[f"decoder.blocks.{i}.attn.pattern"] = out.decoder_attentions[i].numpy()
            found[f"decoder.blocks.{i}.cross.pattern"] = out.cross_attentions[i].numpy()
    return found


@pytest.mark.parametrize("family", CASES)
def test_recorded_values_are_those_of_transformers(family, tmp_path):
    table, make = CASES[family]
    torch.manual_seed(0)
    theirs = make().eval()
    theirs.save_pretrained(tmp_path)
    ours = tg.models.load(tmp_path).eval()
    inputs = {"input_ids": IDS, "decoder_input_ids": TARGETS} if family == "t5" else {"input_ids": IDS}
    want = caught(theirs, table, 2, inputs)
    with tg.no_grad(), lens.record(ours, *want) as values:
        ours(**inputs)
    assert set(values) == set(want)
    for name, array in want.items():
        np.testing.assert_allclose(values[name], array, atol=1e-4, rtol=1e-4, err_msg=name)
    missed = {name for name in lens.names(ours) if not name.endswith(("scores", "embed"))} - set(want)
    assert not missed, f"not compared: {sorted(missed)}"
