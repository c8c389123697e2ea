"""Several kernels in one call: what stays the same from call to call is checked and laid out once.

A decoded token is a hundred short kernels, between which weights go by that are a hundred times what the caches hold. Python finds
nothing of its own there: a call that takes 9 microseconds in a loop takes 37 (GPT-2 124M: 3 of 21 ms a token). A chain knows the
kernels' addresses and their arguments, and runs them without Python in between:

    chain = Chain()
    chain.layer_norm(x, weight, bias, 1e-5, inner)
    chain.product(inner, up, y, up_bias, "gelu_tanh")
    chain.run()                               # y, of whatever x holds now

A step is a compiled function and an int64 array of its arguments; arrays stand there by their identity, since an ndarray's data
pointer is the first field after its head. The kernels are those that are called one by one elsewhere, so the numbers are the same.
Leaves out: checks (`nn.prepared` hands in what it made or looked at); float64; many rows, for which Python's time does not count.
"""

import functools

import numpy as np
from numba import carray, int64

from . import _pool, _threads, activation, norm, rotary
from ._jit import address_of, jit
from .attention_cached import COUNTER, LENGTHS, TASKS, THREADS, Layout, threads_for
from .attention_problem import make_problem
from .matmul_blocked import first_page, start
from .matmul_call import prepare
from .matmul_plan import borrow_scratch, return_scratch
from .matmul_quantized import multiply as multiply_int8
from .matmul_quantized import prepare as prepare_int8
from .simd import call_address, data_of, field, peek_f32, pointer_f32, poke

LEAST_SCRATCH = 1 << 12                       # bytes, where norms leave their rows' statistics
FORMULAS = {"relu": "relu", "silu": "silu", "gelu": "none", "gelu_tanh": "tanh"}
normalize, turn_rows = norm.normalize.part, rotary._turn.part


# ---- steps: functions of the address of their arguments ---------------------------------------------------------------

@jit
def run_steps(table, count, pool, scratch):
    """Call each step of a table of (function, arguments) addresses."""
    page = first_page(scratch.ctypes.data)
    for i in range(count):
        call_address(table[i, 0], table[i, 1], pool, page, 0)


@jit
def rows_at(args, place, rows, width):
    """The float32 array whose identity stands at a place, as rows."""
    return carray(pointer_f32(data_of(field(args, place))), (rows, width))


@jit
def line_at(args, place, width):
    return carray(pointer_f32(data_of(field(args, place))), (width,))


@jit
def layer_norm_step(args, pool, scratch, unused):
    """rows, width, x, weight, bias, out, eps"""
    rows, width = field(args, 0), field(args, 1)
    normalize_rows(args, line_at(args, 4, width), carray(pointer_f32(scratch), (rows,)), scratch + 4 * rows)


@jit
def layer_norm_without_bias_step(args, pool, scratch, unused):
    """rows, width, x, weight, 0, out, eps"""
    normalize_rows(args, None, carray(pointer_f32(scratch), (field(args, 0),)), scratch + 4 * field(args, 0))


@jit
def rms_norm_step(args, pool, scratch, unused):
    """rows, width, x, weight, 0, out, eps"""
    normalize_rows(args, None, None, scratch)


@jit
def normalize_rows(args, bias, mean, rstd):
    rows, width = field(args, 0), field(args, 1)
    normalize(0, 1, width, rows_at(args, 2, rows, width), None, line_at(args, 3, width), bias, peek_f32(args + 48), None,
              rows_at(args, 5, rows, width), mean, carray(pointer_f32(rstd), (rows,)))


@jit
def product_step(args, pool, scratch, unused):
    """threads, part, worker, finish, plan, a, b, c, bias, residual"""
    a, b, c = data_of(field(args, 5)), data_of(field(args, 6)), data_of(field(args, 7))
    start(pool, field(args, 0), field(args, 1), field(args, 2), field(args, 3), field(args, 4), a, b, c,
          data_of(field(args, 8)), data_of(field(args, 9)), 0, 1.0, 0.0, scratch)


@jit
def product_int8_step(args, pool, scratch, unused):
    """threads; part, worker and plan for tiles, worker, plan and one row's plan for vectors; x, q, out, bias, scale"""
    multiply_int8(pool, field(args, 0), field(args, 1), field(args, 2), field(args, 3), field(args, 4), field(args, 5),
                  field(args, 6), field(args, 7), field(args, 8), field(args, 9), field(args, 10), field(args, 11), scratch)


