"""Reading and changing values inside models, and what is told from them."""

import base64
import json
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import lens
from tinygrad_llm.lens import figures, page
from tinygrad_llm.lens.flops import backward_flops, forward_flops
from tinygrad_llm.lens.look import parse
from tinygrad_llm.lens.page import pack, report
from tinygrad_llm.lens.tape import Call, Tape
from tinygrad_llm.lens.tape import _size as size_text


@pytest.fixture(scope="module")
def gpt():
    tg.manual_seed(0)
    model = tg.models.create("gpt2", n_layer=3, n_head=4, n_embd=32, vocab_size=60, n_positions=64).eval()
    rng = np.random.default_rng(0)
    for name, p in model.named_parameters():
        if name.endswith("bias"):  # zero at the start, which would hide what they do
            p.data[:] = rng.normal(0, 0.1, p.shape)
    return model


@pytest.fixture(scope="module")
def bert():
    tg.manual_seed(1)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64, "vocab_size": 60}
    return tg.models.create("bert-base", **sizes).eval()


@pytest.fixture(scope="module")
def t5():
    tg.manual_seed(2)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4, "vocab_size": 60}
    return tg.models.create("t5-small", **sizes).eval()


IDS = np.random.default_rng(0).integers(1, 60, (2, 17))


def test_names_of_a_decoder(gpt):
    known = lens.names(gpt)
    assert known[0] == "embed" and known[-2:] == ("final_norm", "logits")
    for tap in ("resid_pre", "attn.q", "attn.k", "attn.v", "attn.scores", "attn.pattern", "attn.z", "attn_out", "resid_mid",
                "mlp_pre", "mlp_post", "mlp_out", "resid_post"):  # fmt: skip
        assert f"blocks.2.{tap}" in known


def test_names_of_seq2seq_have_both_sides_and_cross_attention(t5):
    known = lens.names(t5)
    assert {"encoder.blocks.1.attn.pattern", "decoder.blocks.1.attn.pattern", "decoder.blocks.1.cross.pattern", "logits"} <= set(
        known
    )


def test_shared_layers_get_names_of_their_own():
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32, "vocab_size": 60,
             "embedding_size": 8}  # fmt: skip
    albert = tg.models.create("albert-base", **sizes).eval()
    with lens.record(albert, "*.resid_post") as values:
        out = albert(input_ids=IDS, output_hidden_states=True)
    assert list(values) == [f"blocks.{i}.resid_post" for i in range(3)]
    for got, want in zip(values.values(), out.hidden_states[1:], strict=True):
        assert np.array_equal(got, want.data)


@pytest.mark.parametrize("name", ["gpt2", "bert-base", "t5-small", "bart-base", "transformer-base"])
def test_what_is_called_embed_enters_the_first_layer(name):
    """Of BART and the Transformer it was once the words alone, without positions, norm and dropout."""
    key, sizes = {
        "gpt2": ("n_embd", {"n_layer": 1, "n_head": 2}),
        "bert-base": ("hidden_size", {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}),
        "t5-small": ("d_model", {"d_kv": 8, "d_ff": 32, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}),
        "bart-base": ("d_model", {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
                                  "decoder_attention_heads": 2}),
        "transformer-base": ("d_model", {"d_ff": 32, "encoder_layers": 1, "decoder_layers": 1, "num_heads": 2}),
    }[name]  # fmt: skip
    model = tg.models.create(name, vocab_size=60, **{key: 16}, **sizes)  # it trains: dropout acts
    sides = ("encoder.", "decoder.") if model.is_encoder_decoder else ("",)
    with lens.record(model, "*embed", "*.resid_pre") as values:
        model(input_ids=IDS, **({"decoder_input_ids": IDS[:, :5]} if model.is_encoder_decoder else {}))
    for side in sides:
        assert np.array_equal(values[f"{side}embed"], values[f"{side}blocks.0.resid_pre"])


def test_recording_changes_nothing_and_keeps_references(gpt):
    plain = gpt(input_ids=IDS).logits.data
    with lens.record(gpt, "logits", "*.resid_post") as values:
        out = gpt(input_ids=IDS, output_hidden_states=True)
    assert np.array_equal(out.logits.data, plain)
    assert values["logits"] is out.logits.data
    assert values.nbytes == plain.nbytes + 3 * values["blocks.0.resid_post"].nbytes
    assert np.array_equal(values["blocks.0.resid_post"], out.hidden_states[1].data)


def test_patterns_are_rows_of_probabilities_and_agree_with_the_fused_kernel(gpt, bert, t5):
    for model, inputs in (
        (gpt, {"input_ids": IDS}),
        (bert, {"input_ids": IDS}),
        (t5, {"input_ids": IDS, "decoder_input_ids": IDS[:, :9]}),
    ):
        plain = model(**inputs).last_hidden_state if model is bert else model(**inputs).logits
        with lens.record(model, "*.pattern") as values:
            out = model(**inputs)
        seen = out.last_hidden_state if model is bert else out.logits
        np.testing.assert_allclose(seen.data, plain.data, rtol=2e-4, atol=2e-5)
        for pattern in values.values():
            np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)


def test_recorded_gradients_are_those_of_the_loss():
    tg.manual_seed(4)
    model = tg.models.create("gpt2", n_layer=3, n_head=4, n_embd=32, vocab_size=60, n_positions=64, dtype=np.float64).eval()
    names = ["blocks.1.attn.z", "blocks.1.resid_mid", "blocks.2.attn.q", "blocks.0.mlp_post"]
    with lens.record(model, *names, gradients=True) as values:
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
    assert set(values.grad) == set(names)
    step = 1e-4
    for name in names:  # along its gradient g the loss climbs by step · |g|, to first order
        g = values.grad[name]
        ends = []
        for sign in (1, -1):
            with tg.no_grad(), lens.patch(model, {name: lambda v, s=sign, g=g: v + s * step * g / np.linalg.norm(g)}):
                ends.append(model(input_ids=IDS, labels=IDS).loss.item())
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), np.linalg.norm(g), rtol=1e-5)


def test_patch_from_another_run_makes_it_that_run(gpt):
    other = np.random.default_rng(5).integers(1, 60, IDS.shape)
    with lens.record(gpt, "blocks.1.resid_pre", "logits") as donor:
        gpt(input_ids=other)
    with lens.patch(gpt, {"blocks.1.resid_pre": donor["blocks.1.resid_pre"]}):
        got = gpt(input_ids=IDS).logits.data
    assert np.array_equal(got, donor["logits"])


def test_patch_one_head_is_removing_its_rows_of_the_output_matrix(gpt):
    with lens.patch(gpt, {"blocks.0.attn.z[:, :, 2]": 0.0}), lens.record(gpt, "blocks.0.attn_out", "blocks.0.attn.z") as cut:
        gpt(input_ids=IDS)
    assert not cut["blocks.0.attn.z"][:, :, 2].any() and cut["blocks.0.attn.z"][:, :, 1].any()
    attn = gpt.transformer.layers[0].attn
    z = cut["blocks.0.attn.z"].reshape(*IDS.shape, -1)
    np.testing.assert_allclose(cut["blocks.0.attn_out"], z @ attn.o.weight.data.T + attn.o.bias.data, atol=1e-5)


def test_every_gradient_is_recorded_also_where_two_names_are_one_tensor():
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
             "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 60, "max_position_embeddings": 32}  # fmt: skip
    bart = tg.models.create("bart-base", **sizes).eval()  # a layer's resid_post is the next one's resid_pre
    with lens.record(bart, gradients=True) as values:
        bart(input_ids=IDS, labels=IDS[:, :6]).loss.backward()
    assert set(values) == set(values.grad) == set(lens.names(bart))


def test_a_frozen_model_has_gradients_to_record():
    tg.manual_seed(9)
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=60, n_positions=32).eval()
    found = []
    for wanted in (True, False):
        model.requires_grad_(wanted)
        with lens.record(model, "embed", "blocks.*.mlp_post", gradients=True) as values:
            model(input_ids=IDS, labels=IDS).loss.backward()
        found.append(values.grad)
    assert set(found[0]) == set(found[1]) == {"embed", "blocks.0.mlp_post", "blocks.1.mlp_post"}
    assert all(np.allclose(found[0][name], found[1][name], atol=1e-7) for name in found[0])
    with pytest.raises(RuntimeError, match="under no_grad"), tg.no_grad(), lens.record(model, "embed", gradients=True):
        model(input_ids=IDS)


def test_gradients_flow_through_a_patch(gpt):
    steer = tg.Tensor(np.zeros(32, np.float32), requires_grad=True)
    with lens.patch(gpt, {"blocks.1.resid_mid[:, -1]": lambda v: v + steer}):
        gpt(input_ids=IDS).logits[:, -1, 7].sum().backward()
    assert steer.grad is not None and np.abs(steer.grad.data).max() > 0


