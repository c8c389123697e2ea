"""Matrix product with its epilogue, and its gradients, in plain NumPy."""
import math

import numpy as np

from . import _check as check
from .arrays import empty
from .reference_activation import gelu_backward, gelu_forward, relu_backward, relu_forward, silu_backward, silu_forward

ACTIVATIONS = {
    None: lambda x: x,
    "relu": relu_forward,
    "gelu": gelu_forward,
    "gelu_tanh": lambda x: gelu_forward(x, "tanh"),
    "silu": silu_forward,
}
PRECISIONS = (None, "bfloat16")
ACTIVATION_BACKWARDS = {
    None: lambda g, pre: g,
    "relu": relu_backward,
    "gelu": gelu_backward,
    "gelu_tanh": lambda g, pre: gelu_backward(g, pre, "tanh"),
    "silu": silu_backward,
}


def matmul(a, b, out=None, *, transpose_a=False, transpose_b=False, alpha=1.0, beta=0.0, bias=None, activation=None,
           residual=None, pre=None, precision=None):
    """out = activation(alpha · op(a) op(b) + beta · out + bias) + residual

    op transposes the last two axes where asked; leading axes broadcast; a vector operand follows np.matmul.
    bias (N,) is added to every row; residual broadcasts to the result. `pre`, an array of the result's shape, receives what the
    activation was applied to, for `matmul_backward`. activation: None, "relu", "gelu", "gelu_tanh" or "silu".
    precision "bfloat16": a and b, float32, are rounded by `round_bfloat16`; sums and all else stay float32.
    float32 and float64; TypeError for other or mixed dtypes, ValueError for shapes that do not fit and for an `out` that is
    read-only or overlaps an input or itself.
    """
    check.same_dtype("b", check.float_array("b", b), check.float_array("a", a))
    read = (a, b, bias, residual)
    if check_precision(precision, a):
        a, b = round_bfloat16(a), round_bfloat16(b)
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {list(ACTIVATIONS)}, got {activation!r}")
    if beta != 0.0 and out is None:
        raise ValueError("beta: accumulating needs an `out` to accumulate into")
    product_shape(a, b, transpose_a, transpose_b)
    for name, array in (("bias", bias), ("residual", residual), ("pre", pre)):
        if array is not None:
            check.same_dtype(name, check.float_array(name, array), a)
    y = np.matmul(_op(a, transpose_a), _op(b, transpose_b))
    scalar = a.dtype.type
    for name, array, inputs in (("pre", pre, read), ("out", out, (*read, pre))):
        if array is not None:
            check.writable(name, array, np.shape(y), a.dtype, inputs)
    if alpha != 1.0:
        y = y * scalar(alpha)
    if beta != 0.0:
        y = y + scalar(beta) * out
    if bias is not None:
        check.vector("bias", bias, a, 1 if b.ndim == 1 else b.shape[-2 if transpose_b else -1])
        y = y + (bias[0] if b.ndim == 1 else bias)
    if pre is not None:
        pre[...] = y
    y = ACTIVATIONS[activation](np.asarray(y))
    if residual is not None:
        y = y + check_residual(residual, y.shape)
    if out is None:
        return y
    out[...] = y
    return out


