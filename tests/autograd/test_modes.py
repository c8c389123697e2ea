"""Around the walk: modes, hooks, checkpoints, anomalies, derivatives of functions, operations of one's own."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.autograd.test_engine import leaf
from tinygrad_llm.autograd import Observer, engine, node, observe, state
from tinygrad_llm.autograd.op import registry

F = tg.functional


# -- modes, hooks ------------------------------------------------------------------------------------------------------


def test_modes_nest_decorate_and_survive_exceptions():
    x = leaf(2)
    with tg.no_grad():
        assert not (x * 2).requires_grad and not tg.is_grad_enabled()
        with tg.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert tg.is_grad_enabled()

    @tg.no_grad()
    def quiet():
        return x * 2

    assert not quiet().requires_grad and (x * 2).requires_grad

    @tg.no_grad
    def bare():
        return x * 2

    assert not bare().requires_grad and bare.__name__ == "bare"


def test_a_decorated_generator_is_switched_while_it_runs_and_its_caller_is_not():
    closed = []

    @tg.no_grad()
    def steps():
        try:
            got = yield tg.is_grad_enabled()
            yield got, tg.is_grad_enabled()
        except KeyError:
            yield "caught", tg.is_grad_enabled()
        finally:
            closed.append(tg.is_grad_enabled())
        return "end"

    running = steps()
    assert next(running) is False and tg.is_grad_enabled()
    assert running.send(7) == (7, False) and tg.is_grad_enabled()
    assert running.throw(KeyError()) == ("caught", False)
    with pytest.raises(StopIteration, match="end"):
        next(running)
    running = steps()
    next(running)
    running.close()
    assert closed == [False, False] and tg.is_grad_enabled()


def test_modes_are_the_threads_own():
    seen = {}
    inside, done = threading.Event(), threading.Event()

    def other():
        with tg.no_grad():
            inside.set()
            done.wait(10)
            seen["other"] = tg.is_grad_enabled()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    seen["main"] = tg.is_grad_enabled()
    done.set()
    thread.join()
    assert seen == {"main": True, "other": False}


@pytest.mark.parametrize("decorated", [tg.no_grad, tg.no_grad()])
def test_a_decorated_coroutine_is_switched_while_it_runs_and_others_are_not(decorated):
    x = leaf(2)

    async def recorded(note):
        for _ in range(3):
            note.append((x * 2).requires_grad)
            await asyncio.sleep(0)
        raise KeyError

    async def both(inside, outside):
        return await asyncio.gather(decorated(recorded)(inside), recorded(outside), return_exceptions=True)

    inside, outside = [], []
    errors = asyncio.run(both(inside, outside))
    assert [type(error) for error in errors] == [KeyError] * 2
    assert inside == [False] * 3 and outside == [True] * 3 and tg.is_grad_enabled()


def test_an_asynchronous_generator_is_not_decorated_in_vain():
    async def numbers():
        yield 1

    for decorator in (tg.no_grad, tg.autocast()):
        with pytest.raises(TypeError, match="numbers: an asynchronous generator"):
            decorator(numbers)


def interrupted(run, at):
    """Run with a KeyboardInterrupt where Python would let the at-th one in, of those within state.py; False: there is none."""
    left = [at]

    def profile(frame, event, arg):
        here, c_name = frame.f_code.co_filename == state.__file__, getattr(arg, "__name__", "")
        called = event == "call" and frame.f_code.co_name != "__exit__"  # before which nothing can be put back
        if here and (called or (event == "c_return" and c_name != "__enter__")):  # a lock's
            left[0] -= 1
            if left[0] < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    try:
        sys.setprofile(profile)
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.parametrize("switch", [tg.no_grad, tg.autocast, lambda: observe(Observer()), tg.lens.trace])
@pytest.mark.parametrize("around", [tg.enable_grad, tg.no_grad, lambda: observe(Observer())])
def test_an_interrupted_switch_is_not_left_on(switch, around):
    def run():
        with switch():
            pass

    def switches():
        return vars(state.local) | {name: getattr(state.switches, name) for name in state.switches.__slots__}

    at = 0
    with around(), tg.autocast("float32"):
        run()
        before = switches()
        while interrupted(run, at):
            assert switches() == before, at
            at += 1
    assert at > 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("lock", ["_commit", "_counting"])
def test_a_child_forked_while_another_thread_holds_a_lock_is_not_stuck(lock):
    held, go_on, x = threading.Event(), threading.Event(), leaf(3)

    def work():
        with getattr(engine if lock == "_commit" else state, lock):
            held.set()
            go_on.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        done = threading.Event()
        threading.Thread(target=lambda: ((x * 2).sum().backward(), done.set()), daemon=True).start()
        os._exit(0 if done.wait(10) else 1)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_accumulate_into_one_leaf_without_loss():
    w = leaf(50)

    def work():
        for _ in range(20):
            (w * 1.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    np.testing.assert_array_equal(w.grad.data, np.full(50, 80.0))


def test_hooks_run_once_on_the_complete_gradient_and_may_replace_it():
    x = leaf(3)
    y = x * 3
    seen = []
    handle = y.register_hook(lambda g: seen.append(g.data.copy()))
    (y * 2 + y * 5).sum().backward()
    np.testing.assert_array_equal(seen, [np.full(3, 7.0)])
    assert y.grad is None, "seen and not kept: nobody asked for that"
    handle.remove()
    x.grad = None
    x.register_hook(lambda g: g * 10)
    (x * 2).sum().backward()
    assert len(seen) == 1
    np.testing.assert_array_equal(x.grad.data, np.full(3, 20.0))


def test_what_cannot_be_called_is_refused_as_a_hook_at_once():
    x = leaf(3)
    with pytest.raises(TypeError, match="hook: expected a function, got int"):
        x.register_hook(3)
    with pytest.raises(TypeError, match="hook: expected a function, got str"):
        tg.nn.Linear(2, 2).register_forward_hook("print")
    (x * 2).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full(3, 2.0))


def test_hooks_whose_handles_nobody_keeps_all_run_in_order():
    x = leaf(3)
    seen = []
    for name in "abc":
        x.register_hook(lambda g, name=name: seen.append(name))
    x.sum().backward()
    assert seen == ["a", "b", "c"]


def test_a_hook_sees_gradients_of_grad_too():
    x = leaf(3)
    y = x * x
    y.register_hook(lambda g: g * 2)
    (d,) = tg.grad(y.sum(), x)
    np.testing.assert_allclose(d.data, 4 * x.data)


def test_what_a_hook_returns_is_part_of_the_gradients_graph():
    x = leaf(3)
    y = x**3
    y.register_hook(lambda g: g * x)
    (d,) = tg.grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(d.data, 3 * x.data**3)
    np.testing.assert_allclose(tg.grad(d.sum(), x)[0].data, 9 * x.data**2)


def test_retain_grad_keeps_the_gradient_of_what_is_no_leaf():
    x = leaf(3)
    y = x * 3
    assert y.grad is None
    y.retain_grad()
    (y * y).sum().backward()
    np.testing.assert_allclose(y.grad.data, 2 * y.data)


def test_a_leaf_that_is_frozen_for_a_while_loses_nothing():
    """As in PyTorch: an adversary that stands still for the other's step has its gradients, hooks and losses after it."""
    x, seen = leaf(3), []
    (x * 2).sum().backward()
    x.register_hook(lambda g: seen.append(g.data.copy()))
    before = (x * 3).sum()
    while_frozen = (x * 5).sum()
    assert x.requires_grad_(False).grad is None and not (x * 7).requires_grad
    while_frozen.backward()
    x.requires_grad_(True)
    np.testing.assert_array_equal(x.grad.data, np.full(3, 2.0))
    before.backward()
    (x * 4).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full(3, 9.0))
    np.testing.assert_array_equal(seen, [np.full(3, 3.0), np.full(3, 4.0)])
    x.requires_grad_(False).grad = None
    assert x.requires_grad_(True).grad is None
    x.requires_grad_(False).data = x.data.astype(np.float32)
    (x.requires_grad_(True) * 2).sum().backward()
    assert x.grad.dtype == np.float32