@pytest.mark.parametrize("late", [False, True])  # backward inside the block, or after it
@pytest.mark.parametrize("family", ["gpt2", "albert-base", "t5-small"])
def test_a_patched_model_has_the_same_gradients_when_blocks_run_again(family, late):
    sizes = {
        "gpt2": {"n_layer": 3, "n_head": 4, "n_embd": 32},
        "albert-base": {"head": "masked_lm", "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32},
        "t5-small": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4},
    }[family]
    tg.manual_seed(7)
    model = tg.models.create(family, vocab_size=60, dtype=np.float64, **sizes)
    side = "decoder." if model.is_encoder_decoder else ""
    steer = tg.Tensor(np.zeros((*IDS.shape, 32)), requires_grad=True)
    changes = (
        {f"{side}blocks.1.attn.z": 0.0},
        {f"{side}blocks.0.resid_pre": steer},  # a leaf
        {f"{side}blocks.1.attn.z[:, :, 2]": 0.5, f"{side}blocks.0.mlp_post": lambda v: 2 * v},
    )
    for change in changes:
        found = []
        for model.recompute in (False, True):
            for parameter in (*model.parameters(), steer):
                parameter.grad = None
            tg.manual_seed(8)
            names = [parse(key)[0] for key in change]
            with lens.patch(model, change), lens.record(model, *names, "*.attn.pattern", gradients=True) as values:
                losses = [model(input_ids=ids, labels=IDS).loss for ids in (IDS, IDS[::-1])]
                before = dict(values)
                if not late:
                    losses[0].backward()
            if late:
                losses[0].backward()
            assert all(values[name] is before[name] for name in values), "what ran again is not recorded again"
            found.append([p.grad.data for p in (*model.parameters(), steer) if p.grad is not None] + list(values.grad.values()))
        assert len(found[0]) == len(found[1])
        assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_patch_acts_before_record_whichever_is_opened_first(gpt):
    for order in (0, 1):
        looks = [lens.patch(gpt, {"blocks.0.mlp_out": 0.0}), lens.record(gpt, "blocks.0.mlp_out")]
        with looks[order], looks[1 - order]:
            gpt(input_ids=IDS)
        assert not looks[1].values["blocks.0.mlp_out"].any()


def test_several_runs_in_one_block_have_the_same_names(t5):
    """The encoder-decoder's second run was once taken for deeper layers, and its patches missed."""
    other = np.random.default_rng(6).integers(1, 60, IDS.shape)
    with lens.patch(t5, {"decoder.blocks.*.cross_out": 0.0}), lens.record(t5, "decoder.blocks.1.cross_out") as values:
        runs = [t5(input_ids=ids, decoder_input_ids=IDS[:, :5]).logits.data for ids in (IDS, other, IDS)]
    assert all(np.array_equal(runs[0], run) for run in runs[1:])
    assert not values["decoder.blocks.1.cross_out"].any()
    assert {"encoder.embed", "decoder.embed"} <= set(lens.names(t5))


def test_what_is_no_name_is_said(gpt):
    with pytest.raises(TypeError, match=r"expected names, as in record\(model, 'embed', .*\), got \['embed'\]"):
        lens.record(gpt, ["embed"])
    with pytest.raises(TypeError, match="patch: expected a dict of names and replacements, got list"):
        lens.patch(gpt, ["embed"])


def test_unknown_names_list_the_nearest(gpt):
    with pytest.raises(KeyError, match=r"nearest: .*blocks\.\d\.attn\.pattern"):
        lens.record(gpt, "*.attn.patern")
    with pytest.raises(KeyError, match="nearest"):
        lens.patch(gpt, {"blocks.9.resid_pre": 0.0})


def test_wrong_shapes_and_indices_are_named(gpt):
    with (
        pytest.raises(ValueError, match=r"\(2, 17, 8\).*\(3, 4\)"),
        lens.patch(gpt, {"blocks.1.attn.z[:, :, 2]": np.zeros((3, 4))}),
    ):
        gpt(input_ids=IDS)
    with pytest.raises(IndexError, match=r"blocks\.1\.attn\.z has shape"), lens.patch(gpt, {"blocks.1.attn.z[:, :, 99]": 0.0}):
        gpt(input_ids=IDS)
    with pytest.raises(ValueError, match="cannot read the index"):
        parse("blocks.0.resid_pre[x]")
    for nothing in (None, lambda value: None, "zero"):
        with (
            pytest.raises(TypeError, match="blocks.0.mlp_out is to be replaced by a number"),
            lens.patch(gpt, {"blocks.0.mlp_out": nothing}),
        ):
            gpt(input_ids=IDS)
    with pytest.raises(TypeError, match="expected a model"):
        lens.record("gpt2", "*")
    with pytest.raises(KeyError, match="was not recorded"), lens.record(gpt, "embed") as values:
        values["logits"]


def test_looks_are_undone_after_an_error(gpt):
    plain = gpt(input_ids=IDS).logits.data
    with pytest.raises(ZeroDivisionError), lens.patch(gpt, {"embed": lambda v: 1 / 0}):
        gpt(input_ids=IDS)
    assert np.array_equal(gpt(input_ids=IDS).logits.data, plain)


def test_values_of_one_kind_are_stacked_layer_by_layer(gpt):
    with tg.no_grad(), lens.record(gpt, "*.resid_post", "*.attn.pattern", "embed") as values:
        gpt(input_ids=IDS)
    layers = len(gpt.transformer.layers)
    np.testing.assert_array_equal(values.stack("resid_post"), [values[f"blocks.{i}.resid_post"] for i in range(layers)])
    np.testing.assert_array_equal(values.stack("attn.pattern"), [values[f"blocks.{i}.attn.pattern"] for i in range(layers)])
    for words in (("pattern",), ("embed",), ("attn_pattern",), ("resid_post", "decoder")):
        with pytest.raises(KeyError, match=f"no layer's '{words[0]}' was recorded; recorded: embed, "):
            values.stack(*words)


def test_head_scores_of_made_up_heads():
    T = 8
    ids = np.array([[1, 2, 3, 4, 1, 2, 3, 4]])
    previous, induction, duplicate = np.eye(T, k=-1), np.eye(T), np.eye(T)
    for t in range(4, T):
        induction[t] = np.eye(T)[t - 3]
        duplicate[t] = np.eye(T)[t - 4]
    pattern = np.stack([previous, induction, duplicate])[None, None]  # (1, 1, 3, T, T)
    np.testing.assert_allclose(lens.previous_token_scores(pattern)[0, 0], 1)
    np.testing.assert_allclose(lens.induction_scores(pattern, ids)[0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(lens.duplicate_token_scores(pattern, ids)[0], [0, 0, 1], atol=1e-12)
    uniform = np.full((1, 1, 1, T, T), 1 / T)
    np.testing.assert_allclose(lens.entropy(uniform), np.log(T))
    np.testing.assert_allclose(lens.rollout(uniform)[0].sum(-1), 1)


def test_logit_lens_ends_at_the_model(gpt):
    seen = lens.logit_lens(gpt, top=3, targets=IDS, input_ids=IDS)
    logits = gpt(input_ids=IDS).logits.data
    assert np.array_equal(seen.tokens[-1, ..., 0], logits.argmax(-1))
    assert seen.ranks.shape == (4, *IDS.shape)
    assert "layer 2" in seen.text()
    order = np.argsort(-logits, axis=-1)
    for top in (0, 1, 5, 60, 99):
        assert np.array_equal(lens.logit_lens(gpt, top=top, input_ids=IDS).tokens[-1], order[..., :top])


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_heads_for_two_tasks_have_a_lens(family):
    """Their scores of words are called prediction_logits."""
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32, "vocab_size": 60}
    model = tg.models.create(f"{family}-base", head="pretraining", **sizes).eval()
    seen = lens.logit_lens(model, top=1, input_ids=IDS)
    assert np.array_equal(seen.tokens[-1, ..., 0], model(input_ids=IDS).prediction_logits.data.argmax(-1))
    assert data_of(report(model, {"input_ids": IDS[:1]}))["attribution"] is None, "post-norm"


def test_of_two_models_one_must_be_chosen():
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32, "vocab_size": 60}
    model = tg.models.create("electra-small", head="joint", generator_size=0.5, **sizes)
    with pytest.raises(TypeError, match="look into its `generator` or its `discriminator`"):
        lens.names(model)
    assert "logits" in lens.names(model.generator) and "logits" not in lens.names(model.discriminator)


