"""gradcheck and gradgradcheck: what they take, what they refuse, what they report as itself."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import functional as F
from tinygrad_llm.testing import GradcheckError, assert_gradients_close, check_vjp, gradcheck, gradgradcheck
from tinygrad_llm.testing.problem import laid_out

RNG = np.random.default_rng(1)


def tensor(*shape, requires_grad=True):
    return tg.Tensor(RNG.normal(size=shape), requires_grad=requires_grad)


def refused(check, *args, **kwargs):
    with pytest.raises(GradcheckError) as caught:
        check(*args, **kwargs)
    return caught.value


def test_what_a_dict_or_a_list_holds_is_not_checked_and_so_refused():
    x, w = RNG.normal(size=3), RNG.normal(size=3)
    wrong = lambda g, x, held: (g * held[0], [5 * g * x])
    assert "a list is not checked" in str(refused(check_vjp, lambda x, held: x * held[0], wrong, (x, [w])))
    assert check_vjp(lambda x, held: x * held[0], lambda g, x, held: (g * held[0], None), (x, [w]))
    assert check_vjp(lambda x, rate: x * rate, lambda g, x, rate: (g * rate, 0.0), (x, 2.5))
    assert refused(check_vjp, lambda x, rate: x * rate, lambda g, x, rate: (g * rate, 7.0), (x, 2.5)).input == 1
    assert "one by one" in str(refused(check_vjp, lambda held: held["w"] ** 2, lambda g, held: {"w": g}, ({"w": w},)))
    for held in ({"w": tensor(3)}, [tensor(3)]):
        for inputs in ((tensor(3), held), (held,)):
            assert "does not look" in str(refused(gradcheck, lambda *given: tg.sin(tensor(3)), inputs))


def test_a_function_that_reads_the_callers_own_parameter_is_refused():
    """PyTorch moves its inputs in place, so that `lambda *p: module(x)` is checked there; here copies move."""
    layer = tg.nn.Linear(3, 2).astype(np.float64)
    x = tensor(4, 3)
    own = tuple(layer.parameters())
    for check in (gradcheck, gradgradcheck):
        assert "input 1 itself" in str(refused(check, lambda x, *p: layer(x), (x, *own)))
        assert refused(check, lambda weight, bias: layer(x) * weight.sum(), own).kind == "inputs"
        assert "its own alone" in str(refused(check, lambda *p: layer(x), tuple(p.data for p in own)))

    assert refused(gradcheck, lambda y: layer(y.detach()), x).kind == "missing", "it does read its input"

    def applied(weight, bias):
        layer.weight, layer.bias = weight, bias
        return layer(x)

    assert gradcheck(applied, own) and gradcheck(lambda y: layer(x) * y.sum(), tensor(2)), "other Tensors are constants"


# -- what it takes -----------------------------------------------------------------------------------------------------


def test_returns_true_and_touches_nothing():
    x, w = tensor(3, 4), tensor(4, 2)
    before = x.data.copy(), w.data.copy()
    assert gradcheck(lambda x, w: tg.tanh(x @ w), (x, w)) is True
    assert x.grad is None and w.grad is None
    assert np.array_equal(x.data, before[0]) and np.array_equal(w.data, before[1])


def test_one_tensor_or_plain_arrays():
    assert gradcheck(tg.exp, tensor(3))
    assert gradcheck(tg.exp, np.linspace(-1, 1, 4))
    assert gradcheck(tg.multiply, [np.ones(3), np.arange(3.0)])


def test_only_inputs_that_require_a_gradient_are_checked():
    @tg.custom_op
    def product(a, b):
        return a * b, (a, b)

    product.grad_of("a")(lambda g, a, b: g * b)
    product.grad_of("b")(lambda g, a, b: 7 * g * a)
    assert gradcheck(product, (tensor(3), tensor(3, requires_grad=False)))
    assert refused(gradcheck, product, (tensor(3), tensor(3))).input == 1


def test_integer_bool_and_other_inputs_pass_through():
    x, index, mask = tensor(4, 3), tg.Tensor(np.array([0, 2, 2])), np.array([True, False, True])
    assert gradcheck(lambda x, i, m, scale, none: tg.where(m, x[i] * scale, 0.0), (x, index, mask, 2.5, None))


def test_tuple_outputs_with_integers_among_them():
    assert gradcheck(lambda x: tg.topk(x, 2), tensor(3, 5))
    assert gradcheck(lambda x: (tg.sin(x), tg.argmax(x), x.sum()), tensor(3, 5))


def test_output_without_gradient_beside_one_with():
    assert gradcheck(lambda x: (x * x, x.detach()), tensor(3))


def test_constant_function_passes_and_detached_one_does_not():
    assert gradcheck(lambda x: tg.zeros(3, dtype=np.float64) + 1.0, tensor(2))
    error = refused(gradcheck, lambda x: tg.sin(x.detach()), tensor(2))
    assert error.kind == "missing" and "None" in str(error)


def test_an_input_cut_off_is_missing():
    error = refused(gradcheck, lambda a, b: a * b.detach(), (tensor(2, 2), tensor(2, 2)))
    assert error.kind == "missing" and error.input == 1 and "input 1 (b)" in str(error)
    assert "op to blame: none" in str(error) and "detach" in str(error)


def test_an_unused_input_may_have_no_gradient():
    assert gradcheck(lambda a, b: a * 2, (tensor(2), tensor(3)))


def test_zero_size_and_zero_dimensional():
    assert gradcheck(tg.sin, tensor(0, 3))
    assert gradcheck(tg.sin, tensor())
    assert gradcheck(lambda x: x[:0], tensor(3))


def test_ten_thousand_elements():
    assert gradcheck(lambda x: tg.tanh(x).sum(axis=0), tensor(100, 100), fast=True)


def sine_with(wrong, scale=1.0):
    """scale · sin x, whose rule multiplies the slopes at `wrong` (an index) by 1.0005."""

    @tg.custom_op
    def sine(x):
        return scale * np.sin(x), (x,)

    @sine.grad_of("x")
    def _(g, x):
        d = scale * g * np.cos(x)
        d[wrong] *= 1.0005
        return d

    return sine


@pytest.mark.parametrize("value", [0.7, 0.02, 0.0014, 0.0, -1.58])  # also close to 0, or where the slope is
def test_one_wrong_element_in_five_thousand_is_found(value):
    x = tensor(60, 80)
    x.data[31, 41] = value
    for fast in (False, True):
        error = refused(gradcheck, sine_with((31, 41)), x, fast=fast)
        assert error.index == (31, 41) and error.op == "sine"


@pytest.mark.parametrize("reduced", [lambda y: y, np.sum], ids=["elements", "sum"])
def test_one_wrong_element_beside_outputs_a_thousand_times_its_own_is_found(reduced):
    @tg.custom_op
    def cubed_exp(x):
        return reduced(np.exp(3 * x)), (x,)

    @cubed_exp.grad_of("x")
    def _(g, x):
        d = g * 3 * np.exp(3 * x)
        d[31, 41] *= 1.001
        return d

    x = tensor(60, 80)
    for value in (-1.0, 0.5, 1.5):  # exp(3 · 3.5) is 36,000
        x.data[31, 41] = value
        assert refused(gradcheck, cubed_exp, x).index == (31, 41)


@pytest.mark.parametrize("n", [30, 300, 5000])  # all outputs, those that move, random directions
def test_outputs_whose_number_depends_on_the_input_are_compared_where_it_does_not_change(n):
    def forward(x):
        return x[x > 0] ** 2

    def backward(g, x, factor=1.0):
        d = np.zeros_like(x)
        d[x > 0] = factor * 2 * x[x > 0] * g
        return d

    x = np.random.default_rng(0).normal(size=n)
    assert check_vjp(forward, backward, x)
    assert "claimed" in str(refused(check_vjp, forward, lambda g, x: backward(g, x, 1.1), x))


@pytest.mark.parametrize("scale", [1e-6, 1e-9, 1e-12])
def test_small_gradients_of_many_elements_are_looked_at_as_closely(scale):
    for fast in (False, True):
        assert gradcheck(lambda x: scale * tg.sin(x), tensor(60, 80), fast=fast)
        assert refused(gradcheck, sine_with(..., scale), tensor(60, 80), fast=fast).op == "sine"
    assert refused(gradcheck, sine_with((31, 41), scale), tensor(60, 80)).index == (31, 41)


def test_a_small_gradient_beside_a_large_one_is_looked_at_as_closely():
    sine = sine_with((3, 4), scale=1e-9)
    error = refused(gradcheck, lambda a, b: (tg.exp(a).sum(), sine(b).sum()), [tensor(60, 80), tensor(10, 10)])
    assert error.input == 1 and error.index == (3, 4)


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e-12])
def test_a_penalty_beside_the_loss_is_looked_at_as_closely(scale):
    x = RNG.normal(size=5)
    both = lambda x: (np.sin(x).sum(), scale * (x**3).sum())
    rule = lambda wrong: lambda g, x: g[0] * np.cos(x) + wrong * g[1] * scale * 3 * x**2
    assert check_vjp(both, rule(1.0), x)
    assert refused(check_vjp, both, rule(1.001), x).output == 1


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e-12])
@pytest.mark.parametrize("n", [150, 5000])
def test_a_penalty_beside_many_outputs_is_looked_at_as_closely(scale, n):
    x = RNG.normal(size=n)
    both = lambda x: (np.sin(x), np.zeros(0), scale * (x**3).sum())
    rule = lambda wrong: lambda g, x: g[0] * np.cos(x) + wrong * g[2] * scale * 3 * x**2
    assert check_vjp(both, rule(1.0), x)
    assert refused(check_vjp, both, rule(2.0), x).output == 2


@pytest.mark.parametrize("n, offset, scale", [(64, 1.0, 1e-6), (200, 1.0, 1e-6), (64, 1.0, 1e-7)])  # 200 outputs: combinations
@pytest.mark.parametrize("reduced", [lambda y: y, np.sum], ids=["elements", "sum"])
def test_small_slopes_beside_large_values_are_looked_at_as_closely(n, offset, scale, reduced):
    x = RNG.normal(size=n)
    function, rule = lambda x: reduced(offset + scale * np.sin(x)), lambda g, x: g * scale * np.cos(x)
    assert check_vjp(function, rule, x)
    assert refused(check_vjp, function, lambda g, x: 1.05 * rule(g, x), x).kind == "mismatch"


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_tied_elements_that_each_take_the_whole_gradient_are_found_however_small_it_is(scale):
    @tg.custom_op
    def largest(x):
        return scale * x.max(), (x,)

    @largest.grad_of("x")
    def _(g, x):
        return g * scale * (x == x.max())

    tied = tg.Tensor(np.array([1.0, 3.0, 3.0]), requires_grad=True)
    assert refused(gradcheck, largest, tied).op == "largest"
    assert gradcheck(lambda x: scale * tg.max(x), tied)


LAYOUTS = {
    "Fortran": np.asfortranarray(RNG.normal(size=(3, 4))),
    "reversed": RNG.normal(size=(3, 4))[::-1],
    "strided": RNG.normal(size=(3, 8))[:, ::2],
    "a column of many": RNG.normal(size=(5, 1000))[:, 7:8],
    "turned and reversed": RNG.normal(size=(2, 3, 4)).transpose(1, 2, 0)[:, ::-2],
}


@pytest.mark.parametrize("x", LAYOUTS.values(), ids=LAYOUTS)
def test_a_rule_that_is_wrong_for_a_layout_alone_is_found(x):
    """The checks work on copies: they lie in memory as the caller's arrays do."""

    def slope(x):
        return np.cos(x) if x.flags.c_contiguous else np.cos(x)[::-1]

    @tg.custom_op
    def layout_op(x):
        return np.sin(x), (x,)

    layout_op.grad_of("x")(lambda g, x: g * slope(x))
    for check in (lambda x: check_vjp(np.sin, lambda g, x: g * slope(x), x), lambda x: gradcheck(layout_op, x)):
        assert check(np.ascontiguousarray(x))
        assert refused(check, x).kind == "mismatch"


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
def test_a_rule_that_is_wrong_for_a_layout_of_the_incoming_gradient_alone_is_found(shape):
    """Behind a transposition or a sum it is no C-contiguous array."""
    x, read = RNG.normal(size=shape), lambda g: np.frombuffer(g.tobytes("A")).reshape(g.shape)
    for straight in (read, lambda g: g if g.flags.c_contiguous else g[::-1]):
        if straight is read and len(shape) == 1:
            continue

        @tg.custom_op
        def layout_op(x):
            return np.sin(x), (x,)

        layout_op.grad_of("x")(lambda g, x: straight(g) * np.cos(x))  # noqa: B023
        assert "lies in memory" in str(refused(check_vjp, np.sin, lambda g, x: straight(g) * np.cos(x), x))  # noqa: B023
        error = refused(gradcheck, layout_op, x)
        assert error.kind == "mismatch" and error.op == "layout_op"

    def insists(g, x):
        assert g.flags.c_contiguous, "C order only"
        return g * np.cos(x)

    assert check_vjp(np.sin, insists, x)


