"""Every operation of the registry against its declaration: value, gradient, second order, broadcasting, layout, float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_llm as tg
import tinygrad_llm.autograd.functional  # noqa: F401  its fused operations belong to the registry, too
from tinygrad_llm.autograd.op import registry
from tinygrad_llm.testing import gradcheck, gradgradcheck
from tinygrad_llm.testing.declarations import Sample, draw, load

DECLARED = load()
DIFFERENTIABLE = sorted(name for name, d in DECLARED.items() if d.differentiable)
ELEMENTWISE = sorted(name for name, d in DECLARED.items() if d.domains)


def cases(names):
    return [pytest.param(name, i, id=f"{name}-{i}") for name in names for i in range(len(DECLARED[name].makers))]


def run(name, args, params):
    """The op on a declaration's arguments; its outputs as a tuple."""
    out = registry[name].call(*args, **params)
    return out if isinstance(out, tuple) else (out,)


def is_input(x):
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def as_function(name, sample):
    """The op as a function of its float64 inputs alone, and these inputs."""
    places = [i for i, x in enumerate(sample.args) if is_input(x)]

    def function(*tensors):
        args = list(sample.args)
        for i, t in zip(places, tensors):
            args[i] = t
        outs = run(name, args, sample.params)
        return outs if len(outs) > 1 else outs[0]

    return function, tuple(tg.Tensor(sample.args[i], requires_grad=True) for i in places)


def expect(name, sample):
    with np.errstate(all="ignore"):
        want = DECLARED[name].reference(*sample.args, **sample.params)
    return want if isinstance(want, tuple) else (want,)


def test_every_operation_is_declared_and_nothing_else():
    assert set(registry) == set(DECLARED)


def test_declarations_agree_with_the_registry_on_what_has_a_gradient():
    assert {n for n, op in registry.items() if op.differentiable} == set(DIFFERENTIABLE)


def test_every_differentiable_input_has_a_rule_and_every_fused_op_a_composite():
    for name, op in registry.items():
        if op.differentiable:
            assert op.joint is not None or all(rule.__name__ != "missing" for rule in op.rules), name
        if op.joint is not None and name not in ("concatenate", "split", "einsum"):
            assert op.composite is not None, name


def test_every_operation_says_what_it_computes():
    docs = {name: op.forward.__doc__ or "" for name, op in registry.items()}
    assert not [name for name, doc in docs.items() if "y" not in doc and "Pairs" not in doc and "cross" not in doc]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name, i", cases(sorted(DECLARED)))
def test_value(name, i):
    """float64 agrees with NumPy's own, in shape, dtype and number; the arguments are left as they were."""
    sample = DECLARED[name].samples()[i]
    copies = [x.copy() if isinstance(x, np.ndarray) else x for x in sample.args]
    tensors = [tg.Tensor(x) if isinstance(x, np.ndarray) else x for x in sample.args]
    outs, wanted = run(name, tensors, sample.params), expect(name, sample)
    assert len(outs) == len(wanted)
    for out, want in zip(outs, wanted):
        want = np.asarray(want)
        assert out.shape == want.shape and out.dtype == want.dtype
        np.testing.assert_allclose(out.data, want, rtol=1e-9, atol=1e-11)
    for x, copy in zip(sample.args, copies):
        np.testing.assert_array_equal(x, copy)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name, i", cases(DIFFERENTIABLE))
def test_gradient_and_second_order(name, i):
    """Finite differences accept the gradient, the gradient of the gradient, and both routes to it (rule and composite)."""
    declared = DECLARED[name]
    function, inputs = as_function(name, declared.samples(seed=1)[i])
    assert gradcheck(function, inputs, fast=True)
    if declared.second:
        assert gradgradcheck(function, inputs, fast=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name, i", cases(DIFFERENTIABLE))
def test_layout_and_float32(name, i):
    """Inputs that are not contiguous give the same; float32 stays float32, forward and backward, within the stated error."""
    declared = DECLARED[name]
    sample = declared.samples(seed=2)[i]
    function, inputs = as_function(name, sample)
    spread = tuple(tg.Tensor(strided(x.data), requires_grad=True) for x in inputs)
    (outs, grads), (outs2, grads2) = gradients(function, inputs), gradients(function, spread)
    for a, b in zip((*outs, *grads), (*outs2, *grads2)):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    if name == "astype":
        return
    single = tuple(tg.Tensor(x.data.astype(np.float32), requires_grad=True) for x in inputs)
    statics = {k: v.astype(np.float32) if is_input(v) else v for k, v in sample.params.items()}
    function, _ = as_function(name, Sample(sample.args, statics))
    for a, b in zip(sum(map(tuple, gradients(function, single)), ()), (*outs, *grads)):
        assert a.dtype == np.float32
        if b.size and np.isfinite(b).all():
            assert np.abs(a - b).max() <= 20 * declared.float32_error * max(1.0, np.abs(b).max())


def some_gradients(function, arrays, wanted, used=None):
    """The gradients of the inputs in `wanted`, nothing else asked for, through the outputs in `used` (or all); None where none."""
    inputs = tuple(tg.Tensor(x, requires_grad=k in wanted) for k, x in enumerate(arrays))
    outs = function(*inputs)
    outs = outs if isinstance(outs, tuple) else (outs,)
    chosen = [(j, o) for j, o in enumerate(outs) if o.requires_grad and (used is None or j in used)]
    seeds = [tg.Tensor(np.cos(np.arange(o.size) + j).reshape(o.shape).astype(o.dtype)) for j, o in chosen]
    found = tg.grad([o for _, o in chosen], [inputs[k] for k in wanted], seeds, allow_unused=True)
    return [None if d is None else d.data for d in found]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_gradient_is_the_same_whichever_others_are_asked_for(name):
    """Rules leave out what nobody needs: each input alone, and all but it."""
    for sample in DECLARED[name].samples(seed=4):
        function, inputs = as_function(name, sample)
        arrays, everything = [x.data for x in inputs], range(len(inputs))
        whole = some_gradients(function, arrays, everything)
        for k in everything if len(inputs) > 1 else ():
            for wanted in ([k], [other for other in everything if other != k]):
                for d, place in zip(some_gradients(function, arrays, wanted), wanted):
                    np.testing.assert_allclose(d, whole[place], rtol=1e-11, atol=1e-13)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_several_outputs_add_up_and_each_may_come_alone(name):
    for sample in DECLARED[name].samples(seed=5):
        outs = run(name, sample.args, sample.params)
        floats = [j for j, o in enumerate(outs) if o.dtype.kind == "f"]
        if len(floats) < 2:
            continue
        function, inputs = as_function(name, sample)
        arrays = [x.data for x in inputs]
        whole = some_gradients(function, arrays, range(len(arrays)))
        alone = [some_gradients(function, arrays, range(len(arrays)), used=[j]) for j in floats]
        for d, parts in zip(whole, zip(*alone)):
            np.testing.assert_allclose(sum(p for p in parts if p is not None), d, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if registry[name].composite is not None])