def test_the_classifier_that_wants_an_end_token_has_names():
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
             "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 60, "max_position_embeddings": 32}  # fmt: skip
    bart = tg.models.create("bart-base", head="sequence_classification", **sizes)
    assert "decoder.blocks.0.cross.pattern" in lens.names(bart)


@pytest.mark.parametrize("end", [None, -1, [1, 2]])
def test_an_encoder_decoder_without_one_end_token_has_names(end):
    t5 = tg.models.create("t5-small", d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2, vocab_size=60, eos_token_id=end)
    assert "decoder.blocks.0.cross.pattern" in lens.names(t5)


def test_direct_logit_attribution_adds_up(gpt):
    for against in (None, 3):
        found = lens.direct_logit_attribution(gpt, position=5, token=7, against=against, input_ids=IDS)
        np.testing.assert_allclose(found.values.sum(), found.total, rtol=1e-4, atol=1e-5)
        assert found.token == 7
    assert "embed" in found.text()
    logits = gpt(input_ids=IDS).logits.data[0, 5]
    found = lens.direct_logit_attribution(gpt, position=5, input_ids=IDS)
    assert found.token == logits.argmax() and found.total == logits.max()


def test_direct_logit_attribution_tells_heads_apart(gpt):
    place = {"position": 5, "token": 7, "against": 3, "input_ids": IDS}
    whole, found = lens.direct_logit_attribution(gpt, **place), lens.direct_logit_attribution(gpt, heads=True, **place)
    np.testing.assert_allclose(found.values.sum(), found.total, rtol=1e-4, atol=1e-5)
    parts, by_head = dict(zip(whole.components, whole.values)), dict(zip(found.components, found.values))
    assert len(by_head) == len(parts) - 3 + 3 * 4 and by_head["blocks.1.mlp_out"] == parts["blocks.1.mlp_out"]
    shares = np.array([[by_head[f"blocks.{i}.attn.z[:, :, {h}]"] for h in range(4)] for i in range(3)])
    assert np.abs(shares).min() > 0
    with lens.record(gpt, "blocks.*.attn.z", "blocks.2.resid_post") as values:
        gpt(input_ids=IDS)
    stream, weight = values["blocks.2.resid_post"][0, 5], gpt.transformer.final_norm.weight.data
    direction = weight * (gpt.transformer.tokens.weight.data[7] - gpt.transformer.tokens.weight.data[3])
    for i, layer in enumerate(gpt.transformer.layers):
        z = values[f"blocks.{i}.attn.z"][0, 5]  # (H, K)
        written = np.einsum("hk,dhk->hd", z, layer.attn.o.weight.data.reshape(32, 4, 8))
        exact = (written - written.mean(-1, keepdims=True)) / np.sqrt(stream.var() + 1e-5) @ direction
        np.testing.assert_allclose(shares[i], exact, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_heads_are_told_apart_in_every_pre_norm_family_and_with_frozen_weights(t5, checkpointing):
    llama = tg.models.create("llama-7b", num_hidden_layers=2, hidden_size=32, intermediate_size=48, num_attention_heads=4,
                             num_key_value_heads=2, vocab_size=60)  # fmt: skip
    for model, inputs, heads in ((t5, {"input_ids": IDS, "decoder_input_ids": IDS[:, :6]}, ".cross.z[:, :, 1]"),
                                 (llama, {"input_ids": IDS}, "blocks.1.attn.z[:, :, 3]")):  # fmt: skip
        model.requires_grad_(False)
        model.recompute = checkpointing
        found = lens.direct_logit_attribution(model, heads=True, **inputs)
        model.requires_grad_(True)
        model.recompute = False
        np.testing.assert_allclose(found.values.sum(), found.total, rtol=1e-4, atol=1e-5)
        assert any(name.endswith(heads) for name in found.components)
        assert not any(name.endswith(("attn_out", "cross_out")) for name in found.components)


def test_a_norm_that_takes_no_mean_leaves_it_in_the_attribution():
    """Llama's: each part's worth is part / rms · weight · (the token's row of the output matrix)."""
    tg.manual_seed(3)
    llama = tg.models.create("llama-7b", num_hidden_layers=2, hidden_size=32, intermediate_size=48, num_attention_heads=4,
                             num_key_value_heads=2, vocab_size=60).eval()  # fmt: skip
    with lens.record(llama, "blocks.*.attn_out", "blocks.*.mlp_out", "blocks.0.resid_pre", "blocks.1.resid_post") as values:
        llama(input_ids=IDS)
    found = lens.direct_logit_attribution(llama, position=5, token=7, input_ids=IDS)
    state, stream = llama.state_dict(), values["blocks.1.resid_post"][0, 5]
    direction = state["model.final_norm.weight"] * state["lm_head.weight"][7] / np.sqrt((stream**2).mean() + llama.config.rms_norm_eps)
    for name, value in zip(found.components[:-1], found.values):
        part = values["blocks.0.resid_pre" if name == "embed" else name][0, 5]
        np.testing.assert_allclose(value, part @ direction, rtol=1e-3, atol=1e-6, err_msg=name)


def test_direct_logit_attribution_names_what_is_outside(gpt):
    with pytest.raises(IndexError, match="position 17 is outside the text's 17"):
        lens.direct_logit_attribution(gpt, position=17, input_ids=IDS)
    with pytest.raises(IndexError, match="token 60 is outside"):
        lens.direct_logit_attribution(gpt, token=60, input_ids=IDS)


@pytest.mark.parametrize("std", [0.02, 0.2])  # at 0.02 a layer adds so little that the norm after it hardly shows
def test_direct_logit_attribution_refuses_post_norm(std):
    tg.manual_seed(3)
    sizes = {
        "initializer_range": std,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 32,
        "intermediate_size": 64,
        "vocab_size": 60,
    }
    model = tg.models.create("bert-base", head="masked_lm", **sizes).eval()
    with pytest.raises(TypeError, match="post-norm"):
        lens.direct_logit_attribution(model, input_ids=IDS)


def test_readings_leave_the_gradients_of_the_user_alone(gpt):
    """Also where they fail midway, under no_grad() and where blocks run again."""
    corrupted = (IDS + 7) % 60

    def fails(out):
        raise ZeroDivisionError

    def metric(out):
        return out.logits[0, -1, 5] - out.logits[0, -1, 6]

    for p in gpt.parameters():
        p.grad = np.ones(p.shape, np.float32)
    before = [p.grad for p in gpt.parameters()]
    linear = lens.attribution_patching(gpt, {"input_ids": IDS}, {"input_ids": corrupted}, metric)
    direct = lens.direct_logit_attribution(gpt, input_ids=IDS).values
    gpt.recompute = True
    try:
        with tg.no_grad():
            np.testing.assert_allclose(
                lens.attribution_patching(gpt, {"input_ids": IDS}, {"input_ids": corrupted}, metric), linear, rtol=1e-4, atol=1e-6
            )
            np.testing.assert_allclose(lens.direct_logit_attribution(gpt, input_ids=IDS).values, direct, rtol=1e-4, atol=1e-6)
            report(gpt, {"input_ids": IDS[:1]})
        with pytest.raises(ZeroDivisionError):
            late = lambda out: fails(out) if out.logits.requires_grad else metric(out)
            lens.attribution_patching(gpt, {"input_ids": IDS}, {"input_ids": corrupted}, late)
        with pytest.raises(ZeroDivisionError):
            report(gpt, {"input_ids": IDS[:1], "labels": IDS[:1]}, decode=lambda i: "" if i in IDS else fails(i))
    finally:
        gpt.recompute = False
        after = [p.grad for p in gpt.parameters()]
        for p in gpt.parameters():
            p.grad = None
    assert all(b is not None and a is b and (a.data == 1).all() for a, b in zip(after, before, strict=True))


def test_activation_patching_brings_back_the_clean_run(gpt):
    corrupted = IDS.copy()
    corrupted[:, 3] = (corrupted[:, 3] + 7) % 60
    metric = lambda out: out.logits[0, -1, 5] - out.logits[0, -1, 6]
    before = [p.grad for p in gpt.parameters()]
    exact = lens.activation_patching(gpt, {"input_ids": IDS}, {"input_ids": corrupted}, metric)
    linear = lens.attribution_patching(gpt, {"input_ids": IDS}, {"input_ids": corrupted}, metric)
    np.testing.assert_allclose(exact[0, 3], 1, atol=1e-3)  # the only position that differs, before the first layer
    np.testing.assert_allclose(exact[0, :3], 0, atol=1e-3)
    assert exact.shape == linear.shape == (3, 17)
    assert all(p.grad is g for p, g in zip(gpt.parameters(), before, strict=True))
    with pytest.raises(ValueError, match=r"shape \(2, 17\), of the corrupted run \(2, 9\)"):
        lens.activation_patching(gpt, {"input_ids": IDS}, {"input_ids": IDS[:, :9]}, metric)
    with pytest.raises(ValueError, match=r"attn\.pattern has heads"):
        lens.attribution_patching(gpt, {"input_ids": IDS}, {"input_ids": corrupted}, metric, tap="attn.pattern")
    with pytest.raises(ValueError, match="same metric"):
        lens.activation_patching(gpt, {"input_ids": IDS}, {"input_ids": IDS}, metric)


def test_an_own_module_is_looked_into_by_its_taps():
    class Own(tg.nn.Module):
        def __init__(self):
            self.table = tg.nn.Embedding(5, 4)

        def forward(self, input_ids):
            return tg.nn.tap("rows", self.table(np.asarray(input_ids))) * 2

    class Other(Own):
        def forward(self, x):
            return super().forward(x)

    model = Own()
    with lens.record(model, "rows") as values:
        model([[1, 2, 3]])
    assert lens.names(model) == ("rows",) and values["rows"].shape == (1, 3, 4)
    other = Other()
    with pytest.raises(TypeError, match=r"a call Other\(input_ids=\[\[0\]\]\), but its forward takes \(x\); .*dummy_inputs = {'x': ..."):
        lens.names(other)
    other.dummy_inputs = {"x": np.array([0])}
    assert lens.names(other) == ("rows",)


def test_a_model_of_patches_is_looked_into_by_its_dummy_inputs():
    class Patches(tg.nn.Module):
        dummy_inputs = {"images": np.zeros((1, 2, 8), np.float32)}

        def __init__(self):
            norm = lambda: tg.nn.LayerNorm(8)
            attn, mlp = tg.nn.MultiHeadAttention(8, 2), tg.nn.FeedForward(8, 16, "gelu")
            self.blocks = [tg.nn.EncoderBlock(attn, mlp, norm(), norm(), norm_first=True)]

        def forward(self, images):
            x, images = images, None
            for block in self.blocks:
                x = block(x)[0]
            return x

    model, images = Patches(), np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    assert "blocks.0.attn.pattern" in lens.names(model)
    with lens.record(model, "*.pattern", "*.resid_post") as values:
        out = model(images)
    np.testing.assert_allclose(values["blocks.0.attn.pattern"].sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(values["blocks.0.resid_post"], out.data)
    with lens.patch(model, {"blocks.0.attn.z[:, :, 1]": 0.0}):
        assert not np.array_equal(model(images).data, out.data)


def test_a_module_that_cannot_be_called_with_one_token_says_who_called_it():
    class Beside(tg.nn.Module):
        def __init__(self):
            self.attn = tg.nn.MultiHeadAttention(8, 2)

        def forward(self, input_ids, pixels):
            return self.attn(pixels)[0]

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'pixels'") as error:
        lens.names(Beside())
    assert error.value.__notes__ == ["lens: the names are found by a call Beside(input_ids=[[0]]), which must work"]


def test_either_side_of_an_encoder_decoder_can_be_patched(t5):
    corrupted = IDS.copy()
    corrupted[:, 3] = (corrupted[:, 3] + 7) % 60
    clean, corrupted = ({"input_ids": ids, "decoder_input_ids": IDS[:, :5]} for ids in (IDS, corrupted))
    metric = lambda out: out.logits[0, -1, 5] - out.logits[0, -1, 6]
    exact = lens.activation_patching(t5, clean, corrupted, metric, side="encoder")
    np.testing.assert_allclose(exact[0], np.arange(17) == 3, atol=1e-3)  # the only position that differs
    assert exact.shape == lens.attribution_patching(t5, clean, corrupted, metric, side="encoder").shape == (2, 17)
    assert lens.activation_patching(t5, clean, corrupted, metric).shape == (2, 5)  # the decoder's
    assert lens.depth(t5, "encoder") == lens.depth(t5) == 2
    for patching in (lens.activation_patching, lens.attribution_patching):
        with pytest.raises(ValueError, match=r"the metric gives one number for a run, got an array of shape \(60,\)"):
            patching(t5, clean, corrupted, lambda out: out.logits[0, -1])


def test_the_losss_gradient_at_the_logits_is_seen_by_who_looks_at_them(gpt):
    out = gpt(input_ids=IDS, labels=IDS)
    assert tg.grad(out.loss, out.logits, allow_unused=True) == (None,)
    with lens.record(gpt, "logits", gradients=True) as values:
        gpt(input_ids=IDS, labels=IDS).loss.backward()
    logits = tg.Tensor(out.logits.data[:, :-1].reshape(-1, 60), requires_grad=True)
    (expected,) = tg.grad(tg.functional.cross_entropy(logits, IDS[:, 1:].reshape(-1)), logits)
    np.testing.assert_allclose(values.grad["logits"][:, :-1].reshape(-1, 60), expected.data, rtol=1e-4, atol=1e-7)


class AttentionOnly(tg.nn.Module):
    """A decoder of one's own that returns its logits and nothing else."""

    class Block(tg.nn.Module):
        def __init__(self):
            self.attn = tg.nn.MultiHeadAttention(16, 2)

        def forward(self, x):
            x = tg.nn.tap("resid_pre", x)
            return tg.nn.tap("resid_post", x + tg.nn.tap("attn_out", self.attn(x, mask=tg.nn.Mask(causal=True))[0]))

    def __init__(self):
        self.embed, self.layers, self.unembed = tg.nn.Embedding(60, 16), [self.Block(), self.Block()], tg.nn.Linear(16, 60)

    def forward(self, input_ids):
        x = self.embed(np.asarray(input_ids))
        for layer in self.layers:
            x = layer(x)
        return tg.nn.tap("logits", self.unembed(x))


def test_an_own_decoder_that_returns_its_logits_alone_is_read_like_ours():
    model = AttentionOnly()
    seen = lens.logit_lens(model, top=1, targets=IDS, input_ids=IDS)
    logits = model(IDS).numpy()
    np.testing.assert_array_equal(seen.tokens[-1, :, :, 0], logits.argmax(-1))
    found = lens.direct_logit_attribution(model, heads=True, input_ids=IDS)
    assert found.values.sum() == pytest.approx(found.total, abs=1e-5) and found.total == pytest.approx(logits[0, -1].max())
    assert data_of(report(model, {"input_ids": IDS[:1]}))["lens"]["rows"]
    with pytest.raises(TypeError, match=r"AttentionOnly has no config .*; make ids with repeated_tokens"):
        lens.detect_heads(model)
    model.config = SimpleNamespace(vocab_size=60)
    assert lens.detect_heads(model)["induction"].shape == (2, 2)


def test_report_with_a_path_in_an_arguments_place_says_what_it_takes(gpt, tmp_path):
    for arguments in ((tmp_path, {"input_ids": IDS[:1]}), ({"input_ids": IDS[:1]}, "page.html")):
        with pytest.raises(TypeError, match="report: expected .*it returns the page"):
            report(gpt, *arguments)


def test_dir_lists_what_the_room_has():
    assert {"record", "patch", "logit_lens", "report"} <= set(dir(lens)) and "import_module" not in dir(lens)


def test_heads_of_a_model_with_few_positions_are_detected_on_a_shorter_text():
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, n_positions=32, vocab_size=20)
    found = lens.detect_heads(model, rng=np.random.default_rng(0))
    assert found.keys() == {"previous", "duplicate", "induction"} and found["induction"].shape == (2, 2)
    shorter = lens.detect_heads(model, length=16, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found["induction"], shorter["induction"])


def test_a_patching_metric_may_be_a_number_where_no_gradient_is_asked_for(gpt):
    clean, corrupted = {"input_ids": IDS}, {"input_ids": (IDS + 7) % 60}
    metric = lambda out: out.logits[0, -1, 5]
    number = lambda out: float(out.logits.data[0, -1, 5])
    exact = lens.activation_patching(gpt, clean, corrupted, metric)
    np.testing.assert_array_equal(lens.activation_patching(gpt, clean, corrupted, number), exact)
    with pytest.raises(TypeError, match="the metric is differentiated, so it returns a Tensor; got float"):
        lens.attribution_patching(gpt, clean, corrupted, number)
    with pytest.raises(TypeError, match='the model call\'s arguments, {"input_ids": ids}; got ndarray'):
        lens.activation_patching(gpt, IDS, corrupted, metric)


def test_tape_has_every_operation_with_its_module(gpt):
    with lens.trace() as tape:
        gpt(input_ids=IDS, labels=IDS).loss.backward()
    modules = tape.by_module()
    assert "transformer.layers.1.attn" in modules
    assert all(call.backward > 0 for call in tape.calls if call.op == "attention")
    text = tape.text()
    assert "kept for backward" in text and "transformer.layers.2.mlp" in text
    assert repr(tape).startswith(f"<{len(tape.calls)} operations, ") and repr(tape).endswith("text() has them all>")
    assert tape.dot().startswith("digraph") and tape.dot().count("->") > len(tape.calls) / 2
    assert tape.svg().startswith("<svg") and tape.svg().endswith("</svg>")


def test_tape_keeps_no_array_alive(gpt):
    import gc
    import weakref

    with lens.trace() as tape:
        out = gpt(input_ids=IDS).logits
        seen = weakref.ref(out.data)
        del out
        gc.collect()
        assert seen() is None
    assert tape.calls


def test_profile_counts_flops_of_products(gpt):
    with lens.profile() as run:
        gpt(input_ids=IDS)
    up = [c for c in run.calls if c.module.endswith("layers.0.mlp.up") and c.op == "linear"]
    assert up and all(c.flops == 2 * IDS.size * 32 * 128 for c in up)
    assert "of limit" in run.text(limits={"gflops": 100.0, "gbytes": 20.0})


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))


