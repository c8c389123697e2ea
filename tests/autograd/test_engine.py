"""The walk back: shapes of graphs, what is kept alive, what is refused."""

from __future__ import annotations

import gc
import operator
import tracemalloc
import weakref

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd import node
from tinygrad_llm.autograd.op import registry

F = tg.functional


def leaf(*shape, seed=0, dtype=np.float64):
    return tg.Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


# -- graphs of every shape ---------------------------------------------------------------------------------------------


def test_a_chain_100_000_deep():
    x = leaf(2)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [1, 1])
    del y  # freeing the chain must not recurse either


def test_a_fan_out_of_10_000():
    x = leaf(3)
    total = tg.concatenate([(x * float(k)).sum().reshape(1) for k in range(10_000)]).sum()
    total.backward()
    np.testing.assert_allclose(x.grad.data, np.full(3, 10_000 * 9_999 / 2))


def test_forty_doublings_are_forty_additions_not_2_to_the_forty():
    """Were each path walked by itself, this would not end."""
    x = leaf(1)
    y = x
    for _ in range(40):
        y = y + y
    y.sum().backward()
    assert x.grad.item() == 2.0**40


def test_diamonds_and_shared_leaves_accumulate():
    x = leaf(4)
    a, b = x * 2, x.exp()
    (a * b + a + b * b + x).sum().backward()
    e = np.exp(x.data)
    np.testing.assert_allclose(x.grad.data, 2 * e + 2 * x.data * e + 2 + 2 * e * e + 1)


def test_the_first_gradient_is_kept_by_reference_and_never_written_to():
    """a + a hands the same array to one parent twice; the incoming gradient must come out unchanged."""
    x, g = leaf(3), np.ones(3)
    y = x + x
    z = y + y
    z.backward(tg.Tensor(g), retain_graph=True)
    z.backward(tg.Tensor(g))
    np.testing.assert_array_equal(g, np.ones(3))
    np.testing.assert_array_equal(x.grad.data, np.full(3, 8.0))


def test_backward_adds_to_grad_and_grad_does_not_touch_it():
    x = leaf(3)
    (x * 2).sum().backward()
    held = x.grad
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full(3, 5.0))
    assert x.grad is held, "added in place, as in PyTorch"
    (d,) = tg.grad((x * 7).sum(), x)
    np.testing.assert_array_equal(d.data, np.full(3, 7.0))
    np.testing.assert_array_equal(x.grad.data, np.full(3, 5.0))


def test_grad_names_the_output_or_input_that_is_no_tensor():
    x = leaf(3)
    with pytest.raises(TypeError, match=r"grad: outputs\[1\] must be a Tensor, got ndarray"):
        tg.grad([(x * x).sum(), np.ones(3)], x)
    with pytest.raises(TypeError, match=r"grad: inputs\[0\] must be a Tensor, got ndarray"):
        tg.grad((x * x).sum(), [np.ones(3)])


def test_an_op_with_several_outputs_gets_every_gradient_once():
    x = leaf(6)
    a, b, c = tg.split(x, 3)
    (a * 2 + c * a).sum().backward()
    want = np.concatenate([2 + x.data[4:], np.zeros(2), x.data[:2]])
    np.testing.assert_allclose(x.grad.data, want)
    assert b.grad is None
    x = leaf(2, 6, 3)
    np.testing.assert_array_equal(tg.grad(tg.split(x, 3, axis=1)[1].sum(), x)[0].data[0, :, 0], [0, 0, 1, 1, 0, 0])


def test_mixed_dtypes_promote_as_in_numpy_and_gradients_come_back_in_each_dtype():
    a, b = leaf(3, dtype=np.float32), leaf(3, dtype=np.float64)
    y = a * b
    assert y.dtype == np.float64
    y.sum().backward()
    assert a.grad.dtype == np.float32 and b.grad.dtype == np.float64
    assert (a * 2).dtype == (2.5 * a).dtype == (a**2).dtype == (a / 3).dtype == np.float32
    assert (a * np.arange(3)).dtype == np.float64


