"""Row kernels as data: how to draw a kernel's inputs, and one function that runs it forward and backward.

`run(module, inputs)` returns every output of both passes, so that accuracy, layouts, threads and extremes are each one test
over the whole table. Float inputs are named; integers and options are drawn once and live in `fixed`.
"""
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Problem:
    """Float arrays by name, the rest in `fixed`; `smooth` are the inputs that have gradients, in the order of `grads`."""
    inputs: dict
    run: object
    fixed: dict = field(default_factory=dict)

    def solve(self, module, dtype=None, inputs=None):
        inputs = inputs or self.inputs
        if dtype is not None:
            inputs = {name: x.astype(dtype) for name, x in inputs.items()}
        return self.run(module, **inputs, **self.fixed)


def layer_norm(rng, lead, width):
    def run(K, x, weight, bias, g):
        out, mean, rstd = K.layer_norm_forward(x, weight, bias, 1e-5)
        dx, dweight, dbias = K.layer_norm_backward(g, x, weight, mean, rstd)
        return {"out": out, "dx": dx, "dweight": dweight, "dbias": dbias, "mean": mean, "rstd": rstd}

    return Problem({**floats(rng, lead, width, "x", "g"), **vectors(rng, width, "weight", "bias")}, run)


def layer_norm_plain(rng, lead, width):
    def run(K, x, g):
        out, mean, rstd = K.layer_norm_forward(x)
        dx, dweight, dbias = K.layer_norm_backward(g, x, None, mean, rstd)
        assert dweight is None
        return {"out": out, "dx": dx, "dbias": dbias}

    return Problem(floats(rng, lead, width, "x", "g"), run)


def add_layer_norm(rng, lead, width):
    def run(K, x, residual, weight, bias, g, g_total):
        total, out, mean, rstd = K.add_layer_norm_forward(x, residual, weight, bias)
        dx, dweight, dbias = K.add_layer_norm_backward(g, g_total, total, weight, mean, rstd)
        return {"total": total, "out": out, "dx": dx, "dweight": dweight, "dbias": dbias}

    return Problem({**floats(rng, lead, width, "x", "residual", "g", "g_total"), **vectors(rng, width, "weight", "bias")}, run)


def rms_norm(rng, lead, width):
    def run(K, x, weight, g):
        out, rstd = K.rms_norm_forward(x, weight)
        dx, dweight = K.rms_norm_backward(g, x, weight, rstd)
        return {"out": out, "dx": dx, "dweight": dweight, "rstd": rstd}

    return Problem({**floats(rng, lead, width, "x", "g"), **vectors(rng, width, "weight")}, run)


def add_rms_norm(rng, lead, width):
    def run(K, x, residual, weight, g, g_total):
        total, out, rstd = K.add_rms_norm_forward(x, residual, weight)
        dx, dweight = K.add_rms_norm_backward(g, g_total, total, weight, rstd)
        return {"total": total, "out": out, "dx": dx, "dweight": dweight}

    return Problem({**floats(rng, lead, width, "x", "residual", "g", "g_total"), **vectors(rng, width, "weight")}, run)


def softmax(rng, lead, width, name="softmax", axis=-1):
    def run(K, x, g):
        out = getattr(K, name + "_forward")(x, axis)
        return {"out": out, "dx": getattr(K, name + "_backward")(g, out, axis)}

    return Problem(floats(rng, lead, width, "x", "g"), run)


def unary(name, **options):
    def problem(rng, lead, width):
        def run(K, x, g):
            return {"out": getattr(K, name + "_forward")(x, **options), "dx": getattr(K, name + "_backward")(g, x, **options)}

        return Problem(floats(rng, lead, width, "x", "g", scale=3), run)

    return problem


def value_beside_gradient(name, **options):
    def problem(rng, lead, width):
        def run(K, x, g):
            out = np.full(x.shape, np.nan, x.dtype)
            return {"dx": getattr(K, name + "_backward")(g, x, value=out, **options), "out": out}

        return Problem(floats(rng, lead, width, "x", "g", scale=3), run)

    return problem


def gated(name, **options):
    def problem(rng, lead, width):
        def run(K, x, up, g):
            dx, dup = getattr(K, name + "_backward")(g, x, up, **options)
            return {"out": getattr(K, name + "_forward")(x, up, **options), "dx": dx, "dup": dup}

        return Problem(floats(rng, lead, width, "x", "up", "g", scale=3), run)

    return problem


def cross_entropy(rng, lead, width, smoothing=0.0):
    def run(K, x, g, targets):
        losses, lse = K.cross_entropy_forward(x, targets, label_smoothing=smoothing)
        return {"out": losses, "dx": K.cross_entropy_backward(g, x, targets, lse, label_smoothing=smoothing), "lse": lse}

    targets = rng.integers(0, width, lead)
    targets[rng.random(lead) < 0.2] = -100
    inputs = {"x": rng.standard_normal((*lead, width)).astype(np.float32) * 3, "g": rng.standard_normal(lead).astype(np.float32)}
    return Problem(inputs, run, {"targets": targets})