def test_copies_lie_as_the_original_does():
    for x in LAYOUTS.values():
        copy = laid_out(x, x)
        assert np.array_equal(copy, x) and not np.shares_memory(copy, x)
        assert [np.sign(s) for s in copy.strides] == [np.sign(s) for s in x.strides]
        assert copy.flags.f_contiguous == x.flags.f_contiguous and not copy.flags.c_contiguous
    row = np.broadcast_to(np.arange(3.0), (2, 3))
    copy = laid_out(row, row)
    copy[0, 0] = 7.0
    assert copy.tolist() == [[7.0, 1.0, 2.0], [0.0, 1.0, 2.0]]


def test_dropout_with_a_seed_inside():
    assert gradcheck(lambda x: F.dropout(x, 0.5, True, rng=np.random.default_rng(3)), tensor(5, 5))
    error = refused(gradcheck, lambda x: F.dropout(x, 0.5, True), tensor(5, 5))
    assert error.kind == "nondeterministic" and "seed" in str(error)


def test_kinks_pass_at_the_kink():
    zeros = tg.Tensor(np.zeros((3, 3)), requires_grad=True)
    ties = tg.Tensor(np.array([[1.0, 2, 2], [3, 3, 3]]), requires_grad=True)
    for f in (F.relu, tg.abs, lambda x: tg.norm(x), lambda x: tg.maximum(x, 0.0), lambda x: F.leaky_relu(x)):
        assert gradcheck(f, zeros)
    many = tg.Tensor(np.append(np.zeros(80), [2.0, 1.0, -1.0, 0.5]), requires_grad=True)  # by chance few get into order
    for f in (lambda x: x.max(axis=-1), lambda x: tg.sort(x), lambda x: tg.median(x, axis=-1), lambda x: tg.topk(x, 2)[0]):
        assert gradcheck(f, ties)
        assert gradcheck(f, many)
    assert gradcheck(lambda x: tg.topk(x, 9)[0], many)