# -- memory ------------------------------------------------------------------------------------------------------------


def test_dropping_the_loss_frees_the_whole_graph_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        x = leaf(4, 4)
        h = F.layer_norm(F.gelu(x @ x), 4)
        pieces = tg.split(h, 2)
        loss = F.cross_entropy(pieces[0] + pieces[1], np.array([0, 1, 2, 3])[:2])
        arrays = [weakref.ref(t.data) for t in (h, pieces[0], loss)]
        loss.backward(retain_graph=True)
        del h, pieces, loss
        assert [r() for r in arrays] == [None, None, None]
    finally:
        gc.enable()


def test_backward_frees_what_rules_needed():
    x = leaf(1000)
    y = x * x
    z = y * y  # keeps y's array alive
    array = weakref.ref(y.data)
    del y
    assert array() is not None
    z.sum().backward()
    assert array() is None


def test_memory_is_flat_over_10_000_steps():
    w = leaf(4, 4)
    x = np.ones((2, 4))

    def step():
        w.grad = None
        ((tg.Tensor(x) @ w).tanh() ** 2).sum().backward()
        with tg.no_grad():
            w.data -= 1e-3 * w.grad.data

    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(500):
            step()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(9_500):
            step()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert grown < 200_000, f"{grown} bytes more after 9,500 steps"  # Python's own free lists: one leaked node a step is 1 MB


# -- what is refused, and that the graph stays usable ------------------------------------------------------------------


def test_a_second_backward_says_what_to_do():
    x = leaf(2)
    y = x.exp()
    y.sum().backward()
    with pytest.raises(RuntimeError, match="exp.*retain_graph"):
        y.sum().backward()
    z = x.exp().sum()
    z.backward(retain_graph=True)
    z.backward()
    np.testing.assert_allclose(x.grad.data, 3 * np.exp(x.data))


def test_a_non_scalar_needs_a_gradient():
    y = leaf(2) * 2
    with pytest.raises(RuntimeError, match=r"non-scalar.*\(2,\)"):
        y.backward()
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        y.backward(tg.ones(3))
    y.backward(tg.ones(2))


def test_ints_bools_and_objects_carry_no_gradient_and_say_so():
    with pytest.raises(TypeError, match="int64"):
        tg.Tensor([1, 2], requires_grad=True)
    with pytest.raises(TypeError, match="bool"):
        tg.Tensor([True], requires_grad=True)
    with pytest.raises(TypeError, match="expected True or False, got <class 'numpy.float64'>; a dtype is a keyword: dtype="):
        tg.Tensor([1.0], np.float64)
    with pytest.raises(TypeError, match="object"):
        tg.Tensor(np.array([object()]))
    with pytest.raises(TypeError, match="object"):
        tg.add(tg.ones(2), np.array([None, 1]))
    with pytest.raises(RuntimeError, match="gradient"):
        tg.argmax(leaf(3)).backward()
    with pytest.raises(RuntimeError, match="does not require"):
        tg.ones(1).backward()
    x = leaf(1)
    with pytest.raises(RuntimeError, match="create_graph=True"):
        tg.grad(tg.grad(x**2, x)[0], x)
    with pytest.raises(TypeError, match=r"outputs must be a Tensor or a list of Tensors, got function; call it first: tg\.grad\(f\(x\), x\)"):
        tg.grad(lambda x: x**2, x)
    with pytest.raises(TypeError, match="inputs must be a Tensor or a list of Tensors, got NoneType$"):
        tg.grad(x**2, None)


