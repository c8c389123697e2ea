"""Backward: visit the nodes, children before parents, hand each its gradient, and add what its rules return to its parents.

`walk` is the whole of it. Un-broadcasting, accumulation, hooks and freeing happen here, once, and in no rule. The same
walk serves ndarrays (the fast path) and Tensors (`create_graph`, where the gradients get a graph of their own).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from operator import attrgetter
from time import perf_counter
from typing import Any

import numpy as np

from . import node as nodes
from .node import Node, make_node
from .op import SELECT, GradientError, Op, describe_value, outputs_of
from .state import WATCHED, autocast, enable_grad, in_forked_child, local, no_grad
from .tensor import Tensor, from_node

FREED = "freed"  # what `saved` says once a backward has been through
_commit = threading.Lock()


@in_forked_child
def _unlock() -> None:
    """The thread that held the lock stayed with the parent."""
    global _commit
    _commit = threading.Lock()


# -- public ------------------------------------------------------------------------------------------------------------


def backward(output: Tensor, gradient: Any = None, create_graph: bool = False, retain_graph: bool = False) -> None:
    """See `Tensor.backward`."""
    g = _seed(output, gradient, "backward", create_graph)
    assert output.node is not None
    walk([(output.node, g)], None, retain_graph or create_graph, create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    create_graph: bool = False,
    allow_unused: bool = False,
    retain_graph: bool | None = None,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` (summed, each weighted by its `grad_outputs`) with respect to `inputs`, as a tuple.

    Touches no `.grad`. `create_graph` makes the result differentiable; an input that the outputs do not depend on is
    an error unless `allow_unused`, which gives None for it.
    """
    outs, ins = _listed(outputs, "outputs"), _listed(inputs, "inputs")
    seeds = [grad_outputs] if isinstance(outputs, Tensor) and not isinstance(grad_outputs, (list, tuple)) else grad_outputs
    seeds = [None] * len(outs) if seeds is None else list(seeds)
    if len(seeds) != len(outs):
        raise ValueError(f"grad: {len(outs)} outputs but {len(seeds)} grad_outputs")
    for i, out in enumerate(outs):
        if not isinstance(out, Tensor):
            raise TypeError(f"grad: outputs[{i}] must be a Tensor, got {type(out).__name__}")
    for i, x in enumerate(ins):
        if not isinstance(x, Tensor):
            raise TypeError(f"grad: inputs[{i}] must be a Tensor, got {type(x).__name__}")
        if x.node is None:
            raise RuntimeError(f"grad: inputs[{i}] ({x.dtype}{x.shape}) does not require a gradient")
    roots = [(out.node, _seed(out, g, "grad", create_graph)) for out, g in zip(outs, seeds, strict=True)]
    wanted: dict[Node, Any] = {x.node: None for x in ins if x.node is not None}
    walk(roots, wanted, create_graph if retain_graph is None else retain_graph, create_graph)
    result = []
    for i, x in enumerate(ins):
        found = wanted[x.node]  # type: ignore[index]
        if found is None and not allow_unused:
            raise RuntimeError(f"grad: the outputs do not depend on inputs[{i}] ({x.dtype}{x.shape}); allow_unused=True gives None")
        result.append(found if found is None or isinstance(found, Tensor) else from_node(found, None))
    return tuple(result)


def _listed(tensors: Any, name: str) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        return [tensors]
    if not isinstance(tensors, Iterable):
        call = "; call it first: tg.grad(f(x), x)" if callable(tensors) else ""
        raise TypeError(f"grad: {name} must be a Tensor or a list of Tensors, got {type(tensors).__name__}{call}")
    return list(tensors)


def _seed(output: Any, gradient: Any, who: str, create_graph: bool) -> Any:
    """The gradient that the walk starts with: ones for a single element, else what the caller gave, checked."""
    if not isinstance(output, Tensor):
        raise TypeError(f"{who}: expected a Tensor to differentiate, got {type(output).__name__}")
    if output.node is None:
        none = "none of what it was made from requires_grad (a gradient does so after create_graph=True)"
        why = none if output.dtype.kind == "f" else "ints and bools have no gradient"
        raise RuntimeError(f"{who}: this {output.dtype}{output.shape} tensor does not require a gradient: {why}")
    if gradient is None:
        if output.size != 1:
            raise RuntimeError(
                f"{who}: a gradient must be given for a non-scalar output, and its shape is {output.shape}; "
                "reduce it first (.sum(), .mean()) or pass the gradient"
            )
        gradient = np.ones(output.shape, output.dtype)
    g = gradient if isinstance(gradient, Tensor) else Tensor(gradient)
    if g.shape != output.shape:
        raise ValueError(f"{who}: the output's shape is {output.shape}, the given gradient's is {g.shape}")
    if create_graph:
        return g if g.dtype == output.dtype else from_node(g._data.astype(output.dtype), None)
    return g._data.astype(output.dtype, copy=False)