def linear_cross_entropy(rng, lead, width, reduction="mean"):
    classes = 7 + width

    def run(K, x, weight, bias, targets):
        loss, dx, dweight, dbias = K.linear_cross_entropy_forward(x, weight, targets, bias, reduction=reduction,
                                                                  label_smoothing=0.1, chunk_rows=3)
        dx, dweight, dbias = K.linear_cross_entropy_backward(2.5, dx, dweight, dbias)
        return {"out": loss, "dx": dx, "dweight": dweight, "dbias": dbias}

    targets = rng.integers(0, classes, lead)
    targets[rng.random(lead) < 0.2] = -100
    targets.flat[0] = 0                                    # at least one row counts
    inputs = {"x": rng.standard_normal((*lead, width)).astype(np.float32),
              "weight": rng.standard_normal((classes, width)).astype(np.float32), **vectors(rng, classes, "bias")}
    return Problem(inputs, run, {"targets": targets})


def rotary(rng, lead, width, interleaved=False):
    half = max(1, width // 2) if width > 1 else 0
    angles = rng.standard_normal((lead[-1], half))

    def run(K, x, g, cos, sin):
        return {"out": K.rotary_forward(x, cos, sin, interleaved), "dx": K.rotary_backward(g, cos, sin, interleaved)}

    return Problem({**floats(rng, lead, width, "x", "g"), "cos": np.cos(angles).astype(np.float32),
                    "sin": np.sin(angles).astype(np.float32)}, run)


def embedding(rng, lead, width):
    def run(K, weight, g, start, ids):
        added = start.copy()
        K.embedding_backward(g, ids, 11, out=added, accumulate=True)
        return {"out": K.embedding_forward(weight, ids), "dweight": K.embedding_backward(g, ids, 11, padding_idx=3), "added": added}

    inputs = {"weight": rng.standard_normal((11, width)).astype(np.float32), **floats(rng, lead, width, "g"),
              "start": rng.standard_normal((11, width)).astype(np.float32)}
    return Problem(inputs, run, {"ids": rng.integers(0, 11, lead)})


def dropout(rng, lead, width):
    def run(K, x, g):
        return {"out": K.dropout_forward(x, 0.3, 5), "dx": K.dropout_backward(g, 0.3, 5)}

    return Problem(floats(rng, lead, width, "x", "g"), run)


def adamw(rng, lead, width, decoupled=True):
    def run(K, p, grad, m, v):
        params, firsts, seconds = [p.copy(), p[..., :1].copy()], [m.copy(), m[..., :1].copy()], [v * v, v[..., :1] ** 2]
        for step in (1, 2):
            K.adamw_step(params, [grad, grad[..., :1].copy()], firsts, seconds, 1e-2, 0.9, 0.99, 1e-8, 0.1, step, 0.5, decoupled)
        return {"p": params[0], "q": params[1], "m": firsts[0], "v": seconds[0], "norm": np.asarray(K.grad_norm([grad, m]))}

    return Problem(floats(rng, lead, width, "p", "grad", "m", "v"), run)


def floats(rng, lead, width, *names, scale=1.0):
    return {name: (scale * rng.standard_normal((*lead, width))).astype(np.float32) for name in names}


def vectors(rng, width, *names):
    return {name: rng.standard_normal(width).astype(np.float32) for name in names}


PROBLEMS = {
    "layer_norm": layer_norm, "layer_norm_plain": layer_norm_plain, "add_layer_norm": add_layer_norm,
    "rms_norm": rms_norm, "add_rms_norm": add_rms_norm,
    "softmax": softmax, "softmax_first_axis": lambda *a: softmax(*a, axis=0),
    "log_softmax": lambda *a: softmax(*a, "log_softmax"),
    "relu": unary("relu"), "silu": unary("silu"), "gelu": unary("gelu"), "gelu_tanh": unary("gelu", approximate="tanh"),
    "silu_beside": value_beside_gradient("silu"), "gelu_beside": value_beside_gradient("gelu"),
    "gelu_tanh_beside": value_beside_gradient("gelu", approximate="tanh"),
    "tanh": unary("tanh"), "erf": unary("erf"), "softplus": unary("softplus"), "expm1": unary("expm1"),
    "swiglu": gated("swiglu"), "geglu": gated("geglu"), "geglu_tanh": gated("geglu", approximate="tanh"),
    "cross_entropy": cross_entropy, "cross_entropy_smooth": lambda *a: cross_entropy(*a, smoothing=0.1),
    "linear_cross_entropy": linear_cross_entropy,
    "linear_cross_entropy_sum": lambda *a: linear_cross_entropy(*a, reduction="sum"),
    "rotary": rotary, "rotary_interleaved": lambda *a: rotary(*a, interleaved=True),
    "embedding": embedding, "dropout": dropout, "adamw": adamw, "adam": lambda *a: adamw(*a, decoupled=False),
}
