"""PyTorch's shape, indexing, gathering and scattering operations in terms of ours."""

# ruff: noqa: E501
from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_llm as tg

from .names import Unsupported, renamed


def ints(args: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else tuple(args)


def expand(x: Any, *shape: Any) -> Any:
    shape = ints(shape)
    extra = len(shape) - x.ndim
    full = tuple(x.shape[k - extra] if n == -1 else n for k, n in enumerate(shape))
    return tg.broadcast_to(x, full)


def squeeze(x: Any, dim: Any = None) -> Any:
    if dim is None:
        return tg.squeeze(x)
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    axes = tuple(d for d in dims if x.ndim and x.shape[d] == 1)
    return tg.squeeze(x, axis=axes) if axes else tg.positive(x)


def repeat(x: Any, *reps: Any) -> Any:
    return tg.tile(x, ints(reps))


def tile(x: Any, *reps: Any) -> Any:
    return tg.tile(x, ints(reps))


def repeat_interleave(x: Any, repeats: Any, dim: Any = None, *, output_size: Any = None) -> Any:
    return tg.repeat(x, repeats if isinstance(repeats, int) else repeats.numpy(), axis=dim if x.ndim else None)


def transpose(x: Any, a: int, b: int) -> Any:
    return tg.swapaxes(x, a, b) if x.ndim else tg.positive(x)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    return tg.flatten(x, start_dim, end_dim)


def select(x: Any, dim: int, index: int) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (index,)]


def narrow(x: Any, dim: int, start: Any, length: int) -> Any:
    start = int(start) if not isinstance(start, int) else start
    start = start + x.shape[dim] if start < 0 else start
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, start + length),)]


def slice_(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)]


def split(x: Any, size: Any, dim: int = 0) -> Any:
    if isinstance(size, (list, tuple)):
        return tuple(tg.split_lengths(x, list(size), axis=dim))
    n = x.shape[dim]
    return tuple(tg.split(x, list(range(size, n, size)), axis=dim))


