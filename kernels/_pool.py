"""The kernels' own threads. A call is cut into parts; whoever is awake takes the next one, the caller as well.

OpenMP's and Numba's pools end each parallel loop at a barrier that waits for every thread, also for one that has not begun because
another program has its core: a wait of milliseconds, kernel after kernel. Here the caller waits for parts that somebody has begun,
and does by itself what nobody took. So there is nothing to abort, nothing to nest, and a forked child has threads of its own.

One word holds the call that is running: its number, the first part that is left and the one after the last, in 12 bits each. A
part is taken by replacing that word with one that has it no more, if it is still the same; since numbers never come back,
whoever succeeds holds a part of the call that he read. The caller takes from the front and the first helper from the back, so
that two threads have the same rows in kernel after kernel, in their own caches, and still share the rest where one is late.
Threads look at the word for about a millisecond, then go to sleep; the next call rings for them but does not wait. A second
Python thread that calls meanwhile works alone. A helper whose core another program took in the middle of a part is given the
caller's (`_rescue`).
"""
import ctypes
import functools
import os
import platform
import threading
import time

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import _ahead, _rescue, _threads
from ._jit import address_of, jit
from .simd import call_address, peek_i64, poke

# bytes from the start; what different threads write stands on lines of its own
TICKET, DONE, BUSY, WORKER, ARGUMENT, LIMIT, LAUNCH, YIELD, ASLEEP, AHEAD = 0, 128, 256, 384, 392, 400, 408, 416, 512, 640
RESCUE = (AHEAD + _ahead.SIZE + 127) // 128 * 128             # and more for each thread: `_rescue.size`
PARTS_BITS = 12
MOST_PARTS = (1 << PARTS_BITS) - 1
SPINS, PATIENCE = 60000, 2000                 # looks before a thread sleeps; before the caller offers its core to who has a part
LAST_LOOKS = 4000                             # after it said so: some 100 microseconds
RUSH = 1e-4                                   # seconds between two calls that are one after the other
OFFERS = 100                                  # of the core, before the caller sees after who has a part
_I64 = ir.IntType(64)


def _at(builder, address):
    return builder.inttoptr(address, _I64.as_pointer())


@intrinsic
def look(typingctx, address):
    """The int64 at an address, as the last thread that wrote it left it."""
    def codegen(context, builder, sig, args):
        return builder.load_atomic(_at(builder, args[0]), "seq_cst", 8)
    return types.int64(types.int64), codegen


@intrinsic
def put(typingctx, address, value):
    """Write an int64 for all threads; what was written before is seen by whoever sees this."""
    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], _at(builder, args[0]), "seq_cst", 8)
        return context.get_dummy_value()
    return types.void(types.int64, types.int64), codegen


@intrinsic
def add(typingctx, address, value):
    """Add to the int64 at an address as one indivisible act."""
    def codegen(context, builder, sig, args):
        builder.atomic_rmw("add", _at(builder, args[0]), args[1], "seq_cst")
        return context.get_dummy_value()
    return types.void(types.int64, types.int64), codegen


@intrinsic
def replace(typingctx, address, old, new):
    """Write `new` if `old` is there, as one indivisible act; whether it was."""
    def codegen(context, builder, sig, args):
        found = builder.cmpxchg(_at(builder, args[0]), args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(found, 1)
    return types.boolean(types.int64, types.int64, types.int64), codegen


_PAUSES = {"x86_64": ("llvm.x86.sse2.pause", []), "amd64": ("llvm.x86.sse2.pause", []),
           "aarch64": ("llvm.aarch64.hint", [1]), "arm64": ("llvm.aarch64.hint", [1])}


@intrinsic
def pause(typingctx):
    """Tell the core that this is a loop that waits."""
    def codegen(context, builder, sig, args):
        name, values = _PAUSES.get(platform.machine().lower(), (None, []))
        if name:
            words = [ir.Constant(ir.IntType(32), value) for value in values]
            kind = ir.FunctionType(ir.VoidType(), [word.type for word in words])
            builder.call(builder.module.declare_intrinsic(name, fnty=kind), words)
        return context.get_dummy_value()
    return types.void(), codegen


@intrinsic
def offer_core(typingctx, function):
    """Call a C function without arguments by its address: the system's way to let another thread run."""
    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [])
        return context.get_dummy_value()
    return types.void(types.int64), codegen


@jit
def parts_left(ticket):
    """The first part that nobody took, and the one after the last."""
    return (ticket >> PARTS_BITS) & MOST_PARTS, ticket & MOST_PARTS


