"""Adam's update and the global gradient norm, plain NumPy. Part of `kernels.reference`."""
import itertools
import math

import numpy as np

from . import _check as check


def adamw_step(param, grad, m, v, lr, beta1, beta2, eps, weight_decay, step, grad_scale=1.0, decoupled=True):
    """One step of AdamW in place, on arrays or on equally long lists of arrays   Loshchilov and Hutter 2019

        g = grad · grad_scale                    (+ weight_decay · param if not decoupled: Adam with an L2 penalty)
        m ← β1 m + (1 - β1) g,   v ← β2 v + (1 - β2) g²
        param ← param (1 - lr · weight_decay) - lr · m / (1 - β1ᵗ) / (√(v / (1 - β2ᵗ)) + eps)

    t = step counts from 1. grad_scale carries gradient clipping (limit / norm) or an average over micro-batches, so that
    neither needs a pass of its own; grad itself is left as it is.
    """
    groups = [as_list(x) for x in (param, grad, m, v)]
    check_adamw(groups, step)
    number = groups[0][0].dtype.type if groups[0] else np.float32
    correction1, correction2 = 1.0 - beta1**step, 1.0 - beta2**step
    for p, g, m_, v_ in zip(*groups):
        g = g * number(grad_scale)
        if weight_decay and not decoupled:
            g = g + number(weight_decay) * p
        m_ += number(1 - beta1) * (g - m_)
        v_ *= number(beta2)
        v_ += number(1 - beta2) * g * g
        if weight_decay and decoupled:
            p *= number(1 - lr * weight_decay)
        p -= number(lr / correction1) * m_ / (np.sqrt(v_) * number(1 / math.sqrt(correction2)) + number(eps))


def grad_norm(grads):
    """√(Σ g²) over an array or a list of arrays, as a Python float, summed in float64."""
    return math.sqrt(sum(float(np.square(check.float_array("grads", g), dtype=np.float64).sum()) for g in as_list(grads)))


def as_list(arrays):
    return [arrays] if isinstance(arrays, np.ndarray) else list(arrays)


def check_adamw(groups, step):
    params = groups[0]
    if len({len(group) for group in groups}) != 1:
        raise ValueError(f"adamw_step: param, grad, m, v must be equally long lists, got {[len(x) for x in groups]}")
    if step < 1:
        raise ValueError(f"step: expected a count from 1, got {step}")
    for i, p in enumerate(params):
        check.float_array("param", p)
        check.same_dtype("param", p, params[0])
        for name, group in zip(("grad", "m", "v"), groups[1:]):
            check.like_array(f"{name}[{i}]", group[i], p)
        for name, group in zip(("param", "m", "v"), (params, *groups[2:])):
            if not group[i].flags.writeable:
                raise ValueError(f"{name}[{i}]: the array is read-only and cannot be updated in place")
            if check.overlaps_itself(group[i]):
                raise ValueError(f"{name}[{i}]: overlaps itself, several of its elements are one place in memory")
    refuse_shared(groups)


def refuse_shared(groups):
    """Raise where an array that is written shares memory with another; a gradient alone may lie where what is written lies."""
    arrays = [x for group in groups for x in group]
    starts, stops = np.array([check.bounds(x) for x in arrays], np.int64).reshape(-1, 2).T
    order = starts.argsort()
    if (starts[order][1:] >= stops[order][:-1]).all():
        return
    named = [(f"{name}[{i}]", x) for name, group in zip(("param", "grad", "m", "v"), groups) for i, x in enumerate(group)]
    for (name, x), (other, y) in itertools.combinations(named, 2):
        grads = (name + other).count("grad")
        if grads < 2 and not (grads and check.same_place(x, y)) and np.may_share_memory(x, y) and np.shares_memory(x, y):
            raise ValueError(f"{name} overlaps {other}; param, m and v are written, so each needs memory of its own")
