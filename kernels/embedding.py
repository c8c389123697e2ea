"""The embedding table: rows out by index, and gradients back in by sorted scatter.

Backward sorts the ids (stably) and gives each task a range of the table's rows. A task clears its rows and adds the gradients that
belong there, in the order in which they came: no two tasks write one row, no atomics, the same bits at any thread count.
Clearing rows and adding to them in one go also writes the big table once, where a zeroed array would be written twice.
"""
import numpy as np

from . import _check as check
from ._jit import jit_tasks
from ._rows import handed_back, rows_of, share, span, target_of
from ._stream import LARGE, stream
from .arrays import empty
from .reference import _table, _table_gradient
from .vecmath import wide_vectors


@jit_tasks
def _gather(task, tasks, width, weight, ids, out):
    wide_vectors()
    first, last = span(task, tasks, out.shape[0])
    for r in range(first, last):
        row, y = weight[ids[r]][:width], out[r]
        for i in range(y.size):
            y[i] = row[i]


@jit_tasks
def _scatter(task, tasks, width, past, g, order, ids, starts, out):
    """A range of the table's rows; the sorted places [starts[task], starts[task + 1]) hold their ids."""
    wide_vectors()
    first, last = span(task, tasks, out.shape[0])
    zero = out.dtype.type(0)
    at, end = starts[task], starts[task + 1]
    if past:
        nothing = np.zeros(out.shape[1], out.dtype)
        for v in range(first, last):
            stream(out[v], nothing)
    for v in range(first, last):
        row = out[v]
        if not past:
            for i in range(row.size):
                row[i] = zero
        while at < end and ids[at] == v:
            gr = g[order[at]][:width]
            for i in range(row.size):
                row[i] += gr[i]
            at += 1


@jit_tasks
def _scatter_sparse(task, tasks, width, g, order, ids, bounds, out):
    """The sorted places [bounds[task], bounds[task + 1]) alone: for a table that is zero already, or is added to."""
    wide_vectors()
    for at in range(bounds[task], bounds[task + 1]):
        row, gr = out[ids[at]], g[order[at]][:width]
        for i in range(row.size):
            row[i] += gr[i]


# ---- the kernels ------------------------------------------------------------------------------------------------------

def embedding_forward(weight, ids, out=None):
    _table(weight)
    check.index_range("ids", ids, weight.shape[0])
    width = weight.shape[1]
    y = target_of("out", out, (*ids.shape, width), weight.dtype, (weight,))
    if y.size:
        _gather(*share(ids.size, width), width, rows_of(weight), np.ascontiguousarray(ids).reshape(-1), y.reshape(-1, width))
    return handed_back(out, y)


def embedding_backward(g, ids, num_rows, out=None, padding_idx=None, accumulate=False):
    _table_gradient(g, ids, num_rows, out, accumulate)
    width = g.shape[-1]
    if out is None:
        clear = num_rows * width * g.itemsize >= LARGE          # smaller ones of zeros: fresh pages are
        out = empty((num_rows, width), g.dtype, np.empty if clear else np.zeros)
    else:
        clear = not accumulate
        check.writable("out", out, (num_rows, width), g.dtype, (g,))
    if out.size == 0:
        return out
    target = out if out.flags.c_contiguous else np.ascontiguousarray(out)
    _scatter_all(g, _sorted_places(ids, padding_idx), width, clear, target)
    return handed_back(out, target)


def _scatter_all(g, places, width, clear, target):
    order, ids = places
    rows = rows_of(g) if g.size else np.empty((0, width), g.dtype)
    if clear:
        threads, tasks = share(len(target), width, 1 << 18)
        starts = np.searchsorted(ids, np.arange(tasks + 1) * len(target) // tasks)
        _scatter(threads, tasks, width, target.nbytes >= LARGE, rows, order, ids, starts, target)
    elif len(ids):
        threads, tasks = share(len(ids), width)
        bounds = np.searchsorted(ids, ids[np.arange(1, tasks) * len(ids) // tasks])      # never in the midst of one id
        _scatter_sparse(threads, tasks, width, rows, order, ids, np.concatenate(([0], bounds, [len(ids)])), target)


def _sorted_places(ids, padding_idx):
    """The places of the ids in the order of the table's rows, and the ids in that order."""
    flat = np.ascontiguousarray(ids).reshape(-1).astype(np.int64, copy=False)
    order = np.argsort(flat, kind="stable")
    if padding_idx is not None:
        order = order[flat[order] != padding_idx]
    return order, flat[order]


def warmup(dtypes=("float32",)):
    for dtype in dtypes:
        weight, ids = np.ones((64, 1024), dtype), np.arange(64)
        embedding_backward(embedding_forward(weight, ids), ids, 64)