def test_report_holds_what_the_run_made(gpt):
    page = report(
        gpt, {"input_ids": IDS[:1], "labels": IDS[:1]}, lambda i: f"<b>{i}</b>", title='</script><script>alert("x")</script>'
    )
    assert "alert(" in page and '<script>alert("x")' not in page and "<b>" not in page
    assert not re.search(r'(src|href)\s*=\s*["\']?https?:', page)
    data = data_of(page)
    kind = data["attention"][0]
    codes = np.frombuffer(zlib.decompress(base64.b64decode(kind["packed"])), np.uint8).reshape(
        kind["L"], kind["H"], kind["T"], kind["S"]
    )
    with lens.record(gpt, "*.pattern") as values:
        gpt(input_ids=IDS[:1])
    got = (codes / (kind["levels"] - 1)) ** 2
    np.testing.assert_allclose(got[2], values["blocks.2.attn.pattern"][0], atol=0.02)
    assert (
        len(data["lens"]["rows"]) == 4 and data["attribution"] and len(data["histograms"]) == 2 and data["graph"].startswith("<svg")
    )
    gpt.zero_grad()
    gpt(input_ids=IDS[:1], labels=IDS[:1]).loss.backward()
    last = np.concatenate([p.grad.data.ravel() for n, p in gpt.named_parameters() if ".2." in n and p.ndim > 1])
    gpt.zero_grad()
    shown = [data["histograms"][1][-1][end] for end in ("low", "high")]  # of one backward, though the model ran twice
    np.testing.assert_allclose(shown, np.percentile(last, [0.1, 99.9]), rtol=1e-4)


