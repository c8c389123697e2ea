"""Products rounded to bfloat16 under `autocast`: which, where, and that gradients are rounded as their forward was."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import kernels
import tinygrad_llm as tg
from kernels import reference
from tinygrad_llm.autograd.op import registry
from tinygrad_llm.autograd.state import switches

F = tg.functional


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def leaf(*shape, seed=0, dtype=np.float32):
    return tg.Tensor(draw(*shape, seed=seed, dtype=dtype), requires_grad=True)


def rounds():
    """Whether a product of this thread is rounded here."""
    a = tg.Tensor(np.full((2, 2), 1.001, np.float32))
    return bool((a @ a).data[0, 0] == 2.0)


def far(x, y):
    """The largest difference, as a fraction of the largest number."""
    return np.abs(x - y).max() / np.abs(y).max()


PRODUCTS = {
    "matmul": (lambda a, b: a @ b, (5, 7), (7, 6)),
    "matmul of batches": (lambda a, b: a @ b, (3, 40, 70), (3, 70, 50)),
    "matmul of a batch and one matrix": (lambda a, b: a @ b, (3, 40, 70), (70, 50)),
    "linear": (F.linear, (4, 90, 64), (80, 64)),
    "linear_cross_entropy": (lambda h, w: F.linear_cross_entropy(h, w, np.arange(70) % 50), (70, 64), (50, 64)),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("side", ["numba", "numpy"])
def test_outputs_and_gradients_are_those_of_rounded_operands(name, side):
    """Rounding beforehand gives the same; gradients round g as well. Both stay near float32's: a loss's exponentials add to it."""
    function, shape_a, shape_b = PRODUCTS[name]
    with kernels.use(side):
        a, b = leaf(*shape_a), leaf(*shape_b, seed=1)
        plain = function(a, b)
        g = np.ones((), np.float32) if plain.ndim == 0 else draw(*plain.shape, seed=2)
        da, db = tg.grad(plain, (a, b), g)
        with tg.autocast("bfloat16"):
            out = function(a, b)
        da16, db16 = tg.grad(out, (a, b), g)  # outside: the precision is the forward's
        a16, b16 = (tg.Tensor(reference.round_bfloat16(x.data), requires_grad=True) for x in (a, b))
        rounded = function(a16, b16)
        same_da, same_db = tg.grad(rounded, (a16, b16), reference.round_bfloat16(g))
    assert out.dtype == da16.dtype == np.float32
    assert far(out.data, rounded.data) < 1e-6
    if plain.ndim:
        assert 1e-5 < far(out.data, plain.data) < 2**-7
        assert far(da16.data, same_da.data) < 1e-6 and far(db16.data, same_db.data) < 1e-6
    for got, want in ((da16, da), (db16, db)):
        assert 1e-5 < far(got.data, want.data) < (2**-7 if plain.ndim else 2**-5)


def test_attention_and_its_composite_are_rounded():
    q, k, v = (leaf(1, 2, 70, 32, seed=i) for i in range(3))
    g = draw(1, 2, 70, 32, seed=3)

    def solve(precision, composite=False):
        with kernels.use("numpy"):  # rounds on every host
            with tg.autocast(precision):
                attend = registry["attention"].composite if composite else registry["attention"].call
                out = attend(q, k, v, None, is_causal=True)
            return out.data, *(d.data for d in tg.grad(out, (q, k, v), g))

    for fused, composite, plain in zip(solve("bfloat16"), solve("bfloat16", composite=True), solve("float32")):
        assert 1e-5 < far(fused, plain) < 2**-6 and 1e-5 < far(composite, plain) < 2**-6


def test_bias_is_added_and_its_gradient_summed_in_float32():
    x, w, b = leaf(6, 8), leaf(5, 8, seed=1), leaf(5, seed=2)
    g = draw(6, 5, seed=3)
    with tg.autocast():
        y = F.linear(x, w, b)
    (db,) = tg.grad(y, b, g)
    np.testing.assert_array_equal(db.data, g.sum(axis=0))
    x16, w16 = (reference.round_bfloat16(t.data) for t in (x, w))
    np.testing.assert_allclose(y.data, x16 @ w16.T + b.data, rtol=1e-6, atol=1e-6)


def test_float64_and_vectors_and_what_is_no_product_stay_as_they_are():
    a, v = draw(6, 6), draw(6, seed=1)
    wide = tg.Tensor(draw(6, 6, dtype=np.float64))
    cases = (lambda: wide @ wide, lambda: tg.Tensor(a) @ tg.Tensor(v), lambda: tg.einsum("ij,jk->ik", tg.Tensor(a), a),
             lambda: F.layer_norm(tg.Tensor(a), 6), lambda: tg.Tensor(a) * a)  # fmt: skip
    for case in cases:
        plain = case().data
        with tg.autocast("bfloat16"):
            np.testing.assert_array_equal(case().data, plain)


def test_gradients_inside_a_context_keep_the_precision_of_a_forward_outside():
    a, b = leaf(5, 7), leaf(7, 6, seed=1)
    out = a @ b
    want = tg.grad(out, (a, b), draw(5, 6), retain_graph=True)
    with tg.autocast():
        got = tg.grad(out, (a, b), draw(5, 6))
    for x, y in zip(got, want):
        np.testing.assert_array_equal(x.data, y.data)


@pytest.mark.parametrize("function", [lambda a, w: (a @ w.T) ** 2, lambda a, w: F.linear(a, w) ** 2])
def test_second_derivatives_have_the_precision_of_the_forward(function):
    a, w = leaf(5, 7), leaf(6, 7, seed=1)

    def second(precision):
        with tg.autocast(precision):
            y = function(a, w).sum()
        (da,) = tg.grad(y, a, create_graph=True)
        return tg.grad((da * da).sum(), w)[0].data

    assert 1e-4 < far(second("bfloat16"), second("float32")) < 2**-5


def test_checkpoint_replays_in_the_precision_of_its_first_run():
    x, w = leaf(40, 48), leaf(48, 48, seed=1)
    results = []
    for checkpointed in (False, True):
        with tg.autocast():
            h = tg.checkpoint(lambda x, w: F.gelu(x @ w) @ w, x, w) if checkpointed else F.gelu(x @ w) @ w
        results.append([d.data for d in tg.grad((h * h).sum(), (x, w))])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_contexts_nest_decorate_and_survive_exceptions():
    assert not rounds()
    with tg.autocast("bfloat16"):
        assert rounds()
        with tg.autocast("float32"):
            assert not rounds()
            with tg.autocast():
                assert rounds()
        assert rounds()
        with pytest.raises(KeyError), tg.autocast("float32"):
            raise KeyError
        assert rounds()
    assert not rounds() and switches.rounding == 0

    @tg.autocast("bfloat16")
    def inside():
        return rounds()

    assert inside() and not rounds()


def test_the_precision_is_the_threads_own():
    seen = {}
    inside, done = threading.Event(), threading.Event()

    def other():
        with tg.autocast():
            inside.set()
            done.wait(10)
            seen["other"] = rounds()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    seen["main"] = rounds()
    done.set()
    thread.join()
    assert seen == {"main": False, "other": True}


def test_an_unknown_precision_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"autocast.*float32.*bfloat16.*'float16'"):
        tg.autocast("float16")
