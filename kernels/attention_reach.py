"""Attention among numbers that are not finite: NaN and infinity reach who sees them, and no one else.

Products over whole tiles, or over all keys, take a hidden key 0 times, and 0 · NaN is NaN. So a call that wrote something that is
not finite is made again with zeros in place of such numbers, and whatever sees none of them takes its result from there. That
stores T x S booleans for each sequence; from MOST of them on the results stay as they are.
The two functions take what computes: run(problem, arrays ...), which says whether all that it wrote is finite.
"""
import numpy as np

from kernels import reference_attention as plain

MOST = 1 << 27                                # half a gigabyte as float32


def forward(run, p, q, k, v, out, lse):
    """Fill out and lse by `run(p, q, k, v, out, lse)`."""
    seen = _seen(p, run(p, q, k, v, out, lse))
    if seen is None:
        return
    again, lse_again = np.empty_like(out), np.empty_like(lse)
    run(p, _clean(q), _clean(k), _clean(v), again, lse_again)
    rows = (_bad(q, row=True) | _by_keys(seen, _bad(k, row=True), p)) & seen.any(-1, keepdims=True)     # (B, H, T, 1)
    np.copyto(out, again, where=~(rows | _by_keys(seen, _bad(v), p)))
    np.copyto(lse, lse_again, where=~rows[..., 0])


def backward(run, p, g, q, k, v, out, lse, dq, dk, dv, dbias):
    """Fill dq, dk, dv and, unless it is None, dbias by `run` of the same arguments."""
    seen = _seen(p, run(p, g, q, k, v, out, lse, dq, dk, dv, dbias))
    if seen is None:
        return
    keys = _bad(v, row=True)                                                                # (B, Hkv, S, 1)
    unknown = _bad(q, row=True) | _by_keys(seen, _bad(k, row=True), p) | (_bad(lse) & ~np.isneginf(lse))[..., None]
    rows = (unknown | _bad(g, row=True) | _bad(out, row=True)) & seen.any(-1, keepdims=True)
    again = [None if x is None else np.empty_like(x) for x in (dq, dk, dv, dbias)]
    run(p, _clean(g), _clean(q), _clean(k), _clean(v), _clean(out), np.where(unknown[..., 0], lse.dtype.type(np.inf), lse), *again)
    np.copyto(dq, again[0], where=~(rows | _by_keys(seen, keys, p)))
    np.copyto(dk, again[1], where=~_by_queries(seen, rows, p))
    np.copyto(dv, again[2], where=~_by_queries(seen, unknown | _bad(g), p))
    if dbias is not None:
        reached = seen & (rows | plain.for_each_head(keys, p).swapaxes(-1, -2))
        np.copyto(dbias, again[3], where=plain.bias_gradient(reached, p) == 0)


def _seen(p, finite):
    """Which keys count for a query, (B, 1 or H, T, S) bool; None where there is nothing to do."""
    if finite or p.B * p.T * p.S >= MOST:
        return None
    seen = plain.visible_keys(p)
    seen = seen if p.bias is None else seen & ~np.isneginf(p.bias)
    return None if seen.all() else seen


def _bad(x, row=False):
    """Where x is not finite; where any number of its row is not, (B, H, T, 1), with `row`."""
    bad = ~np.isfinite(x)
    return bad.any(-1, keepdims=True) if row else bad


def _clean(x):
    return np.where(np.isfinite(x), x, x.dtype.type(0))


def _by_keys(seen, bad, p):
    """Whether a query sees a bad key: (B, Hkv, S, C) -> (B, H, T, C)."""
    return seen.astype(np.float32) @ plain.for_each_head(bad, p).astype(np.float32) > 0


def _by_queries(seen, bad, p):
    """Whether a key is seen by a bad query: (B, H, T, C) -> (B, Hkv, S, C)."""
    return plain.shared_sum(seen.swapaxes(-1, -2).astype(np.float32) @ bad.astype(np.float32), p) > 0
