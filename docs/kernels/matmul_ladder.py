"""Measure the steps of matmul.md: python docs/kernels/matmul_ladder.py [side], one thread, float32.

Times are CPU time of the thread, so that other processes on the machine disturb little; the best of several turns counts, with the
steps taken in turns. Every step is checked against NumPy first.
"""

import sys
import time

import numpy as np

import kernels
from kernels import simd
from kernels._jit import jit
from kernels.matmul_tile import ROWS, make_tile

WIDE, NARROW = make_tile(simd.f32, 3), make_tile(simd.f32, 1)
WIDTH = 3 * simd.LANES32
ONE, ZERO = np.float32(1), np.float32(0)


@jit
def dot_by_dot(a, b, c):
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            total = ZERO
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            c[i, j] = total


@jit
def row_by_row(a, b, c):
    for i in range(c.shape[0]):
        row = c[i]
        row[:] = ZERO
        for k in range(a.shape[1]):
            factor, line = a[i, k], b[k]
            for j in range(row.size):
                row[j] += factor * line[j]


@jit
def four_rows_at_once(a, b, c):
    c[:] = ZERO
    for i in range(0, c.shape[0], 4):
        c0, c1, c2, c3 = c[i], c[i + 1], c[i + 2], c[i + 3]
        for k in range(a.shape[1]):
            a0, a1, a2, a3 = a[i, k], a[i + 1, k], a[i + 2, k], a[i + 3, k]
            line = b[k]
            for j in range(line.size):
                c0[j] += a0 * line[j]
                c1[j] += a1 * line[j]
                c2[j] += a2 * line[j]
                c3[j] += a3 * line[j]


@jit
def tiles(a, b, c, steps):
    """Sums in registers, operands where they lie, k in `steps` steps."""
    n = c.shape[1]
    pa, pb, pc = a.ctypes.data, b.ctypes.data, c.ctypes.data
    kc = a.shape[1] // steps
    for k in range(0, a.shape[1], kc):
        beta = ZERO if k == 0 else ONE
        for j in range(0, n - n % WIDTH, WIDTH):
            for i in range(0, c.shape[0], ROWS):
                WIDE(kc, pa + i * a.strides[0] + 4 * k, a.strides[0], 4, pb + k * b.strides[0] + 4 * j, b.strides[0],
                     pc + i * c.strides[0] + 4 * j, c.strides[0], ONE, beta)
        for j in range(n - n % WIDTH, n, simd.LANES32):
            for i in range(0, c.shape[0], ROWS):
                NARROW(kc, pa + i * a.strides[0] + 4 * k, a.strides[0], 4, pb + k * b.strides[0] + 4 * j, b.strides[0],
                       pc + i * c.strides[0] + 4 * j, c.strides[0], ONE, beta)


@jit
def packed_panels(a, b, c, kc, panel):
    """The same, with each panel of B copied next to itself before the rows of A pass over it."""
    n = c.shape[1]
    pa, pc, packed = a.ctypes.data, c.ctypes.data, panel.ctypes.data
    for k in range(0, a.shape[1], kc):
        beta, depth = ZERO if k == 0 else ONE, min(kc, a.shape[1] - k)
        for j in range(0, n, WIDTH):
            width = min(WIDTH, n - j)
            for r in range(depth):
                for x in range(width):
                    panel[r * WIDTH + x] = b[k + r, j + x]
            for i in range(0, c.shape[0], ROWS):
                here, there = pa + i * a.strides[0] + 4 * k, pc + i * c.strides[0] + 4 * j
                if width == WIDTH:
                    WIDE(depth, here, a.strides[0], 4, packed, 4 * WIDTH, there, c.strides[0], ONE, beta)
                else:
                    for x in range(0, width, simd.LANES32):
                        NARROW(depth, here, a.strides[0], 4, packed + 4 * x, 4 * WIDTH, there + 4 * x, c.strides[0], ONE, beta)


def steps(a, b, c):
    panel = np.zeros(192 * WIDTH + 16, np.float32)
    panel = panel[-panel.ctypes.data // 4 % 16:]
    return {
        "1 dot by dot": lambda: dot_by_dot(a, b, c),
        "2 row by row": lambda: row_by_row(a, b, c),
        "3 four rows at once": lambda: four_rows_at_once(a, b, c),
        "4 sums in registers": lambda: tiles(a, b, c, 1),
        "5 k in steps": lambda: tiles(a, b, c, max(1, a.shape[1] // 128)),
        "6 panels of B packed": lambda: packed_panels(a, b, c, 192, panel),
        "7 kernels.matmul": lambda: kernels.matmul(a, b, c),
        "NumPy": lambda: np.matmul(a, b, out=c),
    }


def main(n):
    kernels.set_num_threads(1)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((n, n), np.float32), rng.standard_normal((n, n), np.float32)
    c, best = np.empty((n, n), np.float32), {}
    exact = a.astype(np.float64) @ b
    ladder = steps(a, b, c)
    for name, step in ladder.items():
        c.fill(np.nan)
        step()
        assert np.abs(c - exact).max() < 1e-3 * np.abs(exact).max(), name
    for turn in range(6):
        for name, step in ladder.items():
            if turn < 2 or best[name] < 1:
                start = time.thread_time()
                step()
                best[name] = min(best.get(name, np.inf), time.thread_time() - start)
    print(f"| step, {n}³ | GFLOP/s | times the step before |\n| --- | --- | --- |")
    before = None
    for name, seconds in best.items():
        print(f"| {name} | {2 * n**3 / seconds / 1e9:.1f} | {'' if before is None else f'{before / seconds:.2f}'} |")
        before = seconds


if __name__ == "__main__":
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    assert side % 64 == 0, f"expected a multiple of 64, got {side}"
    main(side)
