"""Optimizers against their papers' formulas in float64, flat storage, clipping, schedules, and state that comes back."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm import optim

SHAPES = [(3, 4), (5,), (), (300, 256)]


def parameters(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [tg.Tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in SHAPES]


def give_gradients(params, rng):
    for p in params:
        p.grad = tg.Tensor(rng.normal(size=p.shape).astype(p.dtype))


def adam_by_hand(p, g, state, lr, betas, eps, decay, decoupled, amsgrad=False):
    state["t"] += 1
    if not decoupled:
        g = g + decay * p
    state["m"] = betas[0] * state["m"] + (1 - betas[0]) * g
    state["v"] = betas[1] * state["v"] + (1 - betas[1]) * g * g
    state["largest"] = np.maximum(state.get("largest", 0), state["v"])
    m, v = state["m"] / (1 - betas[0] ** state["t"]), state["largest" if amsgrad else "v"] / (1 - betas[1] ** state["t"])
    if decoupled:
        p = p * (1 - lr * decay)
    return p - lr * m / (np.sqrt(v) + eps)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("amsgrad", "maximize"), [(False, False), (True, False), (True, True), (False, True)])
def test_adam_is_the_papers(kind, decay, amsgrad, maximize):
    params, rng = parameters(), np.random.default_rng(1)
    expected = [p.data.copy() for p in params]
    states = [{"t": 0, "m": 0.0, "v": 0.0} for _ in params]
    optimizer = kind(params, lr=0.01, betas=(0.8, 0.95), eps=1e-7, weight_decay=decay, amsgrad=amsgrad, maximize=maximize)
    for step in range(5):
        give_gradients(params, rng)
        for p in params:
            p.grad.data[...] *= 3.0 ** -step  # so that the largest v is no longer the last
        for i, p in enumerate(params):
            g = -p.grad.data if maximize else p.grad.data
            expected[i] = adam_by_hand(expected[i], g, states[i], 0.01, (0.8, 0.95), 1e-7, decay, kind is optim.AdamW, amsgrad)
        optimizer.step()
    for p, e in zip(params, expected):
        np.testing.assert_allclose(p.data, e, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("nesterov", "dampening", "maximize"), [(False, 0, False), (True, 0, False), (False, 0.3, False), (False, 0, True)])
def test_sgd_is_pytorchs_formula(nesterov, dampening, maximize):
    params, rng = parameters(), np.random.default_rng(1)
    expected, u = [p.data.copy() for p in params], [0.0] * len(params)
    optimizer = optim.SGD(params, 0.1, 0.9, 0.01, nesterov, dampening=dampening, maximize=maximize)
    for step in range(4):
        give_gradients(params, rng)
        for i, p in enumerate(params):
            g = (-p.grad.data if maximize else p.grad.data) + 0.01 * expected[i]
            u[i] = 0.9 * u[i] + (1 - dampening if step else 1) * g
            expected[i] = expected[i] - 0.1 * (g + 0.9 * u[i] if nesterov else u[i])
        optimizer.step()
    for p, e in zip(params, expected):
        np.testing.assert_allclose(p.data, e, rtol=1e-12, atol=1e-12)


def test_defaults_are_pytorchs():
    adam = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "maximize": False}
    sgd = {"lr": 1e-3, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "dampening": 0.0, "maximize": False}
    assert optim.AdamW(parameters()).defaults == adam | {"weight_decay": 0.01}
    assert optim.Adam(parameters()).defaults == adam | {"weight_decay": 0.0}
    assert optim.SGD(parameters()).defaults == sgd
    assert optim.Adam(parameters()).buffers == optim.AdamW(parameters()).buffers == ("m", "v")


def test_parameters_become_views_of_one_buffer_with_the_same_values():
    params = parameters(np.float32)
    before = [p.data.copy() for p in params]
    optimizer = optim.AdamW(params)
    assert len({id(p.data.base) for p in params}) == 1
    for p, b in zip(params, before):
        assert np.array_equal(p.data, b)
    views = [p.data for p in params]
    give_gradients(params, np.random.default_rng(0))
    optimizer.step()
    assert all(p.data is view for p, view in zip(params, views)), "none is made anew without need"


def test_new_arrays_are_adopted():
    """Loading weights after the optimizer was made must not leave it updating the old ones."""
    params, twins = parameters(), parameters()
    optimizer, other = optim.AdamW(params), optim.AdamW(twins)
    fresh = np.full(SHAPES[0], 2.0)
    params[0].data = fresh
    twins[0].data[...] = fresh
    for _ in range(2):
        give_gradients(params, np.random.default_rng(0))
        give_gradients(twins, np.random.default_rng(0))
        optimizer.step(), other.step()
    assert np.array_equal(params[0].data, twins[0].data) and not np.array_equal(params[0].data, fresh)


@pytest.mark.parametrize("change", [
    lambda a, b: setattr(a, "data", a.data[::-1]), lambda a, b: setattr(a, "data", a.data.T),
    lambda a, b: (lambda x, y: (setattr(a, "data", y), setattr(b, "data", x)))(a.data, b.data),
])  # fmt: skip
def test_other_views_of_the_buffer_are_adopted_too(change):
    """Turned, transposed or swapped, the arrays still lie in the buffer, but not where the update writes."""
    params = [tg.Tensor(np.arange(9.0).reshape(3, 3) + i, requires_grad=True) for i in (0, 100)]
    optimizer = optim.SGD(params, lr=1.0)
    change(*params)
    before = [p.data.copy() for p in params]
    give_gradients(params, np.random.default_rng(0))
    optimizer.step()
    for p, b in zip(params, before):
        assert np.array_equal(p.data, b - p.grad.data)


def test_another_dtype_is_refused_before_anything_changes():
    model = tg.nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    model.astype(np.float64)
    before = model.weight.data.copy()
    give_gradients([model.weight], np.random.default_rng(0))
    with pytest.raises(TypeError, match="was float32 .* is float64 now"):
        optimizer.step()
    assert np.array_equal(model.weight.data, before) and model.weight.dtype == np.float64


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copied_optimizer_trains_its_own_model(duplicate):
    params = parameters(np.float32)
    optimizer = optim.AdamW(params)
    give_gradients(params, np.random.default_rng(0))
    optimizer.step()
    twins, twin = duplicate((params, optimizer))
    other = optim.AdamW(parameters(np.float32))
    other.load_state_dict(twin.state_dict())
    for seed in range(3):
        for ps, o in ((params, optimizer), (twins, twin)):
            give_gradients(ps, np.random.default_rng(seed))
            o.step()
    assert all(np.array_equal(p.data, t.data) for p, t in zip(params, twins)) and twin.state_dict()["steps"] == [4] * 4


def test_a_parameter_without_gradient_is_left_alone():
    params, rng = parameters(), np.random.default_rng(0)
    optimizer = optim.AdamW(params, lr=0.1, weight_decay=0.5)
    for skipped in (1, 0):
        give_gradients(params, rng)
        params[skipped].grad = None
        before = params[skipped].data.copy()
        optimizer.step()
        assert np.array_equal(params[skipped].data, before)
    assert optimizer.state_dict()["steps"] == [1, 1, 2, 2]


class Normed(optim.Optimizer):
    """Each parameter moves against its gradient's running sum by lr times its own norm, in the manner of LARS and LAMB."""

    buffers = ("u",)
    by_parameter = True

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
        self.shapes = []

    def update(self, params, grads, state, group, step, grad_scale):
        for p, g, u in zip(params, grads, state[0]):
            self.shapes.append(p.shape)
            u += grad_scale * g
            p -= group["lr"] * np.linalg.norm(p) / np.linalg.norm(u) * u


