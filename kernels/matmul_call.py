"""out = activation(alpha · op(a) op(b) + beta · out + bias) + residual, and its gradients.

Here: what is asked for is checked, shapes and strides are turned into a plan (`matmul_plan`), and the loops are called:
`matmul_blocked` in explicit vectors, or `matmul_portable` where kernels are not compiled. Leaves out: complex and
integer matrices (np.matmul has them).
"""

import functools
import math

import numpy as np

from . import _check as check
from . import _threads
from ._check import FLOATS
from ._jit import COMPILED
from .arrays import WORTH_IT, contiguous_strides, empty
from .matmul_portable import matmul_naive
from .reference_matmul import check_gradient, check_precision, check_residual, merge_rows, product_shape, sum_to

from .matmul_plan import (  # isort: skip
    ACTIVATIONS, SCRATCH, SERIAL_SKINNY, SERIAL_WORK, SHARED, WAKING_WORK, borrow_scratch, is_skinny, make_plan, merge_batches,
    merge_into_rows, return_scratch,
)

if COMPILED:
    from numba import int64

    from . import amx, matmul_pairs, simd
    from ._jit import address_of
    from ._pool import if_awake, ready
    from .bfloat16 import round_bfloat16
    from .matmul_amx import make_amx, make_plan_amx, suits
    from .matmul_blocked import launch, make_matmul, part_address
    from .matmul_epilogue import make_epilogue
    from .matmul_skinny import make_skinny
    from .matmul_tile import PANEL, ROWS

    @functools.cache
    def worker_address(size, skinny, pairs):
        """The compiled loops for float32 (4) or float64 (8), or for float32 rounded to pairs of bfloat16."""
        vector = simd.f32 if size == 4 else simd.f64
        return address_of(make_skinny(vector) if skinny else make_matmul(vector, pairs)[0], *[int64] * 4)

    @functools.cache
    def tiles(pieces):
        """(address of the compiled loops on matrix tiles, what their plans end with)."""
        worker, tail = make_amx(address_of(make_matmul(simd.f32)[1], *[int64] * 4) if len(pieces) > 1 else 0, pieces)
        return address_of(worker, *[int64] * 4), tail

    @functools.cache
    def finish_address(size):
        """The compiled epilogue."""
        return address_of(make_epilogue(simd.f32 if size == 4 else simd.f64), *[int64] * 4)

    _LANES = {4: simd.LANES32, 8: simd.LANES64}
    _TILES = amx.AVAILABLE
    _PAIRS = matmul_pairs.AVAILABLE and not _TILES
else:
    from .reference_matmul import round_bfloat16

    _TILES = _PAIRS = False

_problems = {}
_MOST_PROBLEMS = 4096