def matmul_backward(g, a, b, *, transpose_a=False, transpose_b=False, alpha=1.0, bias=False, activation=None, pre=None,
                    precision=None, needs=(True, True)):
    """dz = g · activation'(pre),  d op(a) = alpha · dz op(b)ᵀ,  d op(b) = alpha · op(a)ᵀ dz,  dbias = Σ_rows dz

    (da, db), or (da, db, dbias) where `bias` is True; None for an operand that `needs` leaves out. g has the result's shape;
    `pre` is what `matmul` saved, needed with an activation. The gradient of the residual is g, that of `out` beta · dz.
    With a precision, dz is rounded as a and b are.
    """
    check_gradient(g, a, b, transpose_a, transpose_b, activation, pre)
    dz = np.asarray(ACTIVATION_BACKWARDS[activation](g, pre))
    total = dz
    if check_precision(precision, a):
        a, b, dz = round_bfloat16(a), round_bfloat16(b), round_bfloat16(dz)
    rows = _op(a, transpose_a) if a.ndim > 1 else a[None, :]
    columns = _op(b, transpose_b) if b.ndim > 1 else b[:, None]
    full = dz[..., None] if b.ndim == 1 else dz
    full = full[..., None, :] if a.ndim == 1 else full
    scalar = a.dtype.type(alpha)
    da = _op(sum_to(scalar * (full @ np.swapaxes(columns, -1, -2)), rows.shape), transpose_a) if needs[0] else None
    db = _op(sum_to(scalar * (np.swapaxes(rows, -1, -2) @ full), columns.shape), transpose_b) if needs[1] else None
    da = da if da is None else da.reshape(a.shape)
    db = db if db is None else db.reshape(b.shape)
    return (da, db, merge_rows(total.reshape(full.shape)).sum(axis=0)) if bias else (da, db)


def round_bfloat16(x):
    """The float32 numbers of x at the nearest bfloat16, ties to even: 8 significant bits, float32's exponents.

    As the processor does it: numbers below 2^-126 become zero of their sign; what rounds past the largest becomes infinity;
    infinity and NaN stay.   Kalamkar et al. 2019, arXiv:1905.12322
    """
    bits = check_float32("x", x).view(np.uint32)
    exponent = bits & 0x7F800000
    kept = np.where(exponent == 0, bits & 0x80000000, (bits + (0x7FFF + (bits >> 16 & 1))) & 0xFFFF0000)
    special = np.where(bits & 0x007FFFFF, bits | 0x00400000, bits) & 0xFFFF0000
    return np.where(exponent == 0x7F800000, special, kept).astype(np.uint32).view(np.float32)


def check_float32(name, x):
    """x itself, or an error where it is no float32 array."""
    if check.float_array(name, x).dtype != np.float32:
        raise TypeError(f"{name}: bfloat16 is made of float32 arrays, got {x.dtype}; convert with .astype(np.float32)")
    return x


def check_precision(precision, a):
    """`precision` itself, or an error that says what there is."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {list(PRECISIONS)}, got {precision!r}")
    if precision is not None:
        check_float32("a", a)
    return precision


def product_shape(a, b, transpose_a, transpose_b):
    """(leading axes, rows, depth, columns) of op(a) op(b), a vector operand as a matrix; an error where they do not fit."""
    (*lead_a, m, depth), (*lead_b, depth_b, n) = _as_matrix("a", a, transpose_a), _as_matrix("b", b, transpose_b)
    asked = f"a {a.shape}{' transposed' if transpose_a else ''} @ b {b.shape}{' transposed' if transpose_b else ''}"
    if depth != depth_b:
        raise ValueError(f"matmul: {asked}: expected as many columns in a as rows in b, got {depth} and {depth_b}")
    try:
        return np.broadcast_shapes(tuple(lead_a), tuple(lead_b)), m, depth, n
    except ValueError:
        raise ValueError(f"matmul: {asked}: the leading axes do not broadcast together") from None


def check_gradient(g, a, b, transpose_a, transpose_b, activation, pre):
    """What `matmul_backward` is given, or an error that says what does not fit."""
    check.same_dtype("b", check.float_array("b", b), check.float_array("a", a))
    lead, m, _, n = product_shape(a, b, transpose_a, transpose_b)
    shape = (*lead, *((m,) if a.ndim > 1 else ()), *((n,) if b.ndim > 1 else ()))
    if check.same_dtype("g", check.float_array("g", g), a).shape != shape:
        raise ValueError(f"g: expected the result's shape {shape}, got {g.shape}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {list(ACTIVATIONS)}, got {activation!r}")
    if activation is not None and pre is None:
        raise ValueError("pre: the gradient of an activation needs what it was applied to; pass matmul an array as `pre`")
    if activation is not None:
        check.like_array("pre", pre, g)


def merge_rows(x):
    """(..., N) -> (rows, N); N may be 0, for which -1 in a reshape has no answer."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _as_matrix(name, x, transpose):
    """The shape of op(x), of a vector as the matrix that it stands for."""
    if x.ndim == 0:
        raise ValueError(f"matmul: {name} has no axes; expected a vector, a matrix or a batch of matrices")
    if x.ndim == 1:
        return (1, *x.shape) if name == "a" else (*x.shape, 1)
    return (*x.shape[:-2], x.shape[-1], x.shape[-2]) if transpose else x.shape


