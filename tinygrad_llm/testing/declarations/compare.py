"""Declarations of ops_compare.py: bools and integers, no gradient."""

import numpy as np

from .forms import binary, call, draw, general, unary

for _name in (
    "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor".split()
):
    binary(_name, getattr(np, _name), differentiable=False)
for _name in ("logical_not", "isnan", "isinf", "isfinite", "signbit"):
    unary(_name, getattr(np, _name), differentiable=False)


def _bools(*shape):
    return lambda rng: rng.random(shape) < 0.5


def _ints(*shape):
    return lambda rng: rng.integers(-9, 9, shape)


for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    general(_name, getattr(np, _name), call(_bools(3, 4), _bools(4)), call(_ints(3, 1), _ints(4)), differentiable=False)
general("invert", np.invert, call(_bools(3, 4)), call(_ints(3, 4)), differentiable=False)
general(
    "isclose", np.isclose, call((3,), (3,)), call(lambda rng: np.array([1.0]), lambda rng: np.array([1.001]), rtol=0.1),
    differentiable=False,
)
for _name in ("any", "all", "count_nonzero"):
    general(
        _name, getattr(np, _name), call(_bools(3, 4)), call(_bools(3, 4), axis=0), call(_bools(2, 3, 4), axis=(0, 2)),
        call(_ints(3, 4), axis=1, keepdims=True), call(_bools(0, 4), axis=0), differentiable=False,
    )
for _name in ("argmax", "argmin"):
    general(
        _name, getattr(np, _name), call((3, 4)), call((3, 4), axis=0), call((3, 4), axis=-1, keepdims=True),
        call(lambda rng: np.zeros((3, 4)), axis=1), call((0, 4), axis=1), differentiable=False,
    )
for _name in ("zeros_like", "ones_like"):
    general(
        _name, getattr(np, _name), call((3, 4)), call(_ints(3)), call(lambda rng: draw(rng, ()), dtype=np.int64),
        differentiable=False,
    )