@pytest.mark.parametrize("k", [0, 4, -4])
def test_no_turn_at_all_is_a_tensor_of_its_own(k):
    """As np.rot90 and torch.rot90 give one: what is kept or hooked there is not that of the input."""
    x = leaf(2, 3)
    y = tg.rot90(x, k)
    y.retain_grad()
    (y * 2 + x).sum().backward()
    np.testing.assert_array_equal(y.grad.data, np.full((2, 3), 2.0))
    np.testing.assert_array_equal(x.grad.data, np.full((2, 3), 3.0))


def test_detach_cuts_and_unused_inputs_are_reported():
    x, z = leaf(3), leaf(3)
    y = (x.detach() * z).sum()
    with pytest.raises(RuntimeError, match=r"inputs\[0\]"):
        tg.grad(y, (x, z), retain_graph=True)
    d, e = tg.grad(y, (x, z), allow_unused=True)
    assert d is None
    np.testing.assert_array_equal(e.data, x.data)


# -- checkpoints, anomalies --------------------------------------------------------------------------------------------


def block(x, w, rng=None):
    return F.dropout(F.gelu(F.layer_norm(x @ w, 8)), 0.4, rng=rng) + x


@pytest.mark.parametrize("own_rng", [False, True])
def test_checkpoint_gives_the_same_gradients_bit_for_bit_dropout_included(own_rng):
    x, w = leaf(4, 8, dtype=np.float32), leaf(8, 8, seed=1, dtype=np.float32)
    results = []
    for checkpointed in (False, True):
        tg.manual_seed(7)
        rng = np.random.default_rng(5) if own_rng else None
        h = tg.checkpoint(block, x, w, rng) if checkpointed else block(x, w, rng)
        h = tg.checkpoint(block, h, w, rng) if checkpointed else block(h, w, rng)
        after = tg.rand(3, rng=rng).data
        results.append([h.data, after, *(d.data for d in tg.grad((h * h).sum(), (x, w)))])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("where", ["reseeded", "another thread"])
