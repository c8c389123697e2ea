"""The one place that decides how kernels are compiled.

`jit` compiles at the first call of each signature and keeps the result on disk (see `_cache`); without Numba,
or under NUMBA_DISABLE_JIT=1, it returns the plain Python function, which a debugger can step through.

A parallel kernel is a serial worker and a thin launcher:

    @jit
    def rows(task, tasks, x, out): ...                 # the part `task` of `tasks`, fixed by the shape alone

    @jit_parallel
    def launch(threads, tasks, x, out):
        for t in prange(threads):                      # one iteration per thread
            for task in range(t, tasks, threads):
                rows(task, tasks, x, out)

called as `launch(threads, ...)`, where the first argument is the number of threads. With one thread call the
worker through a serial launcher, or `launch.serial(1, ...)`, which is the same loop without the pool.

fastmath is a set without nnan and ninf, because masks hold -inf. It lets LLVM re-associate: write a sum whose
rounding matters (x - n·ln2_hi - n·ln2_lo) with fma, which stays as written.
"""

import functools
import os
import threading

from ._threads import get_num_threads

try:
    import numba
    from numba import prange
except ImportError:
    numba = None
    prange = range

FASTMATH = frozenset({"reassoc", "contract", "nsz", "arcp", "afn"})

# Compiled code is in use: explicit vectors and raw addresses are available. Else arrays and plain loops only.
COMPILED = numba is not None and not numba.config.DISABLE_JIT

_OPTIONS = {"error_model": "numpy", "fastmath": set(FASTMATH), "nogil": True}


def jit(function=None, **options):
    """Compile lazily, cache on disk, release the GIL. Options go to `numba.njit` over the house's own."""
    if function is None:
        return functools.partial(jit, **options)
    if not COMPILED:
        return function
    from ._cache import KernelCache

    options = {**_OPTIONS, **options}
    dispatcher = numba.njit(**options)(function)
    dispatcher._cache = KernelCache(function, options)
    return dispatcher


_addressed = []


def address_of(dispatcher, *argument_types):
    """Compile for these Numba types and return the machine code's address, for `simd.call_address`.

    Code behind an address is compiled once, instead of once more inside each of its callers.
    """
    dispatcher.compile(argument_types)
    _addressed.append(dispatcher)             # the code lives as long as its dispatcher
    result = dispatcher.overloads[argument_types]
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


def jit_parallel(function):
    """A launcher: `function(threads, ...)` with a `prange(threads)` inside. One thread never touches the pool."""
    if not COMPILED:
        function.serial = function
        return function
    return _Launcher(function)


class _Launcher:
    """Two compilations of one function, with and without the pool; each only if it is called."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.py_func = function
        self.serial = jit(function)
        self.parallel = jit(function, parallel=True)

    def __call__(self, threads, *args):
        if threads <= 1:
            return self.serial(1, *args)
        if threads > get_num_threads():               # a forked child, or a number kept from earlier
            return self.__call__(get_num_threads(), *args)
        lock = _pool_lock or _make_pool_lock()
        if lock is _NO_LOCK:
            return self.parallel(threads, *args)
        with lock:
            return self.parallel(threads, *args)


# -- the threading layer --------------------------------------------------------------------------

_NO_LOCK = object()
_pool_lock = None


def _make_pool_lock():
    """Start Numba's pool. Its workqueue layer ends the process when two Python threads enter it: that one gets a lock."""
    global _pool_lock
    # GNU OpenMP's threads spin at a barrier for milliseconds before they sleep. While another process has one of the cores, the
    # one that spins keeps the core from the one it waits for: a small training step took 670-2500 ms so, 90-240 with this.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from numba.np.ufunc.parallel import _launch_threads

    _launch_threads()
    _pool_lock = threading.RLock() if numba.threading_layer() == "workqueue" else _NO_LOCK
    return _pool_lock


def _fresh_lock_after_fork():
    global _pool_lock
    if _pool_lock is not None and _pool_lock is not _NO_LOCK:
        _pool_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_lock_after_fork)