# -- the walk ----------------------------------------------------------------------------------------------------------


def walk(roots: list[tuple[Any, Any]], wanted: dict[Node, Any] | None, retain: bool, create_graph: bool) -> None:
    """Backward from `roots` (node, gradient). Fills `wanted`, or where that is None adds to the leaves' `.grad`."""
    order, useful = _order(roots, wanted)
    grads: dict[Node, Any] = {}
    owned: set[Node] = set()  # nodes whose sum so far is ours to add to in place
    kept: list[tuple[Node, Any, bool]] = []  # gradients of leaves and retained nodes, stored when all went well
    for node, g in roots:
        _accumulate(grads, owned, node, g, create_graph)
    plain = not create_graph and local.mode != WATCHED
    with enable_grad() if create_graph else no_grad():
        for node in order:
            g = grads.pop(node, None)
            if g is None:
                continue
            if node.extra is not None:
                g = _complete(node, g, node in owned, kept, wanted)
            if wanted is not None and node in wanted:
                wanted[node] = g
                if not any(parent in useful for parent in node.inputs):
                    continue  # what made it is not asked for, and stays for whoever does
            op, saved, shape, dtype = node.op, node.saved, node.shape, node.dtype
            if op is None:
                continue
            if not (plain and op.joint is None and type(saved) is tuple):
                fresh = op.fresh is True or (op.fresh == FREED and not retain)
                fresh = fresh and not local.observers  # a watcher may have kept what it saw
                total, first = None, node.inputs[0]
                if op.adder is not None and not (create_graph or local.observers) and type(grads.get(first)) is np.ndarray:
                    total = grads.pop(first)  # comes back with what is added to it
                for d, parent in zip(_contributions(node, g, useful, create_graph, total, first in owned), node.inputs):
                    if d is not None and parent in useful:
                        _accumulate(grads, owned, parent, d, create_graph, fresh and not _is_view(d, g))
            else:
                count, place = len(saved), -1
                for parent in node.inputs:  # run a rule when what the one before it made is added
                    place += 1
                    if parent is None or (wanted is not None and parent not in useful):
                        continue
                    rule = op.rules[place]
                    d = rule(g, saved[0], saved[1]) if count == 2 else rule(g, saved[0]) if count == 1 else rule(g, *saved)
                    if not op.elementwise or not shape or parent.shape != shape or parent.dtype is not dtype:
                        # (a rule's result of shape () may be a NumPy scalar)
                        d = _fit(op, d, parent)
                    if d is None:
                        continue
                    if parent not in grads:
                        grads[parent] = d
                    elif parent in owned:
                        grads[parent] += d
                    else:
                        _accumulate(grads, owned, parent, d, create_graph)
            if not retain:
                node.saved = FREED
    if wanted is None:
        _store(kept)


def _order(roots: list[tuple[Any, Any]], wanted: dict[Node, Any] | None) -> tuple[list[Node], set[Node]]:
    """The nodes to visit, children before parents, as a list and a set: all that the roots reach, and with `wanted` only
    those on a way to one of them. Refuses what cannot be walked before anything is changed."""
    found = list(dict.fromkeys(node for node, _ in roots))
    reached = set(found)
    children: dict[Node, list[Node]] = {}
    last_write = nodes.last_write
    for node in found:  # which grows while we go: nearly in order already, so that sorting costs next to nothing
        if wanted is None and (node.saved is FREED or node.time < last_write):
            _refuse_unwalkable(node)
        for parent in node.inputs:
            if parent is None:
                continue
            if wanted is not None:
                children.setdefault(parent, []).append(node)
            if parent not in reached:
                reached.add(parent)
                found.append(parent)
    if wanted is not None:
        stack = [node for node in wanted if node in reached]
        reached = set()
        while stack:
            node = stack.pop()
            if node not in reached:
                reached.add(node)
                stack += children.get(node, ())
        found = [node for node in found if node in reached]
        for node in found:
            if (node.saved is FREED or node.time < last_write) and any(parent in reached for parent in node.inputs):
                _refuse_unwalkable(node)
    found.sort(key=_time, reverse=True)
    return found, reached


_time = attrgetter("time")


def _refuse_unwalkable(node: Node) -> None:
    if node.saved is FREED:
        raise RuntimeError(
            f"backward through {node.op.name} a second time: what it needs was freed by the first; "
            "pass retain_graph=True to the first backward"
        )
    if isinstance(node.saved, tuple):
        for name, value in zip(node.op.saved_names, node.saved, strict=False):
            if nodes.overwritten(value, node.time):
                where = f" ({node.extra.where})" if node.extra is not None and node.extra.where else ""
                raise RuntimeError(
                    f"{node.op.name}: an array that its gradient needs ({name!r}, {describe_value(value)}) was changed in place "
                    f"after the forward{where}; change a copy, or run backward first"
                )