def test_checkpoint_repeats_its_mask_whatever_the_generator_is_by_then(where):
    def gradient(disturb):
        tg.manual_seed(0)
        x = tg.Tensor(np.ones(64), requires_grad=True)
        y = tg.checkpoint(lambda x: F.dropout(x, 0.5) * x, x).sum()
        if disturb and where == "reseeded":
            tg.manual_seed(1)
        if disturb and where == "another thread":
            thread = threading.Thread(target=y.backward)
            thread.start()
            thread.join()
        else:
            y.backward()
        return x.grad.data

    np.testing.assert_array_equal(gradient(True), gradient(False))


@pytest.mark.parametrize("write", [
    lambda t: setattr(t, "data", np.add(t.data, 1, out=t.data)),
    lambda t: t.data.fill(9.0),  # which only its Tensor holds: the call that is run again finds `w` by its name
    lambda t: np.copyto(t[1:].numpy(), 9.0),
])
@pytest.mark.parametrize("depth", [1, 2])
def test_checkpoint_refuses_what_was_changed_in_place(depth, write):
    x, w = leaf(3), leaf(3, seed=1)

    def region(x):
        return (x * w).sum()

    def nested(x):
        return tg.checkpoint(region, x) if depth == 2 else region(x)

    for changed in (x, w):
        y = tg.checkpoint(nested, x)
        write(changed)
        with pytest.raises(RuntimeError, match="gradient of multiply needs was changed in place"):
            y.backward()
    tg.checkpoint(nested, x).backward()
    np.testing.assert_array_equal(x.grad.data, w.data)
    del y
    assert not node.readers


@pytest.mark.parametrize("depth", [1, 2])
def test_checkpoint_refuses_a_parameter_that_was_given_other_data(depth):
    x, w = leaf(3), leaf(3, seed=1)
    first = w.data
    first[1] = np.nan

    def region(x):
        return (x * w).sum()

    def run():
        return tg.checkpoint(lambda x: tg.checkpoint(region, x) if depth == 2 else region(x), x)

    y = run()
    w.data = first + 1
    with pytest.raises(RuntimeError, match=r"a parameter of shape \(3,\) was given other data after the forward"):
        y.backward()
    w.data = first.copy()  # another array of the same numbers, as when an optimizer gathers the parameters
    y.backward()
    np.testing.assert_array_equal(x.grad.data, first)
    before, x.grad = x.data, None
    y = run()
    x.data = before + 1  # what the region was given is kept
    y.backward()
    np.testing.assert_array_equal(w.grad.data, 2 * before)


