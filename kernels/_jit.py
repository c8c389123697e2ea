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

from ._threads import get_num_threads

try:
    import numba
except ImportError:
    numba = None

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


PARTS = 4                                     # of a kernel in tasks for each thread: who is held up leaves little to wait for
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
        self._entry = self._ready = None

    @functools.cached_property
    def part(self):
        """The function itself, compiled, for loops that run a task where they are."""
        return jit(self.py_func)

    def _make_entry(self):
        from ._pool import ready
        from ._spread import spread

        # the names of the arguments are written out: a call through *arguments costs 0.3 microseconds more
        names = ", ".join(list(inspect.signature(self.py_func).parameters)[2:])
        made = {"__name__": self.__module__}
        exec(f"def make(spread, part):\n"
             f"    def {self.__name__}(parts, tasks, pool, {names}):\n"
             f"        spread(part, parts, tasks, pool, ({names},))\n"
             f"    return {self.__name__}", made)
        self._ready, self._entry = ready, jit(made["make"](spread, self.part))
        return self._entry

    def __call__(self, threads, tasks, *arguments):
        entry = self._entry or self._make_entry()
        if threads <= 1:
            return entry(1, tasks, 0, *arguments)
        threads = min(threads, get_num_threads())     # a number kept from earlier may be larger
        return entry(min(tasks, PARTS * threads), tasks, self._ready(threads), *arguments)