# -- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_refuses_low_precision_with_advice(dtype):
    x = tg.Tensor(np.ones(3, dtype), requires_grad=True)
    error = refused(gradcheck, tg.exp, x)
    assert error.kind == "inputs" and "astype(np.float64)" in str(error) and str(np.dtype(dtype)) in str(error)
    assert refused(check_vjp, np.exp, lambda g, x: g * np.exp(x), x.data).kind == "inputs"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("claim", [3.0, -7.0, 1e-3])
def test_no_number_but_0_passes_for_an_infinite_slope(claim):
    at_zero = lambda value, rest: lambda g, x: g * np.where(x == 0, value, rest(x))
    root, x = lambda x: 0.5 / np.sqrt(np.abs(x)), np.array([0.0, 1.0])
    for function, rest, at in (
        (np.sqrt, root, x), (lambda x: np.sqrt(-x), lambda x: -root(x), -x), (np.cbrt, lambda x: 1 / (3 * np.cbrt(x) ** 2), x)
    ):  # fmt: skip
        assert "the slope has no end" in str(refused(check_vjp, function, at_zero(claim, rest), at))
        assert check_vjp(function, at_zero(0, rest), at)
    assert check_vjp(lambda x: np.sqrt(np.abs(x)), at_zero(claim, root), x)  # between -inf and inf


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_at_the_edge_of_the_domain_a_wrong_slope_is_refused_as_anywhere(side):
    """A function that is not there on one side has the slope of the other."""
    function = lambda x: np.where(side * x < 0, np.nan, np.sin(x))
    x = np.array([0.0, 0.7 * side])
    assert check_vjp(function, lambda g, x: g * np.cos(x), x)
    for wrong in (1.001, 0.5, 0.0, -1.0):
        error = refused(check_vjp, function, lambda g, x: g * np.where(x == 0, wrong, np.cos(x)), x)  # noqa: B023
        assert error.kind == "mismatch" and error.index == (0,)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_small_gradient_beside_a_large_one_is_held_to_its_own_size(swapped):
    turn = lambda pair: pair[::-1] if swapped else pair
    x, y = RNG.normal(size=3), RNG.normal(size=3)
    for factor, right in ((1e-9, True), (1.001e-9, False)):
        function = lambda *inputs: turn((1e-9 * turn(inputs)[0], np.sin(turn(inputs)[1])))
        backward = lambda g, *inputs: turn((factor * turn(g)[0], turn(g)[1] * np.cos(turn(inputs)[1])))  # noqa: B023
        if right:
            assert check_vjp(function, backward, turn((x, y)))
        else:
            assert refused(check_vjp, function, backward, turn((x, y))).input == int(swapped)


