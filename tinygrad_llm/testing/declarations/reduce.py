"""Declarations of ops_reduce.py."""

import numpy as np

from .forms import call, general

MAKERS = (
    call((2, 3)),
    call((2, 3), axis=0),
    call((2, 3, 4), axis=(0, -1)),
    call((2, 3, 4), axis=[1], keepdims=True),
    call((2, 3), axis=()),
    call(()),
    call((4, 2), keepdims=True),
)
EMPTY = (call((0, 3), axis=0), call((2, 0)), call((0, 3), axis=1))


def _tupled(function):
    """NumPy wants tuples of axes where lists are accepted, too."""
    def reference(x, axis=None, **options):
        return function(x, axis=tuple(axis) if isinstance(axis, list) else axis, **options)

    return reference


def _zeros(*shape, places):
    """Random numbers with some zeros."""
    def make(rng):
        x = rng.uniform(0.5, 2, shape)
        for place in places:
            x[place] = 0
        return x

    return make


def _logsumexp(x, axis=None, keepdims=False):
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


MASK = np.array([[True, False, True], [False, False, True]])
MASKED = (
    call((2, 3), where=MASK), call((2, 3), axis=0, where=MASK[:, :1]), call((4, 2, 3), axis=(0, 2), keepdims=True, where=MASK[1]),
)
FROM = (call((2, 3), initial=0.5), call((2, 3), axis=1, initial=-0.3, where=MASK), call((2, 0), axis=1, initial=1.5))

general("sum", _tupled(np.sum), *MAKERS, *EMPTY, *MASKED, *FROM, complex_step=True)
general("mean", _tupled(np.mean), *MAKERS, call((0, 3), axis=1), *MASKED[::2], complex_step=True)
general(
    "prod", _tupled(np.prod), *MAKERS, *EMPTY, *MASKED, *FROM, call(_zeros(2, 3, places=[(0, 1)]), axis=1, where=MASK),
    call(_zeros(2, 3, places=[(0, 0)]), axis=1, where=MASK), call(_zeros(2, 3, places=[(0, 1)]), axis=1),
    call(_zeros(2, 3, places=[(0, 1), (0, 2), (1, 0)]), axis=1), call(_zeros(2, 3, places=[(0, 1)])),
    call(_zeros(2, 2, 3, places=[(0, 1, 0), (1, 1, 1)]), axis=(0, 2), keepdims=True),
)
general("max", _tupled(np.max), *MAKERS, *FROM, call((0, 3), axis=1), call((2, 0, 3), axis=2))
general("min", _tupled(np.min), *MAKERS, *FROM, call((0, 3), axis=1), call((2, 0, 3), axis=2))
VARIANCES = (
    call((2, 3)), call((2, 3), axis=1, ddof=1), call((2, 3, 4), axis=(0, 2), keepdims=True), call((2, 3, 4), axis=[1], ddof=1),
)
general("var", _tupled(np.var), *VARIANCES, call((2, 3), axis=()), call((0, 3), axis=1))
general("std", _tupled(np.std), *VARIANCES, call((0, 3), axis=1))
general("logsumexp", _tupled(_logsumexp), *MAKERS, *EMPTY)
general(
    "euclidean_norm", lambda x, axis=None, keepdims=False: np.sqrt(_tupled(np.sum)(x**2, axis=axis, keepdims=keepdims)),
    *MAKERS[:4], call((4, 2), keepdims=True), call((0, 3), axis=1),
)
RUNNING = (call((4,), axis=0), call((2, 3, 2), axis=1), call((2, 3), axis=-1), call((0, 3), axis=0))
general("cumsum", np.cumsum, *RUNNING, complex_step=True)
general(
    "cumprod", np.cumprod, *RUNNING, call(_zeros(4, places=[(1,)]), axis=0),
    call(_zeros(2, 5, places=[(0, 1), (0, 3), (1, 0)]), axis=1),
)
general("logcumsumexp", lambda x, axis: np.log(np.cumsum(np.exp(x), axis=axis)), *RUNNING)
