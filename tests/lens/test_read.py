"""Readings of a run: logit lens, direct logit attribution, activation and attribution patching."""

from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.lens.small import IDS, data_of
from tinygrad_llm import lens
from tinygrad_llm.lens.page import report


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


def test_what_reads_logits_wants_a_model_that_makes_them(bert):
    for read in (lens.logit_lens, lens.direct_logit_attribution):
        with pytest.raises(TypeError, match="BertModel makes no logits"):
            read(bert, input_ids=IDS)


def test_each_side_of_an_encoder_decoder_has_its_depth(gpt):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 2, "num_heads": 2, "vocab_size": 60}
    model = tg.models.create("t5-small", **sizes)
    assert [lens.depth(model), lens.depth(model, "decoder"), lens.depth(model, "encoder")] == [2, 2, 1]
    with pytest.raises(ValueError, match=r"depth: GPT2LMHeadModel has no layers named encoder.blocks.0"):
        lens.depth(gpt, "encoder")


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