BAD_CALLS = {
    "add": (lambda x: x + np.ones(7), ValueError),
    "matmul": (lambda x: x @ x, ValueError),
    "reshape": (lambda x: x.reshape(5, 5), ValueError),
    "sum": (lambda x: x.sum(axis=2), np.exceptions.AxisError),
    "getitem": (lambda x: x[5], IndexError),
    "concatenate": (lambda x: tg.concatenate([x, np.ones((7, 7))]), ValueError),
    "einsum": (lambda x: tg.einsum("ij,jk->ik", x, x), ValueError),
    "softmax": (lambda x: F.softmax(x, axis=5), (ValueError, IndexError)),
    "layer_norm": (lambda x: F.layer_norm(x, 7), ValueError),
    "cross_entropy": (lambda x: F.cross_entropy(x, [0, 9]), (IndexError, ValueError)),
    "embedding": (lambda x: F.embedding([0, 9], x), (IndexError, ValueError)),
    "split": (lambda x: tg.split(x, 2, axis=1), ValueError),
    "transpose": (lambda x: x.transpose(0, 0), ValueError),
    "take_along_axis": (lambda x: tg.take_along_axis(x, [[9]], 1), IndexError),
    "linear": (lambda x: F.linear(x, np.ones((4, 5))), ValueError),
    "broadcast_to": (lambda x: tg.broadcast_to(x, (2, 4)), ValueError),
    "clip": (lambda x: tg.clip(x), ValueError),
    "scaled_dot_product_attention": (lambda x: F.scaled_dot_product_attention(x, x, x[:, :1][:1]), ValueError),
    "topk": (lambda x: tg.topk(x, 9), ValueError),
    "one_hot": (lambda x: F.one_hot(x), TypeError),
    "polygamma": (lambda x: tg.polygamma(x * 0, 1), ValueError),
    "polygamma: expected a whole number n, got Tensor; the variable comes first": (lambda x: tg.polygamma(1, x), TypeError),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_call_is_one_error_with_the_ops_name_and_the_graph_stays_usable(name):
    call, kind = BAD_CALLS[name]
    x = leaf(2, 3)
    y = x * 2
    with pytest.raises(kind, match=name):
        call(y)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full((2, 3), 2.0))


def test_errors_that_others_catch_by_their_kind_keep_it():
    class Diverged(Exception):
        pass

    @tg.custom_op
    def iterate(x):
        raise Diverged("after 9 steps")

    x = leaf(3)
    with pytest.raises(Diverged, match="^after 9 steps") as error:
        iterate(x)
    assert error.value.__notes__ == ["raised in iterate (called with float64(3,))"]
    with pytest.raises(ValueError, match=r"x has only 4; .* \(called with float64\(3, 4\), cos=float64\(3, 4\)"):
        tg.functional.rotary(leaf(3, 4), cos=np.ones((3, 4)), sin=np.ones((3, 4)))
    zeros = tg.Tensor(np.zeros((3, 3)), requires_grad=True)
    for call in (lambda: np.linalg.cholesky(zeros - np.eye(3)), lambda: np.linalg.inv(zeros), lambda: np.linalg.solve(zeros, x)):
        with pytest.raises(np.linalg.LinAlgError, match=r"^(cholesky|inv|solve): "):
            call()
    with pytest.raises(np.linalg.LinAlgError, match=r"^matrix_power: inv: Singular matrix"):
        np.linalg.matrix_power(zeros, -1)


def test_out_of_memory_and_numpys_raised_float_errors_keep_their_kind():
    x = leaf(2, 3)
    y = x * 2
    with pytest.raises(MemoryError, match="add: Unable to allocate"):  # so that a caller can try a smaller batch
        y[:, :1] * np.ones((2, 1)) + tg.broadcast_to(tg.ones(1), (2, 1 << 50))
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError, match="log: divide by zero"):
        tg.log(y * 0)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full((2, 3), 2.0))


def test_unknown_and_missing_arguments_are_named():
    with pytest.raises(TypeError, match="sum.*axes"):
        tg.sum(tg.ones(2), axes=0)
    with pytest.raises(TypeError, match="multiply.*'b'"):
        tg.multiply(tg.ones(2))


@pytest.mark.parametrize("first, second", [(lambda g: g, lambda g, b: 2 * g * b), (lambda g, b: g, lambda g: g)])
def test_rules_that_take_different_saved_values_are_refused(first, second):
    @tg.custom_op
    def op(a, b):
        return a + b * b, (b,)

    op.grad_of("a")(first)
    with pytest.raises(TypeError, match="op op: all rules take the same saved values; .* before, .* now"):
        op.grad_of("b")(second)