def test_an_update_that_needs_each_parameters_shape_gets_it():
    """The small parameters lie in one flat array: a norm of that would be nobody's."""
    params, rng = parameters(), np.random.default_rng(1)
    expected, u = [p.data.copy() for p in params], [0.0] * len(params)
    optimizer = Normed(params)
    for step in range(3):
        give_gradients(params, rng)
        norm = np.sqrt(sum((p.grad.data**2).sum() for p in params))
        if step == 1:
            params[1].grad = None
        for i, p in enumerate(params):
            if p.grad is not None:
                u[i] = u[i] + p.grad.data * (1 / (norm + 1e-6) if step == 2 else 1)
                expected[i] -= 0.1 * np.linalg.norm(expected[i]) / np.linalg.norm(u[i]) * u[i]
        optimizer.clip_and_step(1.0) if step == 2 else optimizer.step()
    for p, e, kept, total in zip(params, expected, optimizer.state_dict()["state"]["u"], u):
        np.testing.assert_allclose(p.data, e, rtol=1e-9)
        np.testing.assert_allclose(kept, total, rtol=1e-9)
    assert sorted(set(optimizer.shapes)) == sorted(SHAPES)
    other = Normed(parameters())
    other.load_state_dict(optimizer.state_dict())
    assert other.state_dict()["steps"] == [3, 2, 3, 3]


