"""Fast array kernels for transformers on a CPU: ndarray in, ndarray out, no Tensor anywhere.

Every public kernel exists twice under one name: a Numba version, and the plain NumPy version in
`kernels.reference` that says what it computes. `kernels.use` picks the side; where Numba is not installed
the same loops run as plain Python.

    import kernels
    y = kernels.matmul(x, w, transpose_b=True, bias=b, activation="gelu_tanh")
    with kernels.use("numpy"):
        y = kernels.matmul(x, w, transpose_b=True, bias=b, activation="gelu_tanh")

This file imports neither Numba nor a kernel: each is loaded by its first call.
"""

import contextvars
import importlib
import os
import sys

SIDES = ("numba", "numpy")

# public name -> the module that holds the Numba version under the same name
_NUMBA_MODULES = {
    "matmul": "matmul_call",
    "matmul_backward": "matmul_call",
    "matmul_int8": "matmul_quantized",
    "round_bfloat16": "bfloat16",
    "attention_forward": "attention", "attention_backward": "attention", "attention_decode": "attention",
    "layer_norm_forward": "norm", "layer_norm_backward": "norm",
    "rms_norm_forward": "norm", "rms_norm_backward": "norm",
    "add_layer_norm_forward": "norm", "add_layer_norm_backward": "norm",
    "add_rms_norm_forward": "norm", "add_rms_norm_backward": "norm",
    "softmax_forward": "softmax", "softmax_backward": "softmax",
    "log_softmax_forward": "softmax", "log_softmax_backward": "softmax",
    "relu_forward": "activation", "relu_backward": "activation",
    "silu_forward": "activation", "silu_backward": "activation",
    "gelu_forward": "activation", "gelu_backward": "activation",
    "tanh_forward": "activation", "tanh_backward": "activation",
    "erf_forward": "activation", "erf_backward": "activation",
    "softplus_forward": "activation", "softplus_backward": "activation",
    "expm1_forward": "activation", "expm1_backward": "activation",
    "swiglu_forward": "activation", "swiglu_backward": "activation",
    "geglu_forward": "activation", "geglu_backward": "activation",
    "rotary_forward": "rotary", "rotary_backward": "rotary",
    "dropout_forward": "dropout", "dropout_backward": "dropout",
    "embedding_forward": "embedding", "embedding_backward": "embedding",
    "cross_entropy_forward": "cross_entropy", "cross_entropy_backward": "cross_entropy",
    "linear_cross_entropy_forward": "cross_entropy", "linear_cross_entropy_backward": "cross_entropy",
    "adamw_step": "optimizer", "grad_norm": "optimizer",
}

_REFERENCE_ONLY = ("erf", "quantize_int8")

__all__ = sorted([*_NUMBA_MODULES, *_REFERENCE_ONLY, "use", "warmup", "set_num_threads", "get_num_threads", "reference"])


def _checked_side(side):
    if side not in SIDES:
        raise ValueError(f"kernels: expected one of {SIDES}, got {side!r}; "
                         "the environment variable TINYGRAD_LLM_KERNELS and kernels.use() take these names")
    return side


# checked by the first kernel: an error here would come before there is a command line that could report it
_default_side = os.environ.get("TINYGRAD_LLM_KERNELS") or "numba"
_side = contextvars.ContextVar("kernels_side", default=_default_side)


def _chosen_side():
    return _checked_side(_side.get())


class use:
    """Choose "numba" or "numpy": for this thread from now on when called plainly, for a block under `with`."""

    def __init__(self, side):
        self._before = _side.get()
        try:
            _side.set(_checked_side(side))
            _match_blas_threads()
        except BaseException:                         # Ctrl-C, before there is a block whose end would put it back
            _side.set(self._before)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        _side.set(self._before)
        _match_blas_threads()


def _match_blas_threads():
    """NumPy's BLAS gets the cores only while the NumPy side is in use; two busy pools slow each other down."""
    from ._threads import leave_cores_to_blas, leave_cores_to_kernels

    if _side.get() == "numpy":
        leave_cores_to_blas()
    else:
        leave_cores_to_kernels()


def _load(name, side):
    from ._memory import keep_freed_memory

    keep_freed_memory()
    if _checked_side(side) == "numpy":
        return getattr(importlib.import_module(".reference", __name__), name)
    from ._threads import leave_cores_to_kernels

    leave_cores_to_kernels()
    return getattr(importlib.import_module("." + _NUMBA_MODULES[name], __name__), name)


def _public(name):
    """The function behind `kernels.<name>`: looks up the side in use, loads it once, calls it."""
    loaded = {}
    side_in_use = _side.get

    def kernel(*args, **kwargs):
        side = side_in_use()
        try:
            implementation = loaded[side]
        except KeyError:
            implementation = loaded[side] = _load(name, side)
        return implementation(*args, **kwargs)

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = f"See `kernels.reference.{name}` for the mathematics, `kernels.{_NUMBA_MODULES[name]}` for the fast version."
    return kernel


globals().update({name: _public(name) for name in _NUMBA_MODULES})


def __getattr__(name):
    """`kernels.reference`, and the kernels that have no version faster than the reference."""
    if name != "reference" and name not in _REFERENCE_ONLY:
        raise AttributeError(f"kernels has no kernel named {name!r}; it has {', '.join(__all__)}")
    reference = importlib.import_module(".reference", __name__)
    return reference if name == "reference" else getattr(reference, name)


def warmup(dtypes=("float32",)):
    """Compile, or load from the cache, every kernel of a training step, so that no later call pauses to do so.

    dtypes: "float32" or "float64", or several of them.
    """
    dtypes = _dtype_names(dtypes)
    if _chosen_side() == "numpy":
        return
    beside = ["attention", "cross_entropy"]                         # half of a cold start
    helper = compile_beside(*[f"{module}.warmup" for module in beside], dtypes=dtypes)
    for module in [*sorted(set(_NUMBA_MODULES.values()) - set(beside)), *beside]:
        if helper and module == beside[0]:
            helper.wait()
        importlib.import_module("." + module, __name__).warmup(dtypes)


def _dtype_names(dtypes):
    """("float32",) of "float32", of np.float32 and of a list of either."""
    import numpy as np

    names = tuple(np.dtype(dtype).name for dtype in ([dtypes] if isinstance(dtypes, (str, type, np.dtype)) else dtypes))
    for name in names:
        if name not in ("float32", "float64"):
            raise TypeError(f"kernels.warmup: expected float32 or float64, got {name}")
    return names


def compile_beside(*names, dtypes=("float32",)):
    """If something has to be compiled from now on, let a second process call these functions meanwhile: "attention.warmup".

    What it compiles is in the cache when this process asks for it. None where there is no core for it, no compiler, or no Python
    interpreter to start (an application with Python inside).
    """
    from ._jit import COMPILED
    from ._threads import cores

    if _chosen_side() == "numpy" or not COMPILED or cores() < 2 or not sys.executable or getattr(sys, "frozen", False):
        return None
    from ._beside import Helper

    return Helper(names, dtypes)


def can_chain():
    """Whether several kernels can be run as one call (`kernels.chain`): where the compiled ones are in use."""
    from ._jit import COMPILED

    return COMPILED and _side.get() == "numba"


def set_num_threads(n):
    """Let kernels use up to `n` threads (never more than Numba's pool, see NUMBA_NUM_THREADS)."""
    from ._threads import set_num_threads as set_n

    set_n(n)


def get_num_threads():
    """How many threads a large enough problem is spread over."""
    from ._threads import get_num_threads as get_n

    return get_n()
