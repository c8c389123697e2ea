"""Adam's update in place, one pass over memory, and the global gradient norm.

The update reads four arrays and writes three; at 28 bytes a parameter nothing but memory matters. Clipping and averaging come
in through `grad_scale`, so they cost no pass. The norm is summed in float64, in fixed blocks.
"""
import math

import numpy as np

from . import _check as check
from ._jit import jit_tasks
from ._rows import share
from .reference_optimizer import as_list, check_adamw
from .vecmath import wide_vectors

BLOCK = 1 << 14                     # elements of a task


@jit_tasks
def _adamw(task, tasks, param, grad, mean, square, grad_scale, l2, take_m, beta2, take_v, shrink, rate, root_scale, eps):
    wide_vectors()
    first, last = task * BLOCK, min((task + 1) * BLOCK, param.size)
    p, g, m, v = param[first:last], grad[first:last], mean[first:last], square[first:last]
    for i in range(p.size):
        gi = g[i] * grad_scale
        if l2 != 0:                                 # 0 · inf is NaN
            gi += l2 * p[i]
        mi = m[i] + take_m * (gi - m[i])
        vi = beta2 * v[i] + take_v * (gi * gi)
        m[i] = mi
        v[i] = vi
        p[i] = p[i] * shrink - rate * mi / (np.sqrt(vi) * root_scale + eps)


@jit_tasks
def _square_sums(task, tasks, g, sums):
    wide_vectors()
    block = g[task * BLOCK:min((task + 1) * BLOCK, g.size)]
    s = 0.0
    for i in range(block.size):
        x = np.float64(block[i])
        s += x * x
    sums[task] = s


# ---- the kernels ------------------------------------------------------------------------------------------------------

def adamw_step(param, grad, m, v, lr, beta1, beta2, eps, weight_decay, step, grad_scale=1.0, decoupled=True):
    groups = [as_list(x) for x in (param, grad, m, v)]
    check_adamw(groups, step)
    shrink, l2 = (1.0 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate, root_scale = lr / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
    numbers = (grad_scale, l2, 1.0 - beta1, beta2, 1.0 - beta2, shrink, rate, root_scale, eps)
    for arrays in zip(*groups):
        if arrays[0].size:
            real = arrays[0].dtype.type
            _update(arrays, [real(x) for x in numbers])


def _update(arrays, numbers):
    """One parameter; an array that is not contiguous is worked on in a copy and written back."""
    flat = [np.ascontiguousarray(x).reshape(-1) for x in arrays]
    tasks = -(-flat[0].size // BLOCK)
    _adamw(_threads(tasks, flat[0].size), tasks, *flat, *numbers)
    for array, worked_on in zip((arrays[0], *arrays[2:]), (flat[0], *flat[2:])):
        if not array.flags.c_contiguous:
            array[...] = worked_on.reshape(array.shape)


def grad_norm(grads):
    total = 0.0
    for g in as_list(grads):
        flat = np.ascontiguousarray(check.float_array("grads", g)).reshape(-1)
        if flat.size:
            tasks = -(-flat.size // BLOCK)
            sums = np.empty(tasks)
            _square_sums(_threads(tasks, flat.size), tasks, flat, sums)
            total += float(sums.sum())
    return math.sqrt(total)


def _threads(tasks, size):
    return share(tasks, -(-size // tasks))[0]


def warmup(dtypes=("float32",)):
    for dtype in dtypes:
        p, g, m, v = np.zeros((4, 1 << 16), dtype)
        adamw_step(p, g, m, v, 1e-3, 0.9, 0.999, 1e-8, 0.0, 1)
        grad_norm(g)
