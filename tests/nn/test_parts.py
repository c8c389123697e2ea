"""The parts against their formulas: attention in all its forms, positions, masks, taps."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm import functional as F
from tinygrad_llm import nn
from tinygrad_llm.autograd.state import local as engine
from tinygrad_llm.nn.layers import output_weight
from tinygrad_llm.nn.positions import relative_buckets


def attention_by_loops(layer, x, context, allowed, bias):
    """Equation by equation, one query at a time, in float64."""
    project = lambda linear, v: v @ linear.weight.data.T + (0 if linear.bias is None else linear.bias.data)
    B, T, _ = x.shape
    K, group = layer.head_width, layer.heads // layer.kv_heads
    q, k, v = project(layer.q, x), project(layer.k, context), project(layer.v, context)
    z = np.zeros((B, T, layer.heads * K))
    for b in range(B):
        for h in range(layer.heads):
            mine, theirs = slice(h * K, (h + 1) * K), slice(h // group * K, (h // group + 1) * K)
            for t in range(T):
                see = allowed[b, t]
                if see.any():
                    scores = k[b, see, theirs] @ q[b, t, mine] * layer.scale + bias[h, t, see]
                    weights = np.exp(scores - scores.max())
                    z[b, t, mine] = weights / weights.sum() @ v[b, see, theirs]
    return project(layer.o, z)


@given(
    seed=st.integers(0, 2**32 - 1), T=st.integers(1, 6), S=st.integers(1, 6), kv_heads=st.integers(1, 2), group=st.integers(1, 3),
    width=st.integers(1, 4), cross=st.booleans(), causal=st.booleans(), padded=st.booleans(), window=st.sampled_from([None, 1, 2, 4]),
    biased=st.booleans(), scale=st.sampled_from([None, 1.0]),
)  # fmt: skip
def test_attention_is_its_formula(seed, T, S, kv_heads, group, width, cross, causal, padded, window, biased, scale):
    rng = np.random.default_rng(seed)
    heads, D, B = kv_heads * group, 5, 2
    layer = nn.MultiHeadAttention(D, heads, kv_heads=kv_heads, head_width=width, scale=scale).astype(np.float64)
    S = S if cross else T
    x = rng.standard_normal((B, T, D))
    context = rng.standard_normal((B, S, D)) if cross else x
    distance = np.arange(S)[None, :] - np.arange(T)[:, None]
    allowed = np.ones((B, T, S), bool)
    keys = rng.random((B, S)) < 0.6 if padded else None
    if causal:
        allowed &= distance <= 0
    if window is not None:
        allowed &= np.abs(distance) < window
    if keys is not None:
        allowed &= keys[:, None]
    bias = rng.standard_normal((1, heads, T, S)) if biased else np.zeros((1, heads, T, S))
    mask = nn.Mask(keys=keys, causal=causal, window=window, bias=tg.Tensor(bias) if biased else None)
    want = attention_by_loops(layer, x, context, allowed, bias[0])
    for open_path in (False, True):
        got, pattern = layer(tg.Tensor(x), tg.Tensor(context) if cross else None, mask, output_pattern=open_path)
        np.testing.assert_allclose(got.data, want, rtol=0, atol=1e-12)
    sums = pattern.data.sum(-1)
    np.testing.assert_allclose(sums, np.broadcast_to(allowed.any(-1)[:, None], sums.shape), atol=1e-12)
    assert not pattern.data[np.broadcast_to(~allowed[:, None], pattern.shape)].any()


def test_a_mask_which_many_share_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        nn.Mask().causal = True


def test_the_table_of_a_tied_output_is_in_eight_bits_where_there_is_such_a_copy():
    tokens = nn.Embedding(3, 4)
    assert output_weight(tokens) is tokens.weight and output_weight(tokens.quantize()) is tokens.quantized
    other = nn.Linear(4, 3)  # stands in an Embedding's place
    assert output_weight(other) is other.weight


def test_defaults_of_layers():
    norm = nn.LayerNorm(4)
    assert norm.eps == 1e-5 and norm.bias.shape == (4,) and nn.RMSNorm(4).eps == 1e-6
    assert nn.Linear(3, 4).bias.shape == (4,) and nn.Embedding(3, 4).padding_idx is None and nn.Dropout().p == 0.5


def test_a_query_that_sees_nothing_gives_and_takes_nothing():
    layer = nn.MultiHeadAttention(4, 2).astype(np.float64)
    for open_path in (False, True):
        x = tg.Tensor(np.random.default_rng(0).standard_normal((1, 3, 4)), requires_grad=True)
        out, _ = layer(x, mask=nn.Mask(keys=np.zeros((1, 3), bool)), output_pattern=open_path)
        np.testing.assert_array_equal(out.data, np.broadcast_to(layer.o.bias.data, out.shape))
        out.sum().backward()
        np.testing.assert_array_equal(x.grad.data, 0)


@pytest.mark.parametrize(("inputs", "got"), [(1, "ndarray"), (3, "Tensor")])
def test_attention_called_as_in_pytorch_says_what_it_takes(inputs, got):
    layer, x = nn.MultiHeadAttention(4, 2), tg.ones((1, 3, 4))
    arguments = {"mask": np.tri(3, dtype=bool)} if inputs == 1 else {}
    with pytest.raises(TypeError, match=rf"expected mask=tg\.nn\.Mask\(causal=True\) .* one `context`; got a {got} as mask"):
        layer(*[x] * inputs, **arguments)


@pytest.mark.parametrize("name", ["keys", "pairs"])
def test_a_mask_that_is_not_of_bools_is_refused_with_how_it_is_made_one(name):
    """Added to the scores, a 0 lets through, where of a bool it hides."""
    allowed = np.tri(3, dtype=bool)
    for wrong, got, way in (
        (np.where(allowed, 0.0, -np.inf), "float64 ndarray", "added to the scores "),
        (allowed.astype(int), "int64 ndarray", "of 0 and 1 it is "),
        (tg.Tensor(allowed), "bool Tensor", "of 0 and 1 it is "),
        (allowed.tolist(), "list", "of 0 and 1 it is "),
    ):
        with pytest.raises(TypeError, match=f"^Mask: expected {name} as an array of bools, .* got {got};") as error:
            nn.Mask(**{name: wrong})
        made = eval(str(error.value).partition(way)[2].partition(",")[0], {"np": np, name: wrong})
        np.testing.assert_array_equal(made, allowed)
        nn.Mask(**{name: made})


def test_dropout_may_drop_all_as_the_function_may():
    x = tg.ones(3, requires_grad=True)
    out = nn.Dropout(1.0)(x)
    out.sum().backward()
    assert out.tolist() == tg.functional.dropout(x, 1.0).tolist() == x.grad.tolist() == [0, 0, 0]
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"^Dropout: p must be in \[0, 1\]"):
            nn.Dropout(p)


def test_dropout_in_attention_acts_in_training_alone():
    layer = nn.MultiHeadAttention(8, 2, dropout=0.5)
    x = tg.Tensor(np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32))
    tg.manual_seed(0)
    layer.train()
    assert (layer(x)[0].data != layer(x)[0].data).any()
    tg.manual_seed(1)
    first = layer(x)[0].data
    tg.manual_seed(1)
    np.testing.assert_array_equal(first, layer(x)[0].data)
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].data, layer(x)[0].data)


sigmoid = lambda x: 1 / (1 + np.exp(-x))
relu = lambda x: np.maximum(x, 0)
gelu = lambda x: x * (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2
tanh_gelu = lambda x: x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
FORMULAS = {
    "relu": relu, "relu2": lambda x: relu(x) ** 2, "tanh": np.tanh, "silu": lambda x: x * sigmoid(x), "swish": lambda x: x * sigmoid(x),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x), "gelu": gelu, "gelu_python": gelu,
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh"), tanh_gelu),
}  # fmt: skip


@pytest.mark.parametrize(("width", "dtype", "atol"), [(4, np.float64, 1e-12), (64, np.float32, 1e-5)])  # 64: the fused operations
@pytest.mark.parametrize("name", FORMULAS)
def test_gated_and_plain_feed_forward(name, width, dtype, atol):
    x, residual = np.random.default_rng(0).standard_normal((2, 2, 128, width)).astype(dtype)
    project = lambda layer, x: x @ layer.weight.data.T + (0 if layer.bias is None else layer.bias.data)
    for gated, bias in ((False, True), (True, False), (True, True)):
        part = nn.FeedForward(width, 2 * width, name, gated=gated, bias=bias).astype(dtype)
        inner = FORMULAS[name](project(part.gate, x)) * project(part.up, x) if gated else FORMULAS[name](project(part.up, x))
        want = project(part.down, inner)
        np.testing.assert_allclose(part(tg.Tensor(x)).data, want, rtol=atol, atol=atol)
        np.testing.assert_allclose(part(tg.Tensor(x), tg.Tensor(residual)).data, residual + want, rtol=atol, atol=atol)


def test_an_activation_that_is_not_known_is_refused():
    assert set(FORMULAS) == set(nn.ACTIVATIONS)
    with pytest.raises(ValueError, match="'sine' is not known; there are relu"):
        nn.FeedForward(4, 6, "sine")


def test_sinusoidal_positions():
    table = nn.sinusoidal(50, 7, np.float64)
    for p, i in ((0, 0), (3, 2), (49, 4), (7, 5)):
        angle = p / 10000 ** (2 * (i // 2) / 7)
        assert table[p, i] == pytest.approx(np.sin(angle) if i % 2 == 0 else np.cos(angle))


@given(seed=st.integers(0, 1000), shift=st.integers(0, 50))
def test_rotary_scores_depend_on_distance_alone(seed, shift):
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, 1, 1, 4, 6))
    turn = nn.Rotary(6, theta=100.0)
    scores = []
    for start in (0, shift):
        cos, sin = turn(np.arange(start, start + 4), np.float64)
        a, b = tg.functional.rotary(tg.Tensor(q), cos, sin).data, tg.functional.rotary(tg.Tensor(k), cos, sin).data
        scores.append(a @ np.swapaxes(b, -1, -2))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-10)
    with pytest.raises(ValueError, match="'yarn' is not supported"):
        nn.Rotary(6, scaling={"rope_type": "yarn"})


def test_rotary_angles_are_their_formula():
    """Llama 3.1: of a pair that turns often within the old context the angle stays, of one that hardly turns it is divided."""
    positions, i = np.array([0, 3, 70]), np.arange(8)
    plain = positions[:, None] * 100.0 ** (-2 * i / 16)
    linear = {"rope_type": "linear", "factor": 4.0}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64}  # fmt: skip
    wavelength = 2 * np.pi * 100.0 ** (2 * i / 16)
    smooth = (64 / wavelength - 1.0) / (4.0 - 1.0)
    kept, divided = wavelength < 64 / 4.0, wavelength > 64 / 1.0
    assert kept.any() and divided.any() and not (kept | divided).all()
    factor = np.where(kept, 1.0, np.where(divided, 1 / 8, (1 - smooth) / 8 + smooth))
    for scaling, angles in ((None, plain), (linear, plain / 4), (llama3, plain * factor)):
        turn = nn.Rotary(16, theta=100.0, scaling=scaling)
        np.testing.assert_allclose(turn(positions, np.float64), (np.cos(angles), np.sin(angles)), atol=1e-12)
        rows = turn(np.stack([positions, positions[::-1]]), np.float32)
        assert all(part.shape == (2, 1, 3, 8) and part.dtype == np.float32 for part in rows)
        np.testing.assert_allclose(rows[0][1, 0], np.cos(angles[::-1]), atol=1e-4)
    np.testing.assert_allclose(nn.Rotary(4)(np.array([1]), np.float64)[1], np.sin([[1.0, 0.01]]))


def test_relative_buckets():
    distance = np.arange(-200, 201)
    both = relative_buckets(distance, 32, 128, True)
    assert both.min() == 0 and both.max() == 31
    near = np.abs(distance) < 8
    np.testing.assert_array_equal(both[near], np.abs(distance[near]) + 16 * (distance[near] > 0))
    for far in (9, 13, 21, 50, 90, 127, 150):  # none at a bucket's edge
        bucket = min(15, 8 + int(np.log(far / 8) / np.log(128 / 8) * 8))
        assert both[200 - far] == bucket and both[200 + far] == 16 + bucket
    before = relative_buckets(distance, 32, 128, False)
    assert (before[distance >= 0] == 0).all() and (np.diff(before[distance <= 0]) <= 0).all() and before.max() == 31


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("form", ["none", "keys", "pairs", "heads", "rows"])
@pytest.mark.parametrize("window", [None, 1, 2, 4])
@pytest.mark.parametrize("whole", [False, True])
def test_what_a_mask_allows(form, offset, causal, window, whole):
    """What a caller passed in each of its forms, pair by pair; queries stand behind `offset` keys."""
    T, heads = 3, 3
    B, S = 2, offset + T
    given = np.random.default_rng(0).random((B, heads, T, S)) < (1.1 if whole else 0.6)
    passed = {"none": None, "keys": given[:, 0, 0], "pairs": given[:, 0], "heads": given, "rows": given[:1]}[form]
    seen = np.ones((B, heads, T, S), bool) & {
        "none": np.True_, "keys": given[:, :1, :1], "pairs": given[:, :1], "heads": given, "rows": given[:1]}[form]  # fmt: skip
    mask = nn.from_attention_mask(None if passed is None else tg.Tensor(passed.astype(int)), B, T, S, causal=causal, offset=offset)
    allowed = mask.with_window(window).allowed(T, S)
    found = np.ones_like(seen) if allowed is None else np.broadcast_to(allowed, seen.shape)
    for b, h, t, s in np.ndindex(*seen.shape):
        near = window is None or abs(s - offset - t) < window
        assert found[b, h, t, s] == (seen[b, h, t, s] and near and (s <= offset + t or not causal))


@pytest.mark.parametrize(("mask", "message"), [
    (np.ones((3, 1, 3, 3)), r"got \(3, 1, 3, 3\)"), (np.ones((2, 1, 3, 4)), r"got \(2, 1, 3, 4\)"), (np.ones(3), r"got \(3,\)"),
    (np.ones((2, 4)), r"expected shape \(2, 3\)"), (np.full((2, 3), 2), "expected 0 and 1"), (np.full((2, 3), -1e4), "expected 0 and 1"),
])  # fmt: skip
def test_a_bad_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        nn.from_attention_mask(mask, 2, 3, 3)


def test_a_cache_holds_the_positions_one_after_another():
    cache, kv = nn.KVCache(2, 8), np.random.default_rng(0).standard_normal((2, 2, 3, 50, 5))
    layer, want = cache[1], kv
    assert (len(cache), cache.capacity, nn.KVCache(1, 0).capacity) == (2, 8, 1)

    def add(end, reserved):
        got = layer.append(*(tg.Tensor(x) for x in want[..., cache.length : end, :]))
        cache.advance(end - cache.length)
        np.testing.assert_array_equal([x.data for x in got], want[..., :end, :])
        assert cache.length == cache.get_seq_length() == end and layer.k.shape[2] == layer.v.shape[2] == reserved

    for end, reserved in ((3, 8), (8, 8), (9, 16), (40, 40)):  # all at first, then twice as many or as many as needed
        add(end, reserved)
    for bad in (-1, 41):
        with pytest.raises(ValueError, match=f"cannot truncate 40 positions to {bad}"):
            cache.truncate(bad)
    cache.truncate(40), cache.truncate(7)
    want = np.concatenate([kv[..., :7, :], kv[..., 20:30, :]], axis=3)
    add(12, 40)
    cache.reorder([1, 0])
    want = want[:, [1, 0]]
    add(13, 40)
    cache.reorder([1, 1, 0])
    want = want[:, [1, 1, 0]]
    add(14, 40)
    with pytest.raises(ValueError, match="cache: made for a batch of 3, got 2"):
        layer.append(*(tg.Tensor(x) for x in kv[..., :1, :]))
    cache.truncate(0)
    add(2, 40)
    assert cache[0].k is None


def test_a_cache_moves_the_sources_of_its_rows():
    """Of rows with one source each, of two that share one, and of two that could (under a lens) but have one each."""
    kv = np.random.default_rng(0).standard_normal((2, 4, 1, 2, 3))
    for copies, sources, rows, want in ((1, 4, [3, 3, 0, 1], [3, 3, 0, 1]), (2, 2, [3, 2, 0, 0], [1, 0]), (2, 4, [3, 2, 0, 0], [3, 2, 0, 0])):
        cache = nn.KVCache(1)
        cache.copies, cache[0].cross = copies, tuple(tg.Tensor(x[:sources]) for x in kv)
        cache.reorder(rows, shared_source=True)
        np.testing.assert_array_equal([x.data for x in cache[0].cross], kv[:, :sources])
        cache.reorder(rows)
        np.testing.assert_array_equal([x.data for x in cache[0].cross], kv[:, want])


@pytest.mark.parametrize("rows", [1, 3])
def test_a_cache_of_another_batch_is_refused(rows):
    model = tg.models.create("gpt2", n_embd=8, n_layer=2, n_head=2, vocab_size=11, n_positions=6).eval()
    with tg.no_grad():
        cache = model(np.array([[1, 2], [3, 4]]), use_cache=True).past_key_values
        for ids in (np.ones((rows, 1), int), np.ones((rows, 2), int)):
            with pytest.raises(ValueError, match=f"cache: made for a batch of 2, got {rows}"):
                model(ids, past_key_values=cache)
        assert model(np.ones((2, 1), int), past_key_values=cache).logits.shape == (2, 1, 11)


class Everything:
    """A lens that wants all and changes nothing, but what it is told to."""

    def __init__(self, change=None):
        self.seen, self.change = [], change or {}

    def wants(self, name):
        return True

    def see(self, name, value):
        path = ".".join(engine.path)
        self.seen.append((path, name, value.shape))
        return value * 0 if self.change == (path, name) else value


def test_taps_show_every_value_with_its_place():
    model = tg.models.create("gpt2", n_embd=8, n_layer=2, n_head=2, vocab_size=11, n_positions=6, dropout=0.0).eval()
    ids = np.array([[1, 2, 3]])
    lens = Everything()
    with nn.looking_through(lens):
        shown = model(ids).logits.data
    np.testing.assert_allclose(shown, model(ids).logits.data, atol=1e-6)
    places = {(path, name): shape for path, name, shape in lens.seen}
    assert places["transformer.layers.1.attn", "pattern"] == (1, 2, 3, 3)
    assert places["transformer.layers.0.mlp", "mlp_post"] == (1, 3, 32)
    assert places["transformer", "embed"] == (1, 3, 8) and places["", "logits"] == (1, 3, 11)
    assert {name for _, name in places} == set(nn.TAPS) - {"cross_out"}
    with nn.looking_through(Everything(("transformer.layers.0.attn", "pattern"))):
        assert np.abs(model(ids).logits.data - shown).max() > 1e-4


def test_the_list_of_taps_has_what_attends_to_an_encoder():
    model = tg.models.create("t5-small", d_model=8, d_kv=4, d_ff=8, num_layers=1, num_decoder_layers=1, num_heads=2, vocab_size=11)
    lens = Everything()
    with nn.looking_through(lens):
        model.eval()([[1, 2, 3]], decoder_input_ids=[[1, 2]])
    assert {name for _, name, _ in lens.seen} == set(nn.TAPS)


def test_a_model_can_be_copied_and_pickled():
    model = tg.models.create(
        "gpt2", n_embd=8, n_layer=1, n_head=2, vocab_size=11, n_positions=6, rng=np.random.default_rng(0)
    ).eval()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again([[1, 2]]).logits.data, model([[1, 2]]).logits.data)
        assert again.transformer.tokens.weight is not model.transformer.tokens.weight


def test_a_shared_block_says_which_layer_it_is_now():
    sizes = dict(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=9, vocab_size=11, embedding_size=4)
    lens = Everything()
    with nn.looking_through(lens):
        tg.models.create("albert-base", **sizes)([[1, 2]])
    assert [path for path, name, _ in lens.seen if name == "resid_post"] == ["layers.0", "layers.1", "layers.2"]


SHALLOW = {
    "gpt2": dict(n_embd=8, n_layer=3, n_head=2, n_positions=6),
    "bert-base": dict(head="masked_lm", hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=9,
                      max_position_embeddings=8),
    "llama-7b": dict(hidden_size=8, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2, intermediate_size=9),
    "t5-small": dict(d_model=8, d_kv=4, d_ff=9, num_layers=3, num_decoder_layers=3, num_heads=2),
    "bart-base": dict(d_model=8, encoder_layers=3, decoder_layers=3, encoder_attention_heads=2, decoder_attention_heads=2,
                      encoder_ffn_dim=9, decoder_ffn_dim=9, max_position_embeddings=8),
}  # fmt: skip


@pytest.mark.parametrize("name", SHALLOW)
def test_recomputing_gives_the_same_bits_and_keeps_less(name):
    grads, kept = [], []
    for recompute in (False, True):
        model = tg.models.create(name, rng=np.random.default_rng(0), vocab_size=11, **SHALLOW[name]).train()
        model.recompute = recompute
        assert model.recompute == recompute
        tg.manual_seed(4)
        loss = model(np.array([[1, 2, 3, 4]]), labels=np.array([[1, 2, 3, 4]])).loss
        kept.append(numbers_kept(loss))
        loss.backward()
        grads.append([None if p.grad is None else p.grad.data for p in model.parameters()])
    assert kept[1] < 0.5 * kept[0]
    for a, b in zip(*grads, strict=True):
        np.testing.assert_array_equal(a, b)


def numbers_kept(loss):
    """Of the arrays that the loss's graph holds for backward."""
    found, seen, waiting = {}, set(), [loss.node]
    while waiting:
        node = waiting.pop()
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            saved = node.saved if isinstance(node.saved, tuple) else ()
            found |= {id(x): x.size for x in saved if isinstance(x, np.ndarray)}
            waiting += node.inputs
    return sum(found.values())


