"""Declarations of ops_arithmetic.py and ops_copy.py."""

import numpy as np

from .forms import binary, call, draw, general, unary

FAR = (2.0, 4.0)  # apart from what lies in [-2, 2): no ties, no kinks

binary("add", np.add, complex_step=True)
binary("subtract", np.subtract, complex_step=True)
binary("multiply", np.multiply, complex_step=True)
binary("divide", np.divide, b=(0.5, 2), complex_step=True)
unary("negative", np.negative, complex_step=True)
binary("power", np.power, a=(0.3, 2), complex_step=True)
binary("remainder", np.remainder, a=(0.1, 0.9), b=(1, 2))
binary("fmod", np.fmod, a=(-0.9, -0.1), b=(1, 2))
binary("floor_divide", np.floor_divide, a=(0.1, 0.9), b=(1, 2))
binary("maximum", np.maximum, b=FAR)
binary("minimum", np.minimum, b=FAR)
binary("fmax", np.fmax, a=FAR)
binary("fmin", np.fmin, a=FAR)
binary("hypot", np.hypot, b=(0.5, 2))
binary("logaddexp", np.logaddexp)
binary("logaddexp2", np.logaddexp2)
binary("copysign", np.copysign, a=(0.5, 2), b=(0.5, 2))
binary("heaviside", np.heaviside, a=(0.5, 2))
binary("xlogy", lambda a, b: a * np.log(b), b=(0.5, 2), complex_step=True)

general(
    "clip", lambda x, low, high: np.clip(x, low, high), call((3, 4), -0.5, 0.6), call((3, 4), None, 0.3),
    call((3, 4), lambda rng: rng.uniform(-1, -0.5, 4), lambda rng: rng.uniform(0.5, 1, (3, 1))), call((0, 4), -0.5, 0.6),
)
general(
    "where", np.where, call(lambda rng: rng.random((3, 4)) < 0.5, (3, 4), (3, 4)),
    call(lambda rng: rng.random((3, 1)) < 0.5, (4,), ()), call(lambda rng: rng.random((0, 1)) < 0.5, (4,), ()), complex_step=True,
)
general("nan_to_num", np.nan_to_num, call((3, 4)), call((0, 4), nan=1.0, posinf=3.0))
general("astype", lambda x, dtype: x.astype(dtype), call((2, 3), dtype=np.float64), call((0, 3), dtype=np.float64))
general("copy", np.copy, call((2, 3)), call(lambda rng: draw(rng, (4, 3)).T), complex_step=True)
