"""Declarations of ops_shape.py, ops_join.py and ops_index.py."""

import numpy as np

from .forms import call, draw, general

COLUMNS = lambda rng: draw(rng, (4, 3)).T  # not contiguous

general(
    "reshape", lambda x, shape: np.reshape(x, shape), call((2, 6), shape=(3, -1)), call(COLUMNS, shape=(2, 6)),
    call((), shape=(1, 1)), call((0, 3), shape=(3, 0)), complex_step=True,
)
general(
    "transpose", np.transpose, call((2, 3, 4)), call((2, 3, 4), axes=(1, 2, 0)), call((2, 3), axes=(-1, 0)), call(()),
    call((0, 3)), complex_step=True,
)
general(
    "broadcast_to", np.broadcast_to, call((3,), shape=(2, 3)), call((2, 1, 3), shape=(4, 2, 5, 3)), call((), shape=(2, 2)),
    call((1, 3), shape=(0, 3)), complex_step=True,
)
general(
    "flip", lambda x, axis=None: np.flip(x, tuple(axis) if isinstance(axis, list) else axis), call((2, 3)),
    call((2, 3), axis=1), call((2, 3, 2), axis=(0, -1)), call((2, 3), axis=[0]), call((0, 2), axis=0), complex_step=True,
)
general(
    "roll", np.roll, call((2, 3), shift=2), call((4, 3), shift=-1, axis=0), call((4, 3), shift=(1, -2), axis=(0, 1)),
    call((0, 2), shift=1, axis=0), complex_step=True,
)
general(
    "concatenate", lambda *arrays, axis=0: np.concatenate(arrays, axis), call((2, 3), (1, 3)),
    call((2, 1), (2, 4), (2, 0), axis=-1), call((0, 3), (2, 3)), call(COLUMNS, (3, 1), axis=1), complex_step=True,
)
general(
    "split", lambda x, lengths, axis=0: tuple(np.split(x, np.cumsum(lengths)[:-1], axis)), call((5, 2), lengths=(2, 3)),
    call((2, 6), lengths=(1, 0, 5), axis=-1), call((0, 2), lengths=(0, 0)), complex_step=True,
)

INDICES = (
    ((4, 3), 1),
    ((4, 3), (slice(None, None, -2), 1)),
    ((4, 3), (..., None, slice(1, None))),
    ((4, 3), np.array([0, 2, 0, 0, -1])),
    ((4, 3), (np.array([[0, 1], [3, 0]]), np.array([2, 2]))),
    ((4, 3), (slice(None), np.array([2, 2, -1]))),
    ((4, 3, 2), (np.array([1, 1]), slice(None), np.array([0, 0]))),
    ((4, 3, 2), (np.array([[0], [3]]), ..., np.array([0, 1, 1]))),
    ((4, 3), np.array([True, False, True, True])),
    ((2, 2), np.array([[True, False], [True, True]])),
    ((4, 3), (np.array([True, False, True, True]), np.array([0, 2, 0]))),
    ((4, 3), (np.array([], np.int64),)),
    ((0, 3), (slice(None), 1)),
    ((4,), (np.int64(2), None)),
    ((4, 3), ()),
    ((4, 3), (None, np.array(2), slice(None))),
)


def _scattered(x, shape, index):
    out = np.zeros(shape, x.dtype)
    np.add.at(out, index, x)
    return out


def _put(x, values, index, accumulate=False):
    out = x.copy()
    if accumulate:
        np.add.at(out, index, values)
    else:
        out[index] = values
    return out


general("getitem", lambda x, index: x[index], *(call(shape, index=index) for shape, index in INDICES), complex_step=True)
general(
    "scatter_to_zeros", _scattered,
    *(call(np.zeros(shape)[index].shape, shape=shape, index=index) for shape, index in INDICES),
)
general(
    "index_put", _put, call((4, 3), (3,), index=1), call((4, 3), (2, 1), index=np.array([3, 0])),
    call((4, 3), (), index=(slice(None), np.array([True, False, True]))),
    call((4, 3), (3, 3), index=np.array([1, 1, 0]), accumulate=True),
    call((4, 3), (3,), index=(..., slice(None)), accumulate=True), call((0, 3), (3,), index=slice(None)),
)