def chunk(x: Any, chunks: int, dim: int = 0) -> Any:
    return split(x, -(-x.shape[dim] // chunks), dim)


def tensor_split(x: Any, sections: Any, dim: int = 0) -> Any:
    sections = sections.tolist() if hasattr(sections, "tolist") else sections
    return tuple(tg.array_split(x, sections, axis=dim))


def unbind(x: Any, dim: int = 0) -> Any:
    return tuple(tg.unstack(x, axis=dim))


def cat(tensors: Any, dim: int = 0) -> Any:
    kept = [t for t in tensors if t.shape != (0,)] or list(tensors)
    return tg.concatenate(kept, axis=dim)


def meshgrid(*tensors: Any, indexing: str = "ij") -> Any:
    tensors = tuple(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    return tuple(tg.meshgrid(*[tg.ravel(t) for t in tensors], indexing=indexing))


def diag_embed(x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    return tg.diag_embed(x, offset, dim1, dim2)


def diagonal(x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    return tg.diagonal(x, offset, dim1, dim2)


def linalg_diagonal(x: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    return tg.diagonal(x, offset, dim1, dim2)


def diff(x: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    return tg.diff(x, n, dim, prepend, append) if n else tg.positive(x)  # n = 0: PyTorch appends nothing


def at_least_axis(f: Any) -> Any:
    """PyTorch lets a 0-dimensional tensor pass for one of length 1."""

    def adapter(x: Any, dim: int, index: Any, *rest: Any, **kwargs: Any) -> Any:
        if x.ndim:
            return f(x, dim, index, *rest, **kwargs)
        rest = tuple(r.reshape(-1) if isinstance(r, tg.Tensor) and r.ndim == 0 else r for r in rest)
        return f(x.reshape(1), dim, tg.ravel(index), *rest, **kwargs).reshape(np.shape(index) if f is _gather else ())

    return adapter


def _gather(x: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    if not index.size and index.ndim != x.ndim:  # PyTorch takes an empty index of any shape
        return tg.reshape(x.reshape(-1)[:0], index.shape)
    return tg.gather(x, dim, index)


def _scatter(x: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: Any = None) -> Any:
    src = value if src is None else src
    if reduce == "add" and isinstance(src, tg.Tensor):
        return tg.scatter_add(x, dim, index, src)
    if reduce is not None:
        raise Unsupported("reduce")
    return tg.scatter(x, dim, index, src)


def index_select(x: Any, dim: int, index: Any) -> Any:
    return tg.index_select(x, dim, index) if x.ndim else tg.reshape(x, 1)[index].reshape(()) if not np.ndim(index) else x.reshape(())


def index_put(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    return tg.put(x, tuple(i.numpy() for i in indices), values, accumulate)


def put(x: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    flat = tg.put(tg.ravel(x), tg.ravel(index), tg.ravel(source), accumulate)
    return tg.reshape(flat, x.shape)


def getitem(x: Any, *index: Any) -> Any:
    return x[index[0] if len(index) == 1 else index]


def take_along_dim(x: Any, index: Any, dim: Any = None) -> Any:
    if dim is None:
        return tg.take_along_axis(tg.ravel(x), tg.ravel(index), 0)
    full = np.broadcast_shapes(*(tuple(1 if a == dim % x.ndim else n for a, n in enumerate(t.shape)) for t in (x, index)))
    grow = lambda t: tg.broadcast_to(t, tuple(t.shape[a] if a == dim % x.ndim else n for a, n in enumerate(full)))
    return tg.take_along_axis(grow(x), grow(index), dim)


def select_scatter(x: Any, src: Any, dim: int, index: int) -> Any:
    hit = np.zeros(x.shape, bool)
    hit[(slice(None),) * (dim % x.ndim) + (index,)] = True
    return tg.where(hit, tg.broadcast_to(tg.expand_dims(src, dim), x.shape), x)


def slice_scatter(x: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    rows = np.arange(x.shape[dim])[slice(start, end, step)]
    return tg.index_copy(x, dim, rows, src)


def block_diag(*blocks: Any) -> Any:
    blocks = tuple(tg.atleast_2d(b) for b in blocks)
    width = sum(b.shape[1] for b in blocks)
    rows, left = [], 0
    for b in blocks:
        rows.append(tg.pad(b, ((0, 0), (left, width - left - b.shape[1]))))
        left += b.shape[1]
    return tg.concatenate(rows, axis=0)


def cartesian_prod(*xs: Any) -> Any:
    if len(xs) == 1:
        return xs[0]
    return tg.stack([tg.ravel(m) for m in tg.meshgrid(*xs, indexing="ij")], axis=-1)


def unfold(x: Any, dimension: int, size: int, step: int) -> Any:
    return tg.unfold(x, dimension, size, step) if x.ndim else tg.reshape(x, 1)[:size]


def sum_to_size(x: Any, *size: Any) -> Any:
    size = ints(size)
    extra = x.ndim - len(size)
    x = tg.sum(x, axis=tuple(range(extra)))
    ones = tuple(a for a, n in enumerate(size) if n == 1 and x.shape[a] != 1)
    return tg.sum(x, axis=ones, keepdims=True)


def roll(x: Any, shifts: Any, dims: Any = None) -> Any:
    dims = None if dims == () else dims
    return tg.roll(x, shift=shifts, axis=dims) if x.ndim else tg.positive(x)


def rot90(x: Any, k: int = 1, dims: Any = (0, 1)) -> Any:
    return tg.rot90(x, k, tuple(dims))


def flip(x: Any, *args: Any, dims: Any = None) -> Any:
    dims = ints(args) if dims is None else tuple(dims)
    return tg.flip(x, axis=dims) if dims else tg.positive(x)


TABLE = {
    "broadcast_to": tg.broadcast_to, "broadcast_tensors": lambda *xs: tuple(tg.broadcast_arrays(*xs)),
    "expand": expand, "expand_copy": expand, "expand_as": lambda x, y: expand(x, *y.shape),
    "reshape": lambda x, *s: tg.reshape(x, ints(s)), "view": lambda x, *s: tg.reshape(x, ints(s)),
    "view_copy": lambda x, *s: tg.reshape(x, ints(s)), "reshape_as": lambda x, y: tg.reshape(x, y.shape),
    "view_as": lambda x, y: tg.reshape(x, y.shape), "ravel": tg.ravel, "flatten": flatten,
    "unflatten": lambda x, dim, sizes: tg.unflatten(x, dim, sizes), "squeeze": squeeze, "squeeze.multiple": squeeze,
    "squeeze_copy": squeeze, "unsqueeze": lambda x, dim: tg.expand_dims(x, dim), "unsqueeze_copy": lambda x, dim: tg.expand_dims(x, dim),
    "permute": lambda x, *d: tg.transpose(x, ints(d)), "permute_copy": lambda x, *d: tg.transpose(x, ints(d)),
    "movedim": renamed(tg.moveaxis), "transpose": transpose, "transpose_copy": transpose,
    "t": lambda x: tg.transpose(x), "t_copy": lambda x: tg.transpose(x), "T": lambda x: x.T, "H": lambda x: x.T,
    "mT": lambda x: tg.swapaxes(x, -1, -2), "mH": lambda x: tg.swapaxes(x, -1, -2),
    "repeat": repeat, "tile": tile, "repeat_interleave": repeat_interleave, "roll": roll, "rot90": rot90, "flip": flip,
    "fliplr": tg.fliplr, "flipud": tg.flipud, "select": select, "narrow": narrow, "narrow_copy": narrow, "slice": slice_,
    "split": split, "split.list_args": split, "unsafe_split": split, "split_with_sizes": split, "split_with_sizes_copy": split,
    "chunk": chunk, "unsafe_chunk": chunk, "tensor_split": tensor_split, "hsplit": lambda x, s: tuple(tg.hsplit(x, s)),
    "vsplit": lambda x, s: tuple(tg.vsplit(x, s)), "dsplit": lambda x, s: tuple(tg.dsplit(x, s)), "unbind": unbind, "unbind_copy": unbind,
    "cat": cat, "stack": lambda ts, dim=0: tg.stack(ts, axis=dim), "hstack": tg.hstack, "vstack": tg.vstack, "dstack": tg.dstack,
    "column_stack": tg.column_stack, "block_diag": block_diag, "cartesian_prod": cartesian_prod,
    "atleast_1d": lambda *x: _many(tg.atleast_1d, x), "atleast_2d": lambda *x: _many(tg.atleast_2d, x),
    "atleast_3d": lambda *x: _many(tg.atleast_3d, x),
    "meshgrid.variadic_tensors": meshgrid, "meshgrid.list_of_tensors": meshgrid,
    "diag": lambda x, diagonal=0: tg.diag(x, diagonal), "diag_embed": diag_embed, "diagonal": diagonal, "diagonal_copy": diagonal,
    "linalg.diagonal": linalg_diagonal, "diagflat": lambda x, offset=0: tg.diagflat(x, offset),
    "tril": lambda x, diagonal=0: tg.tril(x, diagonal), "triu": lambda x, diagonal=0: tg.triu(x, diagonal), "trace": tg.trace,
    "diff": diff, "gather": at_least_axis(_gather), "scatter": at_least_axis(_scatter), "scatter_add": at_least_axis(tg.scatter_add),
    "index_select": index_select, "index_add": at_least_axis(tg.index_add), "index_copy": at_least_axis(tg.index_copy),
    "index_fill": at_least_axis(tg.index_fill), "index_put": index_put, "__getitem__": getitem,
    "take": lambda x, index: tg.take(x, index), "put": put,
    "take_along_dim": take_along_dim, "masked_select": tg.masked_select, "select_scatter": select_scatter,
    "slice_scatter": slice_scatter, "unfold": unfold, "unfold_copy": unfold, "sum_to_size": sum_to_size,
    "nonzero": lambda x, *, as_tuple=False: tuple(tg.nonzero(x)) if as_tuple else tg.argwhere(x), "argwhere": tg.argwhere,
    "zeros_like": lambda x, **kw: tg.zeros_like(x), "ones_like": lambda x, **kw: tg.ones_like(x),
}  # fmt: skip


def _many(f: Any, given: tuple[Any, ...]) -> Any:
    given = tuple(given[0]) if len(given) == 1 and isinstance(given[0], (list, tuple)) else given
    result = f(*given)
    return tuple(result) if isinstance(result, list) else result