@pytest.mark.parametrize("width", [8, 64])  # 64: large enough for the fused operations
@pytest.mark.parametrize("norm_first", [False, True])
def test_blocks_take_plain_arrays_as_layers_do(width, norm_first):
    x = np.random.default_rng(0).standard_normal((2, 200, width)).astype(np.float32)
    attn, mlp = nn.MultiHeadAttention(width, 2), nn.FeedForward(width, 64, "gelu")
    block = nn.EncoderBlock(attn, mlp, nn.LayerNorm(width), nn.LayerNorm(width), norm_first=norm_first)
    for part in (attn, mlp, block):
        ours, theirs = part(x), part(tg.Tensor(x))
        if isinstance(ours, tuple):
            ours, theirs = ours[0], theirs[0]
        assert np.array_equal(ours.data, theirs.data)
    assert np.array_equal(attn(x, context=x)[0].data, attn(tg.Tensor(x), context=tg.Tensor(x))[0].data)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_block_is_its_formula(norm_first, cross, factor):
    """With three times what dropout lets through, too: it stands behind each part."""
    rng, heads = np.random.default_rng(0), lambda: nn.MultiHeadAttention(8, 2)
    more = {"cross": heads(), "cross_norm": nn.LayerNorm(8)} if cross else {}
    block = nn.DecoderBlock(heads(), nn.FeedForward(8, 9, "gelu"), nn.LayerNorm(8), nn.LayerNorm(8), norm_first=norm_first, **more)
    for p in block.astype(np.float64).parameters():
        p.data[...] = rng.standard_normal(p.shape)
    if factor != 1.0:
        block.drop.register_forward_hook(lambda module, args, out: out * factor)
    mask, context, x = nn.Mask(causal=True), tg.Tensor(rng.standard_normal((2, 5, 8))), tg.Tensor(rng.standard_normal((2, 3, 8)))
    got, _ = block(x, mask, context)
    parts = [(lambda x: block.attn(x, mask=mask)[0], block.attn_norm), (lambda x: block.cross(x, context)[0], block.cross_norm)]
    for part, norm in [*parts[: 1 + cross], (block.mlp, block.mlp_norm)]:
        x = x + part(norm(x)) * factor if norm_first else norm(x + part(x) * factor)
    np.testing.assert_allclose(got.data, x.data, rtol=1e-12, atol=1e-12)


