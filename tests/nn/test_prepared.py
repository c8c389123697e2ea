"""A decoder's layers as one chain give the numbers of the layers one by one, and no change of the model goes unseen."""

import copy
import dataclasses
import pickle
from operator import attrgetter

import numpy as np
import pytest

import kernels
import tinygrad_llm as tg
from tests.nn.small import attentive
from tinygrad_llm import nn
from tinygrad_llm.autograd.state import local as engine

pytestmark = [pytest.mark.numba_side, pytest.mark.skipif(not kernels.can_chain(), reason="kernels are not compiled here")]

LLAMA = dict(hidden_size=96, intermediate_size=130, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=50,
             max_position_embeddings=64)
BOTH = dict(d_model=96, vocab_size=50)
SMALL = {
    "gpt2": dict(n_embd=96, n_head=4, n_layer=2, vocab_size=50, n_positions=64),
    "gpt": dict(n_embd=96, n_head=4, n_layer=2, vocab_size=50, n_positions=64),
    "llama-7b": LLAMA,
    "mistral-7b": LLAMA | dict(sliding_window=5),
    "qwen2-0.5b": LLAMA,
    "qwen3-0.6b": LLAMA | dict(head_dim=40),
    "transformer-base": BOTH | dict(encoder_layers=1, decoder_layers=2, num_heads=4, d_ff=48, max_position_embeddings=64),
    "bart-base": BOTH | dict(encoder_layers=1, decoder_layers=3, encoder_attention_heads=2, decoder_attention_heads=4, encoder_ffn_dim=48,
                             decoder_ffn_dim=48, max_position_embeddings=64),
    "t5-small": BOTH | dict(d_kv=24, d_ff=48, num_layers=1, num_decoder_layers=2, num_heads=4),
    "t5-v1_1-small": BOTH | dict(d_kv=24, d_ff=48, num_layers=1, num_decoder_layers=2, num_heads=4),
}  # fmt: skip
IDS = np.random.default_rng(0).integers(4, 50, (3, 20))


def model(name, **more):
    return attentive(name, **SMALL[name] | more)


def start(made, batch=1, padded=False, copies=1):
    """`step(ids)`, the logits of the ids that follow, and its cache, after a prompt (of decoders) or a source (of encoder-decoders)."""
    ids, mask = IDS[:batch, :6], np.ones((batch, 6), np.int64)
    with tg.no_grad():
        if made.is_encoder_decoder:
            mask[-1, 4:] = 0 if padded else 1
            encoded, cache = made.encode(ids, mask), made.make_cache(64)
            encoded.last_hidden_state = tg.Tensor(np.repeat(encoded.last_hidden_state.data, copies, axis=0))
            cache.copies, mask = copies, np.repeat(mask, copies, axis=0)
            call = lambda ids: made(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=ids, past_key_values=cache)
            call(np.repeat(ids[:, :1], copies, axis=0))
        else:
            cache = made.make_cache(64)
            mask[0, :3] = 0 if padded else 1
            seen = lambda ids: np.concatenate([mask, np.ones((batch, cache.length + ids.shape[1] - 6), np.int64)], axis=1)
            call = lambda ids: made(ids, seen(ids), past_key_values=cache)
            call(ids)
    return tg.no_grad()(lambda ids: call(ids).logits.data), cache


def chains(cache):
    return [held.chain is not None for held in cache.prepared.values()]


