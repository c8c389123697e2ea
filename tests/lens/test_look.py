"""Values inside models, read and changed."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.lens.small import IDS
from tinygrad_llm import lens
from tinygrad_llm.lens.look import parse


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


def test_keys_and_values_kept_from_a_cache_stay_what_they_were(gpt):
    kept = []
    keep = lambda x: kept.append((x.data, x.data.copy())) or x
    cache = gpt.make_cache(16)
    with tg.no_grad(), lens.patch(gpt, {"blocks.0.attn.[kv]": keep}):
        gpt(input_ids=IDS[:, :5], past_key_values=cache)
        for token in (5, 6):
            gpt(input_ids=IDS[:, token : token + 1], past_key_values=cache)
            cache.truncate(5)
        gpt.generate(IDS, num_beams=3, max_new_tokens=8)
    assert len(kept) > 10
    for now, then in kept:
        np.testing.assert_array_equal(now, then)


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


def test_gradients_of_one_kind_are_stacked_by_layer_and_a_missing_one_says_why(gpt):
    with lens.record(gpt, "*.attn.z", gradients=True) as values:
        loss = gpt(input_ids=IDS, labels=IDS).loss
        with pytest.raises(KeyError, match=r"'blocks.0.attn.z' has no gradient; recorded: nothing yet .*gradients=True.* backward"):
            values.grad["blocks.0.attn.z"]
        loss.backward()
    layers = range(len(gpt.transformer.layers))
    np.testing.assert_array_equal(values.grad.stack("attn.z"), [values.grad[f"blocks.{i}.attn.z"] for i in layers])
    with pytest.raises(KeyError, match="no layer's 'resid_post' was recorded; recorded: blocks"):
        values.grad.stack("resid_post")
    with pytest.raises(KeyError, match="'embed' has no gradient; recorded: blocks"):
        values.grad["embed"]


def test_the_losss_gradient_at_the_logits_is_seen_by_who_looks_at_them(gpt):
    out = gpt(input_ids=IDS, labels=IDS)
    assert tg.grad(out.loss, out.logits, allow_unused=True) == (None,)
    with lens.record(gpt, "logits", gradients=True) as values:
        gpt(input_ids=IDS, labels=IDS).loss.backward()
    logits = tg.Tensor(out.logits.data[:, :-1].reshape(-1, 60), requires_grad=True)
    (expected,) = tg.grad(tg.functional.cross_entropy(logits, IDS[:, 1:].reshape(-1)), logits)
    np.testing.assert_allclose(values.grad["logits"][:, :-1].reshape(-1, 60), expected.data, rtol=1e-4, atol=1e-7)


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


def test_a_patch_that_replaced_nothing_says_so(gpt, t5):
    """Of several names one key may mean one is enough; an error in the block comes out as it is, and a block is judged alone."""
    with pytest.raises(RuntimeError, match="^patch: 'logits' replaced nothing, as .* run this GPT2LMHeadModel there, in the same"):
        with lens.patch(gpt, {"logits": 0.0, "embed": lambda x: x}):
            gpt.transformer(input_ids=[[1]])
    state = t5.encode(input_ids=[[4, 5]])
    first = next(name for name in lens.names(t5) if name.endswith("attn.z"))
    with pytest.raises(RuntimeError, match=rf"^patch: '{first}' replaced nothing, as no such value .* made were decoder\."):
        with lens.patch(t5, {first: 0.0}):
            t5(encoder_outputs=state, decoder_input_ids=[[6]])
    with lens.patch(t5, {"*attn.z": 0.0}):
        t5(encoder_outputs=state, decoder_input_ids=[[6]])
    again = lens.patch(gpt, {"logits": 0.0})
    with again:
        gpt(input_ids=[[1]])
    with pytest.raises(RuntimeError, match="replaced nothing"):
        with again:
            pass
    with pytest.raises(ZeroDivisionError):
        with again:
            raise ZeroDivisionError


def test_a_lens_may_be_opened_twice(gpt):
    with lens.patch(gpt, {"logits": 0.0}) as twice:
        with twice:
            pass
        assert not gpt(input_ids=IDS).logits.data.any()
    assert gpt(input_ids=IDS).logits.data.any()


def test_patch_keys_may_be_any_pattern(gpt):
    assert parse("blocks.[01].attn.z[:, [0, 2], 4]") == ("blocks.[01].attn.z", (slice(None), [0, 2], 4))
    assert parse("blocks.[!0].attn_out") == ("blocks.[!0].attn_out", None)
    assert parse("blocks.0.attn.[kv]") == ("blocks.0.attn.[kv]", None)
    assert parse("*.[kv][:, 2]") == ("*.[kv]", (slice(None), 2))
    rows = list(np.array([3, -5]))
    assert parse(f"blocks.0.resid_post[[0, 1], {rows}]") == ("blocks.0.resid_post", ([0, 1], [3, -5]))
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