@jit
def add_step(args, pool, scratch, unused):
    """size, a, b, out"""
    size = field(args, 0)
    a, b, out = line_at(args, 1, size), line_at(args, 2, size), line_at(args, 3, size)
    for i in range(size):
        out[i] = a[i] + b[i]


@functools.cache
def activate_step_of(name):
    overwrite = activation.LINES32[name][2]

    @jit
    def activate_step(args, pool, scratch, unused):
        """size, x"""
        overwrite(line_at(args, 1, field(args, 0)))

    return activate_step


@functools.cache
def gate_step_of(name):
    gated = activation.LOOPS[np.dtype(np.float32)][name][0].part

    @jit
    def gate_step(args, pool, scratch, unused):
        """size, gate, up, out"""
        size = field(args, 0)
        gated(0, 1, size, size, False, rows_at(args, 1, 1, size), rows_at(args, 2, 1, size), rows_at(args, 3, 1, size))

    return gate_step


@jit
def turn_step(args, pool, scratch, unused):
    """B, H, T, width, half; x and its strides b, h, t; out (B, H, T, width); cos, sin (B, T, half)"""
    B, H, T, width, half = field(args, 0), field(args, 1), field(args, 2), field(args, 3), field(args, 4)
    x, out = data_of(field(args, 5)), data_of(field(args, 9))
    cos, sin = data_of(field(args, 10)), data_of(field(args, 11))
    for b in range(B):
        for h in range(H):
            for t in range(T):
                row = x + b * field(args, 6) + h * field(args, 7) + t * field(args, 8)
                angle = 4 * (b * T + t) * half
                turn_rows(0, 1, width, half, False, np.float32(1), carray(pointer_f32(row), (1, width)),
                          carray(pointer_f32(cos + angle), (1, half)), carray(pointer_f32(sin + angle), (1, half)),
                          carray(pointer_f32(out + 4 * ((b * H + h) * T + t) * width), (1, width)))


@jit
def keep_step(args, pool, scratch, unused):
    """B, H, T, width; x and its strides b, h, t; cache and its strides b, h, s; lengths: how many are kept with these"""
    B, H, T, width = field(args, 0), field(args, 1), field(args, 2), field(args, 3)
    x, cache, lengths = data_of(field(args, 4)), data_of(field(args, 8)), data_of(field(args, 12))
    for b in range(B):
        first = field(lengths, b) - T
        for h in range(H):
            for t in range(T):
                source = x + b * field(args, 5) + h * field(args, 6) + t * field(args, 7)
                target = cache + b * field(args, 9) + h * field(args, 10) + (first + t) * field(args, 11)
                row, place = carray(pointer_f32(source), (width,)), carray(pointer_f32(target), (width,))
                for i in range(width):
                    place[i] = row[i]


@jit
def attend_step(args, pool, scratch, unused):
    """worker, the record of a decoding, most threads, work for each key, how many counters to clear"""
    record = field(args, 1)
    d = data_of(record)
    lengths, longest = data_of(field(d, LENGTHS)), 0
    for b in range(field(d, 0)):
        longest = max(longest, field(lengths, b))
    threads = threads_for(longest, field(args, 3), field(d, TASKS), field(args, 2))
    poke(d + 8 * THREADS, threads)
    for i in range(field(args, 4)):
        poke(d + 8 * (COUNTER + i), 0)
    _pool.launch(pool, threads, field(args, 0), record)


@functools.cache
def _address(step):
    return address_of(step, *[int64] * 4)


# ---- the chain --------------------------------------------------------------------------------------------------------

