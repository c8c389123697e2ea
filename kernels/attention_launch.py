"""How attention's compiled loops are started: by their address, on the pool.

LLVM optimises a callee again inside each of its callers. A worker called by address is compiled once.
"""
import functools

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels import _pool
from kernels._jit import address_of, jit
from kernels.attention_plan import PLAN
from kernels.simd import draw

__all__ = ["launch", "make_drain", "plan_at", "pointer_to", "worker_address"]


@intrinsic
def pointer_to(typingctx, address):
    """An address as a pointer of no type, for `numba.carray`."""
    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())
    return types.voidptr(types.int64), codegen


@jit
def plan_at(address):
    """The plan that lies at an address."""
    return numba.carray(pointer_to(address), (1,), PLAN)[0]


def make_drain(run):
    """drain(address, thread, like): run(task, thread, plan, scale, keep) for tasks drawn from the counter until none is left.

    Unequal tasks and a disturbed core balance out so; what a task computes does not depend on who drew it.
    """
    @jit
    def drain(address, thread, like):
        p = plan_at(address)
        scale, keep = type(like)(p.scale), type(like)(p.keep)
        task = draw(p.counter, p.tasks, thread)
        while task >= 0:
            run(task, thread, p, scale, keep)
            task = draw(p.counter, p.tasks, thread)

    return drain


def launch(threads, worker, argument):
    """worker(argument, thread, 0, 0) for so many threads."""
    _pool.launch(_pool.ready(threads), threads, worker, argument)


@functools.cache
def worker_address(module, name, kind):
    """Compile `name_float32`, `name_float64` or `name_bfloat16` of a kernel module, once; `kind` is a dtype or a precision."""
    return address_of(getattr(module, f"{name}_{kind}"), *[types.int64] * 4)
