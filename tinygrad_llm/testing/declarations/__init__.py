"""One declaration for each operation of the engine: its NumPy reference and inputs to try it on.

Both the test suite (value, gradient, second order, broadcasting, float32, zero sizes) and ``tinygrad-llm gradcheck``
(every gradient of the installed build) read this one table, so an op is described once. An op without a declaration
fails the suite. To declare one, add a line to the file of its kind beside this one:

    unary("exp", np.exp)                                        # elementwise, inputs in [-2, 2)
    unary("log", np.log, 0.1, 5)                                # ... in [0.1, 5)
    unary("abs", np.abs, kinks=(0,))                            # ... away from 0
    binary("divide", np.divide, b=(0.5, 2))                     # two inputs that broadcast
    general("sum", np.sum, call((2, 3)), call((2, 3), axis=1))  # its own samples: shapes, or functions of an rng
    general("take", np.take, call((4, 3), lambda rng: rng.integers(0, 4, (2, 2)), axis=0))

and list the file in `FILES`. `second=False` where there is no second derivative to check, `differentiable=False` for
comparisons and the like.
"""

from __future__ import annotations

from importlib import import_module

from .forms import Declaration, Sample, binary, call, declare, draw, general, table, unary

#: the files that hold the declarations, one kind of operation each
FILES: tuple[str, ...] = ("arithmetic", "elementary", "compare", "reduce", "shape", "linalg", "neural")


def load() -> dict[str, Declaration]:
    """The whole table, by the op's name in `tinygrad_llm.autograd.op.registry`."""
    for name in FILES:
        import_module(f"{__name__}.{name}")
    return table


__all__ = ["FILES", "Declaration", "Sample", "binary", "call", "declare", "draw", "general", "load", "table", "unary"]
