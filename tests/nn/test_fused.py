"""Large enough blocks run as two operations; they give the numbers of the readable path, and step aside when somebody looks."""

import numpy as np
import pytest

import kernels
import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.lens import profile
from tinygrad_llm.nn.layers import are_fusible
from tinygrad_llm.nn.tap import looking_through

IDS = np.random.default_rng(0).integers(0, 40, (4, 64))
SIZES = dict(vocab_size=40, n_positions=64, n_embd=128, n_head=4, n_layer=2, dropout=0.0)


class Blind:
    """A lens that wants to see a name that is never made: enough to have everything in the open."""

    def wants(self, name):
        return name == "nothing"

    def see(self, name, value):
        raise AssertionError(name)


def model(**more):
    return tg.models.create("gpt2", rng=np.random.default_rng(1), **{**SIZES, **more}).train()


def gradients(gpt):
    gpt.zero_grad()
    out = gpt(input_ids=IDS, labels=IDS)
    out.loss.backward()
    return out.loss.item(), {name: p.grad.data.copy() for name, p in gpt.named_parameters()}


def operations(gpt):
    with profile() as run:
        gpt(input_ids=IDS)
    return {call.op for call in run.calls}


@pytest.mark.parametrize("more", [{}, {"activation_function": "relu"}, {"resid_pdrop": 0.2, "attn_pdrop": 0.1}])
def test_the_same_numbers_in_one_as_step_by_step(more):
    gpt = model(**more)
    tg.manual_seed(3)
    loss, fused = gradients(gpt)
    tg.manual_seed(3)
    with looking_through(Blind()):
        plain_loss, plain = gradients(gpt)
    assert loss == plain_loss
    for name in fused:
        if name.endswith("attn.k.bias"):
            continue  # moves all scores of a query alike: its gradient is rounding noise
        np.testing.assert_allclose(fused[name], plain[name], atol=2e-5 * np.abs(plain[name]).max(), err_msg=name)


def test_both_are_rounded_to_bfloat16_where_asked():
    """In one as step by step, to the rounding of what each step keeps; and unlike float32."""
    gpt = model()
    with tg.autocast("bfloat16"):
        loss, fused = gradients(gpt)
        with looking_through(Blind()):
            plain_loss, plain = gradients(gpt)
    exact_loss, exact = gradients(gpt)
    assert loss == pytest.approx(plain_loss, rel=1e-4) and loss == pytest.approx(exact_loss, rel=1e-2) and loss != exact_loss
    for name in fused:
        if name.endswith("attn.k.bias"):
            continue
        size = np.sqrt(np.square(exact[name]).mean())
        off, near = (np.sqrt(np.square(fused[name] - other[name]).mean()) for other in (exact, plain))
        assert 1e-5 * size < off < 2**-5 * size and near < 2**-6 * size, name


def test_post_norm_and_a_trained_bias_too():
    rng = np.random.default_rng(2)
    bert = tg.models.create("bert-base", vocab_size=40, hidden_size=128, num_hidden_layers=1, num_attention_heads=4,
                            intermediate_size=256, rng=rng)  # fmt: skip
    t5 = tg.models.create("t5-small", vocab_size=40, d_model=128, d_kv=32, d_ff=256, num_layers=1, num_heads=4, rng=rng)
    for family, call in ((bert, {"input_ids": IDS}), (t5, {"input_ids": IDS, "decoder_input_ids": IDS})):
        results, weights = [], None
        for lens in (None, Blind()):
            family.eval().zero_grad()
            with looking_through(lens):
                y = family(**call)
                y = y.last_hidden_state if y.logits is None else y.logits
                weights = rng.standard_normal(y.shape).astype(np.float32) if weights is None else weights  # Σ y² of a norm is constant
                (y * weights).sum().backward()
            results.append((y.data, {n: p.grad.data for n, p in family.named_parameters() if p.grad is not None}))
        tolerance = 1e-5 if kernels._side.get() == "numpy" else 0  # there the joined product is another call of BLAS
        np.testing.assert_allclose(results[0][0], results[1][0], rtol=tolerance, atol=tolerance)
        for name, g in results[1][1].items():
            if not name.endswith("k.bias"):
                np.testing.assert_allclose(results[0][1][name], g, atol=3e-5 * np.abs(g).max(), err_msg=name)


def test_the_same_bits_with_one_thread_and_with_two():
    gpt = model()
    before = kernels.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            kernels.set_num_threads(threads)
            results.append(gradients(gpt))
    finally:
        kernels.set_num_threads(before)
    assert results[0][0] == results[1][0]
    for name, g in results[0][1].items():
        assert np.array_equal(g, results[1][1][name]), name