def test_an_array_overwritten_after_the_forward_is_found():
    x = leaf(3)
    y = x * 2
    z = y.exp() * y
    y.data *= 2
    with pytest.raises(RuntimeError, match="multiply.*in place"):
        z.sum().backward()
    w = leaf(3)
    loss = (w * w).sum()
    w._data.fill(0.0)  # as the optimizers do
    tg.autograd.mark_written(w._data)
    with pytest.raises(RuntimeError, match="multiply.*in place"):
        loss.backward()
    (w * w).sum().backward()


@pytest.mark.parametrize("write", [
    lambda x, y: x.data.__setitem__(0, 5.0),
    lambda x, y: x.numpy()[::-1].sort(0),
    lambda x, y: y.data.fill(0.0),
    lambda x, y: np.negative(y.detach().data, out=y.detach().data),
    lambda x, y: np.copyto(np.asarray(x.detach()), 3.0),
    lambda x, y: x.T.data.__setitem__((0, 0), 9.0),
    lambda x, y: x[1:, ::-1].data.__setitem__((0, 0), 9.0),
    lambda x, y: (x.data, x.data.__setitem__(0, 9.0), x.data),
])
@pytest.mark.parametrize("shape", [(2, 1), (3, 4), (300, 311)])
def test_a_write_by_numpy_to_what_data_gave_is_found(write, shape):
    x = tg.Tensor(np.random.default_rng(0).normal(size=shape)[::-1], requires_grad=True)
    y = tg.exp(x)
    z = (y * x).sum()
    write(x, y)
    with pytest.raises(RuntimeError, match="(multiply|exp).*changed in place"):
        z.backward()


def test_reading_data_and_writing_what_no_gradient_needs_are_allowed():
    x = leaf(6, 4)
    x.data[0] = 7.0  # before it is recorded
    x.data[1] = 8.0
    y = x[:3] * x[:3]
    z = y + 1
    x[:4].data, x[2::-1].numpy(), y.data  # noqa: B018
    x[5:].data[...] = 9.0  # other numbers of the same array
    z.data[...] = 0.0
    z.sum().backward()
    np.testing.assert_array_equal(x.grad.data[:2, 0], [14.0, 16.0])
    x.data[...] = 2.0  # a new forward sees it
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.data[3:], np.full((3, 4), 4.0))


@pytest.mark.parametrize("shape", [(2, 3, 4), (300, 7, 11)])
def test_a_view_of_an_array_in_any_memory_order_may_be_read_and_a_write_to_it_is_found(shape):
    x = leaf(*shape)
    y = tg.exp(x.transpose(0, 2, 1))  # whose axes NumPy leaves as they lie in x
    assert not y._data.flags.forc
    view = y.transpose(2, 0, 1)
    z = (y * y).sum()
    y[0].data, view.numpy(), view[1:, :, ::-2].data, y[:, 1].data  # noqa: B018
    z.backward(retain_graph=True)
    view[1:, :, ::-2].data[0, 0, 0] = 9.0
    with pytest.raises(RuntimeError, match="(multiply|exp).*changed in place"):
        z.backward()


def test_a_view_of_an_array_with_gaps_may_be_read_and_a_write_to_it_is_found(tmp_path):
    values = np.memmap(tmp_path / "values", dtype=np.float64, mode="w+", shape=(6, 4))[::-2, ::2]
    x = tg.Tensor(values, requires_grad=True)
    y = (x * x).sum()
    x.data, x[1:].data, x.T.data  # noqa: B018
    y.backward(retain_graph=True)
    x[1:].data[0] = 9.0
    with pytest.raises(RuntimeError, match="multiply.*changed in place"):
        y.backward()