def test_a_composite_has_the_value_of_its_operation(name):
    for sample in DECLARED[name].samples(seed=6):
        args = [tg.Tensor(x) if is_input(x) else x for x in sample.args]
        args += [None] * (len(registry[name].inputs) - len(args))
        out = registry[name].composite(*args, **sample.params)
        for ours, want in zip(out if isinstance(out, tuple) else (out,), run(name, sample.args, sample.params)):
            np.testing.assert_allclose(ours.data, want.data, rtol=1e-9, atol=1e-11)


def strided(x):
    """The same numbers, every second element of a larger array in Fortran order."""
    if x.ndim == 0:
        return np.broadcast_to(x, (3,))[1]
    wide = np.full(tuple(2 * n + 1 for n in x.shape), np.nan, order="F")
    view = wide[tuple(slice(0, 2 * n, 2) for n in x.shape)]
    view[...] = x
    return view


def gradients(function, inputs):
    """Outputs, and the gradients for a fixed incoming gradient."""
    outs = function(*inputs)
    outs = [o for o in (outs if isinstance(outs, tuple) else (outs,))]
    seeds = [tg.Tensor(np.cos(np.arange(o.size)).reshape(o.shape).astype(o.dtype)) for o in outs]
    grads = tg.grad(outs, inputs, seeds, allow_unused=True)
    return [o.data for o in outs], [g.data for g in grads if g is not None]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(max_examples=settings.default.max_examples // 3)
@given(data=st.data())
def test_broadcasting(name, data):
    """Drawn shapes: the value is NumPy's, and every gradient has its input's shape and is a sum of the elements' own."""
    declared = DECLARED[name]
    shapes = data.draw(tg.testing.strategies.broadcastable_shapes(len(declared.domains), max_dims=3, max_side=3))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    args = [draw(rng, s, *d, kinks=declared.kinks) for s, d in zip(shapes, declared.domains)]
    inputs = tuple(tg.Tensor(x, requires_grad=declared.differentiable) for x in args)
    out = registry[name].call(*inputs)
    np.testing.assert_allclose(out.data, declared.reference(*args), rtol=1e-9, atol=1e-11)
    if not declared.differentiable:
        assert out.node is None
        return
    full = [np.broadcast_to(x, out.shape).copy() for x in args]
    g = rng.standard_normal(out.shape)
    leaves = [tg.Tensor(x, requires_grad=True) for x in full]
    for d, e, x in zip(tg.grad(out, inputs, tg.Tensor(g)), tg.grad(registry[name].call(*leaves), leaves, tg.Tensor(g)), args):
        lead = tuple(range(out.ndim - x.ndim))
        kept = tuple(i for i in range(out.ndim) if i >= len(lead) and x.shape[i - len(lead)] == 1)
        np.testing.assert_allclose(d.data, e.data.sum(axis=lead + kept).reshape(x.shape), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name, i", cases(n for n in DIFFERENTIABLE if DECLARED[n].complex_step))
def test_against_the_complex_step(name, i):
    """Along a random direction, Im f(x + ih) / h is the derivative to the last digit: no difference is taken."""
    sample = DECLARED[name].samples(seed=3)[i]
    function, inputs = as_function(name, sample)
    outs, grads = gradients(function, inputs)
    rng = np.random.default_rng(i)
    directions = [rng.standard_normal(x.shape) for x in inputs]
    args, k = list(sample.args), 0
    for place, x in enumerate(sample.args):
        if is_input(x):
            args[place] = x + 1e-100j * directions[k]
            k += 1
    steps = [np.asarray(o).imag / 1e-100 for o in expect(name, Sample(tuple(args), sample.params))]
    seeds = [np.cos(np.arange(o.size)).reshape(o.shape) for o in outs]
    measured = sum((s * g).sum() for s, g in zip(steps, seeds))
    claimed = sum((d * v).sum() for d, v in zip(grads, directions))
    np.testing.assert_allclose(claimed, measured, rtol=1e-11, atol=1e-12)
