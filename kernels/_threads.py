"""One busy thread pool at a time: how many threads kernels use, and NumPy's BLAS kept out of their way.

A kernel asks `get_num_threads()` and passes the number on; a launch that asks for one thread never touches
the pool (`_pool`).
"""

import ctypes
import functools
import os
import sys
from pathlib import Path

import numpy as np


def cores():
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def pool_size():
    """How many threads there may be. Numba's own rule: NUMBA_NUM_THREADS, or the cores this process may run on."""
    from_env = os.environ.get("NUMBA_NUM_THREADS", "")
    try:
        return max(1, int(from_env)) if from_env else cores()
    except ValueError:
        raise ValueError("environment variable NUMBA_NUM_THREADS: expected a whole number of threads, "
                         f"got {from_env!r}; unset it for the default") from None


allowed = pool_size()                         # read directly where a call's overhead counts


def set_num_threads(n):
    """Use up to `n` threads from now on; more than the pool has means all of the pool."""
    global allowed
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"set_num_threads: expected a whole number of at least 1, got {n!r}")
    allowed = min(int(n), pool_size())
    if pool := sys.modules.get(f"{__package__}._pool"):
        pool.allow(allowed)


def get_num_threads():
    return allowed


# -- NumPy's BLAS ---------------------------------------------------------------------------------

_SETTERS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads",
            "openblas_set_num_threads64_", "openblas_set_num_threads")
_blas_now = None


@functools.cache
def _blas_setter():
    """The thread setter of the OpenBLAS in NumPy's wheel, else threadpoolctl's, else None (Accelerate has none)."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs", package / ".libs"):
        for library in folder.glob("*openblas*"):
            handle = ctypes.CDLL(str(library))      # loaded already: this finds the same copy
            for symbol in _SETTERS:
                if hasattr(handle, symbol):
                    setter = getattr(handle, symbol)
                    setter.argtypes, setter.restype = [ctypes.c_int], None
                    return setter
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    return lambda n: threadpool_limits(limits=n, user_api="blas")


def set_blas_threads(n):
    """Give NumPy's BLAS `n` threads where it has a setter; a no-op when it has `n` already."""
    global _blas_now
    if _blas_now == n:
        return
    if setter := _blas_setter():
        setter(n)
    _blas_now = n


def leave_cores_to_kernels():
    set_blas_threads(1)


def leave_cores_to_blas():
    set_blas_threads(get_num_threads())