def test_along_a_direction_each_output_is_held_to_its_own_size():
    """Too many elements to visit each: a small output's wrong gradient is not lost in a large one's tolerance."""
    x, weight = RNG.normal(size=5000), RNG.normal(size=5000)
    function = lambda x: np.array([1e7 * x.sum(), weight @ x])
    backward = lambda wrong: lambda g, x: 1e7 * g[0] + g[1] * wrong * weight
    assert check_vjp(function, backward(1.0), x, fast=True)
    assert refused(check_vjp, function, backward(1.01), x, fast=True).kind == "mismatch"


@pytest.mark.parametrize("order", [1, 2])
def test_a_function_may_differentiate_inside_and_set_hooks(order):
    x = tg.Tensor(np.array([0.3, 0.7]), requires_grad=True)

    def penalty(x):
        slope = tg.grad((x**3).sum(), x, create_graph=True)[0]
        return ((slope - 1) ** 2).sum()

    def hooked(factor):
        def fn(x):
            y = x * 2
            y.register_hook(lambda g: g * factor)
            y.retain_grad()
            return y * y

        return fn

    assert gradcheck(penalty, x, order=order)
    assert gradcheck(hooked(1), x, order=order)
    with pytest.raises(GradcheckError, match="is wrong"):
        gradcheck(hooked(1.001), x, order=order)