def test_anomalies_are_found_in_checkpoints_and_nothing_else_is():
    with tg.detect_anomaly():
        x = leaf(3)
        tg.checkpoint(lambda x: tg.exp(x) * x, x).sum().backward()
        with pytest.raises(tg.AnomalyError, match="sqrt made an Inf in its backward"):
            tg.checkpoint(tg.sqrt, tg.Tensor(np.array([1.0, 0.0]), requires_grad=True)).sum().backward()


def test_checkpoint_keeps_no_activation():
    x = leaf(100, 100)
    y = tg.checkpoint(lambda x: x.exp().tanh().sin(), x)
    saved = [node.saved for node in walk_nodes(y.node)]
    assert saved and not any(isinstance(s, tuple) for s in saved)


def walk_nodes(node):
    while node is not None and node.op is not None:
        yield node
        node = node.inputs[0]


def here(x):
    return tg.log(x - x)


def test_anomaly_names_op_line_and_module_forward():
    from tinygrad_llm.autograd import module_scope

    x = leaf(3)
    with pytest.raises(tg.AnomalyError, match=r"log made a.*Inf.*decoder\.layers\.3.*test_modes\.py:\d+ in here"):
        with np.errstate(divide="ignore"), tg.detect_anomaly(), module_scope("decoder"), module_scope("layers.3"):
            here(x)


def test_an_anomaly_within_a_derived_function_stays_one():
    with np.errstate(invalid="ignore"), tg.detect_anomaly(), pytest.raises(tg.AnomalyError, match="^log1p made a NaN .*test_modes.py"):
        tg.logit(tg.Tensor([2.0]))


def test_anomaly_names_op_and_line_backward():
    x = tg.Tensor(np.zeros(2), requires_grad=True)
    where = r"test_modes\.py:\d+ in test_anomaly_names_op_and_line_backward"
    with pytest.raises(tg.AnomalyError, match=r"sqrt made a.*backward.*" + where):
        with np.errstate(divide="ignore"), tg.detect_anomaly():
            tg.sqrt(x).sum().backward()


def test_anomaly_sees_a_write_behind_the_back_of_an_operation_with_any_number_of_inputs():
    with tg.detect_anomaly():
        x = leaf(3)
        array = x.data  # had before: without the mode, nobody looks at it again
        y = tg.einsum("i,i->i", x, x)
        array[0] = 7
        with pytest.raises(tg.AnomalyError, match="einsum: an array that its gradient needs was overwritten"):
            y.sum().backward()


def test_a_write_to_what_data_gave_is_placed_where_calls_are_watched():
    with tg.detect_anomaly():
        x = leaf(3)
        y = tg.exp(x)
    y.data[0] = 7
    with pytest.raises(RuntimeError, match=r"exp: .*\('out', .* in place after the forward \(.*test_modes.py:\d+ in test_a_write"):
        y.sum().backward()


def test_no_anomaly_no_error():
    x = leaf(3)
    with tg.detect_anomaly():
        (x.exp() * x).sum().backward()
    np.testing.assert_allclose(x.grad.data, np.exp(x.data) * (1 + x.data))
    with tg.detect_anomaly():
        assert not (x > 0).requires_grad


# -- derivatives of functions, to third order --------------------------------------------------------------------------


def cubic(x):
    return (x**3).sum() + (x[0] * x[1] * x[2])


def test_third_derivatives_by_nested_grad():
    x = leaf(3)
    (d1,) = tg.grad(cubic(x), x, create_graph=True)
    (d2,) = tg.grad(d1[0], x, create_graph=True)
    (d3,) = tg.grad(d2[1], x)
    a, b, c = x.data
    np.testing.assert_allclose(d1.data, [3 * a * a + b * c, 3 * b * b + a * c, 3 * c * c + a * b])
    np.testing.assert_allclose(d2.data, [6 * a, c, b])
    np.testing.assert_allclose(d3.data, [0, 0, 1])