@pytest.mark.parametrize("kind", [optim.SGD, optim.AdamW])
@pytest.mark.parametrize("closure", [lambda: 0.0, None])
def test_a_closure_is_refused_before_anything_changes(kind, closure):
    params = parameters()
    optimizer, before = kind(params, weight_decay=0.5), [p.data.copy() for p in params]
    give_gradients(params, np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"step: expected a number as grad_scale, got a .*; a closure is called by hand"):
        optimizer.step(closure)
    assert optimizer.state_dict()["steps"] == [0] * 4
    assert all(np.array_equal(p.data, b) for p, b in zip(params, before))
    optimizer.step(tg.tensor(0.5))


@pytest.mark.parametrize("kind", [optim.SGD, optim.AdamW, lambda p, lr: optim.Adam(p, lr, amsgrad=True)])
def test_gradients_count_grad_scale_times(kind):
    params, twins = parameters(), parameters()
    for ps, scale in ((params, 0.25), (twins, 1.0)):
        optimizer = kind(ps, lr=0.1)
        for seed in range(2):
            give_gradients(ps, np.random.default_rng(seed))
            for p in ps:
                p.grad = p.grad * (0.25 / scale) ** seed  # the second of them otherwise, for Adam knows no common factor
            optimizer.step(scale**seed)
    for p, t in zip(params, twins):
        np.testing.assert_allclose(p.data, t.data, rtol=1e-9)


def test_groups_have_their_own_options():
    params = parameters()
    optimizer = optim.SGD([{"params": params[:2], "lr": 0.5}, {"params": params[2:]}], lr=0.1)
    before = [p.data.copy() for p in params]
    for p in params:
        p.grad = tg.Tensor(np.ones(p.shape))
    optimizer.step()
    for p, b, lr in zip(params, before, (0.5, 0.5, 0.1, 0.1)):
        np.testing.assert_allclose(b - p.data, lr)


def test_decay_groups():
    params = parameters()
    groups = optim.decay_groups(list(zip("abcd", params)), 0.1)
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert [[p.ndim for p in g["params"]] for g in groups] == [[2, 2], [1, 0]]


def test_a_parameter_that_was_left_out_goes_on_as_if_it_were_alone():
    """Each counts its own steps, and Adam's correction of its means with them."""
    params, rng = parameters()[:2], np.random.default_rng(0)
    alone = [tg.Tensor(p.data.copy(), requires_grad=True) for p in params]
    together, apart = optim.AdamW(params, lr=0.1), [optim.AdamW(p, lr=0.1) for p in alone]
    for having in ((0,), (0, 1), (1,), (0, 1)):
        together.zero_grad()
        for i in having:
            params[i].grad = alone[i].grad = tg.Tensor(rng.normal(size=params[i].shape))
            apart[i].step()
        together.step()
    assert together.state_dict()["steps"] == [3, 3]
    for p, q in zip(params, alone):
        np.testing.assert_array_equal(p.data, q.data)


def test_tied_and_frozen_parameters():
    a, b = parameters()[:2]
    b.requires_grad_(False)
    optimizer = optim.SGD([a, a, b], lr=1.0)
    before = a.data.copy()
    a.grad = tg.Tensor(np.ones(a.shape))
    optimizer.step()
    np.testing.assert_allclose(before - a.data, 1.0)
    assert optimizer.state_dict()["steps"] == [1]  # what is frozen has no state