def test_refuses_what_has_no_gradient():
    assert refused(gradcheck, tg.exp, tg.Tensor(np.arange(3))).kind == "inputs"
    assert refused(gradcheck, tg.argmax, tensor(3)).kind == "inputs"
    assert "expected a Tensor" in str(refused(gradcheck, lambda x: x.numpy(), tensor(3)))
    assert refused(check_vjp, np.argmax, lambda g, x: x, np.ones(3)).kind == "dtype"
    assert refused(check_vjp, np.abs, lambda g, x: x, np.ones(3) * 1j).kind == "inputs"
    assert "(got float, int64)" in str(refused(check_vjp, np.add, lambda g, x, y: (g, g), [1.0, np.arange(3)]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_of_the_function_itself():
    error = refused(gradcheck, tg.log, np.array([1.0, -1.0]))
    assert error.kind == "nan" and "[1]" in str(error)


def test_a_rule_of_the_wrong_shape_is_reported_as_shape():
    @tg.custom_op
    def bad(x):
        return 2 * x, ()

    bad.grad_of("x")(lambda g: 2 * g.ravel()[:2])
    error = refused(gradcheck, bad, tensor(3, 3))
    assert error.kind == "shape" and "bad" in str(error)


def scaled_op(rule, name="suspect"):
    """An operation y = 2x with the rule under test."""

    @tg.custom_op(name=name)
    def double(x):
        return 2 * x, ()

    double.grad_of("x")(rule)
    return double


def test_float32_in_the_middle_of_a_graph_is_found():
    leaky = scaled_op(lambda g: (2 * g).astype(np.float32))
    error = refused(gradcheck, lambda x: tg.tanh(leaky(tg.sin(x))), tensor(3, 3))
    assert error.kind == "precision" and error.op == "suspect"
    assert gradcheck(lambda x: tg.tanh(scaled_op(lambda g: 2 * g)(tg.sin(x))), tensor(3, 3))


def test_a_cast_to_float32_on_the_way_is_named():
    error = refused(gradcheck, lambda x: tg.tanh(x).astype(np.float32).astype(np.float64) * 2, tensor(3))
    assert error.kind == "precision" and error.op == "astype"


def test_of_randomness_it_says_so():
    error = refused(gradcheck, lambda x: F.dropout(x, 0.5) * 2, tensor(30))
    assert error.kind == "nondeterministic" and error.op is None
    assert "rng=np.random.default_rng(0)" in str(error) and "detach" not in str(error)


def test_a_rule_that_overwrites_its_incoming_gradient_is_named():
    greedy = scaled_op(lambda g: np.multiply(g, 2, out=g))
    error = refused(gradcheck, lambda x: (tg.sin(x) + greedy(x)) * 3.0, tensor(3))
    assert error.op == "suspect", str(error)
    assert refused(gradcheck, greedy, tensor(3)).kind == "mutated"


def test_a_rule_that_raises_is_named():
    broken = scaled_op(lambda g: g @ np.ones((7, 7)))
    error = refused(gradcheck, lambda x: tg.sin(broken(x)), tensor(3))
    assert error.kind == "raised" and error.op == "suspect" and "matmul" in str(error)
    assert isinstance(error.__cause__, Exception)
    error = refused(check_vjp, np.sin, lambda g, x: g * unknown, np.ones(3))  # noqa: F821
    assert error.kind == "raised" and "NameError" in str(error)


def test_infinite_masks_are_passed_over():
    mask = np.where(np.tri(4) > 0, 0.0, -np.inf)
    q, k, v = (RNG.normal(size=(2, 4, 3)) for _ in range(3))
    assert gradcheck(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), (q, k, v, mask))


def test_a_field_of_kinks_takes_no_minutes():
    assert gradcheck(F.relu, tg.Tensor(np.zeros((20, 20)), requires_grad=True))


def test_mutation_of_an_input_by_the_function():
    def centre(x):
        x.data[...] -= x.data.mean()
        return tg.sin(x)

    x = tensor(3)
    before = x.data.copy()
    error = refused(gradcheck, centre, x)
    assert error.kind == "mutated" and "input 0 (x)" in str(error) and "the function" in str(error)
    assert np.array_equal(x.data, before)


# -- second order ------------------------------------------------------------------------------------------------------


def test_higher_orders():
    assert gradgradcheck(lambda x, w: tg.tanh(x @ w), (tensor(2, 3), tensor(3, 2)))
    assert gradcheck(lambda x: tg.exp(x) * x**3, tensor(3), order=4)


def broken_second():
    """First derivative right; the rule, differentiated again, is not: 1.001 hides in a saved constant."""

    @tg.custom_op
    def cube(x):
        return x**3, (x,)

    @cube.grad_of("x")
    def _(g, x):
        return g * slope(x)

    @tg.custom_op
    def slope(x):
        return 3 * x**2, (x,)

    slope.grad_of("x")(lambda g, x: g * 6.006 * x)
    return cube


def test_wrong_second_derivative_is_found_and_blamed():
    cube = broken_second()
    x = tensor(4)
    assert gradcheck(lambda x: tg.sin(cube(x)), x)
    error = refused(gradgradcheck, lambda x: tg.sin(cube(x)), x)
    assert error.kind == "mismatch" and error.op == "cube"
    assert refused(gradcheck, lambda x: tg.sin(cube(x)), x, order=2).op == "cube"


def test_a_derivative_that_is_cut_off_beside_one_that_is_not_is_found():
    """What it depends on shows in its own derivative, even where the rule leaves the graph altogether."""

    @tg.custom_op
    def product(a, b):
        return a * b**3, (a, b)

    product.grad_of("a")(lambda g, a, b: g * b**3)
    product.grad_of("b")(lambda g, a, b: g * 3 * a * b**2 if isinstance(a, np.ndarray) else tg.Tensor((g * 3 * a * b**2).data))
    assert gradcheck(product, (tensor(3), tensor(3)))
    error = refused(gradgradcheck, product, (tensor(3), tensor(3)))
    assert error.kind == "missing" and error.op == "product"


def test_wrong_third_derivative_is_blamed():
    @tg.custom_op
    def cube(x):
        return x**3, (x,)

    @tg.custom_op
    def slope(x):
        return 3 * x**2, (x,)

    @tg.custom_op
    def bend(x):
        return 6 * x, ()

    cube.grad_of("x")(lambda g, x: g * slope(x))
    slope.grad_of("x")(lambda g, x: g * bend(x))
    bend.grad_of("x")(lambda g: g * 6.006)
    assert gradcheck(lambda x: tg.sin(cube(x)), tensor(3), order=2)
    error = refused(gradcheck, lambda x: tg.sin(cube(x)), tensor(3), order=3)
    assert error.kind == "mismatch" and error.op == "cube"


def test_a_rule_that_cannot_be_differentiated_is_named():
    """One that takes its array out of a Tensor, which only create_graph hands to it."""

    @tg.custom_op
    def flattened(x):
        return x**3, (x,)

    flattened.grad_of("x")(lambda g, x: g * 3 * np.asarray(x) ** 2)
    assert gradcheck(flattened, tensor(3))
    error = refused(gradgradcheck, lambda x: tg.sin(flattened(x)), tensor(3))
    assert error.kind == "raised" and error.op == "flattened"
    assert "create_graph raised RuntimeError: a Tensor that requires a gradient cannot become an ndarray" in str(error)


def test_rule_and_composite_that_disagree():
    @tg.custom_op
    def fused(x):
        return np.tanh(x), (x,)

    fused.grad_of("x")(lambda g, x: g / np.cosh(x) ** 2)
    fused.composite(lambda x: tg.tanh(x) * 1.001)
    assert gradcheck(fused, tensor(3))
    error = refused(gradgradcheck, fused, tensor(3))
    assert error.kind == "mismatch" and "composite" in str(error)


# -- tolerances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2.001, 2.0001, 1.9995])
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6])
def test_two_point_001_is_not_two_at_any_scale(factor, scale):
    x = RNG.normal(size=(3, 3))
    assert refused(check_vjp, lambda x: scale * x * x, lambda g, x: scale * factor * g * x, x).kind == "mismatch"
    assert check_vjp(lambda x: scale * x * x, lambda g, x: scale * 2 * g * x, x)


