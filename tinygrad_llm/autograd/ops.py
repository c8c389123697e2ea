# ruff: noqa: F401, I001
"""The operations on arrays: everything that `tg.*` offers under NumPy's names, on one screen.

Where each lives: arithmetic, elementary (functions of one variable), compare, reduce, shape, join, index, sort, einsum,
linalg, decompose, copy, small, special; softmax stands with the fused operations in neural.
"""

from .creation import (
    arange, asarray, empty, empty_like, eye, full, full_like, linspace, multinomial, one_hot, ones, rand, randint, randn,
    randperm, tensor, tri, zeros,
)
from .ops_arithmetic import (
    add, clip, copysign, divide, float_power, floor_divide, fmax, fmin, fmod, heaviside, hypot, logaddexp, logaddexp2,
    maximum, minimum, multiply, nan_to_num, negative, power, remainder, subtract, where, xlogy,
)
from .ops_compare import (
    all, any, argmax, argmin, bitwise_and, bitwise_or, bitwise_xor, count_nonzero, equal, greater, greater_equal, invert,
    isclose, isfinite, isinf, isnan, less, less_equal, logical_and, logical_not, logical_or, logical_xor, not_equal,
    ones_like, signbit, zeros_like,
)
from .ops_copy import allclose, array_equal, astype, copy, ndim, shape, size
from .ops_decompose import cond, eigh, eigvalsh, lstsq, matrix_rank, pinv, qr, svd, svdvals
from .ops_einsum import einsum
from .ops_elementary import (
    absolute, arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, cbrt, ceil, cos, cosh, exp, exp2, expm1, floor,
    log, log1p, log2, log10, positive, reciprocal, rint, round, rsqrt, sigmoid, sign, sin, sinh, sqrt, square, tan, tanh,
    trunc,
)
from .ops_index import (
    diag, diag_embed, diagflat, diagonal, gather, index_add, index_copy, index_fill, index_select, masked_fill,
    masked_select, pad, put, put_along_axis, scatter, scatter_add, sliding_window_view, take, take_along_axis, trace, tril,
    triu, unfold,
)
from .ops_linalg import (
    cholesky, cross, det, dot, inner, inv, kron, logabsdet, matmul, matrix_norm, matrix_power, matvec, multi_dot, norm, outer,
    slogdet, solve, tensordot, vdot, vecdot, vecmat, vector_norm,
)
from .ops_reduce import (
    average, cumprod, cumsum, diff, euclidean_norm, logcumsumexp, logsumexp, max, mean, min, nancumprod, nancumsum, nanmean,
    nanprod, nanstd, nansum, nanvar, prod, ptp, std, sum, var,
)
from .ops_join import (
    array_split, block, broadcast_arrays, column_stack, concatenate, dsplit, dstack, hsplit, hstack, meshgrid, repeat, split,
    split_lengths, stack, tile, unstack, vsplit, vstack,
)
from .ops_shape import (
    atleast_1d, atleast_2d, atleast_3d, expand_dims, flatten, flip, fliplr, flipud, moveaxis, ravel, roll, rollaxis, rot90,
    squeeze, swapaxes, unflatten,
)
from .ops_shape import broadcast as broadcast_to
from .ops_shape import permute as transpose
from .ops_shape import reshape_to as reshape
from .ops_neural import log_softmax, softmax
from .ops_small import (
    append, corrcoef, cov, cumulative_prod, cumulative_sum, deg2rad, delete, fabs, frac, gradient, insert, interp, isneginf,
    isposinf, lerp, logit, matrix_transpose, nanmax, nanmin, rad2deg, select, sinc, trapezoid,
)
from .ops_special import digamma, erf, erfc, erfinv, lgamma, polygamma
from .ops_sort import (
    argsort, argwhere, bincount, cummax, cummin, kthvalue, median, nanmedian, nanpercentile, nanquantile, nonzero, percentile,
    quantile, searchsorted, sort, topk, unique,
)

abs, amax, amin, true_divide, concat = absolute, max, min, divide, concatenate
mod, permute_dims, identity, pow, bitwise_not = remainder, transpose, eye, power, invert
acos, acosh, asin, asinh, atan, atan2, atanh = arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh
around, degrees, radians, fix = round, rad2deg, deg2rad, trunc

__all__ = [name for name in dir() if name.isidentifier() and not name.startswith("_")]  # pytest's rewriting adds @py_builtins
