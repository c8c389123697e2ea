"""Attention without the pattern: the public entry, arguments checked here, then handed to the compiled tiles.

Same arguments, results and errors as `kernels.reference_attention`.
"""
import numpy as np

from kernels import attention_plain, attention_reach
from kernels._jit import COMPILED
from kernels._threads import get_num_threads
from kernels.attention_problem import keep, make_problem, newest
from kernels.reference_attention import gradient_buffers, output_buffer

FEW_QUERIES = 8              # up to so many new tokens, decoding reads the cache in place; more go through the tiles

_problems = {}


def attention_forward(q, k, v, *, out=None, **options):
    """See `reference_attention.attention_forward`."""
    p = _problem(q, k, v, options)
    out = output_buffer(out, (p.B, p.H, p.T, p.V), p.dtype, {"q": q, "k": k, "v": v, "bias": p.bias})
    lse = np.empty((p.B, p.H, p.T), p.dtype)
    if COMPILED:
        attention_reach.forward(_forward_tiles, p, q, k, v, out, lse)
    else:
        attention_plain.forward(p, q, k, v, out, lse)
    return out, lse


def attention_backward(g, q, k, v, out, lse, *, need_bias=False, grads=(None, None, None), **options):
    """See `reference_attention.attention_backward`."""
    p = _problem(q, k, v, options)
    dq, dk, dv, dbias = gradient_buffers(p, grads, need_bias, g=g, q=q, k=k, v=v, out=out, lse=lse)
    if COMPILED:
        lse = lse if lse.flags.c_contiguous else np.ascontiguousarray(lse)
        attention_reach.backward(_backward_tiles, p, g, q, k, v, out, lse, dq, dk, dv, dbias)
    else:
        attention_plain.backward(p, g, q, k, v, out, lse, dq, dk, dv, dbias)
    return dq, dk, dv, dbias


def _problem(q, k, v, options):
    """`make_problem`, once for all calls that differ in the numbers of q, k and v alone."""
    if options.get("dropout_p") or not type(q) is type(k) is type(v) is np.ndarray:
        return make_problem(q, k, v, **options)
    key = (q.shape, q.strides, q.dtype, k.shape, k.strides, k.dtype, v.shape, v.strides, v.dtype, *options,
           *[value for name, value in options.items() if name != "seed"])
    try:
        p = _problems.get(key)
    except TypeError:                # a bias, a mask, lengths: arrays, whose numbers count
        return make_problem(q, k, v, **options)
    return p or keep(_problems, key, make_problem(q, k, v, **options))


def _forward_tiles(p, q, k, v, out, lse):
    return _in_tiles("forward", p, {"q": q, "k": k, "v": v, "out": out, "lse": lse})


def _backward_tiles(p, g, q, k, v, out, lse, dq, dk, dv, dbias):
    return _in_tiles("backward", p, {"g": g, "q": q, "k": k, "v": v, "out": out, "lse": lse,
                                     "dq": dq, "dk": dk, "dv": dv, "dbias": dbias})


def _in_tiles(way, p, arrays):
    """On matrix tiles where the host has them and the numbers allow it, else on vectors; whether all numbers are finite."""
    if _matrix_tiles(p) and _run(f"kernels.attention_amx_{way}", p.precision or p.dtype, way, p, arrays):
        return True
    if arrays.get("dbias") is not None:
        arrays["dbias"][...] = 0
    return _run(f"kernels.attention_tiled_{way}", p.dtype, way, p, arrays)


def _matrix_tiles(p):
    """Whether this problem is one for `kernels.amx`: float32 on a host that has it. Small ones too: one kernel to compile."""
    if p.dtype != np.float32:
        return False
    from kernels import amx

    return amx.AVAILABLE


def _run(module, kind, way, p, arrays):
    """Run the kernel of one module in one precision; False if it met, or wrote, numbers that are not finite."""
    threads = get_num_threads()
    key = (module, threads, *[None if x is None else x.strides for x in arrays.values()])
    plan = p.plans.get(key)
    if plan is None:
        from kernels.attention_plan import Plan

        plan = p.plans[key] = Plan(p, module, way, kind, threads, arrays)
    return plan.run(arrays)


def attention_decode(q, k_cache, v_cache, lengths, *, out=None, scale=None, window=None, bias=None):
    """See `reference_attention.attention_decode`."""
    arrays = type(q) is type(k_cache) is type(v_cache) is np.ndarray and (bias is None or type(bias) is np.ndarray)
    if COMPILED and arrays and q.ndim == 4 and q.shape[2] <= FEW_QUERIES:
        from kernels.attention_cached import decode

        return decode(q, k_cache, v_cache, lengths, out, scale, tuple(window) if isinstance(window, list) else window, bias)
    return attention_forward(q, k_cache, v_cache, out=out, bias=bias, scale=scale, window=window, is_causal=True,
                             query_offset=newest(lengths, q.shape[2]), kv_lengths=lengths)[0]


def warmup(dtypes=("float32",), forward=True):
    """Compile, or load, forward and backward, with and without threads, by running them on a small and a larger problem."""
    for dtype in dtypes:
        for T in (8, 128):
            q = np.zeros((4, 2, T, 64), dtype)
            if forward:
                attention_forward(q, q, q)
            attention_backward(q, q, q, q, q, q[..., 0])


def warmup_backward(dtypes=("float32",)):
    """Backward alone."""
    warmup(dtypes, forward=False)