def test_a_second_write_beside_what_a_gradient_needs_is_allowed_as_the_first():
    x = leaf(6, 4)
    y = (x[:3] * x[:3]).sum()
    x[5:].data[...] = 1.0
    x[5:].data[...] = 2.0
    y.backward(retain_graph=True)
    x[3:].data[...] = 3.0  # next to it
    y.backward(retain_graph=True)
    x[2:].data[...] = 3.0
    x[2:].data[...] = x[2:].data  # given again, with no write since
    with pytest.raises(RuntimeError, match="multiply.*changed in place"):
        y.backward()


@pytest.mark.parametrize("n", [1, 50, 150])
def test_numbers_that_were_put_back_are_unchanged(n):
    """A slope measured between the forward and its backward; beyond what is remembered, backward refuses."""
    x = leaf(n)
    y = (x**3).sum()
    held, moved = [], []
    for i in range(n):
        old = x.data[i]
        x.data[i] = old + 1e-6
        moved.append((x**3).sum())
        held.append(moved[-1].item())
        x.data[i] = old - 1e-6
        held[-1] = (held[-1] - (x**3).sum().item()) / 2e-6
        x.data[i] = old
    for graph in moved:  # of numbers that are gone
        with pytest.raises(RuntimeError, match="power.*changed in place"):
            graph.backward()
    if 3 * n >= node.MOST_STATES:
        with pytest.raises(RuntimeError, match="power.*changed in place"):
            y.backward()
    else:
        y.backward()
        np.testing.assert_allclose(x.grad.data, held, rtol=1e-4, atol=1e-8)
        assert len(node._given[id(x._data)].parts[None][0]) <= node.MOST_STATES


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (7, 5), (400, 311)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_a_checksum_changes_with_every_kind_of_change(shape, dtype):
    rng = np.random.default_rng(0)
    array = np.array(rng.normal(size=shape) * 9).astype(dtype)
    first = node.checksum(array)
    assert node.checksum(array.copy(order="F")) in (first, node.checksum(np.ascontiguousarray(array.T)))
    changes = [lambda a: ~a if dtype == "bool" else -a, lambda a: np.roll(a, 1), lambda a: a[..., ::-1] if a.ndim else a, np.sort]
    for change in changes[: len(changes) if array.ndim else 1]:
        changed = np.array(change(array))
        assert (node.checksum(changed) == first) == np.array_equal(changed, array)
    for _ in range(20 if array.size else 0):
        changed = array.copy()
        changed.reshape(-1).view(np.uint8)[rng.integers(array.nbytes)] ^= 1 << rng.integers(8 if dtype != "bool" else 1)
        assert node.checksum(changed) != first


def test_an_array_that_its_tensor_alone_holds_costs_no_checksum(monkeypatch):
    y = tg.ones(3, requires_grad=True) + 1  # add keeps nothing
    view = y.reshape(3, 1) + 1
    seen = []
    monkeypatch.setattr(node, "checksum", seen.append)
    y.data, view.numpy(), np.asarray(view.detach())  # noqa: B018
    assert len(seen) == 1  # the last: `detach` is a second holder
    square = y * y  # a second holder of y's
    tg.einsum("i,i->i", y, y) + square
    assert len(seen) == 1  # and no operation gives its operands away


def test_writes_that_hurt_nobody_are_allowed():
    w = leaf(3)
    y = (w + 1).sum()  # add needs neither operand
    w.data[...] = 5.0
    y.backward()
    np.testing.assert_array_equal(w.grad.data, np.ones(3))


def test_grad_leaves_alone_what_made_its_inputs():
    """Steps of descent written as mathematics: each x is made from the one before, and only the last is asked for."""
    start = leaf(3)
    x = start
    for _ in range(4):
        (slope,) = tg.grad((x**3).sum(), x)
        x = x - 0.1 * slope * x
    wanted = start.data
    for _ in range(4):
        wanted = wanted - 0.3 * wanted**3
    np.testing.assert_allclose(x.data, wanted)
    middle = start * start
    out = (middle * middle).sum()
    np.testing.assert_allclose(tg.grad(out, middle)[0].data, 2 * start.data**2)
    middle.sum().backward()  # whose history the call before did not need
    np.testing.assert_allclose(start.grad.data, 2 * start.data)
    with pytest.raises(RuntimeError, match="backward through (sum|multiply) a second time"):
        tg.grad(out, start)
    middle = start * start
    out = (middle * 2).sum()
    start.data[0] = 7.0  # which the gradient by `start` would need
    assert tg.grad(out, middle, retain_graph=True)[0].tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError, match="multiply: an array that its gradient needs .* was changed in place"):
        tg.grad(out, start)


