"""What does each step of the row kernels' ladder bring? One thread, data in the second-level cache.

The contestants named "ours 1 ..." are the steps on the way, written out here; "ours" is the kernel in use.
docs/kernels/rows.md tells the story.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import kernels
from kernels import reference
from kernels._jit import jit
from kernels.vecmath import exp, exp_low, wide_vectors
from tinygrad_llm.bench import Case, Options

C = np.float32(math.sqrt(2 / math.pi))
MINUS_2C = np.float32(-2) * C
A, HALF, ONE = np.float32(0.044715), np.float32(0.5), np.float32(1)


def cases(options: Options) -> Iterator[Case]:
    kernels.set_num_threads(1)
    yield gelu_case(1 << 18)
    yield cross_entropy_case(8, 50257)
    yield adamw_case(1 << 18)


def ladder(name: str, inputs: Callable[..., Any], steps: dict[str, Callable[..., Any]]) -> Case:
    """A case whose contestants all make their function from the inputs."""
    case = Case(name, inputs, threads=1, tol=1e-5)
    for step, set_up in steps.items():
        case.contestant(step)(set_up)
    return case


def into(make: Callable[..., np.ndarray], step: Callable[..., None]) -> Callable[..., Any]:
    """The set-up of a step that writes its result into what `make` makes of the inputs."""

    def set_up(*inputs: np.ndarray) -> Any:
        out = make(*inputs)
        return lambda: (step(*inputs, out), out)[1]

    return set_up


# ---- GELU ---------------------------------------------------------------------------------------------------------------


@jit
def gelu_libm(x, out):
    for i in range(x.size):
        out[i] = HALF * x[i] * (ONE + math.tanh(C * (x[i] + A * x[i] * x[i] * x[i])))


@jit
def gelu_vector_exp(x, out):
    for i in range(x.size):
        out[i] = x[i] / (ONE + exp(MINUS_2C * (x[i] + A * x[i] * x[i] * x[i])))


@jit
def gelu_wide(x, out):
    wide_vectors()
    for i in range(x.size):
        out[i] = x[i] / (ONE + exp(MINUS_2C * (x[i] + A * x[i] * x[i] * x[i])))


def gelu_case(count: int) -> Case:
    return ladder(
        f"GELU tanh, {count:,}",
        lambda rng: (rng.standard_normal(count, dtype=np.float32),),
        {
            "ours": lambda x: lambda: kernels.gelu_forward(x, "tanh"),
            "ours 1 loop over libm's tanh": into(np.empty_like, gelu_libm),
            "ours 2 polynomial exp": into(np.empty_like, gelu_vector_exp),
            "ours 3 widest vectors": into(np.empty_like, gelu_wide),
            "numpy": lambda x: lambda: reference.gelu_forward(x, "tanh"),
        },
    )


# ---- cross-entropy, forward --------------------------------------------------------------------------------------------


@jit
def loss_libm(logits, targets, losses):
    for r in range(logits.shape[0]):
        row = logits[r]
        top = row[0]
        for i in range(row.size):
            top = max(top, row[i])
        s = logits.dtype.type(0)
        for i in range(row.size):
            s += math.exp(row[i] - top)
        losses[r] = top + math.log(s) - row[targets[r]]


@jit
def loss_vector_exp(logits, targets, losses):
    wide_vectors()
    for r in range(logits.shape[0]):
        row = logits[r]
        top = row[0]
        for i in range(row.size):
            top = max(top, row[i])
        s = logits.dtype.type(0)
        for i in range(row.size):
            s += exp_low(row[i] - top)
        losses[r] = top + math.log(s) - row[targets[r]]


def cross_entropy_case(rows: int, classes: int) -> Case:
    losses = lambda logits, targets: np.empty(rows, np.float32)
    return ladder(
        f"cross-entropy, {rows} x {classes}",
        lambda rng: (rng.standard_normal((rows, classes), dtype=np.float32), rng.integers(0, classes, rows)),
        {
            "ours": lambda x, t: lambda: kernels.cross_entropy_forward(x, t)[0],
            "ours 1 loop over libm's exp": into(losses, loss_libm),
            "ours 2 polynomial exp, wide": into(losses, loss_vector_exp),
            "numpy": lambda x, t: lambda: reference.cross_entropy_forward(x, t)[0],
        },
    )


# ---- AdamW --------------------------------------------------------------------------------------------------------------


@jit
def adamw_out_of_place(p, g, m, v, p_out, m_out, v_out):
    for i in range(p.size):
        m_out[i] = m[i] + np.float32(0.1) * (g[i] - m[i])
        v_out[i] = np.float32(0.999) * v[i] + np.float32(0.001) * g[i] * g[i]
        p_out[i] = p[i] - np.float32(1e-9) * m_out[i] / (np.sqrt(v_out[i]) + np.float32(1e-8))


def adamw_case(count: int) -> Case:
    def looped(p: np.ndarray, g: np.ndarray) -> Any:
        p, m, v = p.copy(), 0 * p, 0 * p
        return lambda: (adamw_out_of_place(p, g, m, v, p, m, v), p)[1]

    def stepped(module: Any) -> Callable[..., Any]:
        def set_up(p: np.ndarray, g: np.ndarray) -> Any:
            p, m, v = p.copy(), 0 * p, 0 * p
            return lambda: (module.adamw_step(p, g, m, v, 1e-9, 0.9, 0.999, 1e-8, 0.0, 1), p)[1]

        return set_up

    return ladder(
        f"AdamW, {count:,}",
        lambda rng: (rng.standard_normal(count, dtype=np.float32), rng.standard_normal(count, dtype=np.float32)),
        {"ours": stepped(kernels), "ours 1 arrays passed twice": looped, "numpy": stepped(reference)},
    )