@jit
def take_part(pool, end):
    """A part of the running call, from the front (end 0) or the back (1); -1 where none is left."""
    while True:
        ticket = look(pool + TICKET)
        first, stop = parts_left(ticket)
        if first >= stop:
            return -1
        if end == 0:
            if replace(pool + TICKET, ticket, ticket + (1 << PARTS_BITS)):
                return first
        elif replace(pool + TICKET, ticket, ticket - 1):
            return stop - 1


@jit
def launch(pool, parts, worker, argument):
    """worker(argument, part, 0, 0) for every part, at most MOST_PARTS; the pool 0: on this thread."""
    if pool == 0 or parts == 1 or not replace(pool + BUSY, 0, 1):
        for part in range(parts):
            call_address(worker, argument, part, 0, 0)
        return
    poke(pool + WORKER, worker)
    poke(pool + ARGUMENT, argument)
    put(pool + DONE, 0)
    put(pool + TICKET, (((look(pool + TICKET) >> 2 * PARTS_BITS) + 1) << 2 * PARTS_BITS) + parts)
    mine, part = 0, take_part(pool, 0)
    while part >= 0:
        call_address(worker, argument, part, 0, 0)
        mine += 1
        part = take_part(pool, 0)
    waited, brought = 0, False
    while look(pool + DONE) + mine < parts:
        pause()
        waited += 1
        if waited > PATIENCE and peek_i64(pool + YIELD) != 0:
            if waited % OFFERS == 1 and peek_i64(pool + RESCUE) != 0:
                brought |= _rescue.look_after(pool + RESCUE, look(pool + LIMIT))
            offer_core(peek_i64(pool + YIELD))
    if brought:
        _rescue.send_off(pool + RESCUE, look(pool + LIMIT))
    put(pool + BUSY, 0)


@jit
def launch_worker(pool, parts, worker, argument):
    """`launch`, for those that know it by its address."""
    launch(pool, parts, worker, argument)


@jit
def expect(pool, matrix, piece, pieces):
    """A matrix is about to be read, once; threads that have no part may fetch what is expected to be read after it."""
    put(pool + AHEAD + _ahead.NEXT, _ahead.expect(pool + AHEAD, matrix, piece, pieces))


@jit
def return_core(pool, thread):
    """Offer the caller the core that he has lent, until he has moved this thread off it."""
    for _ in range(10 * OFFERS):
        if peek_i64(thread + _rescue.STATE) != _rescue.BROUGHT:
            break
        offer_core(peek_i64(pool + YIELD))
    _rescue.come_home(pool + RESCUE, thread)


@jit
def serve(pool, index):
    """Take parts until there was nothing to do for a while."""
    idle, note, fetched = 0, 0, np.int64(0)         # a constant would have `fetch` compiled once more
    here = pool + RESCUE + _rescue.THREADS + _rescue.EACH * index
    while idle < SPINS and index < look(pool + LIMIT):
        part = take_part(pool, (index + 1) % 2)
        if part < 0:
            idle += 1
            following = look(pool + AHEAD + _ahead.NEXT)
            if following != note:
                note, fetched = following, 0
            before = fetched
            if note != 0:
                fetched = _ahead.fetch(note, index + 1, look(pool + LIMIT) + 1, fetched)
            if fetched == before:
                pause()
        else:
            poke(here + _rescue.WORKS, 1)
            call_address(peek_i64(pool + WORKER), peek_i64(pool + ARGUMENT), part, 0, 0)
            poke(here + _rescue.WORKS, 0)
            add(pool + DONE, 1)
            idle = 0
            if peek_i64(here + _rescue.STATE) != _rescue.AT_HOME:
                return_core(pool, here)
    if peek_i64(here + _rescue.STATE) != _rescue.AT_HOME:
        return_core(pool, here)


@jit
def has_work(pool, index):
    """Whether parts turn up for this thread within LAST_LOOKS."""
    for _ in range(LAST_LOOKS):
        first, stop = parts_left(look(pool + TICKET))
        if first < stop:
            return index < look(pool + LIMIT)
        pause()
    return False


@functools.cache
def _compiled():
    """The loops of the threads, ready to be called, and the address of `launch`."""
    for loop in (serve, has_work):
        loop.compile((types.int64, types.int64))
    return address_of(launch_worker, *[types.int64] * 4)