def test_dropout_in_a_feed_forward_part_acts_on_the_inner_values():
    part = nn.FeedForward(4, 6, "relu", dropout=0.5)
    x = tg.Tensor(np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32))
    assert part.drop.p == 0.5 and (part(x).data != part.eval()(x).data).any()
    part.drop.register_forward_hook(lambda module, args, out: out * 3.0)
    np.testing.assert_allclose(part(x).data, part.down(F.relu(part.up(x)) * 3.0).data, rtol=1e-5, atol=1e-6)


def test_a_decoder_block_with_cross_attention_needs_all_of_it():
    attn, mlp, norm = (lambda: nn.MultiHeadAttention(8, 2)), nn.FeedForward(8, 9, "gelu"), lambda: nn.LayerNorm(8)
    for half in ({"cross": attn()}, {"cross_norm": norm()}):
        with pytest.raises(ValueError, match="expected cross and cross_norm together"):
            nn.DecoderBlock(attn(), mlp, norm(), norm(), norm_first=True, **half)
    block = nn.DecoderBlock(attn(), mlp, norm(), norm(), norm_first=True, cross=attn(), cross_norm=norm())
    with pytest.raises(TypeError, match="expected context, the encoder's output"):
        block(tg.ones((1, 3, 8)), nn.Mask(causal=True))


@pytest.mark.parametrize("kind, function", [(nn.LayerNorm, F.layer_norm), (nn.RMSNorm, F.rms_norm)])
@pytest.mark.parametrize("shape", [(8,), (5, 8)])
def test_norms_take_pytorchs_normalized_shape(kind, function, shape):
    x = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    norm = kind(normalized_shape=list(shape), eps=1e-3)
    assert norm.weight.shape == shape
    assert np.array_equal(norm(x).data, function(x, shape, eps=1e-3).data)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", ["gelu", "silu", "relu"])
def test_another_activation_function_is_used(name, gated):
    part = nn.FeedForward(64, 64, name, gated=gated).astype(np.float64)
    x = tg.Tensor(np.random.default_rng(0).standard_normal((2, 300, 64)))
    part(x)
    part.act = tg.sin
    up = part.up(x)
    inner = tg.sin(part.gate(x)) * up if gated else tg.sin(up)
    np.testing.assert_allclose(part(x).data, part.down(inner).data, rtol=1e-12, atol=1e-12)