def test_report_of_both_other_families(bert, t5):
    assert data_of(report(bert, {"input_ids": IDS[:1]}))["lens"] is None
    data = data_of(report(t5, {"input_ids": IDS[:1], "decoder_input_ids": IDS[:1, :6]}))
    kinds = data["attention"]
    assert [k["name"] for k in kinds] == ["self-attention, encoder", "self-attention, decoder", "cross-attention, decoder"]
    assert ["previous token" in k["notes"][0][0] for k in kinds] == [True, True, False]
    assert [chart["caption"].split(":")[0] for chart in data["norms"]] == ["encoder", "decoder"]
    assert (kinds[2]["T"], kinds[2]["S"]) == (6, 17)


def test_report_of_a_large_model_stays_small():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (12, 12, 256, 256)).astype(np.float32) + np.where(np.tri(256), 0, -np.inf).astype(np.float32)
    pattern = np.exp(scores - scores.max(-1, keepdims=True))
    pattern /= pattern.sum(-1, keepdims=True)
    packed, levels = pack(pattern, 4_000_000)
    assert len(packed) <= 4_000_000 and levels >= 8


def test_report_of_a_diverged_model_says_where():
    """NaN is no JSON: the page was blank."""
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=60, n_positions=32).eval()
    model.transformer.layers[1].mlp.up.weight.data[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"report: blocks\.1\.resid_post has NaN or infinity"):
        report(model, {"input_ids": IDS[:1], "labels": IDS[:1]})


def test_report_of_a_model_that_says_nothing_and_of_a_text_like_the_page():
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=60, n_positions=32).eval()
    for parameter in model.parameters():
        parameter.data[:] = 0
    page = report(model, {"input_ids": IDS[:1]}, title="__DATA__ </title><script>")
    assert "NaN" not in json.dumps(data_of(page)["attribution"])
    assert "<title>__DATA__ &lt;/title&gt;&lt;script&gt;</title>" in page and page.count('"attribution":') == 1


@pytest.mark.filterwarnings("error")
def test_report_of_one_token_says_nothing_of_previous_ones(gpt):
    notes = data_of(report(gpt, {"input_ids": IDS[:1, :1]}))["attention"][0]["notes"]
    assert notes[0][0] == "entropy 0.00 nats, mean distance 0.0"


def test_what_reads_logits_wants_a_model_that_makes_them(bert):
    for read in (lens.logit_lens, lens.direct_logit_attribution):
        with pytest.raises(TypeError, match="BertModel makes no logits"):
            read(bert, input_ids=IDS)


def test_patterns_wants_the_ids_by_name(gpt):
    with pytest.raises(TypeError, match="have names: input_ids=ids; got a ndarray as side"):
        lens.patterns(gpt, IDS)


def test_report_wants_one_row(gpt):
    with pytest.raises(ValueError, match=r"\(1, T\)"):
        report(gpt, {"input_ids": IDS})


@pytest.mark.parametrize("name", ["gpt", "bert", "t5"])
def test_a_query_whose_last_key_is_knocked_out_attends_to_nothing(name, request):
    """Minus infinity at a score hides a key, as a mask does; the first query of a decoder then has none left."""
    model = request.getfixturevalue(name)
    side = "decoder." if name == "t5" else ""
    inputs = {"input_ids": IDS, **({"decoder_input_ids": IDS} if side else {})}
    where = f"{side}blocks.0.attn"
    with lens.patch(model, {f"{where}.scores[:, 1, :, 0]": -np.inf}), lens.record(model, f"{where}.*", gradients=True) as values:
        out = model(**inputs)
        out.last_hidden_state.sum().backward()
    model.zero_grad()
    pattern = values[f"{where}.pattern"]
    assert np.isfinite(out.last_hidden_state.data).all() and np.isfinite(values.grad[f"{where}.q"]).all()
    assert not pattern[:, 1, :, 0].any() and np.allclose(pattern[:, 1, 1:].sum(-1), 1.0, atol=1e-6)
    if name != "bert":
        assert not pattern[:, 1, 0].any() and not values[f"{where}.z"][:, 0, 1].any()


def test_each_side_of_an_encoder_decoder_has_its_depth(gpt):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 2, "num_heads": 2, "vocab_size": 60}
    model = tg.models.create("t5-small", **sizes)
    assert [lens.depth(model), lens.depth(model, "decoder"), lens.depth(model, "encoder")] == [2, 2, 1]
    with pytest.raises(ValueError, match=r"depth: GPT2LMHeadModel has no layers named encoder.blocks.0"):
        lens.depth(gpt, "encoder")


def test_names_follow_a_change_of_the_model():
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=60, n_positions=32).eval()
    assert lens.depth(model) == 2
    del model.transformer.layers[0]
    assert lens.depth(model) == 1 and "blocks.1.attn_out" not in lens.names(model)
    model.transformer.layers[0].mlp = tg.nn.Linear(16, 16)
    assert "blocks.0.mlp_pre" not in lens.names(model) and "blocks.0.mlp_out" in lens.names(model)


def test_each_look_sees_its_own_model(gpt):
    tg.manual_seed(9)
    other = tg.models.create("gpt2", n_layer=3, n_head=4, n_embd=32, vocab_size=60, n_positions=64).eval()
    with lens.record(gpt, "logits") as mine, lens.record(other, "logits") as theirs:
        first, second = gpt(input_ids=IDS).logits.data, other(input_ids=IDS).logits.data
    assert np.array_equal(mine["logits"], first) and np.array_equal(theirs["logits"], second)
    with lens.patch(gpt, {"blocks.0.attn_out": 0.0}):
        assert np.array_equal(other(input_ids=IDS).logits.data, second)
        assert not np.array_equal(gpt(input_ids=IDS).logits.data, first)
    with lens.record(gpt.transformer, "final_norm") as inner, lens.record(gpt, "blocks.0.attn_out") as outer:
        gpt(input_ids=IDS), gpt.transformer(input_ids=IDS)
    assert len(inner) == len(outer) == 1


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_belong_to_the_values(recompute):
    """Of two runs whose losses are one sum, the later's, as its values are; and none where the later run had no backward."""
    tg.manual_seed(4)
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=60, n_positions=32, dropout=0.0)
    model.recompute = recompute
    wanted = ("blocks.*.resid_post", "blocks.*.attn.z")
    with lens.record(model, *wanted, gradients=True) as alone:
        model(input_ids=IDS[1:], labels=IDS[1:]).loss.backward()
    with lens.record(model, *wanted, gradients=True) as values:
        one, two = (model(input_ids=IDS[i : i + 1], labels=IDS[i : i + 1]).loss for i in (0, 1))
        (one + two).backward()
        for name in alone:
            assert np.array_equal(values[name], alone[name]) and np.allclose(values.grad[name], alone.grad[name], atol=1e-7), name
        model(input_ids=IDS[:1])
        assert not values.grad


