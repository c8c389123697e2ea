"""The checks that every kernel makes before it touches memory; both backends share them, so both raise the same errors."""
import numpy as np

from .arrays import address

FLOATS = F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def float_array(name, x):
    """An ndarray of float32 or float64 in native byte order, or a TypeError that says what to do."""
    if type(x) is np.ndarray and ((dtype := x.dtype) is F32 or dtype is F64):
        return x                                      # the usual case, in 0.1 microseconds
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array, got {type(x).__name__}; call np.asarray first")
    if x.dtype not in FLOATS:
        raise TypeError(f"{name}: expected float32 or float64, got {x.dtype}; convert with .astype(np.float32)")
    return x


def variant(approximate):
    """GELU's: the exact one, or tanh's."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate: expected 'none' or 'tanh', got {approximate!r}")
    return approximate


def vector(name, x, like, size):
    """None, or a vector of `size` numbers with the dtype of `like`."""
    if x is None:
        return None
    float_array(name, x)
    if x.shape != (size,):
        raise ValueError(f"{name}: expected shape ({size},) to match the last axis, got {x.shape}")
    return same_dtype(name, x, like)


def same_dtype(name, x, like):
    if x.dtype is not like.dtype and x.dtype != like.dtype:
        raise TypeError(f"{name}: expected dtype {like.dtype} as the other inputs have, got {x.dtype}; convert one of them")
    return x


def like_array(name, x, like):
    """An array with the shape and the dtype of `like`."""
    float_array(name, x)
    if x.shape != like.shape:
        raise ValueError(f"{name}: expected shape {like.shape}, got {x.shape}")
    return same_dtype(name, x, like)


def statistics(name, x, like):
    """One number per row of `like`, as a forward pass saved it."""
    float_array(name, x)
    if x.shape != like.shape[:-1]:
        raise ValueError(f"{name}: expected one number per row, shape {like.shape[:-1]}, got {x.shape}")
    return same_dtype(name, x, like)


def rows(name, x):
    """A float array with at least one axis."""
    float_array(name, x)
    if x.ndim == 0:
        raise ValueError(f"{name}: expected at least one axis, got a 0-d array")
    return x


def axis_of(name, axis, ndim):
    """`axis` counted from the front."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}: axis {axis} is out of range for an array with {ndim} axes")
    return axis % ndim


def integers(name, ids):
    if not isinstance(ids, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array of integers, got {type(ids).__name__}")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {ids.dtype}; convert with .astype(np.int64)")
    return ids


def index_range(name, ids, count, ignore=None):
    """Every id lies in [0, count) or equals `ignore`."""
    integers(name, ids)
    wrong = (ids < 0) | (ids >= count)
    if ignore is not None:
        wrong &= ids != ignore
    if wrong.any():
        where = tuple(map(int, np.unravel_index(int(wrong.argmax()), ids.shape))) if ids.ndim else ()
        also = "" if ignore is None else f" or {ignore}"
        raise IndexError(f"{name}: expected ids in [0, {count}){also}, got {ids[where]} at {where}")
    return ids


def writable(name, out, shape, dtype, inputs=()):
    """A buffer a kernel may write: right shape and dtype, writeable, sharing memory with none of `inputs` and not with itself."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array, got {type(out).__name__}")
    if out.shape != tuple(shape) or out.dtype != dtype:
        raise ValueError(f"{name}: expected shape {tuple(shape)} and dtype {dtype}, got {out.shape} and {out.dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name}: the array is read-only; pass a writeable one or leave `{name}` out")
    if overlaps_itself(out):
        raise ValueError(f"{name}: overlaps itself, several of its elements are one place in memory; pass a separate buffer")
    for x in inputs:
        if x is not None and np.may_share_memory(out, x) and np.shares_memory(out, x):
            raise ValueError(f"{name}: overlaps an input; pass a separate buffer")
    return out


def overlaps_itself(x):
    """Whether two elements of x may be one place in memory, as in a broadcast view or in sliding windows."""
    if x.flags.c_contiguous or x.flags.f_contiguous or not x.size:
        return False
    reach = x.itemsize
    for stride, count in sorted((abs(stride), count) for stride, count in zip(x.strides, x.shape) if count > 1):
        if stride < reach:
            return True
        reach += stride * (count - 1)
    return False


def bounds(x):
    """Where an array begins and ends in memory."""
    if x.flags.c_contiguous:
        start = address(x)
        return start, start + x.nbytes
    return np.lib.array_utils.byte_bounds(x)


def same_place(out, x):
    """Whether `out` is the elements of x at their places, which a kernel may write over that reads each row before it writes it."""
    return out is x or (isinstance(out, np.ndarray) and out.ctypes.data == x.ctypes.data
                        and out.shape == x.shape and out.strides == x.strides)


def into(out, y, inputs=(), name="out"):
    """y as an array, or `out` filled with it: what the plain kernels do with a buffer."""
    if out is None:
        return np.asarray(y)                              # NumPy makes a scalar of what has no axes
    writable(name, out, y.shape, y.dtype, inputs)
    out[...] = y
    return out