def test_tolerances_are_the_callers():
    x = RNG.normal(size=(3, 3))
    wrong = lambda g, x: 2.001 * g * x
    assert check_vjp(np.square, wrong, x, rtol=1e-2)
    assert check_vjp(np.square, wrong, x, atol=1e-1)
    assert refused(check_vjp, np.square, lambda g, x: (2 + 1e-7) * g * x, x, rtol=1e-9, atol=1e-12).kind == "mismatch"


@pytest.mark.parametrize("wrong", [
    {"eps": 0}, {"eps": -1e-6}, {"eps": np.nan}, {"atol": -1}, {"rtol": -1e-5}, {"rtol": np.inf}, {"atol": np.nan},
])  # fmt: skip
def test_tolerances_that_can_be_none_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        check_vjp(np.square, lambda g, x: 2 * g * x, RNG.normal(size=3), **wrong)
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        gradcheck(tg.sin, tensor(2), **wrong)
    if name != "eps":
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            assert_gradients_close(np.ones(2), np.ones(2), **wrong)


def test_message_has_all_that_is_needed():
    @tg.custom_op(name="squash")
    def squash(x):
        return x * x, (x,)

    squash.grad_of("x")(lambda g, x: 2.001 * g * x)
    error = refused(gradcheck, lambda image: tg.exp(squash(image)), tg.Tensor(np.full((2, 2), 0.5), requires_grad=True))
    text = str(error)
    parts = ("input 0 (image)", "[0, 0]", "claimed", "measured", "difference", "1.0005", "op to blame: squash", "test_gradcheck.py")
    for part in parts:
        assert part in text, text
    assert error.analytic == pytest.approx(1.0005 * error.numeric, rel=1e-6)
    assert error.difference == pytest.approx(abs(error.analytic - error.numeric))
    assert isinstance(error, AssertionError)