def test_checkpointing_gives_the_same_bits():
    gpt = model(resid_pdrop=0.1)
    tg.manual_seed(3)
    loss, plain = gradients(gpt)
    gpt.recompute = True
    tg.manual_seed(3)
    again, recomputed = gradients(gpt)
    assert loss == again
    for name, g in plain.items():
        assert np.array_equal(g, recomputed[name]), name


def test_weights_that_lie_apart_or_side_by_side_make_no_difference():
    gpt = model()
    _, apart = gradients(gpt)
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(gpt.named_parameters(), 0.1))  # moves the weights into flat storage
    _, together = gradients(gpt)
    for name, g in apart.items():
        assert np.array_equal(g, together[name]), name
    optimizer.zero_grad()


def test_it_is_used_and_steps_aside():
    assert {"self_attention", "feed_forward"} <= operations(model())
    small = tg.models.create("gpt2", **{**SIZES, "n_embd": 16})
    assert not {"self_attention", "feed_forward"} & operations(small)
    hooked = model()
    seen = []
    for layer in hooked.transformer.layers:
        layer.attn.q.register_forward_hook(lambda module, args, out: seen.append(out.shape))
        layer.mlp.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    assert "self_attention" not in operations(hooked)
    assert seen == [(4, 64, 128)] * 4
    frozen = model()
    for name, p in frozen.named_parameters():
        p.requires_grad_(name.endswith(("attn.v.weight", "mlp.up.bias")))
    frozen(input_ids=IDS, labels=IDS).loss.backward()
    assert {n.rsplit(".", 2)[-2] for n, p in frozen.named_parameters() if p.grad is not None} == {"v", "up"}


def test_a_replaced_activation_is_obeyed():
    gpt = model()
    before = gpt(input_ids=IDS).logits.data
    for layer in gpt.transformer.layers:
        layer.mlp.act = tg.functional.tanh
    assert not np.allclose(gpt(input_ids=IDS).logits.data, before)


def test_gradients_of_a_second_backward_are_added():
    gpt = model()
    _, once = gradients(gpt)
    gpt(input_ids=IDS, labels=IDS).loss.backward()
    for name, p in gpt.named_parameters():
        assert np.array_equal(p.grad.data, once[name] + once[name]), name


def test_a_graph_that_is_kept_gives_its_gradients_twice():
    gpt = model()
    loss = gpt(input_ids=IDS, labels=IDS).loss
    loss.backward(retain_graph=True)
    first = {name: p.grad.data.copy() for name, p in gpt.named_parameters()}
    loss.backward()
    for name, p in gpt.named_parameters():
        np.testing.assert_allclose(p.grad.data, 2 * first[name], atol=1e-6 * np.abs(first[name]).max(), err_msg=name)


class Wrapped(nn.Module):
    """A layer that somebody wrapped, as an adapter does: it has no weight of its own."""

    def __init__(self, base):
        self.base = base

    def forward(self, x):
        return self.base(x) * 0.5


@pytest.mark.parametrize("width", [32, 128])
@pytest.mark.parametrize("name", ["attn.q", "attn.k", "attn.o", "mlp.up", "mlp.down"])
def test_a_wrapped_layer_is_obeyed(name, width):
    """Wrapped by a module, or by a forward of the instance's own: as if its weight were halved, in training and in generation."""
    part, layer = name.split(".")

    def wrapped_by(wrap):
        gpt = model(n_embd=width)
        holder = getattr(gpt.transformer.layers[1], part)
        wrap(holder, getattr(holder, layer))
        loss, _ = gradients(gpt)
        return loss, gpt.eval().generate(IDS[:1, :8], max_new_tokens=8).tolist()

    def halve(_, linear):
        for p in linear.parameters():
            p.data = p.data * 0.5

    def patch(_, linear):
        inner = linear.forward
        linear.forward = lambda x: inner(x) * 0.5

    expected, tokens = wrapped_by(halve)
    for wrap in (lambda holder, linear: setattr(holder, layer, Wrapped(linear)), patch):
        loss, written = wrapped_by(wrap)
        assert loss == pytest.approx(expected, rel=1e-6) and written == tokens


@pytest.mark.parametrize("rows, width, fusible", [(512, 64, True), (511, 64, False), (4096, 63, False)])
def test_layers_are_one_operation_from_two_million_multiply_adds_on(rows, width, fusible):
    assert are_fusible(tg.ones((1, rows, 64)), nn.Linear(64, width)) is fusible