def test_a_lens_may_be_opened_twice(gpt):
    with lens.patch(gpt, {"logits": 0.0}) as twice:
        with twice:
            pass
        assert not gpt(input_ids=IDS).logits.data.any()
    assert gpt(input_ids=IDS).logits.data.any()


def test_patch_keys_may_be_any_pattern(gpt):
    assert parse("blocks.[01].attn.z[:, [0, 2], 4]") == ("blocks.[01].attn.z", (slice(None), [0, 2], 4))
    assert parse("blocks.[!0].attn_out") == ("blocks.[!0].attn_out", None)
    with lens.record(gpt, "*.attn_out") as values, lens.patch(gpt, {"blocks.[02].attn_out": 0.0, "blocks.[1].attn_out[:, 3]": 0.0}):
        gpt(input_ids=IDS)
    zero = [not values[f"blocks.{i}.attn_out"].any() for i in range(3)]
    assert zero == [True, False, True] and not values["blocks.1.attn_out"][:, 3].any()


@pytest.mark.parametrize("name", ["gpt", "bert", "t5"])
def test_watching_a_step_with_dropout_is_watching_that_step(name, request):
    """The pattern's way through elementary operations drops what the fused kernel drops; so does output_attentions."""
    model = request.getfixturevalue(name).train()
    inputs = {"input_ids": IDS, "attention_mask": np.arange(17) < [[17], [14]]}
    inputs |= {"decoder_input_ids": IDS[:, :5]} if name == "t5" else {}
    tg.manual_seed(5)
    plain = model(**inputs).last_hidden_state.data
    tg.manual_seed(5)
    with tg.no_grad(), lens.record(model) as values:
        watched = model(**inputs).last_hidden_state.data
    tg.manual_seed(5)
    shown = model(**inputs, output_attentions=True).last_hidden_state.data
    model.eval()
    assert values and np.abs(model(**inputs).last_hidden_state.data - plain).max() > 1e-3
    np.testing.assert_allclose(watched, plain, atol=1e-5)
    np.testing.assert_allclose(shown, plain, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt", "t5"])
def test_readings_are_of_a_model_that_does_not_drop(name, request):
    """A model in training is read in evaluation mode, as it is when it generates, and goes on in its own."""
    model = request.getfixturevalue(name).train()
    frozen = next(m for m in model.modules() if isinstance(m, tg.nn.MultiHeadAttention))
    frozen.eval()
    runs = [{"input_ids": ids, **({"decoder_input_ids": ids} if name == "t5" else {})} for ids in (IDS[:1, :4], IDS[1:, :4])]
    metric = lambda out: out.logits[0, -1, 3] - out.logits[0, -1, 4]

    def read():
        return [
            lens.patterns(model, **runs[0]), lens.logit_lens(model, **runs[0]).probabilities,
            lens.direct_logit_attribution(model, token=3, **runs[0]).values,
            lens.activation_patching(model, *runs, metric), lens.attribution_patching(model, *runs, metric),
        ]  # fmt: skip

    learning = read()
    assert model.training and not frozen.training
    model.eval()
    for one, other in zip(learning, read(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_the_report_profiles_a_run_with_its_kernels_loaded(gpt, monkeypatch):
    """The first run of a process loads or compiles kernels, which takes longer than all of a small model's operations."""
    runs, run = [], page._run
    monkeypatch.setattr(page, "_run", lambda *given: runs.append(run(*given)) or runs[-1])
    inputs = {"input_ids": IDS[:1], "labels": IDS[:1]}
    data = data_of(report(gpt, inputs))
    assert len(runs) == 2 and [row[2] for row in data["profile"]] == [f"{row.forward * 1e3:.2f}" for row in runs[1][0].by_op()]
    with lens.record(gpt, "blocks.0.resid_pre", gradients=True) as values:
        gpt(**inputs).loss.backward()
    gpt.zero_grad()
    np.testing.assert_allclose(runs[1][2]["blocks.0.resid_pre"], values.grad["blocks.0.resid_pre"], rtol=1e-5, atol=1e-8)


def test_readings_want_ids_of_the_run(gpt):
    """A negative id, as labels have where they are ignored, would count from the vocabulary's end."""
    for targets, error in ((IDS[:, :3], ValueError), (IDS[0], ValueError), (IDS - 61, IndexError), (IDS + 60, IndexError)):
        with pytest.raises(error, match="logit_lens: .*targets"):
            lens.logit_lens(gpt, targets=targets, input_ids=IDS)
    pattern = lens.patterns(gpt, input_ids=IDS)
    for scores in (lens.induction_scores, lens.duplicate_token_scores):
        for ids in (IDS[0], IDS[:, :4], IDS[:1]):
            with pytest.raises(ValueError, match=r"expected ids of shape \(2, 17\)"):
                scores(pattern, ids)
        with pytest.raises(ValueError, match="and 9 keys"):
            scores(pattern[..., :9], IDS)


def test_figures_show_the_numbers_and_any_token(gpt):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    tokens = ["$$", "$a_{$", *[f"t{i}" for i in range(IDS.shape[1] - 2)]]
    pattern = lens.patterns(gpt, input_ids=IDS)
    attention = figures.attention(pattern[0, 0, 0], tokens=tokens)
    scores = lens.detect_heads(gpt, rng=np.random.default_rng(0))
    heads = figures.heads(scores["induction"])
    layers = figures.logit_lens(lens.logit_lens(gpt, input_ids=IDS), decode=lambda i: "$$")
    found = lens.direct_logit_attribution(gpt, position=5, input_ids=IDS)
    bars = figures.attribution(found, limit=3)
    patching = figures.patching(np.linspace(-1, 1, 3 * len(tokens)).reshape(3, -1), tokens=tokens)
    for figure in (attention, heads, layers, bars, patching):
        figure.canvas.draw()
        plt.close(figure)
    image = lambda figure: figure.axes[0].images[0]
    np.testing.assert_array_equal(image(attention).get_array(), pattern[0, 0, 0])
    assert image(attention).get_clim() == image(layers).get_clim() == (0, 1)
    assert image(heads).get_clim() == (0, scores["induction"].max()) and image(patching).get_clim() == (-1, 1)
    assert image(figures.heads(np.array([[0.1, -0.4]]))).get_clim() == (-0.4, 0.4)
    np.testing.assert_array_equal(image(layers).get_array(), lens.logit_lens(gpt, input_ids=IDS).probabilities[:, 0, :, 0])
    inks = zip(heads.axes[0].texts, scores["induction"].flat)
    assert all((text.get_color() == "black") == (x > 0.6 * scores["induction"].max()) for text, x in inks), "dark on bright"
    assert [t.get_text() for t in heads.axes[0].texts] == [f"{x:.2f}" for x in scores["induction"].flat]
    assert [t.get_text() for t in patching.axes[0].get_xticklabels()] == tokens
    largest = np.abs(found.values).argsort()[-3:]
    assert [t.get_text() for t in bars.axes[0].get_yticklabels()] == [found.components[i] for i in largest]
    assert [bar.get_width() for bar in bars.axes[0].patches] == found.values[largest].tolist()
    colours = {bar.get_facecolor() for bar in figures.attribution(found, limit=99).axes[0].patches if bar.get_width() < 0}
    assert colours == {pytest.importorskip("matplotlib.colors").to_rgba(figures.ORANGE)}
    cross = figures.attention(np.eye(2, 3), tokens=["a", "b"], keys=["x", "y", "z"]).axes[0]
    assert [t.get_text() for t in cross.get_xticklabels()] == ["x", "y", "z"]
    assert [t.get_text() for t in cross.get_yticklabels()] == ["a", "b"]
    plt.close("all")


def test_flops_are_counted_from_shapes():
    """A multiply and an add are two; of a causal square half is computed; what is fused counts as its parts do."""
    B, T, S, D, H, K, V = 2, 5, 7, 12, 3, 4, 6
    one = lambda name, inputs, outputs, **params: forward_flops(name, inputs, outputs, params)
    assert one("matmul", [(B, T, D), (B, D, S)], [(B, T, S)]) == 2 * B * T * D * S
    assert one("linear", [(B, T, D), (S, D), (S,)], [(B, T, S)]) == 2 * B * T * D * S
    assert one("linear_cross_entropy", [(T, D), (S, D), (T,)], [()]) == 2 * T * D * S
    attention = lambda keys, **params: one("attention", [(B, H, T, K), (B, 1, keys, K), (B, 1, keys, V)], [(B, H, T, V)], **params)
    assert attention(S) == attention(S, is_causal=True) == 2 * B * H * T * S * (K + V)
    assert attention(T, is_causal=True) == attention(T) // 2 == B * H * T * T * (K + V)
    weights = [(H * K, D), (K, D), (V, D), (D, H * V)]
    parts = 2 * B * T * (H * K * D + K * D + V * D + D * H * V)
    for causal in (False, True):
        whole = one("self_attention", [(B, T, D), *weights, ()], [(B, T, D)], heads=H, kv_heads=1, is_causal=causal)
        assert whole == parts + attention(T, is_causal=causal)
    ahead = one("feed_forward", [(B, T, D), (S, D), (D, S)], [(B, T, D)])
    assert ahead == 2 * B * T * 2 * D * S + one("gelu", [(B, T, S)], [(B, T, S)])
    assert one("add", [(T, 1), (S,)], [(T, S)]) == one("sum", [(T, S)], [(T,)]) == T * S
    assert one("exp", [(T, S)], [(T, S)]) > 5 * T * S
    assert (backward_flops("linear", 10), backward_flops("attention", 10), backward_flops("add", 10)) == (20, 25, 20)


def test_distance_and_entropy_of_heads_that_look_at_one_key():
    back, ahead = np.eye(6)[[0, 0, 0, 1, 2, 3]], np.eye(6)[[3, 4, 5, 5, 5, 5]]
    pattern = np.stack([[back, ahead], [ahead, back]])[:, None].repeat(2, axis=1)  # (2 layers, 2 texts, 2 heads, 6, 6)
    np.testing.assert_allclose(lens.distance(pattern), [[9 / 6, 12 / 6], [12 / 6, 9 / 6]])
    np.testing.assert_array_equal(lens.entropy(pattern), np.zeros((2, 2)))
    pattern = np.random.default_rng(0).dirichlet(np.ones(6), (3, 2, 4, 6))  # (L, B, H, T, S)
    by_hand = [[np.mean([-row @ np.log(row) for row in pattern[i, :, h].reshape(12, 6)]) for h in range(4)] for i in range(3)]
    np.testing.assert_allclose(lens.entropy(pattern), by_hand)


def test_scores_are_means_over_texts_and_those_of_their_queries_that_have_such_a_place():
    """Three of the six queries of two texts repeat a token: two of the first text, one of the second."""
    pattern = np.random.default_rng(0).dirichlet(np.ones(4), (2, 2, 3, 4))  # (L, B, H, T, S)
    ids = np.array([[1, 2, 1, 2], [5, 6, 6, 7]])
    first, second = pattern[:, 0], pattern[:, 1]
    copies = (first[:, :, 2, 0] + first[:, :, 3, 1] + second[:, :, 2, 1]) / 3
    np.testing.assert_allclose(lens.duplicate_token_scores(pattern, ids), copies)
    after = (first[:, :, 2, 1] + first[:, :, 3, 2] + second[:, :, 2, 2]) / 3
    np.testing.assert_allclose(lens.induction_scores(pattern, ids), after)
    steps = [p[:, :, t, t - 1] for p in (first, second) for t in (1, 2, 3)]
    np.testing.assert_allclose(lens.previous_token_scores(pattern), np.mean(steps, axis=0))
    assert np.isnan(lens.duplicate_token_scores(pattern, np.arange(8).reshape(2, 4))).all()


def test_heads_are_detected_on_tokens_that_come_twice(gpt):
    ids = lens.repeated_tokens(50, 6, 3, np.random.default_rng(1))
    assert ids.shape == (3, 12) and np.array_equal(ids[:, :6], ids[:, 6:]) and not np.array_equal(ids[0], ids[1])
    assert lens.repeated_tokens(2, 99, 1).max() == 1
    ids = lens.repeated_tokens(60, 5, 2, np.random.default_rng(1))
    found, pattern = lens.detect_heads(gpt, length=5, batch=2, rng=np.random.default_rng(1)), lens.patterns(gpt, input_ids=ids)
    assert list(found) == ["previous", "duplicate", "induction"]
    np.testing.assert_array_equal(found["previous"], lens.previous_token_scores(pattern))
    np.testing.assert_array_equal(found["duplicate"], lens.duplicate_token_scores(pattern, ids))
    np.testing.assert_array_equal(found["induction"], lens.induction_scores(pattern, ids))


def test_rollout_follows_the_layers_from_the_input_up():
    pattern = np.random.default_rng(0).dirichlet(np.ones(5), (3, 2, 4, 5))  # (L, B, H, T, S)
    for share in (0.5, 0.2):
        for row in range(2):
            layers = [share * np.eye(5) + (1 - share) * heads.mean(axis=0) for heads in pattern[:, row]]
            np.testing.assert_allclose(lens.rollout(pattern, share)[row], layers[2] @ layers[1] @ layers[0])
    np.testing.assert_allclose(lens.rollout(pattern), lens.rollout(pattern, 0.5))
    halved = lens.rollout(np.where(np.tri(5), pattern, 0.0))  # rows that do not sum to one, as where keys were knocked out
    np.testing.assert_allclose(halved.sum(-1), 1.0)


def test_logit_lens_reads_every_layer_as_the_last(gpt):
    """By hand: the last norm and the output matrix on each layer's stream."""
    seen = lens.logit_lens(gpt, top=4, targets=IDS, input_ids=IDS)
    with lens.record(gpt, "embed", "*.resid_post") as values:
        gpt(input_ids=IDS)
    norm = gpt.transformer.final_norm
    assert seen.layers == ["embed", "layer 0", "layer 1", "layer 2"]
    for i, stream in enumerate(values.values()):
        centred = stream - stream.mean(-1, keepdims=True)
        unit = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-5)
        logits = (unit * norm.weight.data + norm.bias.data) @ gpt.transformer.tokens.weight.data.T
        order = np.argsort(-logits, axis=-1)
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        assert np.array_equal(seen.tokens[i], order[..., :4])
        np.testing.assert_allclose(seen.probabilities[i], np.take_along_axis(shares, order[..., :4], -1), rtol=1e-4)
        np.testing.assert_array_equal(seen.ranks[i], np.argmax(order == IDS[..., None], axis=-1))
    lines = seen.text(lambda token: f"<{token}>" + "\n" * 20, row=1, width=9).splitlines()
    assert len(lines) == 4 and all(len(line) == 20 + 9 * 17 for line in lines)
    assert lines[3].startswith(f"{'layer 2':<20}" + f"<{seen.tokens[3, 1, 0, 0]}>\\n\\n"[:8])


@pytest.mark.parametrize("against", [None, 3])
def test_a_part_s_share_of_a_logit_is_its_way_through_the_frozen_norm(gpt, against):
    with lens.record(gpt, "embed", "*.attn_out", "*.mlp_out", "blocks.2.resid_post") as values:
        gpt(input_ids=IDS)
    norm, words = gpt.transformer.final_norm, gpt.transformer.tokens.weight.data
    row = words[7] if against is None else words[7] - words[against]
    scale = np.sqrt(values["blocks.2.resid_post"][0, 5].var() + 1e-5)
    found = lens.direct_logit_attribution(gpt, position=5, token=7, against=against, input_ids=IDS)
    parts = [name for name in values if name != "blocks.2.resid_post"]
    assert found.components == [*parts, "constant"]
    for name, got in zip(parts, found.values):
        part = values[name][0, 5]
        np.testing.assert_allclose(got, ((part - part.mean()) / scale * norm.weight.data) @ row, rtol=1e-3, atol=1e-5)
    lines = found.text(limit=3).splitlines()
    assert [line.split()[0] for line in lines] == [found.components[i] for i in np.argsort(-np.abs(found.values))[:3]]
    assert float(lines[0].split()[1]) == pytest.approx(found.values[np.argmax(np.abs(found.values))], abs=1e-4)


def test_attribution_patching_is_the_slope_of_activation_patching():
    """Along the way from the corrupted value to the clean one, at its start."""
    tg.manual_seed(5)
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=60, n_positions=32, dtype=np.float64).eval()
    clean, corrupted = {"input_ids": IDS[:, :5]}, {"input_ids": (IDS[:, :5] + 7) % 60}
    metric = lambda out: (out.logits[0, -1, 5] - out.logits[1, -1, 6]) * 3
    linear = lens.attribution_patching(model, clean, corrupted, metric, tap="attn.z")
    with tg.no_grad(), lens.record(model, "*.attn.z") as values:
        best = metric(model(**clean)).item()
        good = dict(values)
        worst = metric(model(**corrupted)).item()
        bad, step = dict(values), 1e-5
        for (i, t), got in np.ndenumerate(linear):
            name, ends = f"blocks.{i}.attn.z", []
            for sign in (1, -1):
                moved = bad[name][:, t] + sign * step * (good[name] - bad[name])[:, t]
                with lens.patch(model, {f"{name}[:, {t}]": moved}):
                    ends.append(metric(model(**corrupted)).item())
            np.testing.assert_allclose(got, (ends[0] - ends[1]) / (2 * step) / (best - worst), rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="attribution_patching: both runs have the same metric"):
        lens.attribution_patching(model, clean, clean, metric)


def test_what_is_kept_for_backward_is_counted_once():
    """An array that two operations keep, or a view of one, is there once; parameters are there anyway."""
    weight = tg.Tensor(np.ones((3, 4), np.float32), requires_grad=True)
    with lens.trace() as tape:
        x = weight * 2.0
        (tg.exp(x) * x * x.reshape(4, 3).reshape(3, 4)).sum().backward()
    assert [call.op for call in tape.calls] == ["multiply", "exp", "multiply", "reshape", "reshape", "multiply", "sum"]
    kept, moved = ([getattr(call, key) for call in tape.calls] for key in ("saved", "moved"))
    assert kept == [0, 48, 48, 0, 0, 48, 0]  # of both products one factor: the other is kept already, or lies in the same memory
    assert moved == [96, 96, 144, 96, 96, 144, 48 + 4]
    assert {call.dtype for call in tape.calls} == {"float32"}
    assert [call.parents for call in tape.calls] == [[], [0], [1, 0], [0], [3], [2, 4], [5]]


def made_up(*calls):
    """A profile of (operation, module, forward, backward, flops, moved)."""
    report = lens.Profile()
    for i, (op, module, forward, backward, flops, moved) in enumerate(calls):
        report.calls.append(Call(i, op, module, [(2,)], [(2,)], "float32", forward, flops, moved, 8, backward, 2 * flops))
    return report


def test_a_profile_adds_up_by_operation_and_by_module():
    report = made_up(("add", "a.b", 1e-3, 0.0, 10, 4_000_000), ("linear", "a.b", 2e-3, 6e-3, 4_000_000, 80),
                     ("linear", "a.c", 1e-3, 1e-3, 8_000_000, 20), ("exp", "", 5e-3, 0.0, 1, 1))  # fmt: skip
    rows = report.by_op()
    assert [(row.name, row.calls) for row in rows] == [("linear", 2), ("exp", 1), ("add", 1)]
    linear = rows[0]
    assert (linear.forward, linear.backward, linear.seconds) == pytest.approx((3e-3, 7e-3, 1e-2))
    assert (linear.flops, linear.backward_flops, linear.moved, linear.saved) == (12_000_000, 24_000_000, 100, 16)
    limits = {"gflops": 8.0, "gbytes": 5.0}
    assert linear.share(limits) == pytest.approx(12e6 / 8e9 / 3e-3)  # its products bind,
    assert rows[2].share(limits) == pytest.approx(4e6 / 5e9 / 1e-3)  # and an addition's bytes
    assert [row.name for row in report.by_module_rows()] == ["a.b", "(outside any module)", "a.c"]
    assert [(row.name, row.calls) for row in report.by_module_rows(depth=1)] == [("a", 3), ("(outside any module)", 1)]
    table = [line.split() for line in report.table(rows, limits).splitlines()]
    assert table[1] == ["linear", "2", "3.00", "ms", "7.00", "ms", "62.5%", "4.0", "0.0", "50%"]
    assert table[3] == ["add", "1", "1.00", "ms", "0.00", "ms", "6.2%", "0.0", "4.0", "80%"]
    assert "exp" in report.text() and "exp" in report.text(limit=2) and "exp" not in report.text(limit=1)


def test_a_tape_is_cut_where_asked():
    tape = made_up(*[("add", "a", 1e-3, 0.0, 1, 1)] * 5, ("mul", "b", 1e-3, 2e-3, 1, 1))
    for child, parent in ((1, 0), (2, 0), (5, 2)):
        tape.calls[child].parents.append(parent)
    lines = Tape.text(tape, limit=3).splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [["0", "add"], ["1", "add"], ["2", "add"]] and lines[1] == "a"
    assert lines[5] == "... 3 more" and lines[6] == "6 operations, 48 B kept for backward, forward 6.00 ms, backward 2.00 ms"
    assert "more" not in Tape.text(tape, limit=6) and Tape.text(tape).count("\na\n") == Tape.text(tape).count("\nb\n") == 1
    assert tape.svg().count("<rect") == 6 and tape.svg().count("<path") == 3 and "not drawn" not in tape.svg()
    few = tape.svg(limit=3)
    assert few.count("<rect") == 3 and few.count("<path") == 2 and "3 more operations not drawn" in few
    spots = [(int(x), int(y)) for x, y in re.findall(r'<rect x="(\d+)" y="(\d+)"', tape.svg())]
    assert len(set(spots)) == 6, "no box lies on another"
    x, y = zip(*spots)
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', tape.svg()).groups())
    assert max(x) + 170 <= width < max(x) + 220 and max(y) + 44 <= height < max(y) + 94, "the drawing ends where its boxes do"
    assert 0 < x[0] == x[1] == x[5] and x[2] == x[3] == x[0] + (x[4] - x[0]) / 2 < x[0] + 200
    assert 0 < y[0] == y[3] == y[4] < 44 and y[0] + 44 < y[1] == y[2] and y[2] + 44 < y[5], "what uses a result stands below it"
    assert re.findall(r"n\d+ -> n\d+", tape.dot()) == ["n0 -> n1", "n0 -> n2", "n2 -> n5"]


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (1_250_000, "1.2 MB"), (3_456_000_000, "3.46 GB")])
def test_sizes_are_said_in_their_unit(count, text):
    assert size_text(count) == text


