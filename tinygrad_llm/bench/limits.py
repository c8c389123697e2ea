"""The two limits that every kernel meets, as a question of their own: multiply-adds with everything in registers, and reading an
array far larger than the caches.

`python -m tinygrad_llm.bench.limits THREADS DTYPE` prints the best of several calls of each, which is the roof of the roofline.
Beside a case's contestants the one that binds takes turns with them (`run.Question`): on a machine that others use its speed is
another one from minute to minute, and a share of it means something only where both were measured within moments.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_llm.bench.case import Case, Options

LIMIT = "limit"  # the contestant's name
CHAINS = 12  # independent accumulators: two ports of four-cycle latency need eight, and sixteen registers hold twelve
ROUNDS = 1 << 20  # of multiply-adds in a call: some milliseconds
READ_BYTES = 1 << 28
LONG_ENOUGH = 0.5  # seconds; for the first tens of milliseconds the system may have all threads on one core
STREAMS = 4  # that a thread reads side by side: memory gives one core more than along a single one


def cases(options: Options) -> Iterator[Case]:
    """In the order of RESOURCES."""
    flops, read = amounts(options)
    yield limit_case("multiply-adds", lambda: adding(options.threads, options.dtype), flops=flops)
    yield limit_case("reading", lambda: reading(options.threads), bytes=read)


# what a case counts, the machine's key for the limit, the unit of both
RESOURCES = (("flops", "gflops", "GFLOP/s"), ("bytes", "gbytes", "GB/s"))


def limit_case(name: str, set_up: Callable[[], Callable[[], Any]], **amount: float) -> Case:
    case = Case(name, **amount)  # type: ignore[arg-type]
    case.contestant(LIMIT)(set_up)
    return case


def binding(case: Case, limits: dict[str, Any]) -> int | None:
    """The roofline's answer, as an index into RESOURCES: what would take a case longer at the limits; None if that is not known."""
    took = {
        i: getattr(case, amount) / limits[key]
        for i, (amount, key, _) in enumerate(RESOURCES)
        if getattr(case, amount) and limits.get(key)
    }
    return max(took, key=took.__getitem__) if took else None


def multiply_add_kernel(lanes: int, dtype: str) -> Any:
    """An @njit function of (n, seed) that runs n rounds of CHAINS vector multiply-adds and returns one lane of their sum."""
    from llvmlite import ir
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def chains(typing_context: Any, n: Any, seed: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            n, seed = arguments
            vector = ir.VectorType(ir.FloatType() if dtype == "float32" else ir.DoubleType(), lanes)
            fma_type = ir.FunctionType(vector, [vector] * 3)
            fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fma.v{lanes}f{dtype[-2:]}")
            start = ir.Constant(vector, [1.0] * lanes)
            factor = builder.shuffle_vector(
                builder.insert_element(ir.Constant(vector, ir.Undefined), seed, ir.Constant(ir.IntType(32), 0)),
                ir.Constant(vector, ir.Undefined),
                ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes),
            )
            before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
            builder.branch(loop)
            builder.position_at_end(loop)
            i = builder.phi(n.type)
            sums = [builder.phi(vector) for _ in range(CHAINS)]
            new = [builder.call(fma, [s, factor, factor]) for s in sums]
            i_next = builder.add(i, ir.Constant(n.type, 1))
            for phi, first, following in [(i, ir.Constant(n.type, 0), i_next), *((s, start, x) for s, x in zip(sums, new))]:
                phi.add_incoming(first, before)
                phi.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", i_next, n), loop, after)
            builder.position_at_end(after)
            total = new[0]
            for x in new[1:]:
                total = builder.fadd(total, x)
            return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

        number = getattr(types, dtype)
        return number(types.int64, number), codegen

    call: Any = chains  # the typing context is Numba's to pass
    return njit(lambda n, seed: call(n, seed))


def vector_bytes() -> int:
    """Of the widest vectors this host has."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


def amounts(options: Options) -> tuple[int, int]:
    """What a call of each limit does, in the order of RESOURCES; a multiply-add counts as two operations."""
    return 2 * vector_bytes() // np.dtype(options.dtype).itemsize * CHAINS * ROUNDS * options.threads, READ_BYTES


def adding(threads: int, dtype: str) -> Callable[[], Any]:
    from numba import njit, prange, types

    number = np.dtype(dtype)
    seed = number.type(0.5)
    one = multiply_add_kernel(vector_bytes() // number.itemsize, dtype)

    @njit(parallel=True)
    def many(count, rounds, seed):
        total = np.zeros(count, number)
        for t in prange(count):
            total[t] = one(types.int64(rounds), seed)
        return total

    return lambda: many(threads, ROUNDS, seed)


def reading(threads: int) -> Callable[[], Any]:
    from numba import njit, prange

    @njit(fastmath={"reassoc", "contract"})
    def total(part):
        """Of STREAMS quarters of an array, side by side."""
        step = part.size // STREAMS
        a, b, c, d = part[:step], part[step : 2 * step], part[2 * step : 3 * step], part[3 * step : 4 * step]
        s = np.float32(0)
        for i in range(step):
            s += (a[i] + b[i]) + (c[i] + d[i])
        return s

    @njit(parallel=True)
    def read(x, count):
        out = np.zeros(count, np.float32)
        step = x.size // count
        for t in prange(count):
            out[t] = total(x[t * step : (t + 1) * step])
        return out

    x = np.ones(READ_BYTES // 4, np.float32)
    return lambda: read(x, threads)


def best(threads: int, dtype: str, long_enough: float = LONG_ENOUGH) -> dict[str, Any]:
    """{"threads": ..., "gflops": ..., "gbytes": ...}: the best of the calls of a while."""
    found: dict[str, Any] = {"threads": threads}
    options = Options(threads, dtype)
    for case, amount, (_, key, _) in zip(cases(options), amounts(options), RESOURCES):
        call = case.contestants[LIMIT]()
        call()
        end, took = time.perf_counter() + long_enough, []
        while len(took) < 3 or time.perf_counter() < end:
            took.append(seconds(call))
        found[key] = round(amount / min(took) / 1e9, 1)
    return found


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(best(int(sys.argv[1]), sys.argv[2])))
