"""Spreading a kernel over threads with one compilation: the code that starts threads knows a kernel by its address.

A parallel loop of Numba's is compiled together with what it calls, and once more for one thread. Here every kernel is compiled
once: its arguments lie in a block of memory, a small function reads them from there and runs the tasks of one part, and
`_pool.launch`, compiled once for all kernels, calls that function for each part on whatever thread is free.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._pool import LAUNCH
from .simd import _call_address

_I64 = types.int64


@intrinsic
def spread(typingctx, function, parts, tasks, pool, arguments):
    """function(task, tasks, *arguments) for every task, in so many parts. `pool` 0: on this thread; else from `_pool.ready`."""
    call = function.get_call_type(typingctx, (_I64, _I64, *arguments), {})      # compiles it

    def codegen(context, builder, sig, args):
        _, parts, tasks, pool, values = args
        block, places = _block(builder, [values, parts, tasks, ir.Constant(ir.IntType(64), 0)])
        worker = _worker(context, builder, block.type.pointee, (function, call))
        start = builder.ptrtoint(block, ir.IntType(64))
        with builder.if_then(builder.icmp_signed("!=", pool, ir.Constant(pool.type, 0))):
            _call_launcher(builder, [pool, parts, builder.ptrtoint(worker, ir.IntType(64)), start])
        # an exception ends a part early: what is not finished is done here, where the exception comes out
        with builder.if_then(builder.icmp_signed("!=", builder.load(places[3]), parts)):
            builder.store(ir.Constant(ir.IntType(64), 1), places[1])
            _call_worker(context, builder, worker, start)
        return context.get_dummy_value()

    return types.none(function, _I64, _I64, _I64, arguments), codegen


def _block(builder, values):
    """A record of these values on the stack, and where each of them lies."""
    block = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in values]))
    places = [cgutils.gep_inbounds(builder, block, 0, i) for i in range(len(values))]
    for value, place in zip(values, places):
        builder.store(value, place)
    return block, places


def _worker(context, builder, record, called):
    """worker(block, part, 0, 0): the tasks of a part, neighbours of each other; counts itself as finished in the block."""
    function, call = called
    kind = context.call_conv.get_function_type(types.none, [_I64] * 4)
    worker = ir.Function(builder.module, kind, builder.module.get_unique_name("worker"))
    worker.linkage = "internal"
    worker.attributes.add("noinline")
    inside = ir.IRBuilder(worker.append_basic_block("entry"))
    block, part = context.call_conv.get_arguments(worker)[:2]
    block = inside.inttoptr(block, record.as_pointer())
    values, parts, tasks = (inside.load(cgutils.gep_inbounds(inside, block, 0, i)) for i in range(3))
    run = context.get_function(function, call)
    number = ir.IntType(64)
    start, stop = (inside.sdiv(inside.mul(p, tasks), parts) for p in (part, inside.add(part, ir.Constant(number, 1))))
    with cgutils.for_range_slice(inside, start, stop, ir.Constant(number, 1), number) as (task, _):
        run(inside, [task, tasks, *cgutils.unpack_tuple(inside, values)])
    finished = cgutils.gep_inbounds(inside, block, 0, 3)
    inside.atomic_rmw("add", finished, ir.Constant(ir.IntType(64), 1), "monotonic")
    context.call_conv.return_value(inside, context.get_dummy_value())
    return worker


def _call_worker(context, builder, worker, block):
    zero = ir.Constant(ir.IntType(64), 0)
    status, _ = context.call_conv.call_function(builder, worker, types.none, [_I64] * 4, [block, zero, zero, zero])
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)


def _call_launcher(builder, arguments):
    """`_pool.launch`, whose address stands in the pool."""
    number = ir.IntType(64)
    where = builder.add(arguments[0], ir.Constant(number, LAUNCH))
    _call_address(builder, builder.load(builder.inttoptr(where, number.as_pointer())), *arguments)