def check_residual(residual, shape):
    """`residual` itself, or an error where it does not broadcast to the result's shape."""
    pairs = zip(reversed(residual.shape), reversed(shape))
    if residual.ndim > len(shape) or not all(have in (1, want) for have, want in pairs):
        raise ValueError(f"residual: expected a shape that broadcasts to {shape}, got {residual.shape}")
    return residual


def _op(x, transpose):
    return np.swapaxes(x, -1, -2) if transpose and x.ndim > 1 else x


def sum_to(x, shape):
    """Sum over the leading axes that were broadcast."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    stretched = tuple(i for i, (have, want) in enumerate(zip(x.shape, shape)) if want == 1 and have != 1)
    return x.sum(axis=stretched, keepdims=True) if stretched else x


# ---- weights in eight bits --------------------------------------------------------------------------------------------

def quantize_int8(w):
    """q = round(w / scale), scale = max |w| / 127 of each row   w (N, K) -> q int8 (N, K), scale float32 (N,)

    So |w - q · scale| is at most half a step, scale / 2. A row of zeros has scale 1.
    """
    if check.float_array("w", w).ndim != 2:
        raise ValueError(f"w: expected a matrix (N, K), one row for each output, got shape {w.shape}")
    q, scale = empty(w.shape, np.int8), np.ones(w.shape[0], np.float32)
    step = max(1, (1 << 20) // max(1, w.shape[1]))            # rows at a time: no second copy of the whole matrix
    for i in range(0, w.shape[0], step):
        block = w[i:i + step].astype(np.float64)
        largest = np.abs(block).max(axis=1, initial=0.0)
        with np.errstate(over="ignore"):
            steps = (largest / 127).astype(np.float32)
        if not np.isfinite(steps).all():
            row = i + int(np.argmin(np.isfinite(steps)))
            raise ValueError(f"w: row {row} holds infinity, NaN or a number too large for a float32 scale; eight bits only hold "
                             "finite weights")
        steps[steps < np.finfo(np.float32).tiny] = 1
        scale[i:i + step] = steps
        q[i:i + step] = np.rint(block / steps[:, None])
    return q, scale


def matmul_int8(x, q, scale, bias=None, out=None):
    """out = x (q · scale)ᵀ + bias   x float32 (..., K); q int8 (N, K) and scale float32 (N,) of `quantize_int8`; bias (N,)"""
    check_int8(x, q, scale, bias)
    y = np.matmul(x, (q * scale[:, None]).T)
    return check.into(out, y if bias is None else y + bias, (x, q, scale, bias))


def check_int8(x, q, scale, bias):
    """The operands of `matmul_int8`, or an error that says which of them does not fit."""
    check.rows("x", x)
    if not isinstance(q, np.ndarray) or q.dtype != np.int8:
        raise TypeError(f"q: expected an int8 array from quantize_int8, got {getattr(q, 'dtype', type(q).__name__)}")
    if q.ndim != 2 or q.shape[1] != x.shape[-1]:
        raise ValueError(f"q: expected shape (N, {x.shape[-1]}) to match x {x.shape}, got {q.shape}")
    if check.float_array("scale", scale).shape != (q.shape[0],):
        raise ValueError(f"scale: expected shape ({q.shape[0]},), one number for each row of q, got {scale.shape}")
    for name, array in (("x", x), ("scale", scale)):
        if array.dtype != np.float32:
            raise TypeError(f"{name}: eight-bit products are float32, got {array.dtype}; convert with .astype(np.float32)")
    check.vector("bias", bias, x, q.shape[0])