def test_assignment_through_brackets_is_refused_with_advice():
    with pytest.raises(TypeError, match="tg.put"):
        tg.ones(3)[0] = 1


def test_a_step_that_would_leave_the_parameter_as_it_is_is_refused():
    p = leaf(3)
    (p * p).sum().backward()
    value = p * 2
    with tg.no_grad():
        for step in (operator.iadd, operator.isub, operator.imul, operator.itruediv):
            with pytest.raises(TypeError, match=r"p .= x would leave the parameter.*write p\.data .= x"):
                step(p, 0.1 * p.grad)
        value -= 1  # no parameter
        before = p.data.copy()
        p.data -= 0.1 * p.grad
        np.testing.assert_allclose(p.data, 0.8 * before)
    total = p  # with a graph it is what it is in mathematics
    total += 1
    total *= p
    total.sum().backward()


def test_an_ndarray_does_not_swallow_a_tensor_silently():
    x = leaf(3)
    assert isinstance(np.ones(3) * x, tg.Tensor) and isinstance(np.float64(2) - x, tg.Tensor)
    assert isinstance(np.exp(x), tg.Tensor) and isinstance(np.sum(x), tg.Tensor)
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(x)
    with pytest.raises(RuntimeError, match=r"an array of tuple \(Tensor, NoneType\): a Tensor that"):
        x + (x, None)  # what a module returns together with its pattern
    with pytest.raises(TypeError, match="no gradient rule"):
        np.spacing(x)
    with pytest.raises(TypeError, match="no gradient rule"):
        np.convolve(x, [1.0])
    with pytest.raises(TypeError, match="out="):
        np.exp(x, out=np.ones(3))
    with pytest.raises(TypeError, match="out="):
        x.data += x


def test_a_masked_array_does_not_take_the_values_and_leave_the_gradient():
    x, masked = leaf(3), np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    for call in (lambda: masked * x, lambda: masked - x, lambda: np.ma.array([1.0, 2.0, 3.0]) / x):
        with pytest.raises(TypeError, match="a masked array keeps no gradient"):
            call()
    for call in (lambda: x * masked, lambda: tg.Tensor(masked), lambda: np.where(x > 0, masked, x)):
        with pytest.raises(TypeError, match="a masked array would lose its mask"):
            call()
    assert (x * np.ma.array([1.0, 2.0, 3.0])).requires_grad and isinstance(masked * x.detach(), np.ma.MaskedArray)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_matrix_of_numpys_is_an_array_like_any_other_where_that_means_one_thing():
    x, y, a = leaf(3), leaf(3, 3), np.arange(9.0).reshape(3, 3)
    matrix = np.matrix(a)
    for call in (lambda m: m @ x, lambda m: x @ m, lambda m: y + m, lambda m: np.linalg.solve(m + np.eye(3), x)):
        np.testing.assert_array_equal(call(matrix).data, call(a).data)
    for call in (lambda: y * matrix, lambda: matrix * y, lambda: np.multiply(y, matrix), lambda: y**matrix):
        with pytest.raises(TypeError, match=r"(multiply|power): of an np\.matrix this is its matrix product"):
            call()


def test_an_ndarray_made_of_a_tensor_is_a_copy_unless_it_is_asked_to_be_a_view():
    x = tg.ones(3)
    for array in (np.array(x), np.array(x, copy=True), np.asarray(x, np.float64), x.__array__(np.float64)):
        array[0] = 7
    assert x.tolist() == [1, 1, 1] and x.__array__(np.float64).dtype == np.float64
    assert np.shares_memory(np.asarray(x), x.data)