def test_jacobian_hessian_and_products_agree():
    x, w = leaf(3), leaf(2, 3, seed=1)
    f = lambda x: tg.tanh(w.detach() @ x)
    slope = 1 - np.tanh(w.data @ x.data) ** 2
    J = tg.jacobian(f, x)
    np.testing.assert_allclose(J.data, slope[:, None] * w.data)
    v, u = np.array([0.3, -1, 2]), np.array([1.5, -0.5])
    np.testing.assert_allclose(tg.jvp(f, x, tg.Tensor(v))[1].data, J.data @ v)
    np.testing.assert_allclose(tg.vjp(f, x, tg.Tensor(u))[1].data, u @ J.data)
    H = tg.hessian(cubic, x)
    a, b, c = x.data
    np.testing.assert_allclose(H.data, [[6 * a, c, b], [c, 6 * b, a], [b, a, 6 * c]])
    np.testing.assert_allclose(tg.hvp(cubic, x, tg.Tensor(v))[1].data, H.data @ v)


def test_what_a_product_is_with_is_one_for_a_single_element_and_else_must_be_given():
    x = leaf(3)
    np.testing.assert_allclose(tg.vjp(cubic, x)[1].data, tg.grad(cubic(x), x)[0].data)
    for product, function in ((tg.vjp, tg.exp), (tg.jvp, cubic), (tg.hvp, cubic)):
        with pytest.raises((ValueError, TypeError), match="v"):
            product(function, x)
        with pytest.raises(ValueError, match="v must have shapes"):
            product(function, x, np.ones(2))
    with pytest.raises(ValueError, match="v must be given"):
        tg.vjp(lambda x: (x.sum(), x.sum()), x)
    for derivative in (tg.jacobian, tg.hessian):
        with pytest.raises(TypeError, match=r"create_graph: expected True or False, got Tensor; several inputs are a tuple: \(x, y\)"):
            derivative(lambda x, y: (x * y).sum(), x, x)


def test_the_jacobian_of_nothing_has_its_shape():
    x = leaf(2, 3)
    for create_graph in (False, True):
        J = tg.autograd.jacobian(lambda x: x[:0, :1], x, create_graph=create_graph)
        assert J.shape == (0, 1, 2, 3) and J.dtype == x.dtype


def test_each_input_of_a_jacobian_stands_for_itself():
    x = tg.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    for create_graph in (False, True):
        twice = tg.autograd.jacobian(lambda a, b: a * b, (x, x), create_graph=create_graph)
        np.testing.assert_array_equal(twice[0].data, np.diag(x.data))
        enclosed = tg.autograd.jacobian(lambda a: a * x, x, create_graph=create_graph)
        np.testing.assert_array_equal(enclosed.data, np.diag(x.data))
        _, product = tg.autograd.hvp(lambda a: (a * a * x).sum(), x, np.ones(2), create_graph=create_graph)
        np.testing.assert_array_equal(product.data, 2 * x.data)
    cubes = tg.autograd.jacobian(lambda a: a**3, x, create_graph=True)
    np.testing.assert_array_equal(tg.grad(cubes.sum(), x)[0].data, 6 * x.data)


def test_derivatives_by_a_number():
    for create_graph in (False, True):
        x = tg.Tensor(3.0, requires_grad=True)
        assert tg.autograd.hessian(lambda a: a * a, x, create_graph=create_graph).item() == 2
        assert tg.autograd.jacobian(lambda a: a * a, x, create_graph=create_graph).item() == 6


def test_the_jacobian_of_a_hessian_is_the_third_derivative():
    x = leaf(2)
    T = tg.jacobian(lambda x: tg.hessian(lambda y: (y**3).sum() * y[0], x, create_graph=True), x)
    a, b = x.data
    want = np.zeros((2, 2, 2))
    want[0, 0, 0] = 24 * a
    want[0, 1, 1] = want[1, 0, 1] = want[1, 1, 0] = 6 * b
    want[1, 1, 1] = 6 * a
    np.testing.assert_allclose(T.data, want, atol=1e-12)