class Chain:
    """Steps that are run in order, any number of times, on the arrays that they were made with. Not for two threads at once."""

    def __init__(self):
        self.threads = _threads.allowed
        self.steps, self.kept, self.rooms, self.problems = [], [], {}, {}
        self.scratch, self.table = LEAST_SCRATCH, None

    def room(self, name, *shape):
        """An array of that name and shape, made at the first call: what one layer leaves there the next may write over."""
        key = (name, *shape)
        if key not in self.rooms:
            self.rooms[key] = np.zeros(shape, np.float32)
        return self.rooms[key]

    def run(self):
        if self.table is None:
            self.table = np.array([(function, args.ctypes.data) for function, args in self.steps], np.int64).reshape(-1, 2)
        scratch = borrow_scratch(self.scratch)
        run_steps(self.table, len(self.table), _pool.ready(self.threads), scratch)
        return_scratch(scratch)

    def _add(self, step, *values):
        """A step with its arguments: numbers, arrays by their identity, None as 0."""
        numbers = [0 if x is None else id(x) if isinstance(x, np.ndarray) else x for x in values]
        self.kept.append(values)
        args = np.array(numbers, np.int64)
        self.steps.append((_address(step), args))
        return args

    def _add_norm(self, step, x, weight, bias, eps, out):
        args = self._add(step, x.size // x.shape[-1], x.shape[-1], x, weight, bias, out, 0)
        args[6:].view(np.float32)[0] = eps

    def layer_norm(self, x, weight, bias, eps, out):
        """out = (x - mean) / sqrt(var + eps) · weight + bias"""
        self._add_norm(layer_norm_without_bias_step if bias is None else layer_norm_step, x, weight, bias, eps, out)

    def rms_norm(self, x, weight, eps, out):
        """out = x / sqrt(mean(x²) + eps) · weight"""
        self._add_norm(rms_norm_step, x, weight, None, eps, out)

    def product(self, x, weight, out, bias=None, activation=None, residual=None):
        """out = activation(x weightᵀ + bias) + residual;   x (rows, K), weight (N, K)"""
        key = (x.shape, weight.shape, activation, bias is None, residual is None)
        if key not in self.problems:
            self.problems[key] = prepare(x, weight, out, bias, activation, residual)
        problem = self.problems[key]
        self.scratch = max(self.scratch, problem.scratch)
        self._add(product_step, problem.threads, problem.part, problem.worker, problem.finish, problem.plan.ctypes.data, x, weight,
                  out, bias, residual)

    def product_int8(self, x, q, scale, out, bias=None, activation=None, residual=None):
        """`product` with the weight q · scale"""
        prepared = prepare_int8(len(x), *q.shape)
        self.kept.append(prepared)
        self.scratch = max(self.scratch, prepared.scratch)
        self._add(product_int8_step, prepared.threads, *prepared.addresses, x, q, out, bias, scale)
        if activation is not None:
            self._add(activate_step_of(FORMULAS[activation]), out.size, out)
        if residual is not None:
            self.add(residual, out, out)

    def add(self, a, b, out):
        """out = a + b"""
        self._add(add_step, out.size, a, b, out)

    def gate(self, activation, gate, up, out):
        """out = activation(gate) · up"""
        self._add(gate_step_of(FORMULAS[activation]), out.size, gate, up, out)

    def rotary(self, x, cos, sin, out):
        """out (B, H, T, K) = x (B, H, T, K) turned by the angles of cos and sin (B, T, K/2)"""
        self._add(turn_step, *x.shape, cos.shape[-1], x, *x.strides[:3], out, cos, sin)

    def keep(self, x, cache, lengths):
        """cache[b, :, lengths[b] - T : lengths[b]] = x[b];   x (B, H, T, K)"""
        self._add(keep_step, *x.shape, x, *x.strides[:3], cache, *cache.strides[:3], lengths)

    def attend(self, q, k, v, lengths, starts, out, scale, window=None, bias=None, is_causal=True):
        """Attention of q (B, H, T, K) to the keys starts[b] <= s < lengths[b] of a cache k, v (B, Hkv, S, K); both int64 (B,)

        is_causal: the queries are the last T of those positions; else each sees all of them.
        """
        p = make_problem(q, k, v, bias=bias, scale=scale, window=window, is_causal=is_causal)
        layout = Layout(p, q, k, v)
        work = self.room("work", -(-layout.bytes(self.threads) // 4))
        record = layout.describe(q, k, v, bias, out, lengths, work, 1, starts)
        self.kept.append((q, k, v, bias, out, lengths, starts, work))
        self._add(attend_step, layout.worker, record, self.threads, layout.work, len(record) - COUNTER)


def warmup(dtypes=("float32",)):
    """Compile, or load, the steps of a decoded token, as GPT-2 and its like take them; chains know float32 alone."""
    for step in (layer_norm_step, product_step, keep_step, attend_step):
        _address(step)
    Chain().run()