def test_a_backward_that_takes_no_inputs_is_told_what_it_is_called_with():
    class Layer:
        def forward(self, x):
            self.x = x
            return np.sin(x)

        def backward(self, g):
            return g * np.cos(self.x)

    layer = Layer()
    text = str(refused(check_vjp, layer.forward, layer.backward, np.ones(3)))
    assert "called with the gradient and the 1 inputs" in text
    way = text.partition("let both run: ")[2]
    assert check_vjp(layer.forward, eval(way, {"layer": layer}), np.ones(3))
    assert "called with" not in str(refused(check_vjp, np.sin, lambda g, x: g @ np.ones(7), np.ones(3)))


@pytest.mark.parametrize("keep", [tuple, lambda pair: dict(zip("xw", pair))])
def test_a_forward_that_returns_a_cache_is_told_how_to_be_checked(keep):
    def forward(x, w):
        return x @ w, keep((x, w))

    def backward(g, cache):
        x, w = cache.values() if isinstance(cache, dict) else cache
        return g @ w.T, x.T @ g

    inputs = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 4))
    error = refused(check_vjp, forward, backward, inputs)
    assert error.kind == "dtype" and f"forward returned {keep(inputs).__class__.__name__};" in str(error)
    first, second = str(error).partition("let backward run both: ")[2].split(", lambda g")
    names = {"forward": forward, "backward": backward}
    assert check_vjp(eval(first, names), eval("lambda g" + second, names), inputs)


