"""What ran the benchmark: processor, versions, revision, and the two limits that every kernel meets.

The limits are measured by small Numba kernels in a process of their own (`python -m tinygrad_llm.bench.machine THREADS DTYPE`):
multiply-adds with everything in registers, and reading an array far larger than the caches.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tinygrad_llm.bench.child import environment

PACKAGES = ("numpy", "numba", "torch", "transformers", "autograd", "mygrad", "tinygrad", "jax", "tinygrad-llm")
CHAINS = 12  # independent accumulators: two ports of four-cycle latency need eight, and sixteen registers hold twelve
READ_BYTES = 1 << 28


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, with x86's family and model: virtual machines give several generations one name."""
    first = cpuinfo.read_text("utf-8", errors="replace").split("\n\n")[0] if cpuinfo.is_file() else ""
    fields = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in first.splitlines())}
    name = fields.get("model name") or platform.processor() or platform.machine()
    if {"cpu family", "model"} <= fields.keys():
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name


def total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def revision() -> str | None:
    """The git revision of this checkout, "+changes" if it is not clean; None for an installed package."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else "")


def describe(threads: int, dtype: str = "float32") -> dict[str, Any]:
    """The machine's record. Two results are from the same machine when `identity` of theirs is equal."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": total_memory(),
        "system": f"{platform.system()} {platform.machine()}",
        **measured_limits(threads, dtype),
    }


def identity(machine: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(machine.get(key) for key in ("processor", "cores", "system"))


def measured_limits(threads: int, dtype: str) -> dict[str, float]:
    """{"gflops": ..., "gbytes": ...} at this thread count, of multiply-adds in this dtype, from a fresh process."""
    command = [sys.executable, "-m", "tinygrad_llm.bench.machine", str(threads), dtype]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(NUMBA_NUM_THREADS=str(threads)))
    if done.returncode:
        raise RuntimeError(f"could not measure this machine's limits:\n{done.stderr}")
    return json.loads(done.stdout)


def multiply_add_kernel(lanes: int, dtype: str = "float32") -> Any:
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


def gflops(threads: int, dtype: str = "float32") -> float:
    """Best of several runs of `threads` threads, each with CHAINS accumulators; a multiply-add counts as two operations."""
    import numpy as np
    from numba import njit, prange, types

    number = np.dtype(dtype)
    lanes, rounds, seed = vector_bytes() // number.itemsize, 20_000_000, number.type(0.5)
    one = multiply_add_kernel(lanes, dtype)

    @njit(parallel=True)
    def many(count, rounds, seed):
        total = np.zeros(count, number)
        for t in prange(count):
            total[t] = one(types.int64(rounds), seed)
        return total

    many(threads, 10, seed)
    return max(2.0 * lanes * CHAINS * rounds * threads / seconds(many, threads, rounds, seed) for _ in range(5)) / 1e9


def gbytes(threads: int) -> float:
    """Best of several sums over READ_BYTES of float32, split evenly among the threads."""
    import numpy as np
    from numba import njit, prange

    @njit(fastmath={"reassoc", "contract"})
    def total(part):
        s = np.float32(0)
        for i in range(part.size):
            s += part[i]
        return s

    @njit(parallel=True)
    def read(x, count):
        out = np.zeros(count, np.float32)
        step = x.size // count
        for t in prange(count):
            out[t] = total(x[t * step : (t + 1) * step])
        return out

    x = np.ones(READ_BYTES // 4, np.float32)
    read(x, threads)
    return max(READ_BYTES / seconds(read, x, threads) for _ in range(7)) / 1e9


def seconds(function: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    count, kind = int(sys.argv[1]), sys.argv[2]
    print(json.dumps({"threads": count, "gflops": round(gflops(count, kind), 1), "gbytes": round(gbytes(count), 1)}))