def _is_view(d: Any, g: Any) -> bool:
    """Whether `d` is g, or one of two views of the same memory."""
    return d is g or (type(d) is np.ndarray and d.base is not None and nodes.memory_owner(d) is nodes.memory_owner(g))


def _accumulate(grads: dict[Node, Any], owned: set[Node], node: Node, d: Any, create_graph: bool, fresh: bool = False) -> None:
    """Add a contribution: the first is kept by reference, the second summed out of place, later ones in place.

    `owned` are the nodes whose sum so far nobody else holds. A fresh contribution is such an array from the start: it takes
    what was there before, so that the gradient of a tied embedding, 154 MB in GPT-2, is not made a third time.
    """
    fresh = fresh and type(d) is np.ndarray
    old = grads.get(node)
    if old is None:
        grads[node] = d
        if fresh:
            owned.add(node)
    elif type(d) is list:  # gradients of an op with several outputs, one place each
        grads[node] = [b if a is None else a if b is None else a + b for a, b in zip(old, d, strict=True)]
    elif node in owned:
        np.add(old, d, out=old)
    elif fresh and type(old) is np.ndarray:
        grads[node] = np.add(old, d, out=d)
        owned.add(node)
    else:
        total = old + d
        grads[node] = total if isinstance(total, (np.ndarray, Tensor)) else np.asarray(total)
        if not create_graph and type(grads[node]) is np.ndarray:
            owned.add(node)


def _contributions(node: Node, g: Any, useful: set[Node], create_graph: bool, total: Any, own: bool) -> tuple[Any, ...]:
    """What the node's rules make of `g`: one gradient for each input, None where none is needed. The first with `total` added."""
    op: Op = node.op
    if op is SELECT:
        places: list[Any] = [None] * len(node.inputs[0].shape)
        places[node.saved[0]] = g
        return (places,)
    saved = node.saved if type(node.saved) is tuple else node.saved.restore()
    if create_graph:
        saved = _as_tensors(node, saved)
        if op.composite is not None:
            return _through_composite(node, g, saved, useful)
    start = perf_counter()
    needs = tuple(parent in useful for parent in node.inputs)
    try:
        if total is not None:
            raw = op.adder(total, own, g, *saved)  # type: ignore[misc]
        elif op.joint is None:
            raw = tuple(rule(g, *saved) if needed else None for rule, needed in zip(op.rules, needs, strict=True))
        elif op.joint_needs:
            raw = op.joint(g, *saved, needs=needs)
        else:
            raw = op.joint(g, *saved)
    except Exception as error:
        if create_graph and op.strict:
            error.add_note(
                f"raised by a gradient rule of {op.name}: second derivatives run it on Tensors, which operators and NumPy's "
                "functions take; anything else may stand in a tg.custom_op of its own"
            )
        raise
    if len(raw) != len(needs):
        raise GradientError(f"{op.name}: its rule returned {len(raw)} gradients for {len(needs)} inputs")
    result = tuple(_fit(op, d, parent) if needed else None for d, parent, needed in zip(raw, node.inputs, needs, strict=True))
    seconds = perf_counter() - start
    for watcher in local.observers:
        watcher.after_rule(node, g, result, seconds)
    return result


def _fit(op: Op, d: Any, parent: Node) -> Any:
    """`d` in the parent's shape and dtype: summed over what the forward broadcast."""
    if d is None:
        return None
    if type(d) is not np.ndarray and not isinstance(d, Tensor):
        d = np.asarray(d)
    if d.shape != parent.shape:
        d = unbroadcast(d, parent.shape, op.name)
    if d.dtype != parent.dtype:
        if d.dtype.kind not in "fiub":
            raise GradientError(f"{op.name}: its rule returned {d.dtype}, the input's gradient is {parent.dtype}")
        d = d.astype(parent.dtype)
    return d


def unbroadcast(d: Any, shape: tuple[int, ...], name: str) -> Any:
    """Sum `d` over the axes along which an array of `shape` was broadcast by the op `name`."""
    extra = d.ndim - len(shape)
    ones = tuple(k + extra for k, n in enumerate(shape) if n == 1 and extra >= 0 and d.shape[k + extra] != 1)
    if extra < 0 or any(n != 1 and n != d.shape[k + extra] for k, n in enumerate(shape)):
        raise GradientError(f"{name}: its rule returned a gradient of shape {d.shape} for an input of shape {shape}")
    return np.reshape(np.sum(d, axis=(*range(extra), *ones), keepdims=True), shape)