def matmul(a, b, out=None, *, transpose_a=False, transpose_b=False, alpha=1.0, beta=0.0, bias=None, activation=None,
           residual=None, pre=None, precision=None):
    """See `reference_matmul.matmul`. What is transposed is not copied."""
    if type(a) is not np.ndarray or type(b) is not np.ndarray or a.dtype is not b.dtype or a.dtype not in FLOATS:
        check.float_array("a", a)
        check.same_dtype("b", check.float_array("b", b), a)
    if out is not None and not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a numpy array, got {type(out).__name__}")
    key = (a.shape, a.strides, b.shape, b.strides, a.itemsize, transpose_a, transpose_b, _threads.allowed,
           None if out is None else out.strides, precision)
    plain = bias is None and activation is None and residual is None and pre is None
    if not plain:
        for name, extra in (("bias", bias), ("residual", residual), ("pre", pre)):
            if extra is not None and (type(extra) is not np.ndarray or extra.dtype is not a.dtype):
                check.same_dtype(name, check.float_array(name, extra), a)
        key += (activation, *[x is not None and (x.shape, x.strides) for x in (bias, residual, pre)])
    problem = _problems.get(key)
    if problem is None:
        if len(_problems) >= _MOST_PROBLEMS:
            _problems.clear()
        problem = _Problem(a, b, out, transpose_a, transpose_b, bias, activation, residual, pre, precision)
        if out is not None:
            check.writable("out", out, problem.shape, a.dtype)
        _problems[key] = problem
    alpha, beta, fresh = float(alpha), float(beta), out is None       # other types would have the loops compiled once more
    if fresh:
        if beta != 0.0:
            raise ValueError("beta: accumulating needs an `out` to accumulate into")
        out = problem.empty(problem.shape, a.dtype)
    elif out.shape != problem.shape or out.dtype is not a.dtype or not out.flags.writeable:
        check.writable("out", out, problem.shape, a.dtype)
    if pre is not None:
        check.writable("pre", pre, problem.shape, a.dtype, (a, b, bias, residual))
    if problem.simple and (plain or fresh):           # the usual case: the loops see for themselves whether `out` overlaps a or b
        scratch = borrow_scratch(problem.scratch)
        threads = problem.threads
        clash = launch(problem.pool(threads), threads, problem.part, problem.worker, problem.finish, problem.plan, id(a), id(b),
                       id(out), 0 if bias is None else id(bias), 0 if residual is None else id(residual),
                       0 if pre is None else id(pre), alpha, beta, scratch, not fresh)
        return_scratch(scratch)
        if not clash:
            return out
    check.writable("out", out, problem.shape, a.dtype, (a, b, bias, residual, pre))
    problem.run(a, b, out, bias, residual, pre, alpha, beta)
    return out


def prepare(a, b, out, bias, activation, residual):
    """The `_Problem` of activation(a bᵀ + bias) + residual for contiguous arrays, checked, without a call."""
    return _Problem(a, b, out, False, True, bias, activation, residual, None, None)