def test_what_is_unfrozen_or_added_later_is_trained():
    """As in PyTorch, which makes a parameter's state at its first gradient."""
    params = parameters()
    params[1].requires_grad_(False)
    optimizer = optim.AdamW(params[:3], lr=0.1)
    schedule = optim.linear(optimizer, warmup=0, total=4)
    rng = np.random.default_rng(0)
    for trained in ((0, 2), (0, 1, 2), (0, 1, 2, 3)):
        params[1].requires_grad_(1 in trained)
        if 3 in trained:
            optimizer.add_param_group({"params": params[3], "lr": 0.5})
        before = [p.data.copy() for p in params]
        for i in trained:
            params[i].grad = tg.Tensor(rng.normal(size=params[i].shape))
        optimizer.step()
        schedule.step()
        assert [i for i in range(4) if not np.array_equal(params[i].data, before[i])] == list(trained)
    assert optimizer.state_dict()["steps"] == [3, 2, 3, 1]
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.1 / 4, 0.5 / 4])
    fresh = optim.AdamW([{"params": params[:3]}, {"params": params[3]}])
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.state_dict()["steps"] == [3, 2, 3, 1]


@pytest.mark.parametrize("as_params", [lambda p: p, lambda p: [{"params": p}]])
def test_one_tensor_is_one_parameter(as_params):
    """And not its rows, which are other tensors."""
    p = parameters()[0]
    optimizer, before = optim.SGD(as_params(p), lr=1.0), p.data.copy()
    give_gradients([p], np.random.default_rng(0))
    optimizer.step()
    assert np.array_equal(p.data, before - p.grad.data)


@pytest.mark.parametrize("params, what", [
    (lambda m: m.named_parameters(), "a tuple"), (lambda m: [m.weight * 2], "result of an operation"),
    (lambda m: [m.weight.data], "a ndarray"), (lambda m: m, "a Linear"),
])  # fmt: skip
def test_what_is_no_parameter_is_refused(params, what):
    with pytest.raises(TypeError, match=f"expected leaf Tensors.*{what}"):
        optim.SGD(params(tg.nn.Linear(3, 2)))


def test_bad_options():
    a, b = parameters()[:2]
    with pytest.raises(ValueError, match="lr"):
        optim.AdamW([a], lr=-1)
    with pytest.raises(ValueError, match="betas"):
        optim.AdamW([a], betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="betas"):
        optim.AdamW([a], betas=(0.9, 0.9, 0.9))
    with pytest.raises(ValueError, match="unknown option 'weight_decoy'"):
        optim.AdamW([{"params": [a], "weight_decoy": 1}])
    with pytest.raises(ValueError, match="more than one group"):
        optim.AdamW([{"params": [a]}, {"params": [b, a]}])
    with pytest.raises(ValueError, match="nothing to train"):
        optim.AdamW([])
    with pytest.raises(ValueError, match="nesterov"):
        optim.SGD([a], nesterov=True)
    with pytest.raises(ValueError, match="nesterov"):
        optim.SGD([a], momentum=0.9, nesterov=True, dampening=0.1)
    with pytest.raises(ValueError, match="'largest' is missing"):
        optim.Adam([a], amsgrad=True).load_state_dict(optim.Adam([a]).state_dict())


@pytest.mark.parametrize("kind", [optim.AdamW, lambda p: optim.Adam(p, amsgrad=True), lambda p: optim.SGD(p, momentum=0.9)])
def test_state_comes_back_bit_for_bit(kind):
    params, twins = parameters(np.float32), parameters(np.float32)
    first, second = kind(params), kind(twins)
    for seed in range(3):
        give_gradients(params, np.random.default_rng(seed))
        first.step()
    for p, t in zip(params, twins):
        t.data[...] = p.data
    saved = first.state_dict()
    saved["groups"] = json.loads(json.dumps(saved["groups"]))  # as a checkpoint keeps them
    second.load_state_dict(saved)
    assert second.state_dict()["groups"] == first.state_dict()["groups"]
    for seed in range(3, 6):
        for ps, o in ((params, first), (twins, second)):
            give_gradients(ps, np.random.default_rng(seed))
            o.step()
    for p, t in zip(params, twins):
        assert np.array_equal(p.data, t.data)


def test_state_of_another_model_is_refused():
    optimizer, other = optim.AdamW(parameters()), optim.AdamW(parameters()[:2])
    with pytest.raises(ValueError, match=r"got groups of \[2\] parameters"):
        optimizer.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="another kind of optimizer"):
        optimizer.load_state_dict(optim.SGD(parameters()).state_dict())
    wrong = optimizer.state_dict()
    wrong["state"]["m"] = [np.ones(s) for s in SHAPES]
    wrong["state"]["v"][3] = np.ones(7)
    with pytest.raises(ValueError, match="expected shape"):
        optimizer.load_state_dict(wrong)
    assert not any(m.any() for m in optimizer.state_dict()["state"]["m"])