def test_astype_copies_unless_it_need_not():
    x = leaf(3)
    same, other = x.astype(np.float64, copy=False), x.astype(np.float32, copy=False)
    assert same is x and other.dtype == np.float32 and x.astype(np.float64) is not x
    assert not np.shares_memory(x.astype(np.float64).data, x.data)


def test_values_without_a_history_are_written_into_an_ndarray():
    x = leaf(3)
    (x * x).sum().backward()
    before, step = x.data.copy(), x.grad.data
    x.data -= 0.1 * x.grad
    np.testing.assert_array_equal(x.data, before - 0.1 * step)
    table = np.zeros((2, 3))
    np.add.at(table, [1, 1], x.grad)
    np.testing.assert_array_equal(table, [np.zeros(3), 2 * step])
    scalar = tg.Tensor(2.0, requires_grad=True)
    (scalar * 3).backward()
    scalar.data += -0.5 * scalar.grad
    assert scalar.item() == 0.5
    y = x * x
    x.data += x.grad
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "dropout"])
@pytest.mark.parametrize("after", [lambda y: y * 2, tg.tanh, lambda y: 3 - y, lambda y: y / 2 + y])
def test_a_single_number_has_a_gradient_through_every_activation(name, after):
    fn = getattr(tg.functional, name)
    whole, single = leaf(1), tg.Tensor(0.0, requires_grad=True)
    single.data = whole.data.reshape(())
    for x in (whole, single):
        tg.manual_seed(0)
        after(fn(x * 1.5 + 0.1)).backward()
    np.testing.assert_allclose(single.grad.data, whole.grad.data[0])


def test_a_rule_gets_an_ndarray_for_a_single_number():
    kinds = []

    @tg.custom_op
    def twice(x):
        return x * 2, ()

    @twice.grad_of("x")
    def _(g):
        kinds.append(type(g))
        return g * 2

    (twice(leaf(1).sum()) * 3).backward()
    assert kinds == [np.ndarray]


# -- fresh gradients ---------------------------------------------------------------------------------------------------

FRESH = {
    "linear": lambda: (leaf(4, 3), leaf(5, 3), leaf(5)),
    "layer_norm": lambda: (leaf(4, 3), leaf(3), leaf(3)),
    "rms_norm": lambda: (leaf(4, 3), leaf(3)),
    "embedding": lambda: (leaf(6, 3), np.array([1, 5, 1])),
    "feed_forward": lambda: (leaf(4, 3), leaf(5, 3), leaf(3, 5), leaf(5), leaf(3), leaf(4, 3)),
    "self_attention": lambda: (leaf(2, 4, 3), *[leaf(6, 3) for _ in "qkv"], leaf(3, 6), *[leaf(6) for _ in "qkv"], leaf(3),
                               leaf(1, 2, 4, 4), leaf(2, 4, 3)),
}  # fmt: skip
STATICS = {"self_attention": {"heads": 2, "kv_heads": 2}}


def test_ops_that_promise_fresh_gradients_give_arrays_that_nobody_holds():
    assert {name for name, op in registry.items() if op.fresh is True} == set(FRESH)
    for name, make in FRESH.items():
        inputs = make()
        out = registry[name].call(*inputs, **STATICS.get(name, {}))
        g = np.ones(out.shape)
        needs = {"needs": (True,) * len(inputs)} if registry[name].joint_needs else {}
        made = [d for d in registry[name].joint(g, *out.node.saved, **needs) if d is not None and d is not g]
        saved = [x for x in out.node.saved if isinstance(x, np.ndarray)]
        held = [g, out.data, *saved, *(x.data if isinstance(x, tg.Tensor) else x for x in inputs)]
        for i, d in enumerate(made):
            assert d.flags.writeable and not any(np.shares_memory(d, other) for other in held + made[:i]), name