def matmul_backward(g, a, b, *, transpose_a=False, transpose_b=False, alpha=1.0, bias=False, activation=None, pre=None,
                    precision=None, needs=(True, True)):
    """See `reference_matmul.matmul_backward`."""
    check_gradient(g, a, b, transpose_a, transpose_b, activation, pre)
    check_precision(precision, a)
    if activation is not None:
        g = _activation_backward(activation, g, pre)
    a2, b2 = (a[None, :] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    g2 = g[..., None] if b.ndim == 1 else g
    g2 = g2[..., None, :] if a.ndim == 1 else g2
    transpose_a, transpose_b = transpose_a and a.ndim > 1, transpose_b and b.ndim > 1
    da = _gradient_a(g2, a2, b2, transpose_a, transpose_b, alpha, precision).reshape(a.shape) if needs[0] else None
    db = _gradient_b(g2, a2, b2, transpose_a, transpose_b, alpha, precision).reshape(b.shape) if needs[1] else None
    return (da, db, merge_rows(g2).sum(axis=0)) if bias else (da, db)


def _activation_backward(activation, g, pre):
    import kernels

    if activation == "gelu_tanh":
        return kernels.gelu_backward(g, pre, "tanh")
    return getattr(kernels, f"{activation}_backward")(g, pre)


def _gradient_a(g, a, b, transpose_a, transpose_b, alpha, precision):
    if transpose_a:
        da = matmul(b, g, transpose_a=transpose_b, transpose_b=True, alpha=alpha, precision=precision)
    else:
        da = matmul(g, b, transpose_b=not transpose_b, alpha=alpha, precision=precision)
    return sum_to(da, a.shape)


def _gradient_b(g, a, b, transpose_a, transpose_b, alpha, precision):
    if b.ndim == 2 and a.ndim > 2 and not transpose_a:      # a batch that shares b: one product over all its rows
        a, g = merge_rows(a), merge_rows(g)
    if transpose_b:
        db = matmul(g, a, transpose_a=True, transpose_b=transpose_a, alpha=alpha, precision=precision)
    else:
        db = matmul(a, g, transpose_a=not transpose_a, alpha=alpha, precision=precision)
    return sum_to(db, b.shape)


def _matrix_strides(name, x, transpose):
    """Byte strides of the rows and columns of op(x), of a vector as the matrix that it stands for."""
    if x.ndim == 1:
        return (0, x.strides[0]) if name == "a" else (x.strides[0], x.itemsize)
    return x.strides[:-3:-1] if transpose else x.strides[-2:]


def _lead_strides(x, lead):
    """Byte strides of the leading axes of x, broadcast to `lead`."""
    own = x.shape[:-2]
    return [0] * (len(lead) - len(own)) + [0 if size == 1 else stride for size, stride in zip(own, x.strides)]


class _Problem:
    """One set of shapes, strides and options: checked once, then run any number of times."""

    def __init__(self, a, b, out, transpose_a, transpose_b, bias, activation, residual, pre, precision):
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {list(ACTIVATIONS)}, got {activation!r}")
        check_precision(precision, a)
        self.pairs = precision is not None and _PAIRS
        self.rounds_first = precision is not None and not (_TILES or _PAIRS)
        self.lead, m, depth, n = product_shape(a, b, transpose_a, transpose_b)
        strides_a, strides_b = _matrix_strides("a", a, transpose_a), _matrix_strides("b", b, transpose_b)
        self.size = a.itemsize
        self.vector_a, self.vector_b = a.ndim == 1, b.ndim == 1
        self.shape = (*self.lead, *(() if self.vector_a else (m,)), *(() if self.vector_b else (n,)))
        self.full = (*self.lead, m, n)
        self.empty = empty if math.prod(self.shape) * self.size >= WORTH_IT else np.empty
        self.options = {"transpose_a": transpose_a, "transpose_b": transpose_b, "activation": activation}
        self.precision = precision
        if bias is not None and np.shape(bias) != (n,):
            raise ValueError(f"bias: expected shape ({n},), one number per column of the result, got {np.shape(bias)}")
        if residual is not None:
            check_residual(residual, self.shape)
        self.nothing = 0 in (*self.lead, m, n)
        self.naive = depth == 0 or not COMPILED
        self.simple = False
        if self.nothing or self.naive or self.rounds_first:
            return
        # the loops write rows of numbers that lie together; other arrays are filled by a copy at the end
        self.direct = out is None or self._strides(out)[-1] == a.itemsize
        self.pre_direct = pre is None or self._strides(pre)[-1] == a.itemsize
        self._lay_out((m, n, depth), strides_a, strides_b, a, b, out, bias, residual, pre)

    def _strides(self, x):
        """Byte strides of an array of the result's shape (or None: a fresh one), with the axes a vector operand left out."""
        strides = list(x.strides if x is not None else contiguous_strides(self.shape, self.size))
        if self.vector_b:
            strides.append(self.size)
        if self.vector_a:
            strides.insert(len(strides) - 1, 0)
        return strides

    def _lay_out(self, dims, strides_a, strides_b, a, b, out, bias, residual, pre):
        m, n, depth = dims
        c = self._strides(out if self.direct else None)
        p = self._strides(pre if self.pre_direct else None)
        r = self._strides(np.broadcast_to(residual, self.shape)) if residual is not None else [0] * len(c)
        axes = merge_batches(zip(self.lead, _lead_strides(a, self.lead), _lead_strides(b, self.lead), c, r, p))
        row_strides = (strides_a[0], c[-2], r[-2], p[-2])
        m, axes = merge_into_rows(m, row_strides, axes, lambda axis: axis[2] == 0)
        self.by_slices = len(axes) > 2
        work = m * n * depth
        for axis in axes:
            work *= axis[0]
        more = bias is not None or residual is not None or pre is not None or self.options["activation"] is not None
        self.finish = finish_address(a.itemsize) if more else 0
        strides = (*strides_a, *strides_b, c[-2], r[-2], r[-1], p[-2], bias.strides[0] if bias is not None else 0)
        skinny = is_skinny((m, n, depth), strides, a.itemsize) and not self.pairs
        self.threads = 1 if work < (SERIAL_SKINNY if skinny else SERIAL_WORK) else _threads.allowed
        self.pool = ready if skinny or work >= WAKING_WORK else if_awake
        self.part = part_address()
        self.plan = make_plan((m, n, depth), strides, axes[-2:], a.itemsize, _LANES[a.itemsize], (ROWS, PANEL),
                              self.options["activation"], self.threads, self._extents(a, b, c), self.pairs)
        if _TILES and (self.precision or suits((m, n, depth), a.itemsize, skinny)):
            pieces = amx.pieces_for(self.precision)
            self.worker, tail = tiles(pieces)
            plan = make_plan_amx(self.plan, (m, n, depth), work // (m * n * depth), self.threads, pieces)
            self.plan = np.concatenate([plan, tail])
            self.plan.flags.writeable = False         # as all plans are: `launch` is compiled for one kind of array
        else:
            self.worker = worker_address(a.itemsize, skinny, self.pairs)
        self.simple = self.direct and self.pre_direct and not self.by_slices
        self.scratch = int(self.plan[SCRATCH]) * self.threads + int(self.plan[SHARED])

    def _extents(self, a, b, c):
        """First and last byte, counted from the data pointer, of a, b and the result."""
        lows_and_highs = []
        for shape, strides in ((a.shape, a.strides), (b.shape, b.strides), (self.full, c)):
            spans = [(length - 1) * stride for length, stride in zip(shape, strides)]
            lows_and_highs += [sum(s for s in spans if s < 0), sum(s for s in spans if s > 0) + self.size]
        return lows_and_highs

    def run(self, a, b, out, bias, residual, pre, alpha, beta):
        if self.nothing:
            return
        if self.rounds_first:                 # the copies are a problem of their own: their strides are others
            matmul(round_bfloat16(a), round_bfloat16(b), out, alpha=alpha, beta=beta, bias=bias, residual=residual, pre=pre,
                   **self.options)
        elif self.naive:
            matmul_naive(a, b, out, alpha, beta, bias, residual, pre, **self.options)
        elif self.by_slices:
            self._run_slices(a, b, out, bias, residual, pre, alpha, beta)
        else:
            target = out if self.direct else np.array(out, order="C")
            kept = pre if pre is None or self.pre_direct else empty(self.shape, a.dtype)
            scratch = borrow_scratch(self.scratch)
            launch(self.pool(self.threads), self.threads, self.part, self.worker, self.finish, self.plan, id(a), id(b), id(target),
                   *[0 if x is None else id(x) for x in (bias, residual, kept)], alpha, beta, scratch, False)
            return_scratch(scratch)
            if target is not out:
                out[...] = target
            if kept is not pre:
                pre[...] = kept

    def _run_slices(self, a, b, out, bias, residual, pre, alpha, beta):
        """More batch axes than the loops walk: one call for each index of the first."""
        a, b = (np.broadcast_to(x, (*self.lead, *x.shape[-2:])) if x.ndim > 1 else x for x in (a, b))
        residual = None if residual is None else np.broadcast_to(residual, self.shape)
        for i in range(self.lead[0]):
            matmul(a[i] if a.ndim > 1 else a, b[i] if b.ndim > 1 else b, out[i], alpha=alpha, beta=beta, bias=bias,
                   residual=None if residual is None else residual[i], pre=None if pre is None else pre[i],
                   precision=self.precision, **self.options)


def warmup(dtypes=("float32",), rows=(1, 160)):
    """Compile, or load, all of matmul: blocked and skinny loops, epilogue, with one thread and with several."""
    for dtype in dtypes:
        for m in rows:
            a, b = np.zeros((m, 160), dtype), np.zeros((160, 160), dtype)
            matmul(a, b, bias=b[0], activation="gelu")


def warmup_few_rows(dtypes=("float32",)):
    """The skinny loops and the epilogue alone."""
    warmup(dtypes, rows=(1,))