def test_state_goes_to_its_own_parameter_whatever_is_frozen_now():
    """Layers are often trained one after another: as many have state before and after, but not the same ones."""
    a, b = (tg.Tensor(np.ones(3), requires_grad=flag) for flag in (True, False))
    first = optim.AdamW([a, b])
    a.grad = tg.Tensor(np.arange(3.0))
    first.step()
    saved = first.state_dict()
    a.requires_grad_(False)
    b.requires_grad_(True)
    second = optim.AdamW([a, b])
    second.load_state_dict(saved)
    m, steps = second.state_dict()["state"]["m"], second.state_dict()["steps"]
    assert np.array_equal(m[0], saved["state"]["m"][0]) and not m[1].any() and steps == [1, 0]
    values = a.data.copy()
    b.grad, a.grad = tg.Tensor(np.ones(3)), None
    second.step()
    assert np.array_equal(a.data, values) and second.state_dict()["steps"] == [1, 1]
    second.load_state_dict(saved)
    assert not second.state_dict()["state"]["m"][1].any(), "what had no state when it was saved has none again"
    with pytest.raises(ValueError, match=r"expected groups of \[1, 1\] parameters, got groups of \[2\] parameters"):
        optim.AdamW([{"params": [a]}, {"params": [b]}]).load_state_dict(saved)
    del saved["held"]  # as older files are
    optim.AdamW([tg.Tensor(np.ones(3), requires_grad=True)]).load_state_dict(saved)


def test_a_step_is_noticed_by_backward():
    """y saved x; the optimizer overwrites x; backward must refuse."""
    x = tg.Tensor(np.ones(3), requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)
    y = (x * x).sum()
    x.grad = tg.Tensor(np.ones(3))
    optimizer.step()
    with pytest.raises(RuntimeError):
        y.backward()


@given(st.floats(0.01, 30.0), st.sampled_from([1.0, 2.0, 3.0, np.inf]))
def test_clipping(limit, kind):
    params = parameters()[:3]
    give_gradients(params, np.random.default_rng(0))
    before = np.concatenate([p.grad.data.reshape(-1) for p in params])
    norm = np.linalg.norm(before, kind)
    assert optim.clip_grad_norm_(params, limit, kind) == pytest.approx(norm)
    after = np.concatenate([p.grad.data.reshape(-1) for p in params])
    np.testing.assert_allclose(after, before * min(1.0, limit / (norm + 1e-6)))


@pytest.mark.parametrize("limit", [0.0, 0.5, 100.0])
def test_clipping_and_stepping_in_one(limit):
    """The same as clip_grad_norm_ and then step, also where a parameter has no gradient."""
    for skipped in (None, 1):
        params, twins = parameters(), parameters()
        first, second = optim.AdamW(params), optim.AdamW(twins)
        for seed in range(3):
            for ps in (params, twins):
                give_gradients(ps, np.random.default_rng(seed))
                if skipped is not None:
                    ps[skipped].grad = None
            norm = first.clip_and_step(limit)
            assert norm == pytest.approx(optim.clip_grad_norm_(twins, limit or np.inf))
            second.step()
        for p, t in zip(params, twins):
            np.testing.assert_allclose(p.data, t.data, rtol=1e-9, atol=1e-12)


def test_a_step_from_what_is_not_finite_changes_nothing():
    params = parameters()
    optimizer, before = optim.AdamW(params), [p.data.copy() for p in params]
    give_gradients(params, np.random.default_rng(0))
    params[0].grad.data[0, 0] = np.nan
    assert np.isnan(optimizer.clip_and_step(1.0))
    assert all(np.array_equal(p.data, b) for p, b in zip(params, before)) and optimizer.state_dict()["steps"] == [0] * 4


def test_clipping_a_shared_gradient_array_once():
    a, b = parameters()[0], parameters()[0]
    shared = np.ones(a.shape)
    a.grad, b.grad = tg.Tensor(shared), tg.Tensor(shared)
    optim.clip_grad_norm_([a, b], 1.0)
    np.testing.assert_allclose(a.grad.data, 1 / math.sqrt(24), rtol=1e-6)
    np.testing.assert_allclose(b.grad.data, a.grad.data)