def test_create_graph_through_a_fused_chain_matches_differences():
    """Third order through gelu, layer_norm and softmax: one direction of the second derivative, differentiated again."""
    x = leaf(2, 4)
    rng = np.random.default_rng(3)
    v = [tg.Tensor(rng.standard_normal((2, 4))) for _ in range(3)]

    def f(x):
        return (F.softmax(F.layer_norm(F.gelu(x), 4)) * v[0]).sum()

    def second(x):
        (d,) = tg.grad(f(x), x, create_graph=True)
        (e,) = tg.grad((d * v[1]).sum(), x, create_graph=True)
        return e

    (third,) = tg.grad((second(x) * v[2]).sum(), x)
    h = 1e-5
    for place in [(0, 1), (1, 3)]:
        bump = np.zeros((2, 4))
        bump[place] = h
        plus, minus = (second(tg.Tensor(x.data + s * bump, requires_grad=True)).data for s in (1, -1))
        np.testing.assert_allclose(third.data[place], ((plus - minus) / (2 * h) * v[2].data).sum(), rtol=1e-6, atol=1e-7)


# -- user's own operations ---------------------------------------------------------------------------------------------


def test_custom_op_in_the_engines_own_form():
    @tg.custom_op
    def cube(x):
        return x**3, (x,)

    @cube.grad_of("x")
    def _(g, x):
        return g * 3 * x**2

    x = leaf(3)
    assert tg.testing.gradcheck(cube, x, order=2)
    assert "cube" not in registry


def test_a_custom_op_that_saves_a_float_is_refused_at_second_order():
    @tg.custom_op
    def trap(x):
        return np.sin(x), (np.cos(x),)

    @trap.grad_of("x")
    def _(g, slope):
        return g * slope

    x = leaf(3)
    (d,) = tg.grad(trap(x).sum(), x)
    np.testing.assert_allclose(d.data, np.cos(x.data))
    with pytest.raises(tg.GradientError, match="slope"):
        tg.grad(trap(x).sum(), x, create_graph=True)


def test_a_custom_op_that_saves_something_else_under_an_inputs_name_is_refused_at_second_order():
    @tg.custom_op
    def sine(x):
        return np.sin(x), (np.cos(x),)

    @sine.grad_of("x")
    def _(g, x):
        return g * x

    @tg.custom_op
    def log_sigmoid(x):
        p = 1 / (1 + np.exp(-x))
        return np.log(p), (p,)

    @log_sigmoid.grad_of("x")
    def _(g, out):
        return g * (1 - out)

    @tg.custom_op
    def nameless(x):
        return x**2, (x,)

    @nameless.grad_of("x")
    def _(g, *saved):
        return g * 2 * saved[0]

    x = leaf(3)
    for op, slope in ((sine, np.cos), (log_sigmoid, lambda a: 1 / (1 + np.exp(a))), (nameless, lambda a: 2 * a)):
        np.testing.assert_allclose(tg.grad(op(x).sum(), x)[0].data, slope(x.data))
        with pytest.raises(tg.GradientError, match=r"is not what has this name in the forward|name 0 of 1 saved values"):
            tg.hessian(lambda x, op=op: op(x).sum(), x)


def test_a_rule_that_tensors_cannot_pass_is_named():
    @tg.custom_op
    def total(x):
        return np.sum(x**2), (x,)

    @total.grad_of("x")
    def _(g, x):
        return g * 2 * np.ascontiguousarray(x)

    x = leaf(3)
    np.testing.assert_allclose(tg.grad(total(x), x)[0].data, 2 * x.data)
    with pytest.raises(RuntimeError, match="cannot become an ndarray silently") as error:
        tg.hvp(total, x, np.ones(3))
    assert error.value.__notes__[0].startswith("raised by a gradient rule of total: second derivatives run it on Tensors")


def test_an_arrays_own_dot_says_how_a_product_with_a_tensor_is_written():
    a, x = np.arange(6.0).reshape(2, 3), leaf(3)
    with pytest.raises(RuntimeError, match=r"cannot become an ndarray silently; .* a @ x for the array's method a\.dot\(x\)"):
        a.dot(x)
    np.testing.assert_array_equal((a @ x).data, a.dot(x.data))


