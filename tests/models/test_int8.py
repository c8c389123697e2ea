"""Weights in eight bits: the logits stay close, generation runs, and what a quantized model cannot do it refuses."""

import copy

import numpy as np
import pytest

import kernels
import tinygrad_llm as tg
from tests.models.test_properties import LM, small, states
from tinygrad_llm import nn
from tinygrad_llm.models.saving import save

SIZES = dict(n_embd=48, n_layer=2, n_head=3, vocab_size=97, n_positions=32)
IDS = np.arange(20).reshape(2, 10)


@pytest.fixture(autouse=True, params=kernels.SIDES)
def side(request):
    with kernels.use(request.param):
        yield


def gpt2(**more):
    return tg.models.create("gpt2", rng=np.random.default_rng(0), **{**SIZES, **more}).eval()


def logits(model, **inputs):
    with tg.no_grad():
        return model(**inputs).logits.data


def apart(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


@pytest.mark.parametrize("more", [{}, {"tie_word_embeddings": False}], ids=["tied", "untied"])
def test_logits_stay_within_two_percent(more):
    model = gpt2(**more)
    before = logits(model, input_ids=IDS)
    assert model.quantize("int8") is model
    after = logits(model, input_ids=IDS)
    assert 0 < apart(before, after) < 0.02


@pytest.mark.parametrize("name", [*LM, "bert-base"])
def test_every_kind_of_family(name):
    model = small(name, None if name in LM else "masked_lm", dtype=np.float32)
    for value in model.parameters():
        if value.ndim > 1:
            value.data *= 0.5                                          # large enough to matter, too small to blow differences up
    ids = np.arange(4, 14).reshape(2, 5)
    run = lambda: states(model, ids)
    before = run()
    model.quantize()
    assert 0 < apart(before, run()) < 0.02


def test_the_weights_are_the_rounded_ones():
    model = gpt2()
    rounded = copy.deepcopy(model)
    for part in rounded.modules():
        if isinstance(part, nn.Linear):
            q, scale = kernels.quantize_int8(part.weight.data)
            part.weight.data[...] = q * scale[:, None]
    inner = lambda m: m.base(IDS).last_hidden_state.data
    with tg.no_grad():
        np.testing.assert_allclose(inner(model.quantize()), inner(rounded), rtol=1e-4, atol=1e-5)


def test_every_matrix_takes_a_quarter_of_the_memory_and_lookups_keep_floats():
    model = gpt2()
    table = model.base.tokens.weight.data.copy()
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    floats = sum(m.weight.data.nbytes for m in linears)
    model.quantize()
    assert len(linears) == 12 and sum(m.weight.q.nbytes for m in linears) * 4 == floats
    np.testing.assert_array_equal(model.base.tokens.weight.data, table)
    assert model.base.tokens.quantized.q.dtype == np.int8
    assert not [n for n, p in model.named_parameters() if p.ndim == 2 and "tokens" not in n and "positions" not in n]


@pytest.mark.parametrize(
    "more", [{}, {"num_beams": 3}, {"do_sample": True, "top_k": 5, "rng": np.random.default_rng(0)}], ids=["greedy", "beams", "sampled"]
)
def test_generate_runs(more):
    model = gpt2().quantize()
    got = model.generate(IDS[:, :4], max_new_tokens=6, **more)
    assert got.shape == (2, 10) and (got[:, :4] == IDS[:, :4]).all() and (got < 97).all()


def test_the_cache_changes_nothing():
    model = gpt2().quantize()
    greedy = model.generate(IDS[:1, :3], max_new_tokens=5)
    ids = IDS[:1, :3]
    for _ in range(5):
        ids = np.concatenate([ids, logits(model, input_ids=ids)[:, -1].argmax(-1)[:, None]], axis=1)
    np.testing.assert_array_equal(greedy, ids)


def test_a_loss_without_gradients_is_found():
    model = gpt2()
    with tg.no_grad():
        before = model(input_ids=IDS, labels=IDS).loss.item()
        out = model.quantize()(input_ids=IDS, labels=IDS)
    assert out.loss.item() == pytest.approx(before, rel=0.01)
    assert out.logits.shape == (2, 10, 97)


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_alone(bias):
    layer, x = nn.Linear(40, 3, bias), np.random.default_rng(0).standard_normal((2, 5, 40)).astype(np.float32)
    want = layer(tg.Tensor(x)).data
    assert layer.quantize() is layer and repr(layer.weight) == "Int8Weight(3, 40)"
    with tg.no_grad():
        np.testing.assert_allclose(layer(tg.Tensor(x)).data, want, atol=0.02)
    with pytest.raises(TypeError, match=r"expected float32 weights, got float64; call astype\(np\.float32\) first"):
        nn.Linear(40, 3, bias).astype(np.float64).quantize()


def test_training_is_refused():
    model = gpt2().quantize()
    with pytest.raises(RuntimeError, match="inference alone.*no_grad"):
        model(input_ids=IDS, labels=IDS)
    layer = nn.Linear(4, 3).quantize()
    with pytest.raises(RuntimeError, match="inference alone.*no_grad"):
        layer(tg.Tensor(np.ones((2, 4), np.float32)))


def test_saving_is_refused_and_writes_nothing(tmp_path):
    model = gpt2().quantize()
    for call in (lambda: model.save(tmp_path / "m"), lambda: save(model, tmp_path / "m"), model.state_dict):
        with pytest.raises(RuntimeError, match="save before you call quantize"):
            call()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_quantized():
    with pytest.raises(ValueError, match="int8.*int4"):
        gpt2().quantize("int4")
    model = gpt2().astype(np.float64)
    with pytest.raises(TypeError, match="float32 model, but .* is float64"):
        model.quantize()
    assert all(isinstance(m.weight, tg.Tensor) for m in model.modules() if isinstance(m, nn.Linear))


def test_twice_is_once():
    model = gpt2().quantize()
    before = logits(model, input_ids=IDS)
    np.testing.assert_array_equal(logits(model.quantize(), input_ids=IDS), before)