def test_gradients_that_were_saved_are_handed_out_once():
    for keep in (False, True):
        hidden, table = leaf(4, 3), leaf(6, 3)
        loss = F.linear_cross_entropy(hidden, table, np.array([1, 5, 1, 0]))
        saved = loss.node.saved
        loss.backward(retain_graph=keep)
        assert any(table.grad.data is x for x in saved) != keep  # where the graph is kept, it may be asked again
        once = table.grad.data.copy()
        if keep:
            loss.backward()
            np.testing.assert_allclose(table.grad.data, 2 * once, rtol=1e-12)


def test_a_gradient_is_added_to_one_that_is_there():
    table, ids = leaf(6, 3), np.array([1, 5, 1])
    (y := F.linear(F.embedding(ids, table), table)).sum().backward()
    x = leaf(3, 3)
    x.data[...] = table.data[ids]
    z = F.linear(x, table.detach())
    z.sum().backward()
    expected = np.broadcast_to(x.data.sum(axis=0), (6, 3)).copy()
    np.add.at(expected, ids, x.grad.data)
    np.testing.assert_allclose(table.grad.data, expected, rtol=1e-12)
    assert y.shape == z.shape


def test_gradients_that_meet_fresh_ones_are_added_and_nobody_elses_array_is_written():
    w, x, g = leaf(4, 4), leaf(3, 4), np.ones((3, 4))
    seen = []

    def loss():
        h = F.linear(x, w) + x  # x: a gradient by reference, then a fresh one
        h.register_hook(lambda d: seen.append(d.data))
        return F.linear(F.layer_norm(h, 4), w) + F.embedding(np.array([0, 1, 2]), w)

    (dw, dx) = tg.grad(loss(), (w, x), g)
    np.testing.assert_array_equal(g, np.ones((3, 4)))
    copies = [d.copy() for d in (dw.data, dx.data, seen[0])]
    again = loss()
    again.backward(tg.Tensor(g), retain_graph=True)
    again.backward(tg.Tensor(g))
    np.testing.assert_allclose(w.grad.data, 2 * dw.data, rtol=1e-12)
    np.testing.assert_allclose(x.grad.data, 2 * dx.data, rtol=1e-12)
    for d, copy in zip((dw.data, dx.data, seen[0]), copies):
        np.testing.assert_array_equal(d, copy)
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-12)
    assert not np.shares_memory(w.grad.data, dw.data)


@pytest.mark.parametrize("name", [name for name, op in registry.items() if op.adder is not None])
def test_what_is_added_on_the_way_is_the_rule_and_what_was_there(name):
    op, inputs = registry[name], FRESH[name]()
    out = op.call(*inputs)
    g, total = np.random.default_rng(1).standard_normal(out.shape), np.random.default_rng(2).standard_normal(inputs[0].shape)
    first, *others = op.joint(g, *out.node.saved)
    before = total.copy()
    added, *same = op.adder(total, False, g, *out.node.saved)
    np.testing.assert_allclose(added, first + before, rtol=1e-12)
    np.testing.assert_array_equal(total, before)
    assert not np.shares_memory(added, total)
    owned = op.adder(total, True, g, *out.node.saved)[0]
    np.testing.assert_array_equal(owned, added)
    for d, expected in zip(same, others, strict=True):
        assert d is expected is None or np.array_equal(d, expected)


@pytest.mark.parametrize("norm", [F.layer_norm, F.rms_norm])
def test_a_norm_adds_what_came_along_the_residual_to_the_last_bit(norm):
    x, w, weight = leaf(7, 5, dtype=np.float32), leaf(5, 5, dtype=np.float32), leaf(5, dtype=np.float32)

    def gradients():
        h = x * 2.0
        h = F.linear(norm(h, 5, weight), w) + h
        h = F.linear(norm(h, 5, weight), w) + h
        return [d.data for d in tg.grad((h * h).sum(), (x, w, weight))]

    with tg.lens.trace():  # a watcher wants every rule's own gradients, so that nothing is added on the way
        apart = gradients()
    for d, expected in zip(gradients(), apart):
        np.testing.assert_array_equal(d, expected)