def test_a_custom_op_may_save_a_copy_of_its_input_or_its_outputs():
    @tg.custom_op
    def both(x, y=None):
        x = np.array(x, np.float64)
        x[x > 9] = np.nan
        out = (x**2, np.exp(x))
        return out, (x.copy(), y, out)

    @both.grad_of("x")
    def _(g, x, y, out):
        return (0 if g[0] is None else g[0] * 2 * x) + (0 if g[1] is None else g[1] * out[1])

    x = tg.Tensor(np.array([0.5, 1.0, np.nan]), requires_grad=True)
    with np.errstate(invalid="ignore"):
        second = tg.hessian(lambda x: sum(np.sum(part[:2]) for part in both(x)), x)
    np.testing.assert_allclose(second.data.diagonal()[:2], 2 + np.exp(x.data[:2]))


@pytest.mark.parametrize(("forward", "said"), [
    (lambda x: x**3, "must return"),  # two rows are no pair of output and saved values
    (lambda x: (x**3, x), "must return"),
    (lambda x: None, "must return"),
    (lambda x: (None, ()), "got None"),
    (lambda x: (x * 1j, ()), "got complex128"),
    (lambda x: ((x, x.astype(object)), ()), "got object"),
])  # fmt: skip
def test_a_custom_ops_forward_must_return_arrays_and_what_backward_needs(forward, said):
    cube = tg.custom_op(forward, name="cube")
    for x in (leaf(2, 3), leaf(3), tg.Tensor(np.ones((2, 3)))):
        with pytest.raises(TypeError, match="cube: its forward must return"), np.errstate(all="ignore"):
            cube(x)
    with pytest.raises(TypeError, match=said):
        cube(leaf(2, 3))
    with pytest.raises(TypeError, match="custom_op: expected a function, got int"):
        tg.custom_op(3)


def test_a_rule_that_asks_for_what_was_not_saved_is_refused_when_it_is_entered():
    @tg.custom_op
    def floored(x, *, low=0.0):
        return np.maximum(x, low), (x,)

    with pytest.raises(TypeError, match="op floored: a rule gets what the forward saved; save 'low' and take it without"):

        @floored.grad_of("x")
        def _(g, x, *, low):
            return g * (x > low)


def test_what_has_a_default_is_an_option():
    @tg.custom_op
    def floored(x, low=0.5, *, scale=1.0):
        return scale * np.maximum(x, low), (x, low, scale)

    @floored.grad_of("x")
    def _(g, x, low, scale):
        return g * scale * (x > low)

    x = tg.Tensor(np.array([0.2, 0.6, 0.9]), requires_grad=True)
    calls = [lambda x: floored(x), lambda x: floored(x, 0.7), lambda x: floored(x, low=0.1, scale=3.0), lambda x: floored(x, 0.8, scale=2.0)]
    for call, expected in zip(calls, ([0.5, 0.6, 0.9], [0.7, 0.7, 0.9], [0.6, 1.8, 2.7], [1.6, 1.6, 1.8]), strict=True):
        np.testing.assert_allclose(call(x).data, expected)
        assert tg.testing.gradcheck(call, x)
    with pytest.raises(TypeError, match="no input 'low'; its inputs are"):
        floored.grad_of("low")
    with pytest.raises(TypeError, match=r"op late: expected inputs, then options .*; got low=0\.5 first"):
        tg.custom_op(lambda x, low=0.5, bias=None: (x, ()), name="late")

    added = tg.custom_op(lambda x, y=None: (x if y is None else x + y, ()), name="added")
    assert added(leaf(2)).shape == added(leaf(2), leaf(2)).shape == (2,)


def test_a_function_without_a_name_is_named_by_its_type():
    scaled = tg.custom_op(functools.partial(lambda x, k: (x * k, ()), k=2.0))
    assert scaled(leaf(2)).shape == (2,)
    with pytest.raises(TypeError, match="^partial: "):
        scaled(leaf(2), n=1)