class _Pool:
    """The threads beside the caller, and the memory that all of them look at."""

    def __init__(self, threads):
        launcher = _compiled()
        self.memory = np.zeros(RESCUE + _rescue.size(threads) + 128, np.uint8)
        self.address = (self.memory.ctypes.data + 127) // 128 * 128
        self.asleep = ctypes.c_int64.from_address(self.address + ASLEEP)      # how many of those that may work
        self.limit = ctypes.c_int64.from_address(self.address + LIMIT)
        ctypes.c_int64.from_address(self.address + LAUNCH).value = launcher
        ctypes.c_int64.from_address(self.address + YIELD).value = _yield_address()
        _rescue.fill_in(self.address + RESCUE)
        self.guard = threading.Lock()
        self.bells = [threading.Lock() for _ in range(threads)]
        self.dozing = [False] * threads
        self.names = [0] * threads                    # the system's numbers of the threads, for those that sleep
        self.cores = [None] * threads                 # where a thread that was woken may run, if that was narrowed
        self.allow(_threads.allowed - 1)
        for index, bell in enumerate(self.bells):
            bell.acquire()
            try:
                threading.Thread(target=self._work, args=(index, bell), daemon=True, name=f"kernels-{index}").start()
            except RuntimeError:                      # a limit on threads, or Python is ending: those that there are take all parts
                break

    def _work(self, index, bell):
        self.names[index] = threading.get_native_id()
        _rescue.name(self.address + RESCUE, index, self.names[index])
        while True:
            serve(self.address, index)
            self._say_asleep(index, True)
            # a call may have begun while this thread waited for Python's lock to say so: it did not ring, and may last for seconds
            if has_work(self.address, index) and self._say_asleep(index, False):
                continue
            bell.acquire()
            if self.cores[index]:
                os.sched_setaffinity(0, self.cores[index])

    def _say_asleep(self, index, asleep):
        """False where it was said already: somebody has rung."""
        with self.guard:
            changes = self.dozing[index] != asleep
            self.dozing[index] = asleep
            self._count()
            return changes

    def _count(self):
        self.asleep.value = sum(self.dozing[: self.limit.value])

    def allow(self, threads):
        """So many threads beside the caller from now on."""
        with self.guard:
            self.limit.value = threads
            self._count()

    def wake(self):
        here = _core_of_caller()
        with self.guard:
            for index in range(min(self.limit.value, len(self.bells))):
                if self.dozing[index]:
                    self.cores[index] = _keep_off(self.names[index], here)
                    self.dozing[index] = False        # and no call before it is rung for: Ctrl-C would leave it asleep for good
                    self.bells[index].release()
            self._count()


def _keep_off(thread, core):
    """Let a sleeping thread wake on another core; the cores that it had, None where there is nothing to choose.

    Linux wakes a thread where it slept or where its waker runs. Where cores share no cache, as in many virtual machines, it does
    not look for an idle one, and the caller and its helper share a core for 5 to 15 ms: 512 x 512 products took 2.3 ms for 0.75.
    The thread takes the core back into its choice as soon as it runs.
    """
    if core < 0:
        return None
    cores = os.sched_getaffinity(thread)
    if len(cores) < 2 or core not in cores:
        return None
    os.sched_setaffinity(thread, cores - {core})
    return cores


@functools.cache
def _core_asker():
    library = ctypes.CDLL(None) if hasattr(os, "sched_setaffinity") else None
    return getattr(library, "sched_getcpu", None)


def _core_of_caller():
    """The number of the core that this thread runs on, -1 where the system does not say or would not be asked to move threads."""
    asker = _core_asker()
    return asker() if asker else -1


def _yield_address():
    """`sched_yield` or its like on Windows, 0 where there is neither."""
    library, name = (ctypes.windll.kernel32, "SwitchToThread") if os.name == "nt" else (ctypes.CDLL(None), "sched_yield")
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value if hasattr(library, name) else 0


_pool = None
_asked = 0.0                                  # when `if_awake` found threads asleep
_starting = threading.Lock()


def ready(threads):
    """The address of the pool with its threads awake; 0 for one thread."""
    if threads <= 1:
        return 0
    pool = _pool or _start()
    if pool.asleep.value:
        pool.wake()
    return pool.address


def if_awake(threads):
    """`ready` for work that is done before a sleeping thread would be awake: 0 then, unless such work comes in a rush."""
    global _asked
    if threads <= 1:
        return 0
    if _pool and not _pool.asleep.value:
        return _pool.address
    before, _asked = _asked, time.perf_counter()
    return ready(threads) if _asked - before < RUSH else 0


def _start():
    global _pool
    with _starting:
        if _pool is None:
            _pool = _Pool(_threads.pool_size() - 1)
    return _pool


def allow(threads):
    """Called by `_threads` when the number of threads changes."""
    if _pool is not None:
        _pool.allow(threads - 1)


def _forget_after_fork():
    """The threads stayed with the parent; the child starts its own at its first call."""
    global _pool, _starting
    _pool, _starting = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
