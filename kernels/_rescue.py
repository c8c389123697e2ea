"""Help for a thread that lost its core in the middle of a part: it is brought to the core of the caller, who waits anyway.

With another program on one of the cores the system stops a helper for milliseconds at a time, often within a part, and the
caller, who has done all the rest, waits for it with a core of his own. So a caller who has waited for a while looks at the CPU time
of those who hold a part. Who used none since the last look stands still: he is moved to the caller's core, which the caller offers
him. Having done his part he offers it back, and is moved off it again, to queue where he came from; as soon as he runs there he
may run everywhere he could before. Linux only; elsewhere, and where the system refuses, the caller waits as before.
"""
import ctypes
import sys

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._jit import jit
from .simd import peek_i64, poke

# bytes from the start: addresses of the C library's functions, 0 for none; then for each thread what is known of it
SET_AFFINITY, GET_AFFINITY, GET_CORE, CLOCK = 0, 8, 16, 24
THREADS = 128
MASK_BYTES = 128                              # of a set of cores: 1,024 of them
ID, WORKS, STATE, SEEN, TIME, HOME, NARROW = 0, 8, 16, 24, 32, 128, 256       # of a thread; ID 0: not known yet
EACH = NARROW + MASK_BYTES
AT_HOME, BROUGHT, SENT_OFF = 0, 1, 2
_INT, _I64 = ir.IntType(32), ir.IntType(64)


def size(threads):
    return THREADS + EACH * threads


@intrinsic
def ask_system(typingctx, function, first, second, third):
    """Call a C function of an int and two words (fewer: the rest is not looked at) by its address."""
    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(_INT, [_INT, _I64, _I64])
        words = [builder.trunc(args[1], _INT), *args[2:]]
        return builder.sext(builder.call(builder.inttoptr(args[0], kind.as_pointer()), words), _I64)
    return types.int64(*[types.int64] * 4), codegen


@jit
def cpu_time(rescue, thread):
    """Nanoseconds that a thread has run, -1 where the system does not say; its clock's number is made of its own."""
    clock = (~peek_i64(thread + ID) << 3) | 6
    if ask_system(peek_i64(rescue + CLOCK), clock, thread + TIME, 0) != 0:
        return -1
    return peek_i64(thread + TIME) * 1_000_000_000 + peek_i64(thread + TIME + 8)


@jit
def bring(rescue, thread):
    """Narrow a thread's choice to the core of this one, if it had a choice that holds it."""
    core = ask_system(peek_i64(rescue + GET_CORE), 0, 0, 0)
    if core < 0 or core >= 8 * MASK_BYTES:
        return False
    if ask_system(peek_i64(rescue + GET_AFFINITY), peek_i64(thread + ID), MASK_BYTES, thread + HOME) != 0:
        return False
    others = 0
    for word in range(0, MASK_BYTES, 8):
        here = 1 << core % 64 if word == core // 64 * 8 else 0
        mask = peek_i64(thread + HOME + word)
        if here & mask != here:
            return False
        others |= mask & ~here
        poke(thread + NARROW + word, here)
    if others == 0 or ask_system(peek_i64(rescue + SET_AFFINITY), peek_i64(thread + ID), MASK_BYTES, thread + NARROW) != 0:
        return False
    poke(thread + STATE, BROUGHT)
    return True


@jit
def look_after(rescue, threads):
    """Bring those who hold a part and have not run since the last look; whether there were any."""
    brought = False
    for thread in range(rescue + THREADS, rescue + THREADS + EACH * threads, EACH):
        if peek_i64(thread + WORKS) != 0 and peek_i64(thread + ID) != 0 and peek_i64(thread + STATE) == AT_HOME:
            used = cpu_time(rescue, thread)
            if used >= 0 and used == peek_i64(thread + SEEN):
                brought |= bring(rescue, thread)
            poke(thread + SEEN, used)
    return brought


@jit
def send_off(rescue, threads):
    """Move those who were brought to where else they may run."""
    for thread in range(rescue + THREADS, rescue + THREADS + EACH * threads, EACH):
        if peek_i64(thread + STATE) == BROUGHT:
            for word in range(0, MASK_BYTES, 8):
                poke(thread + NARROW + word, peek_i64(thread + HOME + word) & ~peek_i64(thread + NARROW + word))
            ask_system(peek_i64(rescue + SET_AFFINITY), peek_i64(thread + ID), MASK_BYTES, thread + NARROW)
            poke(thread + STATE, SENT_OFF)            # last, or he could come home before he was sent


@jit
def come_home(rescue, thread):
    """The thread itself: it may run again wherever it could before."""
    ask_system(peek_i64(rescue + SET_AFFINITY), 0, MASK_BYTES, thread + HOME)
    poke(thread + STATE, AT_HOME)


def fill_in(address):
    """Write the functions' addresses; all or none."""
    names = ("sched_setaffinity", "sched_getaffinity", "sched_getcpu", "clock_gettime")
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if all(hasattr(library, name) for name in names):
        for place, name in zip((SET_AFFINITY, GET_AFFINITY, GET_CORE, CLOCK), names):
            ctypes.c_int64.from_address(address + place).value = ctypes.cast(getattr(library, name), ctypes.c_void_p).value


def name(address, index, number):
    """Say the system's number of a thread."""
    ctypes.c_int64.from_address(address + THREADS + EACH * index + ID).value = number
