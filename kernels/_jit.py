"""The one place that decides how kernels are compiled.

`jit` compiles at the first call of each signature and keeps the result on disk (see `_cache`); without Numba,
or under NUMBA_DISABLE_JIT=1, it returns the plain Python function, which a debugger can step through.

A parallel kernel is a function that computes one of a number of tasks:

    @jit_tasks
    def scale(task, tasks, x, by, out):
        first, last = span(task, tasks, x.shape[0])    # fixed by the shape alone
        ...

called as `scale(threads, tasks, x, by, out)`; with one thread it never touches the pool. It is compiled once for both.
Loops that take addresses instead of arrays are compiled behind an address (`address_of`) and started by a launcher.

fastmath is a set without nnan and ninf, because masks hold -inf. It lets LLVM re-associate: write a sum whose
rounding matters (x - n·ln2_hi - n·ln2_lo) with fma, which stays as written.
"""

import functools
import inspect
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

_OPTIONS = {"error_model": "numpy", "fastmath": set(FASTMATH), "nogil": True, "no_cfunc_wrapper": True}


def jit(function=None, **options):
    """Compile lazily, cache on disk, release the GIL. Options go to `numba.njit` over the house's own."""
    if function is None:
        return functools.partial(jit, **options)
    if not COMPILED:
        return function
    from ._cache import KernelCache
    from ._parts import PartCompiler, keep_overload

    options = {**_OPTIONS, **options}
    dispatcher = numba.njit(**options)(function)
    dispatcher._cache = KernelCache(function, options)
    part = numba.njit(no_cpython_wrapper=True, pipeline_class=PartCompiler, **options)(function)
    part.add_overload = functools.partial(keep_overload, part)
    dispatcher.get_call_template, dispatcher.get_overload = part.get_call_template, part.get_overload
    return dispatcher


_addressed = []


def address_of(dispatcher, *argument_types):
    """Compile for these Numba types and return the machine code's address, for `simd.call_address`.

    Code behind an address is compiled once, instead of once more inside each of its callers.
    """
    if not dispatcher.targetoptions.get("parallel"):
        from ._cache import KernelCache
        from ._parts import WorkerCompiler

        options = {name: dispatcher.targetoptions[name] for name in _OPTIONS} | {"no_cpython_wrapper": True}
        dispatcher = numba.njit(pipeline_class=WorkerCompiler, **options)(dispatcher.py_func)
        dispatcher._cache = KernelCache(dispatcher.py_func, options)
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


def jit_tasks(function):
    """A kernel in tasks: `function(task, tasks, ...)` computes one of them, the result is called as `kernel(threads, tasks, ...)`.

    What a task does must follow from the arguments alone, not from the thread that does it: then neither do the bits.
    """
    if not COMPILED:
        def every_task(threads, tasks, *arguments):
            for task in range(tasks):
                function(task, tasks, *arguments)

        return functools.wraps(function)(every_task)
    return _Tasks(function)


class _Tasks:
    """One compilation per signature, for one thread and for many."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.py_func = function
        self._entry = self._launcher = None

    def _make_entry(self):
        from ._spread import spread

        # the names of the arguments are written out: a call through *arguments costs 0.3 microseconds more
        names = ", ".join(list(inspect.signature(self.py_func).parameters)[2:])
        made = {"__name__": self.__module__}
        exec(f"def make(spread, part):\n"
             f"    def {self.__name__}(threads, tasks, launcher, {names}):\n"
             f"        spread(part, threads, tasks, launcher, ({names},))\n"
             f"    return {self.__name__}", made)
        self._entry = jit(made["make"](spread, jit(self.py_func)))
        return self._entry

    def __call__(self, threads, tasks, *arguments):
        entry = self._entry or self._make_entry()
        if threads <= 1:
            return entry(1, tasks, 0, *arguments)
        if threads > get_num_threads():               # a forked child, or a number kept from earlier
            return self(get_num_threads(), tasks, *arguments)
        launcher = self._launcher or self._find_launcher()
        lock = _pool_lock or _make_pool_lock()
        if lock is _NO_LOCK:
            return entry(threads, tasks, launcher, *arguments)
        with lock:
            return entry(threads, tasks, launcher, *arguments)

    def _find_launcher(self):
        from ._spread import parallel_launcher

        self._launcher = parallel_launcher()
        return self._launcher


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
