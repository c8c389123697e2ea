"""Derivatives of functions: jacobian, hessian, and products with vectors. To any order: every result has a graph
where `create_graph` asks for one, and these functions nest.

`fn` takes Tensors and returns a Tensor or a tuple of them; `inputs` is a Tensor or a tuple; results come back in the same form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .engine import alias, grad
from .state import enable_grad
from .tensor import Tensor, from_node


def _listed(x: Any) -> tuple[list[Tensor], bool]:
    if isinstance(x, (tuple, list)):
        return [v if isinstance(v, Tensor) else Tensor(v) for v in x], True
    return [x if isinstance(x, Tensor) else Tensor(x)], False


def _prepare(inputs: Any, create_graph: bool) -> tuple[list[Tensor], bool]:
    """Inputs to differentiate by: fresh leaves, or with `create_graph` nodes on top of the caller's own, so that each stands for
    itself alone, even where the same Tensor comes twice or `fn` also finds it elsewhere."""
    if not isinstance(create_graph, (bool, np.bool_)):
        kind = type(create_graph).__name__
        raise TypeError(f"create_graph: expected True or False, got {kind}; several inputs are a tuple: (x, y)")
    xs, many = _listed(inputs)
    fresh = [alias(x) if create_graph and x.requires_grad else Tensor(x._data, requires_grad=True) for x in xs]
    return fresh, many


def _call(fn: Callable[..., Any], xs: list[Tensor]) -> tuple[list[Tensor], bool]:
    with enable_grad():
        result = fn(*xs)
    outs, many = (list(result), True) if isinstance(result, (tuple, list)) else ([result], False)
    for out in outs:
        if not isinstance(out, Tensor):
            raise TypeError(
                f"{getattr(fn, '__name__', 'fn')}: expected a Tensor (or a tuple of them) back, got {type(out).__name__}"
            )
    return outs, many


def _pack(values: list[Any], many: bool) -> Any:
    return tuple(values) if many else values[0]


def _zeros(x: Tensor) -> Tensor:
    return Tensor(np.zeros(x.shape, x.dtype))


def _ones(x: Tensor) -> Tensor:
    return Tensor(np.ones(x.shape, x.dtype))


def _grad(outs: list[Tensor], xs: list[Tensor], seeds: list[Tensor], create_graph: bool) -> list[Tensor]:
    """`grad` with zeros where an output does not depend on an input."""
    pairs = [(o, s) for o, s in zip(outs, seeds, strict=True) if o.requires_grad]
    if not pairs:
        return [_zeros(x) for x in xs]
    found = grad([o for o, _ in pairs], xs, [s for _, s in pairs], create_graph, allow_unused=True, retain_graph=True)
    return [_zeros(x) if d is None else d for d, x in zip(found, xs, strict=True)]


def _like(given: Any, targets: list[Tensor], who: str) -> list[Tensor]:
    if given is None:
        if len(targets) != 1 or targets[0].size != 1:
            shapes = [t.shape for t in targets]
            raise ValueError(f"{who}: v must be given for shapes {shapes}; only for a single element may it be left out")
        return [_ones(targets[0])]
    seeds, _ = _listed(given)
    shapes, wanted = [s.shape for s in seeds], [t.shape for t in targets]
    if shapes != wanted:
        raise ValueError(f"{who}: v must have shapes {wanted}, got {shapes}")
    return seeds


def vjp(fn: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(fn(inputs), vᵀJ): the gradient of the outputs weighted by `v`, which has their shapes."""
    xs, many = _prepare(inputs, create_graph)
    outs, many_out = _call(fn, xs)
    seeds = _like(v, outs, "vjp")
    gradients = _grad(outs, xs, seeds, create_graph)
    return _pack(_released(outs, create_graph), many_out), _pack(gradients, many)


def jvp(fn: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(fn(inputs), Jv): how the outputs move when the inputs move along `v`, which has their shapes.

    By the double-backward trick: u -> Jᵀu is linear, and its own transpose is J.
    """
    xs, _ = _prepare(inputs, create_graph)
    outs, many_out = _call(fn, xs)
    direction = _like(v, xs, "jvp")
    dummies = [Tensor(np.zeros(o.shape, o.dtype), requires_grad=True) for o in outs]
    pulled = _grad(outs, xs, dummies, True)
    pushed = _grad(pulled, dummies, direction, create_graph)
    return _pack(_released(outs, create_graph), many_out), _pack(pushed, many_out)


def hvp(fn: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(fn(inputs), Hv) for a scalar `fn`: the Hessian times `v`, without the Hessian."""
    xs, many = _prepare(inputs, create_graph)
    outs, many_out = _call(fn, xs)
    first = _gradient_of_scalar("hvp", outs, xs)
    direction = _like(v, xs, "hvp")
    return _pack(_released(outs, create_graph), many_out), _pack(_grad(first, xs, direction, create_graph), many)


def jacobian(fn: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """d fn / d inputs, of shape output.shape + input.shape; nested tuples [output][input] where there are several."""
    xs, many = _prepare(inputs, create_graph)
    outs, many_out = _call(fn, xs)
    rows = [_pack(_jacobian_of(out, xs, create_graph), many) for out in outs]
    return _pack(rows, many_out)


def hessian(fn: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """The second derivatives of a scalar `fn`, of shape input.shape + input.shape (nested tuples for several inputs)."""
    xs, many = _prepare(inputs, create_graph)
    outs, _ = _call(fn, xs)
    first = _gradient_of_scalar("hessian", outs, xs)
    return _pack([_pack(_jacobian_of(d, xs, create_graph), many) for d in first], many)


def _jacobian_of(out: Tensor, xs: list[Tensor], create_graph: bool) -> list[Tensor]:
    """One row of the Jacobian for each element of `out`, each by one walk."""
    rows: list[list[Tensor]] = []
    for k in range(out.size):
        seed = np.zeros(out.size, out.dtype)
        seed[k] = 1
        rows.append(_grad([out], xs, [Tensor(seed.reshape(out.shape))], create_graph))
    columns: list[Tensor] = []
    for i, x in enumerate(xs):
        column = [row[i] for row in rows]
        if create_graph and column:
            columns.append(np.reshape(np.stack(column), (*out.shape, *x.shape)))  # type: ignore[call-overload,arg-type]
        else:
            stacked = np.stack([c._data for c in column]) if column else np.zeros(0, x.dtype)
            columns.append(Tensor(stacked.reshape((*out.shape, *x.shape))))
    return columns


def _gradient_of_scalar(who: str, outs: list[Tensor], xs: list[Tensor]) -> list[Tensor]:
    """The first derivatives, with a graph to differentiate them by."""
    if len(outs) != 1 or outs[0].size != 1:
        raise ValueError(f"{who}: fn must return one scalar, got shapes {[o.shape for o in outs]}")
    return _grad(outs, xs, [_ones(outs[0])], True)


def _released(outs: list[Tensor], create_graph: bool) -> list[Tensor]:
    return outs if create_graph else [from_node(o._data, None) for o in outs]