def test_a_rule_may_say_that_there_is_no_gradient():
    """None counts as zero: alone, as the first of several, and in one rule for all."""

    @tg.custom_op
    def weigh(x, y, z):
        return x * y * z, (x, y, z)

    weigh.grad_of("x")(lambda g, x, y, z: None)
    weigh.grad_of("y")(lambda g, x, y, z: g * x * z)
    weigh.grad_of("z")(lambda g, x, y, z: g * x * y)

    @tg.custom_op
    def jointly(x, y, z):
        return x * y * z, (x, y, z)

    jointly.grad(lambda g, x, y, z: (None, g * x * z, g * x * y))
    for op in (weigh, jointly):
        x, y, z = leaf(3), leaf(3, seed=1), leaf(3, seed=2)
        for create_graph in (False, True):
            dx, dy, dz = tg.grad(op(x, y, z).sum(), (x, y, z), allow_unused=True, create_graph=create_graph)
            assert dx is None
            both = tg.grad((op(x, y, z) + x * 0.5).sum(), x, create_graph=create_graph)
            np.testing.assert_array_equal(both[0].data, 0.5)
            np.testing.assert_array_equal(dy.data, x.data * z.data)
            np.testing.assert_array_equal(dz.data, x.data * y.data)


@pytest.mark.parametrize("norm", [lambda x: tg.functional.layer_norm(x, 4), lambda x: tg.functional.rms_norm(x, 4)])
def test_a_watcher_sees_what_a_norm_adds_to_a_gradient_and_not_the_sum(norm):
    class Watch(Observer):
        def after_rule(self, node, g, gradients, seconds):
            seen[node.op.name] = gradients[0]

    seen = {}
    x, weight = leaf(2, 4), np.arange(8.0).reshape(2, 4)
    expected = tg.grad((norm(x) * weight).sum(), x)[0].data
    with observe(Watch()):
        (total,) = tg.grad((norm(x) * weight + x).sum(), x)
    (name,) = {"layer_norm", "rms_norm"} & set(seen)
    np.testing.assert_allclose(seen[name], expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(total.data, expected + 1, rtol=1e-12)


def test_an_input_without_a_rule_is_named_where_its_gradient_is_needed():
    @tg.custom_op
    def tilted(x, y):
        return 2 * x + y, ()

    tilted.grad_of("y")(lambda g: g)
    x, y = leaf(3), leaf(3)
    np.testing.assert_array_equal(tg.grad(tilted(x, y).sum(), y)[0].data, 1)
    with pytest.raises(RuntimeError, match=r"^tilted: no gradient rule for its input 'x'; write @tilted\.grad_of\('x'\)$"):
        tilted(x, y).sum().backward()


def test_a_watcher_sees_the_rules_after_a_checkpoint_was_run_again():
    """Those that make a graph of their own are operations, and nothing hides them."""

    class Watch(Observer):
        def after_op(self, op, inputs, params, outputs, node, seconds):
            seen.append(op.name)

    seen, x = [], leaf(3)
    with observe(Watch()):
        y = tg.checkpoint(lambda x: (x * x).sum(), x)
        forward = len(seen)
        (d,) = tg.grad(y, x, create_graph=True)
    assert "multiply" in seen[forward:]
    np.testing.assert_array_equal(d.data, 2 * x.data)


def test_a_composite_takes_as_many_inputs_as_were_given():
    @tg.custom_op
    def cubes(*xs):
        return sum(x**3 for x in xs), (xs,)

    cubes.grad(lambda g, xs: tuple(g * 3 * x**2 for x in xs))
    cubes.composite(lambda *xs: sum(x * x * x for x in xs))
    xs = [leaf(3, seed=i) for i in range(3)]
    first = tg.grad(cubes(*xs).sum(), xs, create_graph=True)
    for x, d, second in zip(xs, first, tg.grad([d.sum() for d in first], xs), strict=True):
        np.testing.assert_allclose(d.data, 3 * x.data**2)
        np.testing.assert_allclose(second.data, 6 * x.data)


def test_a_checkpoint_draws_again_what_came_from_this_threads_generator_itself():
    rng, drawn = tg.manual_seed(0), []

    def region(x):
        drawn.append(rng.standard_normal(3))  # nobody was asked for a generator
        return (x * drawn[-1]).sum()

    x = leaf(3)
    tg.checkpoint(region, x).backward()
    assert len(drawn) == 2
    np.testing.assert_array_equal(x.grad.data, drawn[0])