def compare(made, monkeypatch, widths=(1, 1, 1), **options):
    """Steps of so many ids with the chain and without; whether the chain was made for each kind of step."""
    results = []
    for on in (True, False):
        with monkeypatch.context() as patch:
            if not on:
                patch.setattr(nn, "run_prepared", lambda *args, **kwargs: None)
            step, cache = start(made, **options)
            rows = options.get("batch", 1) * options.get("copies", 1)
            ids = np.random.default_rng(5).integers(4, 50, (rows, sum(widths)))
            results.append([step(part) for part in np.split(ids, np.cumsum(widths)[:-1], axis=1)])
        if on:
            used = chains(cache)
        else:
            assert not cache.prepared
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())
    return used


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("batch, padded", [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("name", SMALL)
def test_same_numbers_as_layer_by_layer(name, batch, padded, quantized, monkeypatch):
    made = model(name)
    if quantized:
        made.quantize()
    assert compare(made, monkeypatch, batch=batch, padded=padded) == [True]


def test_keys_without_a_bias_beside_queries_with_one(monkeypatch):
    made = model("gpt2")
    for layer in made.transformer.layers:
        layer.attn.k.bias = None
    assert compare(made, monkeypatch) == [True]


@pytest.mark.parametrize("name", ["gpt2", "llama-7b", "mistral-7b"])
def test_several_positions_at_once(name, monkeypatch):
    assert compare(model(name), monkeypatch, widths=(3, 1, 3, 5, 1)) == [True] * 3
    assert compare(model(name), monkeypatch, widths=(17, 1)) == [True]  # 17 rows go layer by layer


@pytest.mark.parametrize("name", ["llama-7b", "gpt2"])
def test_each_row_at_positions_of_its_own(name, monkeypatch):
    """As after prompts that are padded at their beginning."""
    made, results = model(name), []
    for on in (True, False):
        if not on:
            monkeypatch.setattr(nn, "run_prepared", lambda *args, **kwargs: None)
        _, cache = start(made, batch=3)
        with tg.no_grad():
            places = np.array([[6, 7, 8], [3, 4, 5], [9, 10, 11]])
            calls = [made(IDS[:3, part], position_ids=places[:, part], past_key_values=cache) for part in (slice(1), slice(1, 3))]
        results.append([out.logits.data for out in calls])
        assert chains(cache) == [True] * 2 * on
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize("name", ["transformer-base", "bart-base", "t5-small"])
def test_beams_share_their_source(name, monkeypatch):
    assert compare(model(name), monkeypatch, batch=2, padded=True, copies=3) == [True]


@pytest.mark.parametrize("name", SMALL)
def test_generation_writes_the_same_tokens(name, monkeypatch):
    made = model(name)
    runs = []
    for on in (True, False):
        with monkeypatch.context() as patch:
            if not on:
                patch.setattr(nn, "run_prepared", lambda *args, **kwargs: None)
            runs.append([made.generate(IDS[:2, :6], max_new_tokens=12, num_beams=beams, eos_token_id=-1) for beams in (1, 3)])
    for ours, plain in zip(*runs, strict=True):
        np.testing.assert_array_equal(ours, plain)


# -- what must be seen -------------------------------------------------------------------------------------------------


def replace_weight(made):
    weight = made.transformer.layers[1].mlp.up.weight
    weight.requires_grad_(False)
    weight.data = weight.data * 2


def replace_feed_forward(made):
    layer = made.transformer.layers[0]
    held, layer.mlp = layer.mlp, nn.FeedForward(96, 384, "relu")
    layer.mlp.up, layer.mlp.down = held.up, held.down


def patch_forward(made):
    mlp = made.transformer.layers[0].mlp
    plain = mlp.forward
    mlp.forward = lambda x, residual=None: plain(x, residual) * 2.0


def add_hook(made):
    made.transformer.layers[1].attn.register_forward_hook(lambda module, args, out: (out[0] * 2.0, out[1]))


CHANGES = {
    "a number in place": (lambda m: m.transformer.layers[0].attn.k.weight.data.__imul__(2), True),
    "another array": (replace_weight, True),
    "another scale of scores": (lambda m: setattr(m.transformer.layers[0].attn, "scale", 1.0), True),
    "another feed-forward": (replace_feed_forward, True),
    "another layer in the list": (lambda m: m.transformer.layers.__setitem__(0, m.transformer.layers[1]), True),
    "a hook": (add_hook, False),
    "another forward": (patch_forward, False),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_tokens_is_seen(change, monkeypatch):
    """The chain of the changed model, or none; in either case what a model says that was changed before the first token."""
    make, still_a_chain = CHANGES[change]
    with monkeypatch.context() as patch:
        patch.setattr(nn, "run_prepared", lambda *args, **kwargs: None)
        changed = model("gpt2")
        other, _ = start(changed)
        other(IDS[:1, :1])
        make(changed)
        expected = other(IDS[:1, 1:2])
    made = model("gpt2")
    step, cache = start(made)
    step(IDS[:1, :1])
    assert chains(cache) == [True]
    make(made)  # and no module is made in between, which alone would have all chains written anew
    np.testing.assert_allclose(step(IDS[:1, 1:2]), expected, rtol=1e-4, atol=1e-4)
    assert chains(cache) == [still_a_chain]


def hook(part):
    part.register_forward_hook(lambda module, args, out: None)


def drop(part):
    part.training = True
    setattr(part, "p" if isinstance(part, nn.Dropout) else "dropout", 0.5)


def reorder(layer):
    layer.weight.requires_grad_(False)
    layer.weight.data = np.asfortranarray(layer.weight.data)


UNUSUAL = {
    **{f"a hook on {name or 'the block'}": lambda block, name=name: hook(attrgetter(name)(block) if name else block)
       for name in ("", "attn", "attn.q", "attn.o", "attn_norm", "cross", "cross.q", "cross.o", "cross_norm", "mlp", "mlp.up", "mlp.down")},
    **{f"dropout in {name}": lambda block, name=name: drop(attrgetter(name)(block)) for name in ("drop", "attn", "cross", "mlp.drop")},
    "a block of another class": lambda block: setattr(block, "__class__", type("Mine", (nn.DecoderBlock,), {})),
    "another activation function": lambda block: setattr(block.mlp, "act", tg.sin),
    "an activation that is not fused": lambda block: setattr(block, "mlp", nn.FeedForward(96, 48, "relu2")),
    "a gate that is not fused": lambda block: setattr(block, "mlp", nn.FeedForward(96, 48, "relu", gated=True)),
    "another product of a gate": lambda block: (
        setattr(block, "mlp", nn.FeedForward(96, 48, "silu", gated=True)), setattr(block.mlp, "join", lambda gate, up: gate + up)
    ),
    "a norm of queries to the source": lambda block: setattr(block.cross, "q_norm", nn.RMSNorm(24)),
    "a norm of keys of the source": lambda block: setattr(block.cross, "k_norm", nn.RMSNorm(24)),
    "a weight in another order": lambda block: reorder(block.mlp.down),
}  # fmt: skip


@pytest.mark.parametrize("change", UNUSUAL)
def test_what_a_chain_does_not_know_goes_layer_by_layer(change):
    made = model("bart-base")
    step, cache = start(made)
    UNUSUAL[change](made.model.decoder.layers[1])
    step(IDS[:1, :1])
    assert chains(cache) == [False]


def test_dropout_and_gradients_and_a_lens_go_layer_by_layer():
    made = model("gpt2")
    step, cache = start(made)
    step(IDS[:1, :1])
    made.train()
    step(IDS[:1, :1])
    assert chains(cache) == [False]
    made.eval()
    step(IDS[:1, :1])
    assert chains(cache) == [True]
    with pytest.raises(RuntimeError, match="gradients do not flow into cached positions"):
        made(IDS[:1, :1], past_key_values=cache)
    seen = []

    class Lens:
        wants = staticmethod(lambda name: name == "z")
        see = staticmethod(lambda name, value: seen.append(engine.path) or value)

    with nn.looking_through(Lens()):
        step(IDS[:1, :1])
    assert len(seen) == 2
    step, cache = start(model("llama-7b").train())  # no dropout
    step(IDS[:1, :1])
    assert chains(cache) == [True]


def test_a_class_with_another_forward_goes_layer_by_layer(monkeypatch):
    step, cache = start(model("gpt2"))
    plain = nn.LayerNorm.forward
    monkeypatch.setattr(nn.LayerNorm, "forward", lambda self, x: plain(self, x) * 2.0)
    doubled = step(IDS[:1, :1])
    assert not cache.prepared
    monkeypatch.undo()
    cache.truncate(6)
    assert np.abs(step(IDS[:1, :1]) - doubled).max() > 0.1


def test_float64_and_the_numpy_side_go_layer_by_layer():
    step, cache = start(model("gpt2").astype(np.float64))
    step(IDS[:1, :1])
    assert not cache.prepared
    step, cache = start(model("gpt2"))
    with kernels.use("numpy"):
        step(IDS[:1, :1])
    assert not cache.prepared


@pytest.mark.parametrize("as_pairs", [False, True])
def test_a_mask_with_a_hole_goes_layer_by_layer(as_pairs):
    made, ids, mask = model("gpt2"), IDS[:1, :7], np.array([[1, 1, 0, 1, 1, 1, 1]])
    with tg.no_grad():
        cache = made.make_cache(64)
        made(ids[:, :6], mask[:, :6], past_key_values=cache)
        got = made(ids[:, 6:], mask[:, None] if as_pairs else mask, past_key_values=cache).logits.data
        np.testing.assert_allclose(got, made(ids, mask).logits.data[:, 6:], rtol=1e-4, atol=1e-4)
    assert not cache.prepared


@pytest.mark.parametrize("name", ["bart-base", "t5-small"])
@pytest.mark.parametrize(("mask", "as_pairs"), [([0, 0, 1, 1, 1, 1], False), ([1, 1, 0, 1, 1, 1], False), ([1, 1, 1, 1, 0, 0], True)])
def test_a_source_whose_padding_is_not_at_its_end_goes_layer_by_layer(name, mask, as_pairs):
    made, ids, mask = model(name), IDS[:1, :3], np.array([mask])
    with tg.no_grad():
        encoded, cache = made.encode(IDS[:1, :6], mask), made.make_cache(64)
        call = lambda ids, mask, cache=None: made(
            encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=ids, past_key_values=cache
        ).logits.data
        got = [call(ids[:, i : i + 1], mask[:, None] if as_pairs else mask, cache) for i in range(3)]
        np.testing.assert_allclose(np.concatenate(got, axis=1), call(ids, mask), rtol=1e-4, atol=1e-4)
    assert not cache.prepared


def test_masks_that_a_chain_does_not_know():
    x, usual, whole = tg.ones((1, 1, 96)), nn.Mask(causal=True, offset=6), np.ones((1, 7), bool)
    made = model("gpt2")
    _, cache = start(made)
    run = lambda first, second: nn.run_prepared(made.transformer.layers, x, [first, second], cache)
    unusual = [
        dataclasses.replace(usual, **other)
        for other in ({"offset": 5}, {"causal": False}, {"pairs": whole[:, None, None]}, {"packed": nn.Packed(whole)})
    ]
    with tg.no_grad():
        biased = usual.with_bias(tg.Tensor(np.arange(28).reshape(1, 4, 1, 7), dtype=np.float32))
        for other in (biased, usual.with_window(2)):
            assert np.abs(run(usual, usual).data - run(other, other).data).max() > 0.1
        assert [run(mask, mask) for mask in unusual] == [None] * 4
        assert run(usual, biased) is run(usual, dataclasses.replace(usual, keys=whole)) is None
    made = model("bart-base")
    _, cache = start(made)
    masks, context = [nn.Mask(causal=True, offset=1)] * 3, tg.ones((1, 6, 96))
    run = lambda mask: nn.run_prepared(made.model.decoder.layers, x, masks, cache, context=context, context_mask=mask)
    unusual = [{"causal": True}, {"window": 6}, {"bias": tg.ones((1, 4, 1, 6))}, {"packed": nn.Packed(whole[:, :6])}]
    with tg.no_grad():
        assert run(nn.Mask()) is not None
        assert [run(nn.Mask(**other)) for other in unusual] == [None] * 4


def test_several_positions_of_a_target_and_rounded_products_go_layer_by_layer(monkeypatch):
    assert compare(model("bart-base"), monkeypatch, widths=(2, 1, 3)) == [True]
    step, cache = start(model("gpt2"))
    with tg.autocast("bfloat16"):
        step(IDS[:1, :1])
    assert not cache.prepared


def test_a_chain_is_written_once_for_as_many_threads(same_threads_after):
    step, cache = start(model("gpt2"))
    kernels.set_num_threads(2)
    step(IDS[:1, :1])
    first = cache.prepared[1, 1]
    step(IDS[:1, :1])
    assert cache.prepared[1, 1] is first
    kernels.set_num_threads(1)
    step(IDS[:1, :1])
    assert cache.prepared[1, 1] is not first


@pytest.mark.parametrize("name, joined", [("gpt2", True), ("qwen3-0.6b", False)])
def test_queries_keys_and_values_are_one_product_where_no_norm_stands_between(name, joined):
    step, cache = start(model(name))
    step(IDS[:1, :1])
    rooms = {room for room, *_ in cache.prepared[1, 1].chain.rooms}
    assert rooms & {"q", "k", "v", "qkv"} == ({"qkv"} if joined else {"q", "k", "v"})


def test_a_cache_that_grows_shrinks_or_changes_its_rows(monkeypatch):
    made = model("gpt2")

    def logits():
        cache = nn.KVCache(2, 8)
        call = tg.no_grad()(lambda ids: made(ids, past_key_values=cache).logits.data[:, -1])
        parts = [call(IDS[:2, :6])]
        parts += [call(IDS[:2, i : i + 1]) for i in range(6, 11)]  # more than 8
        cache.truncate(7)
        parts += [call(IDS[:2, :1]), call(IDS[:2, 1:2])]
        cache.reorder([1, 0])
        parts.append(call(IDS[:2, :1]))
        cache.reorder([1, 1, 0])
        parts.append(call(IDS[:3, :1]))
        return np.concatenate(parts)

    ours = logits()
    monkeypatch.setattr(nn, "run_prepared", lambda *args, **kwargs: None)
    np.testing.assert_allclose(ours, logits(), rtol=1e-4, atol=1e-4)


def test_other_keys_and_values_of_the_source_are_seen(monkeypatch):
    made, results = model("bart-base"), []
    for on in (True, False):
        if not on:
            monkeypatch.setattr(nn, "run_prepared", lambda *args, **kwargs: None)
        step, cache = start(made)
        before = step(IDS[:1, :1])
        for layer in cache.layers:
            layer.cross = tuple(tg.Tensor(part.data[:, :, ::-1].copy() * 2) for part in layer.cross)
        results.append(step(IDS[:1, :1]))
        assert np.abs(results[-1] - before).max() > 0.1
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copied_cache_has_a_chain_of_its_own(duplicate):
    made = model("llama-7b")
    step, cache = start(made)
    step(IDS[:1, :1])
    other = duplicate(cache)
    before = [layer.k.copy() for layer in cache.layers]
    with tg.no_grad():
        first = made(IDS[:1, 2:3], past_key_values=other).logits.data
    for layer, k in zip(cache.layers, before, strict=True):
        np.testing.assert_array_equal(layer.k, k)
    np.testing.assert_allclose(step(IDS[:1, 2:3]), first, rtol=1e-5, atol=1e-5)
    assert chains(cache) == chains(other) == [True]


def test_an_error_leaves_the_cache_as_it_was():
    made = model("gpt2")
    step, cache = start(made)
    expected = None
    for _ in range(2):
        with pytest.raises(ValueError, match="50"):
            step(np.array([[50]]))
        cache.truncate(6)
        got = step(IDS[:1, :1])
        assert expected is None or np.array_equal(got, expected)
        expected = got
