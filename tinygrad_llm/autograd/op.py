"""An operation is a record: a forward, its gradient rules, and for a fused one its composite.

    @op
    def mul(a, b):
        '''y = a · b   (broadcasts)'''
        return np.multiply(a, b), (a, b)          # the output, and what backward will need

    @mul.grad_of("a")
    def _(g, a, b): return g * b

    @mul.grad_of("b")
    def _(g, a, b): return g * a

Positional parameters are the array inputs; keyword-only ones are static. A rule takes the output's gradient, then the
saved values by name: a name of an input is that input, `out` is the output, anything else is a constant. Where there are several
outputs, `out` is their tuple, and g a list with None for each that nothing depends on. Rules are plain
functions on ndarrays; written with operators and np functions alone they work on Tensors too, and that is how higher
derivatives come for free. A fused op has one joint rule (`.grad`) and, for higher derivatives, a `.composite`.

Everything that runs, runs through `call` below: the one place where watching (profiling, tracing, anomaly detection,
checkpointing) hangs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from .node import Node, make_node, tick
from .state import PLAIN, WATCHED, local, switches
from .tensor import Tensor, from_node, implements, to_array

#: every operation of the engine by name: tests, documentation and `gradcheck` enumerate it
registry: dict[str, Op] = {}

_new = object.__new__
_ndarray = np.ndarray
KINDS = (np.linalg.LinAlgError, np.exceptions.AxisError, IndexError, TypeError, ValueError, KeyError)  # narrow first


class Op:
    """The record. `rules[i]` is the rule of input i; `joint` gives all at once; at most one of the two is used."""

    __slots__ = (
        "adder", "call", "composite", "differentiable", "elementwise", "forward", "fresh", "inputs", "joint", "joint_needs",
        "misnamed", "name", "named", "required", "rules", "saved_names", "statics", "strict", "variadic",
    )  # fmt: skip

    def __init__(self, forward: Callable[..., Any], name: str, differentiable: bool, strict: bool) -> None:
        parameters = inspect.signature(forward).parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        star = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        if star and positional:
            raise TypeError(f"op {name}: either named inputs or *{star[0]}, not both")
        options = [p for p in positional if p.default is not p.empty and p.default is not None]
        inputs = positional[: len(positional) - len(options)]
        if any(p in inputs for p in options):
            raise TypeError(f"op {name}: expected inputs, then options (a default other than None); got {options[0]} first")
        self.name = name
        self.forward = forward
        self.inputs: tuple[str, ...] = tuple(star or [p.name for p in inputs])
        self.variadic = bool(star)
        self.required = sum(p.default is p.empty for p in inputs)
        self.statics: dict[str, Any] = {p.name: p.default for p in parameters if p in options or p.kind is p.KEYWORD_ONLY}
        self.differentiable = differentiable
        self.elementwise = False  # the rules return arrays of g's shape and dtype: the walk need not look, see `op`
        self.adder: Callable[..., Any] | None = None
        self.fresh: bool | str = False  # the rules' arrays are nobody else's: the walk may add to them in place, see `op`
        self.strict = strict  # a custom op: its rules may hold traps that ours are tested not to hold
        self.rules: list[Callable[..., Any]] = [_no_rule(name, x) for x in self.inputs]
        self.joint: Callable[..., Any] | None = None
        self.joint_needs = False
        self.composite: Callable[..., Any] | None = None
        self.saved_names: tuple[str, ...] = ()
        self.named = False  # a rule has said so
        self.misnamed: frozenset[str] = frozenset()  # saved under an input's name, or as `out`, and not that: see `custom_op`
        self.call: Callable[..., Any] = _make_call(self)

    def __repr__(self) -> str:
        return f"<Op {self.name}({', '.join(self.inputs)})>"

    def _take_names_of(self, rule: Callable[..., Any]) -> None:
        """The rule's saved names as the op's: all its rules must have the same."""
        parameters = list(inspect.signature(rule).parameters.values())
        names = tuple(p.name for p in parameters[1:] if p.kind is p.POSITIONAL_OR_KEYWORD)
        for p in parameters:
            if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name != "needs":
                raise TypeError(f"op {self.name}: a rule gets what the forward saved; save {p.name!r} and take it without the *")
        if self.named and names != self.saved_names:
            raise TypeError(f"op {self.name}: all rules take the same saved values; {self.saved_names} before, {names} now")
        self.saved_names, self.named = names, True

    def grad_of(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """``@op.grad_of("a")``: the rule `(g, *saved) -> gradient of a`. Un-broadcasting is not its business."""
        if name not in self.inputs or self.variadic:
            raise TypeError(
                f"op {self.name}: no input {name!r}; its inputs are {self.inputs}{', use .grad' if self.variadic else ''}"
            )

        def enter(rule: Callable[..., Any]) -> Callable[..., Any]:
            self._take_names_of(rule)
            self.rules[self.inputs.index(name)] = rule
            return rule

        return enter

    def grad(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """``@op.grad``: one rule `(g, *saved) -> (gradient of each input, ...)`; `*, needs` says which are wanted."""
        self._take_names_of(rule)
        self.joint = rule
        self.joint_needs = "needs" in inspect.signature(rule).parameters
        return rule

    def adds(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``@op.adds``: `(total, own, g, *saved)` -> what the joint rule gives, with `total` added to the first input's gradient:
        what that input has received so far. It may be written to where `own` says that nobody else holds it."""
        self.adder = function
        return function

    def set_composite(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``@op.composite``: the same mathematics, same arguments, in elementary operations."""
        self.composite = function
        return function


def _no_rule(name: str, of: str) -> Callable[..., Any]:
    def missing(g: Any, *saved: Any) -> Any:
        raise GradientError(f"{name}: no gradient rule for its input {of!r}; write @{name}.grad_of({of!r})")

    return missing


class GradientError(RuntimeError):
    """A gradient rule is missing, or returned something that cannot be the gradient."""


def op(
    forward: Callable[..., Any] | None = None,
    *,
    name: str = "",
    differentiable: bool = True,
    elementwise: bool = False,
    fresh: bool | str = False,
    numpy: Any = (),
) -> Any:
    """Enter an operation in the registry and return the function that calls it.

    `numpy`: the NumPy function (or a tuple of them) that this one stands for when called with a Tensor. `elementwise`
    promises that each rule returns an array of g's shape and dtype wherever the input has the output's, which spares
    the walk two checks. `fresh` promises that all gradients are arrays made by the rules, each for one input and held by nobody
    else, or g itself, which spares the walk a new array where gradients meet and a copy at a leaf; "freed" promises it for a
    graph that is not kept, because the rules return what was saved.
    """
    if forward is None:
        return functools.partial(op, name=name, differentiable=differentiable, elementwise=elementwise, fresh=fresh, numpy=numpy)
    record = Op(forward, name or forward.__name__, differentiable, strict=False)
    if record.name in registry:
        raise TypeError(f"op {record.name}: the registry has one of that name")
    record.elementwise, record.fresh = elementwise, fresh
    registry[record.name] = record
    implements(*(numpy if isinstance(numpy, tuple) else (numpy,)))(record.call)
    return record.call


def custom_op(forward: Callable[..., Any] | None = None, *, name: str = "") -> Any:
    """Your own operation: a forward on ndarrays that returns `(output, saved)`, and gradient rules.

        @tg.custom_op
        def cube(x):
            return x**3, (x,)

        @cube.grad_of("x")
        def _(g, x): return g * 3 * x**2

    Inputs are arrays, or None where one may be left out (`bias=None`). Options come after them, with another default,
    `def clipped(x, low=0.0)`, or after a `*`; they have no gradient, and are saved where a rule reads them. Checked by
    `tg.testing.gradcheck` like any other. Second derivatives work where every saved value is an input, and the rules call it as the
    forward does, the output, which they call `out`, or not a float; otherwise give a `@cube.composite`, or the engine refuses them.
    """
    if forward is None:
        return functools.partial(custom_op, name=name)
    if not callable(forward):
        raise TypeError(f"custom_op: expected a function, got {type(forward).__name__}")

    @functools.wraps(forward)
    def checked(*args: Any, **params: Any) -> Any:
        result = forward(*args, **params)
        _need_pair(result)
        for out in result[0] if type(result[0]) is tuple else result[:1]:
            if np.asarray(out).dtype.kind not in "fiub":
                raise TypeError(f"its forward must return arrays of floats, integers or bools, got {describe_value(out)}")
        record.misnamed |= _misnamed(record, args, *result)
        return result

    record = Op(checked, name or getattr(forward, "__name__", type(forward).__name__), True, strict=True)
    return record.call


def _misnamed(record: Op, args: tuple[Any, ...], out: Any, saved: tuple[Any, ...]) -> set[str]:
    """Second derivatives take what is saved for an input, or the output, by its name in the rules. Which of them is not that?"""
    if record.variadic or len(saved) != len(record.saved_names):
        return set()
    meant = {**dict(zip(record.inputs, args)), "out": out}
    return {
        name for name, value in zip(record.saved_names, saved)
        if name in meant and value is not meant[name] and not _equal(value, meant[name])
    }  # fmt: skip


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return np.shape(a) == np.shape(b) and bool(np.all((a == b) | ((a != a) & (b != b))))


# -- the choke point ---------------------------------------------------------------------------------------------------


def _make_call(record: Op) -> Callable[..., Any]:
    """The function a user calls, made for the number of inputs: most of an operation's cost in Python is spent here.

    `_unary`, `_binary` and `_several` are `_general` with everything in place for the usual case; they hand over what is not usual.
    """
    usual = _several if record.variadic else {1: _unary, 2: _binary}.get(len(record.inputs), _several)
    general = _general(record)
    call = general if record.strict else usual(record, general)
    call.__name__ = call.__qualname__ = record.name
    call.__doc__ = record.forward.__doc__
    call.__module__ = record.forward.__module__
    call.__wrapped__ = record.forward  # type: ignore[attr-defined]
    call.__signature__ = inspect.signature(record.forward)  # type: ignore[attr-defined]
    call.op, call.grad_of, call.grad, call.composite = record, record.grad_of, record.grad, record.set_composite  # type: ignore[attr-defined]
    call.adds = record.adds  # type: ignore[attr-defined]
    return call


def _general(record: Op) -> Callable[..., Any]:
    differentiable = record.differentiable

    def general(*args: Any, **params: Any) -> Any:
        args, params = _bind(record, args, params)
        if local.mode == WATCHED:
            return _watched(record, args, params)
        arrays, nodes, any_node = _unpack(record, args)
        recorded = any_node and differentiable and local.mode == PLAIN
        return _finish(record, _run(record, arrays, params), nodes if recorded else None, params)[0]

    return general


def _unary(record: Op, general: Callable[..., Any]) -> Callable[..., Any]:
    forward, differentiable = record.forward, record.differentiable

    def unary(x: Any = None, *rest: Any, **params: Any) -> Any:
        mode = local.mode if switches.threads else PLAIN
        if type(x) is not Tensor or rest or mode == WATCHED:
            return general(*((x, *rest) if x is not None else rest), **params)
        try:
            result = forward(x._data, **params)
        except Exception as error:
            raise _named(record, (x._data,), params, error) from error
        nodes = (x.node,) if x.node is not None and differentiable and mode == PLAIN else None
        out, saved = result
        if type(out) is not _ndarray:
            return _finish(record, result, nodes, params)[0]
        tensor = _new(Tensor)
        tensor._data = out
        if nodes is None:
            tensor.node = None
        else:  # make_node, written out: the call alone would cost a tenth of the operation
            tensor.node = node = Node()
            node.op, node.inputs, node.saved, node.params = record, nodes, saved, params or None
            node.shape, node.dtype, node.time, node.extra = out.shape, out.dtype, tick(), None
        return tensor

    return _with_own_code(unary)


def _binary(record: Op, general: Callable[..., Any]) -> Callable[..., Any]:
    """With `operator`, the same for what Python's operators give it: two inputs by place."""
    forward, differentiable = record.forward, record.differentiable
    several = _several(record, general)

    def binary(a: Any, b: Any) -> Any:
        mode = local.mode if switches.threads else PLAIN
        if type(a) is not Tensor or mode == WATCHED:
            return general(a, b)
        x, node_a = a._data, a.node
        if type(b) is Tensor:
            y, node_b = b._data, b.node
        elif type(b) is float or type(b) is int or type(b) is _ndarray:
            y, node_b = b, None  # type: ignore[assignment]
        else:
            return general(a, b)
        try:
            result = forward(x, y)
        except Exception as error:
            raise _named(record, (x, y), {}, error) from error
        if (node_a is None and node_b is None) or mode != PLAIN or not differentiable:
            nodes = None
        else:
            nodes = (node_a, node_b)
        out, saved = result
        if type(out) is not _ndarray:
            return _finish(record, result, nodes, {})[0]
        tensor = _new(Tensor)
        tensor._data = out
        if nodes is None:
            tensor.node = None
        else:  # as in unary
            tensor.node = node = Node()
            node.op, node.inputs, node.saved, node.params = record, nodes, saved, None
            node.shape, node.dtype, node.time, node.extra = out.shape, out.dtype, tick(), None
        return tensor

    def binary_or_more(a: Any = None, b: Any = None, *rest: Any, **params: Any) -> Any:
        if b is None or rest or params:
            return several(*((a, b, *rest) if b is not None else (a,) if a is not None else ()), **params)
        return binary(a, b)

    binary_or_more.operator = _with_own_code(binary)  # type: ignore[attr-defined]
    return binary_or_more


def _several(record: Op, general: Callable[..., Any]) -> Callable[..., Any]:
    forward, differentiable = record.forward, record.differentiable
    variadic, count, required = record.variadic, len(record.inputs), record.required

    def several(*args: Any, **params: Any) -> Any:
        mode = local.mode if switches.threads else PLAIN
        given = len(args)
        if mode == WATCHED or (given > count and not variadic) or given < required or not params.keys() <= record.statics.keys():
            return general(*args, **params)
        arrays: list[Any] = []
        nodes: list[Any] = []
        recorded = False
        for x in args:
            if type(x) is Tensor:
                arrays.append(x._data)
                node = x.node
                nodes.append(node)
                if node is not None:
                    recorded = True
            elif (x is None and len(arrays) >= required) or (type(x) is _ndarray and x.dtype.kind in "fiub"):
                arrays.append(x)
                nodes.append(None)
            else:
                return general(*args, **params)
        try:
            result = forward(*arrays, **params)
        except Exception as error:
            raise _named(record, tuple(arrays), params, error) from error
        if not recorded or mode != PLAIN or not differentiable:
            kept = None
        else:
            kept = tuple(nodes) if variadic or given == count else (*nodes, *[None] * (count - given))
        out, saved = result
        if type(out) is not _ndarray:
            return _finish(record, result, kept, params)[0]
        return from_node(out, None if kept is None else make_node(record, kept, saved, params, out.shape, out.dtype))

    return several


def _with_own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """The interpreter learns from one operation's calls then, not from all."""
    function.__code__ = function.__code__.replace()
    return function


def _bind(record: Op, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Sort a call's arguments into inputs (None where left out) and static parameters."""
    if record.variadic:
        inputs = list(args)
    else:
        inputs = list(args[: len(record.inputs)])
        extra = args[len(record.inputs) :]
        if len(extra) > len(record.statics):
            raise TypeError(f"{record.name}: at most {len(record.inputs) + len(record.statics)} arguments, got {len(args)}")
        for static, value in zip(record.statics, extra, strict=False):
            if static in params:
                raise TypeError(f"{record.name}: {static} was given twice")
            params[static] = value
        if not params.keys() <= record.statics.keys():
            if "input" in params and not inputs and "input" not in record.inputs:  # PyTorch's name of the first
                inputs.append(params.pop("input"))
            for name in record.inputs[len(inputs) :]:
                inputs.append(params.pop(name, None))
        if len(inputs) < len(record.inputs):
            inputs += [None] * (len(record.inputs) - len(inputs))
        for name, value in zip(record.inputs[: record.required], inputs, strict=False):
            if value is None:
                raise TypeError(f"{record.name}: the input {name!r} is missing (or None)")
    for name in params:
        if name not in record.statics:
            raise TypeError(f"{record.name}: no argument {name!r}; it takes {(*record.inputs, *record.statics)}")
    return tuple(inputs), params


def _unpack(record: Op, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...], bool]:
    """Arrays and nodes of the inputs. Beside an array, Python numbers stay weak and keep its dtype, as in NumPy."""
    has_array = any(isinstance(x, (Tensor, _ndarray, np.generic)) for x in args)
    arrays, nodes = [], []
    for x in args:
        node = None
        if isinstance(x, Tensor):
            node = x.node
            x = x._data
        elif x is None or type(x) is _ndarray or (has_array and type(x) in (int, float, bool)):
            pass
        elif isinstance(x, np.matrix) and record.name in ("multiply", "power"):
            raise TypeError(f"{record.name}: of an np.matrix this is its matrix product, of a Tensor it is not; give np.asarray(x)")
        else:
            x = listed(x, args)
        if isinstance(x, _ndarray) and x.dtype.kind not in "fiub":
            raise TypeError(f"{record.name}: dtype {x.dtype} is not supported; expected floats, integers or bools")
        arrays.append(x)
        nodes.append(node)
    return tuple(arrays), tuple(nodes), any(node is not None for node in nodes)


def listed(x: Any, args: tuple[Any, ...]) -> np.ndarray:
    """A list as an array; beside float64, where float32 would show, with all its digits."""
    array = to_array(x)
    beside = [y.dtype for y in args if isinstance(y, (Tensor, _ndarray))]
    return np.asarray(x) if array.dtype == np.float32 and isinstance(x, (list, tuple)) and np.dtype("float64") in beside else array


def _run(record: Op, arrays: tuple[Any, ...], params: dict[str, Any]) -> Any:
    try:
        return record.forward(*arrays, **params)
    except Exception as error:
        raise _named(record, arrays, params, error) from error


def describe_value(value: Any) -> str:
    return f"{value.dtype}{value.shape}" if isinstance(value, _ndarray) else repr(value)


def is_ones_own(error: Exception) -> bool:
    """Whether it is of a kind of the user's own, or of ours such as AnomalyError, for whom it is caught."""
    return type(error).__module__.partition(".")[0] not in ("builtins", "numpy")


def _named(record: Op, arrays: tuple[Any, ...], params: dict[str, Any], error: Exception) -> Exception:
    """The forward's error again, of the same kind, saying which op it was and what it was given."""
    text = str(error)
    if text.startswith(f"{record.name}:"):
        return error
    given = ", ".join([describe_value(x) for x in arrays] + [f"{k}={describe_value(v)}" for k, v in params.items()])
    if is_ones_own(error):
        error.add_note(f"raised in {record.name} (called with {given})")
        return error
    kinds = (*KINDS, ZeroDivisionError, OverflowError, FloatingPointError, MemoryError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)
    return kind(f"{record.name}: {text} (called with {given})")


def _finish(record: Op, result: Any, nodes: tuple[Any, ...] | None, params: dict[str, Any]) -> tuple[Any, tuple[Tensor, ...], Any]:
    """Wrap what the forward returned and record the call: (what the caller gets, the outputs as a tuple, the node).

    Where there are several outputs, each gets a small node that hands its gradient to the call's own.
    """
    _need_pair(result, record.name)
    out, saved = result
    if type(out) is not tuple:
        out = np.asarray(out)
        node = make_node(record, nodes, saved, params, out.shape, out.dtype) if nodes is not None else None
        tensor = from_node(out, node)
        return tensor, (tensor,), node
    arrays = tuple(np.asarray(part) for part in out)
    if nodes is None:
        outputs = tuple(from_node(a, None) for a in arrays)
        return outputs, outputs, None
    node = make_node(record, nodes, saved, params, tuple(a.shape for a in arrays), tuple(a.dtype for a in arrays))
    outputs = outputs_of(node, arrays)
    return outputs, outputs, node


def _need_pair(result: Any, name: str = "") -> None:
    """Raise unless a forward returned what it must. An array of two rows would pass for an output and its saved values."""
    if type(result) is not tuple or len(result) != 2 or type(result[1]) is not tuple:
        raise TypeError(f"{name}{': ' if name else ''}its forward must return (output, tuple of what backward needs)")


def outputs_of(node: Node, arrays: tuple[np.ndarray, ...]) -> tuple[Tensor, ...]:
    """The outputs of a call that has several, each on its small node."""
    return tuple(
        from_node(a, make_node(SELECT, (node,), (i,), node.params or {}, a.shape, a.dtype) if a.dtype.kind == "f" else None)
        for i, a in enumerate(arrays)
    )


SELECT = Op(lambda x, *, index: (x, (index,)), "select", True, strict=False)  # never called: marks one output of several
SELECT.joint = SELECT.forward  # not one rule for each input: the walk itself hands the gradient on


def _watched(record: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """The same call with watchers: each sees it before and after, with its tensors."""
    watchers = local.observers
    arrays, nodes, any_node = _unpack(record, args)
    for watcher in watchers:
        watcher.before_op(record, args, params)
    start = perf_counter()
    result = _run(record, arrays, params)
    seconds = perf_counter() - start
    recorded = nodes if any_node and record.differentiable and local.grad_enabled else None
    returned, outputs, node = _finish(record, result, recorded, params)
    for watcher in watchers:
        watcher.after_op(record, args, params, outputs, node, seconds)
    return returned