@pytest.mark.parametrize("limit", [-1.0, np.nan])
def test_a_limit_that_would_spoil_gradients_is_refused(limit):
    params = parameters()[:3]
    give_gradients(params, np.random.default_rng(0))
    before = [p.data.copy() for p in params]
    for clip in (lambda: optim.clip_grad_norm_(params, limit), lambda: optim.SGD(params).clip_and_step(limit)):
        with pytest.raises(ValueError, match="max_norm: expected a number of at least 0, got"):
            clip()
    assert all(np.isfinite(p.grad.data).all() for p in params)
    assert all(np.array_equal(p.data, b) for p, b in zip(params, before))


def test_clipping_what_is_not_finite():
    a = parameters()[0]
    a.grad = tg.Tensor(np.full(a.shape, np.inf))
    with pytest.raises(RuntimeError, match="NaN or an infinity"):
        optim.clip_grad_norm_([a], 1.0, error_if_nonfinite=True)
    assert optim.clip_grad_norm_([parameters()[0]], 1.0) == 0.0
    a.grad = tg.Tensor(np.full(a.shape, -0.25))
    assert optim.clip_grad_norm_([a], 1.0, np.inf) == 0.25
    b = parameters()[0]
    a.grad, b.grad = tg.Tensor(np.ones(a.shape)), tg.Tensor(np.full(b.shape, np.nan))
    assert np.isnan(optim.clip_grad_norm_([a, b], 1.0, np.inf)) and np.isnan(a.grad.data).all()


def rates(make, steps, **options):
    optimizer = optim.SGD(parameters()[:1], lr=2.0)
    schedule = make(optimizer, **options)
    seen = []
    for _ in range(steps):
        seen.append(schedule.lr)
        schedule.step()
    return np.array(seen)


@pytest.mark.parametrize("name", ["cosine", "linear", "inverse_sqrt", "constant"])
def test_schedules_warm_up(name):
    seen = rates(getattr(optim, name), 40, warmup=10, total=40)
    np.testing.assert_allclose(seen[:10], 2.0 * np.arange(1, 11) / 11)
    assert seen[10] == pytest.approx(2.0)
    assert (np.diff(seen[10:]) <= 1e-12).all()


def test_schedules_end_where_they_should():
    assert rates(optim.cosine, 41, warmup=10, total=40)[[10, 25, 40]] == pytest.approx([2.0, 1.0, 0.0])
    assert rates(optim.cosine, 41, warmup=10, total=40, minimum=0.1)[-1] == pytest.approx(0.2)
    assert rates(optim.cosine, 41, warmup=10, total=40, minimum=0.1)[25] == pytest.approx(1.1)
    assert rates(optim.linear, 41, warmup=10, total=40)[[25, 40]] == pytest.approx([1.0, 0.0])
    assert rates(optim.linear, 41, warmup=10, total=40, minimum=0.1)[[10, 25, 40]] == pytest.approx([2.0, 1.1, 0.2])
    assert rates(optim.inverse_sqrt, 50, warmup=9)[39] == pytest.approx(1.0)
    assert rates(optim.constant, 5, warmup=0).tolist() == [2.0] * 5
    assert rates(optim.linear, 4, warmup=2, total=3).tolist() == pytest.approx([2 / 3, 4 / 3, 2.0, 0.0])
    with pytest.raises(ValueError, match="more steps than the 10"):
        rates(optim.cosine, 1, warmup=10, total=10)
    with pytest.raises(ValueError, match="warmup: expected at least 0 steps, got -1"):
        rates(optim.constant, 1, warmup=-1)


def test_a_schedule_tells_every_groups_rate():
    first, second = parameters()[:2]
    schedule = optim.linear(optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.5}], lr=2.0), warmup=0, total=4)
    for expected in ([2.0, 0.5], [1.5, 0.375]):
        assert schedule.get_last_lr() == pytest.approx(expected)
        schedule.step()


