"""Attention without the pattern: the public entry, arguments checked here, then handed to the compiled tiles.

Same arguments, results and errors as `kernels.reference_attention`.
"""
import importlib

import numpy as np

from kernels import attention_plain
from kernels._jit import COMPILED
from kernels._threads import get_num_threads
from kernels.attention_problem import make_problem, newest
from kernels.reference_attention import gradient_buffers, output_buffer

FEW_QUERIES = 8              # up to so many new tokens, decoding reads the cache in place; more go through the tiles


def attention_forward(q, k, v, *, out=None, **options):
    """See `reference_attention.attention_forward`."""
    p = make_problem(q, k, v, **options)
    out = output_buffer(out, (p.B, p.H, p.T, p.V), p.dtype, {"q": q, "k": k, "v": v, "bias": p.bias})
    lse = np.empty((p.B, p.H, p.T), p.dtype)
    if COMPILED:
        _forward_in_tiles(p, q, k, v, out, lse)
    else:
        attention_plain.forward(p, q, k, v, out, lse)
    return out, lse


def _forward_in_tiles(p, q, k, v, out, lse):
    """On matrix tiles where the host has them and the numbers allow it, else on vectors."""
    if not (_matrix_tiles(p) and _run_forward("kernels.attention_amx_forward", p.precision or p.dtype, p, q, k, v, out, lse)):
        _run_forward("kernels.attention_tiled_forward", p.dtype, p, q, k, v, out, lse)


def _matrix_tiles(p):
    """Whether this problem is one for `kernels.amx`: float32 on a host that has it. Small ones too: one kernel to compile."""
    if p.dtype != np.float32:
        return False
    from kernels import amx

    return amx.AVAILABLE


def _run_forward(module, kind, p, q, k, v, out, lse):
    """Run the kernel of one module in one precision; False if it met numbers it cannot handle."""
    from kernels.attention_launch import launch, worker_address
    from kernels.attention_plan import Plan, threads_for

    kernel = importlib.import_module(module)
    plan = Plan(p, kernel.WIDTH_MULTIPLE)
    plan.arrays(q=q, k=k, v=v, out=out)
    plan.point("lse", lse)
    plan.split()
    r = plan.record[0]
    threads = threads_for(p, get_num_threads(), int(r["tasks"]))
    plan.workspace(threads, kernel.forward_bytes(p, int(r["K_padded"]), int(r["V_padded"])))
    launch(threads, worker_address(kernel, "forward", kind), plan.record.ctypes.data)
    return not plan.unfit()


def attention_backward(g, q, k, v, out, lse, *, need_bias=False, grads=(None, None, None), **options):
    """See `reference_attention.attention_backward`."""
    p = make_problem(q, k, v, **options)
    dq, dk, dv, dbias = gradient_buffers(p, grads, need_bias, g=g, q=q, k=k, v=v, out=out, lse=lse)
    backward = _backward_in_tiles if COMPILED else attention_plain.backward
    backward(p, g, q, k, v, out, lse, dq, dk, dv, dbias)
    return dq, dk, dv, dbias


def _backward_in_tiles(p, g, q, k, v, out, lse, dq, dk, dv, dbias):
    """On matrix tiles where the host has them and the numbers allow it, else on vectors."""
    arrays = (p, g, q, k, v, out, np.ascontiguousarray(lse), dq, dk, dv, dbias)
    if not (_matrix_tiles(p) and _run_backward("kernels.attention_amx_backward", p.precision or p.dtype, *arrays)):
        if dbias is not None:
            dbias[...] = 0
        _run_backward("kernels.attention_tiled_backward", p.dtype, *arrays)


def _run_backward(module, kind, p, g, q, k, v, out, lse, dq, dk, dv, dbias):
    """Run the kernel of one module in one precision; False if it met numbers it cannot handle."""
    from kernels.attention_launch import launch, worker_address
    from kernels.attention_plan import Plan, threads_for

    kernel = importlib.import_module(module)
    plan = Plan(p, kernel.WIDTH_MULTIPLE)
    wide = None if dbias is None else np.broadcast_to(dbias, (p.B, p.H, p.T, p.S))
    plan.arrays(g=g, q=q, k=k, v=v, out=out, dq=dq, dbias=wide)
    plan.point("lse", lse)
    partial = _key_gradients(plan, plan.split(wide), dk, dv)
    r = plan.record[0]
    threads = threads_for(p, get_num_threads(), int(r["tasks"]))
    plan.workspace(threads, kernel.backward_bytes(p, int(r["K_padded"]), int(r["V_padded"]), int(r["chunk"])))
    launch(threads, worker_address(kernel, "backward", kind), plan.record.ctypes.data)
    if plan.unfit():
        return False
    for target, parts in zip((dk, dv), partial, strict=False):
        np.add.reduce(parts, axis=0, out=target)
    return True


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


def _key_gradients(plan, chunks, dk, dv):
    """dk and dv themselves where one task writes them, else one array per chunk of queries, to be added up in order."""
    if chunks == 1:
        plan.arrays(dk=dk, dv=dv)
        return ()
    partial = [np.empty((chunks, *x.shape), x.dtype) for x in (dk, dv)]
    plan.arrays(dk=partial[0][0], dv=partial[1][0])
    plan.set(dk_chunk=partial[0].strides[0], dv_chunk=partial[1].strides[0])
    return partial
