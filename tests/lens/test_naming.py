"""Names of the values inside models."""

import copy

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.lens.small import IDS
from tinygrad_llm import lens


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


@pytest.mark.parametrize("recompute", [False, True])
def test_what_runs_inside_a_patch_is_looked_into_by_its_own_names(gpt, bert, recompute):
    class Autoencoder(tg.nn.Module):
        def __init__(self):
            self.up, self.down = tg.nn.Linear(32, 48), tg.nn.Linear(48, 32)
            self.dummy_inputs = {"x": np.zeros((1, 32))}

        def forward(self, x):
            return self.down(tg.nn.tap("latents", tg.functional.relu(self.up(x))))

    tg.manual_seed(0)
    sparse = Autoencoder()
    spliced = {"blocks.1.mlp_out": sparse}
    model = copy.deepcopy(gpt)
    model.recompute = recompute
    with lens.record(model, "blocks.1.mlp_out") as values:
        model(input_ids=IDS)
    plain = sparse.up(values["blocks.1.mlp_out"]).data
    with lens.record(sparse, "latents", gradients=True) as latents, lens.patch(model, spliced):
        model(input_ids=IDS, labels=IDS).loss.backward()
    np.testing.assert_allclose(latents["latents"], np.maximum(plain, 0), rtol=1e-4, atol=1e-6)
    assert latents.grad["latents"].any()
    off = {"latents[..., 5:]": 0.0}
    sparse.up.bias.data[:5] = -9.0  # so that nothing is left of it
    with lens.patch(model, spliced), lens.patch(sparse, off), lens.record(model, "blocks.1.mlp_out") as values:
        model(input_ids=IDS)
    np.testing.assert_allclose(values["blocks.1.mlp_out"], np.broadcast_to(sparse.down.bias.data, (2, 17, 32)), atol=1e-6)
    model.transformer.layers[1].mlp.register_forward_hook(lambda module, args, out: sparse(out))
    with lens.record(sparse, "latents") as latents:
        model(input_ids=IDS)
    assert latents["latents"].shape == (2, 17, 48)


def test_a_part_that_is_called_alone_keeps_its_names(gpt, t5):
    x = np.random.default_rng(0).normal(size=(1, 3, 32)).astype(np.float32)
    for model, part, names in (
        (gpt, gpt.transformer.layers[1], ("blocks.1.resid_pre", "blocks.1.attn.z", "blocks.1.mlp_out")),
        (gpt, gpt.transformer.layers[1].attn, ("blocks.1.attn.q", "blocks.1.attn.z")),
        (t5, t5.encoder.layers[0], ("encoder.blocks.0.attn.z", "encoder.blocks.0.mlp_post")),
        (t5, t5.decoder.layers[1].cross, ("decoder.blocks.1.cross.k", "decoder.blocks.1.cross.z")),
    ):
        with lens.record(model, *names) as values, lens.patch(model, {names[-1]: 0.0}):
            part(x)
        assert list(values) == list(names) and not values[names[-1]].any()


def test_models_inside_others_keep_their_names(gpt, bert):
    gpt, bert = copy.deepcopy((gpt, bert))  # a module knows its name in another

    class Both(tg.nn.Module):
        def __init__(self):
            self.layers = [gpt, bert]

        def forward(self, ids):
            return self.layers[0](input_ids=ids), self.layers[1](input_ids=ids)

    both, taps = Both(), ("embed", "blocks.*.attn_out", "blocks.*.resid_pre")
    inner = lambda x: bert(input_ids=IDS).last_hidden_state
    for model in (gpt, bert):
        with lens.record(model, *taps) as alone:
            model(input_ids=IDS)
        with lens.record(model, *taps) as own:
            both(IDS)
        assert set(own) == set(alone) and all(np.array_equal(own[name], alone[name]) for name in alone)
    with lens.record(bert, *taps) as own, lens.patch(gpt, {"blocks.2.resid_pre": inner}):
        gpt(input_ids=IDS)
    assert set(own) == set(alone) and all(np.array_equal(own[name], alone[name]) for name in alone)


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


def test_dir_lists_what_the_room_has():
    assert {"record", "patch", "logit_lens", "report"} <= set(dir(lens)) and "import_module" not in dir(lens)


def test_names_follow_a_change_of_the_model():
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=60, n_positions=32).eval()
    assert lens.depth(model) == 2
    del model.transformer.layers[0]
    assert lens.depth(model) == 1 and "blocks.1.attn_out" not in lens.names(model)
    model.transformer.layers[0].mlp = tg.nn.Linear(16, 16)
    assert "blocks.0.mlp_pre" not in lens.names(model) and "blocks.0.mlp_out" in lens.names(model)