def test_numbers_and_lists_are_refused_with_how_to_pass_them_and_names_must_be_as_many_as_inputs():
    for x, got in ((1.0, "got float)"), (np.float64(1), "got float64 scalar)"), ([[1.0, 2.0]], "got list)")):
        text = str(refused(check_vjp, lambda x: x * 2, lambda g, x: g * 2, x))
        assert got in text and text.endswith("np.array(x)")
    assert "np.array(x)" not in str(refused(check_vjp, lambda x: x * 2, lambda g, x: g * 2, np.arange(3)))
    with pytest.raises(ValueError, match="names: expected one for each of 2 inputs, got 1"):
        check_vjp(np.add, lambda g, a, b: (g, g), (np.ones(2), np.ones(2)), names=["a"])


def test_a_pattern_is_told_only_where_it_is_one():
    """An epsilon of another size shrinks each row by its own share: no factor is the same for all."""

    def norm(x, eps=1e-5):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)

    def backward(g, x, eps=1e-6):
        r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
        return g * r - x * r**3 * (g * x).mean(-1, keepdims=True)

    assert "times what it should be" not in str(refused(check_vjp, norm, backward, RNG.normal(size=(3, 8))))


@pytest.mark.parametrize("small", [1e-6, -1e-6])
@pytest.mark.parametrize("slope", [np.full((3, 3), 2.0), np.array([[1.0, 2, -3], [2, 4, -5], [-3, -5, 6]])])
def test_an_error_too_small_for_another_order_or_sign_is_not_called_one(slope, small):
    """A symmetric gradient is near its own transpose, flipped or of other signs where it is near itself."""
    wrong = slope + small * np.arange(9).reshape(3, 3)
    error = refused(check_vjp, lambda x: (slope * x).sum(), lambda g, x: g * wrong, RNG.normal(size=(3, 3)), rtol=1e-8, atol=1e-9)
    assert not any(word in str(error) for word in ("transpose", "flipped", "sign")), str(error)


def test_a_function_that_reads_an_array_of_its_own_is_asked_whether_it_does():
    """As of a net that holds its parameters, where a checker that changes them in place would do."""
    held = RNG.normal(size=(2, 3))
    error = refused(check_vjp, lambda w: (held**2).sum(), lambda g, w: 2 * g * held, held)
    assert error.kind == "mismatch" and str(error).endswith("does the function use the array that it is given, not one kept elsewhere?")


def test_what_equal_numbers_hide_is_said_with_the_input_that_hides_it():
    error = refused(check_vjp, lambda x, w: x * w * w, lambda g, x, w: (g * w, g * 2 * x * w), (RNG.normal(size=3), np.ones(3)))
    assert error.kind == "mismatch" and error.input == 0
    assert str(error).endswith("hides it (input 1 (w)). Found with random numbers in its place")


def test_a_function_that_refuses_other_numbers_than_equal_ones_passes():
    def scaled(x, w):
        if np.ptp(w) > 1e-2:
            raise RuntimeError("weights that differ")
        return x * w

    assert check_vjp(scaled, lambda g, x, w: (g * w, g * x), (RNG.normal(size=3), np.ones(3)))


@pytest.mark.parametrize("check, order, least", [(gradgradcheck, 1, 2), (gradgradcheck, 0, 2), (gradcheck, 0, 1), (gradcheck, 1.5, 1)])
def test_an_order_at_which_nothing_would_be_checked_is_refused(check, order, least):
    with pytest.raises(ValueError, match=f"order: expected a whole number of at least {least}, got {order}"):
        check(tg.tanh, tg.Tensor(np.ones(2), requires_grad=True), order=order)