@pytest.mark.parametrize("budget", [10_000, 2_000, 600])
def test_a_pattern_is_packed_in_as_many_levels_as_fit(budget):
    pattern = np.random.default_rng(0).dirichlet(np.ones(16), (2, 2, 16))
    packed, levels = pack(pattern, budget)
    codes = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8).reshape(pattern.shape)
    assert len(packed) <= budget and codes.max() <= levels - 1
    assert np.abs(codes / (levels - 1) - np.sqrt(pattern)).max() <= 0.5 / (levels - 1) + 1e-12
    assert levels == 64 or len(pack(pattern, 10**9)[0]) > budget


def test_the_report_shows_lengths_of_streams_and_what_each_head_does(gpt):
    inputs = {"input_ids": IDS[:1], "labels": IDS[:1]}
    data = data_of(report(gpt, inputs))
    names = ["blocks.0.resid_pre", *(f"blocks.{i}.resid_post" for i in range(3))]
    with lens.record(gpt, *names, gradients=True) as values:
        gpt(**inputs).loss.backward()
    gpt.zero_grad()
    length = lambda arrays: [np.sqrt((arrays[name] ** 2).sum(-1)).mean() for name in names]
    streams, slopes = data["norms"]
    np.testing.assert_allclose(streams["series"][0]["values"], length(values), rtol=1e-4)
    np.testing.assert_allclose(slopes["series"][0]["values"], length(values.grad), rtol=1e-4)
    assert streams["labels"] == slopes["labels"] == ["in", "0", "1", "2"] and streams["caption"].startswith("model: length of the stream")
    pattern = lens.patterns(gpt, input_ids=IDS[:1])
    note = data["attention"][0]["notes"][1][2]
    assert note.startswith(f"entropy {lens.entropy(pattern)[1, 2]:.2f} nats, mean distance {lens.distance(pattern)[1, 2]:.1f}, previous")
    assert f"previous token {lens.previous_token_scores(pattern)[1, 2]:.2f}" in note
    twice = data_of(report(gpt, {"input_ids": np.tile(IDS[:1, :8], 2)}))["attention"][0]["notes"][1][2]
    ids = np.tile(IDS[:1, :8], 2)
    assert twice.endswith(f"induction {lens.induction_scores(lens.patterns(gpt, input_ids=ids), ids)[1, 2]:.2f}")