def test_a_schedule_resumes():
    optimizer = optim.SGD(parameters()[:1], lr=2.0)
    schedule = optim.cosine(optimizer, warmup=3, total=20)
    for _ in range(7):
        schedule.step()
    other = optim.SGD(parameters()[:1], lr=9.0)
    resumed = optim.cosine(other, warmup=3, total=20)
    resumed.load_state_dict(schedule.state_dict())
    assert resumed.lr == schedule.lr and resumed.last == 7


def test_a_group_appended_by_hand_is_not_passed_over():
    p, q = (tg.Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([p], lr=1.0)
    optimizer.param_groups.append({"params": [q], "lr": 1.0})
    (p * q).sum().backward()
    with pytest.raises(ValueError, match="expected the 1 groups.*got 2; add one with add_param_group"):
        optimizer.step()


@pytest.mark.parametrize("norm_type", [0, -1.0, math.nan])
def test_clipping_by_what_is_no_norm(norm_type):
    p = tg.Tensor(np.ones(2), requires_grad=True)
    p.sum().backward()
    with pytest.raises(ValueError, match="norm_type: expected a number above 0"):
        optim.clip_grad_norm_([p], 1.0, norm_type=norm_type)


def test_gradients_are_forgotten_or_zeroed():
    p, without = parameters()[:2]
    optimizer = optim.SGD([p, without], lr=0.1)
    give_gradients([p], np.random.default_rng(0))
    optimizer.zero_grad(set_to_none=False)
    assert without.grad is None and not p.grad.data.any()
    optimizer.zero_grad()
    assert p.grad is None


def test_a_group_without_params_and_a_foreign_state_are_refused():
    params = parameters()
    with pytest.raises(ValueError, match="a group needs 'params' beside its options, got 'lr'"):
        optim.SGD([{"lr": 0.1}])
    foreign = {"state": {0: {"step": 1}}, "param_groups": [{"lr": 1e-3}]}  # as PyTorch lays it out
    with pytest.raises(ValueError, match="expected the keys 'groups', 'steps' and 'state' .* got 'state', 'param_groups'"):
        optim.AdamW(params).load_state_dict(foreign)


@pytest.mark.parametrize(("kind", "name"), [
    *((kind, name) for kind in (optim.SGD, optim.Adam, optim.AdamW) for name in ("lr", "weight_decay")), (optim.SGD, "momentum"),
    (optim.SGD, "dampening"), (optim.Adam, "eps"), (optim.AdamW, "betas"),
])  # fmt: skip
def test_an_option_that_is_no_number_is_named(kind, name):
    for value in ("1e-3", None, [0.1, 0.2, "x"], object()):
        with pytest.raises((TypeError, ValueError), match=f"{name}: expected"):
            kind(parameters(), **{name: value})
    for value in (float("nan"), float("inf"), -1.0):
        value = (value, 0.9) if name == "betas" else value
        with pytest.raises(ValueError, match=f"{name}: expected"):
            kind(parameters(), **{name: value})
    with pytest.raises(TypeError, match="max_norm: expected a number of at least 0, got '1'"):
        optim.clip_grad_norm_(parameters(), "1")


def test_betas_in_a_list_are_kept_as_they_were():
    betas = [0.8, 0.9]
    optimizer = optim.AdamW(parameters(), betas=betas)
    betas[0] = 2.0
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


@pytest.mark.parametrize("schedule", [optim.cosine, optim.linear])
def test_a_schedule_that_would_leave_its_range_is_refused(schedule):
    for minimum in (-1, 2, float("nan")):  # beyond 0 the last steps would go up the gradient
        with pytest.raises(ValueError, match="minimum: expected a fraction of the rate, from 0 to 1, got"):
            rates(schedule, 1, warmup=1, total=5, minimum=minimum)
    for warmup, total in ((0.1, 5), (float("nan"), 5), (1, float("nan")), ("1", 5)):  # 0.1 is no share of the steps
        with pytest.raises(TypeError, match="expected a whole number, got"):
            rates(schedule, 1, warmup=warmup, total=total)
    assert rates(schedule, 3, warmup=1.0, total=5e0).tolist() == rates(schedule, 3, warmup=1, total=5).tolist()


def test_groups_by_decay_need_names():
    model = tg.nn.Linear(2, 2)  # each weight is two rows, which would pass for a name and a Tensor
    with pytest.raises(TypeError, match=r"such as model.named_parameters\(\)"):
        optim.decay_groups(model.parameters(), 0.1)