def _complete(node: Node, g: Any, own: bool, kept: list[tuple[Node, Any, bool]], wanted: Any) -> Any:
    """A gradient is complete: run its hooks, and keep it where somebody will ask for it."""
    extra = node.extra
    assert extra is not None
    for hook in tuple(extra.hooks.values()):
        seen = hook(g if isinstance(g, Tensor) else from_node(g, None))
        if seen is not None:
            new = seen if isinstance(seen, Tensor) else Tensor(seen)
            if new.shape != node.shape:
                raise ValueError(f"hook: expected a gradient of shape {node.shape}, it returned {new.shape}")
            g = new if isinstance(g, Tensor) else new._data.astype(node.dtype, copy=False)
        own = False
    if wanted is None and (node.op is None or extra.retain):
        kept.append((node, g, own and node.op is None))
    return g


def _store(kept: list[tuple[Node, Any, bool]]) -> None:
    """Add the gradients to `.grad`. An array that somebody else may hold is copied first."""
    with _commit:
        for node, g, own in kept:
            extra = node.extra
            assert extra is not None
            if isinstance(g, Tensor):
                extra.grad = g if extra.grad is None else extra.grad + g
            elif extra.grad is None:
                extra.grad = from_node(g if own else g.copy(), None)
            elif extra.grad.node is None and extra.grad._data.flags.writeable:
                np.add(extra.grad._data, g, out=extra.grad._data)
            else:
                extra.grad = extra.grad + from_node(g, None)


# -- gradients that can be differentiated again ------------------------------------------------------------------------


def _as_tensors(node: Node, saved: tuple[Any, ...]) -> tuple[Any, ...]:
    """The saved values with their history: inputs hang on the inputs' nodes, `out` on this one."""
    op = node.op
    result = []
    if len(op.saved_names) != len(saved):
        raise GradientError(
            f"{op.name}: its rules name {len(op.saved_names)} of {len(saved)} saved values, so they cannot be differentiated again"
        )
    for name, value in zip(op.saved_names, saved):
        if name in op.misnamed:
            _refuse_saved(op, f"{name!r} is not what has this name in the forward")
        if op.variadic and name == op.inputs[0]:
            value = tuple(_attach(v, parent) for v, parent in zip(value, node.inputs, strict=True))
        elif name in op.inputs:
            value = _attach(value, node.inputs[op.inputs.index(name)])
        elif name == "out":
            value = outputs_of(node, value) if type(value) is tuple else from_node(value, node)
        elif op.strict and op.composite is None and isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f":
            _refuse_saved(op, f"{name!r} is neither an input nor `out`")
        result.append(value)
    return tuple(result)


def _refuse_saved(op: Op, said: str) -> None:
    raise GradientError(
        f"{op.name}: its saved value {said}, so its rule cannot be differentiated again; "
        f"save inputs or give a composite (@{op.name}.composite)"
    )


def _attach(value: Any, parent: Node | None) -> Any:
    return from_node(value, parent) if parent is not None else value


def _through_composite(node: Node, g: Any, saved: tuple[Any, ...], useful: set[Node]) -> tuple[Any, ...]:
    """Differentiate the op's composite in place of its rule: that gradient has a graph."""
    op = node.op
    by_name = dict(zip(op.saved_names, saved, strict=True))
    missing = [n for n, parent in zip(op.inputs, node.inputs, strict=False) if parent is not None and n not in by_name]
    if missing:
        raise GradientError(f"{op.name}: higher derivatives need {missing} among its saved values")
    inputs: list[Any] = list(by_name[op.inputs[0]]) if op.variadic else [by_name.get(name) for name in op.inputs]
    for i, parent in enumerate(node.inputs):
        if parent is not None:  # a node of its own, so that the inner gradient stops here and joins the outer graph
            inputs[i] = alias(inputs[i])
    with autocast(by_name.get("precision")):  # as it was when the op ran
        outs = op.composite(*inputs, **(node.params or {}))
    chosen = [i for i, parent in enumerate(node.inputs) if parent in useful]
    if isinstance(outs, tuple):
        pairs = [(o, gi) for o, gi in zip(outs, g, strict=True) if gi is not None and o.node is not None]
    else:
        pairs = [(outs, g)] if outs.node is not None else []
    found = grad([o for o, _ in pairs], [inputs[i] for i in chosen], [gi for _, gi in pairs], create_graph=True, allow_unused=True)
    result: list[Any] = [None] * len(node.inputs)
    for i, d in zip(chosen, found, strict=True):
        result[i] = None if d is None else _fit(op, d, node.inputs[i])
    return tuple(result)


def alias(x: Tensor) -> Tensor:
    """`x` through one node of its own."""
    return from_node(x._data, make_node(_ALIAS, (x.node,), (), {}, x.shape, x.dtype))


_ALIAS = Op(lambda x: (x, ()), "alias", True, strict=False)
_ALIAS.grad_of("x")(lambda g: g)
