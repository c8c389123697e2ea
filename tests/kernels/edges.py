"""Kernels on arrays that lie against a page that may not be touched: `python -m tests.kernels.edges end start`.

Inputs end there and results begin there, or otherwise: where a result begins decides how the loops over a row end. A program of its
own, for what it looks for ends the process: each call is named before it is made. Results that kernels make themselves lie so too,
since `kernels.arrays.empty` is replaced before any of them is loaded.
"""

import ctypes
import mmap
import sys

import numpy as np

import kernels
from kernels import arrays

PAGE, NO_ACCESS = mmap.PAGESIZE, 0
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def make_empty(edge):
    """`kernels.arrays.empty` for arrays that end, or begin, where memory may not be touched; what else is on their pages is NaN."""

    def empty(shape, dtype, make=np.empty):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        room = -(-size // PAGE) * PAGE
        memory = mmap.mmap(-1, room + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        whole = np.frombuffer(memory, np.uint8)
        whole[PAGE : PAGE + room] = 0xFF
        for page in (start, start + PAGE + room):
            assert protect(page, PAGE, NO_ACCESS) == 0, ctypes.get_errno()
        first = PAGE + (room - size if edge == "end" else 0)
        x = whole[first : first + size].view(dtype).reshape(shape)
        if make is np.zeros:
            x[...] = 0
        return x

    return empty


def call(said, function, *arguments, **options):
    print(said, flush=True)
    function(*arguments, **options)


def placed(x, make=None):
    y = (make or empty_input)(x.shape, x.dtype)
    y[...] = x
    return y


def rows():
    from tests.kernels.row_problems import PROBLEMS

    for name, make in PROBLEMS.items():
        for shape in (((3,), 1), ((5,), 7), ((2, 3), 37), ((3,), 64), ((9,), 4111)):
            if name.startswith("linear") and shape[1] > 100:                 # products: below
                continue
            for dtype in (np.float32, np.float64):
                problem = make(np.random.default_rng(0), *shape)
                fixed = {key: placed(x) for key, x in problem.fixed.items()}
                inputs = {key: placed(x.astype(dtype)) for key, x in problem.inputs.items()}
                call(f"{name} {shape} {dtype.__name__}", problem.run, kernels, **inputs, **fixed)


def outs():
    rng = np.random.default_rng(1)
    for width in (1, 19, 64, 4111):
        x, up, weight = (placed(rng.standard_normal(shape).astype(np.float32)) for shape in ((3, width), (3, width), (width,)))
        out = placed(x, arrays.empty)
        for name in "relu silu gelu tanh erf softplus expm1 softmax log_softmax layer_norm rms_norm".split():
            more = (weight,) if "norm" in name else ()
            call(f"{name} out {width}", getattr(kernels, name + "_forward"), x, *more, out=out)
        for name in ("swiglu", "geglu"):
            call(f"{name} out {width}", getattr(kernels, name + "_forward"), x, up, out=out)
        targets, lse = placed(np.array([0, width - 1, -100])), placed(np.zeros(3, np.float32))
        call(f"cross_entropy out {width}", kernels.cross_entropy_backward, 1.0, x, targets, lse, out=out)
        call(f"round_bfloat16 {width}", kernels.round_bfloat16, x)


def products():
    rng = np.random.default_rng(2)
    sizes = [(1, 1, 1), (1, 50, 33), (1, 300, 515), (2, 19, 7), (4, 65, 40), (9, 100, 17), (14, 49, 31), (33, 95, 63)]
    for m, n, k in [*sizes, (65, 130, 161), (129, 300, 401), (300, 700, 300)]:
        for dtype in (np.float32, np.float64):
            bias, residual = (placed(rng.standard_normal(shape).astype(dtype)) for shape in ((n,), (m, n)))
            pre, out = placed(residual, arrays.empty), placed(residual, arrays.empty)
            for turned_a, turned_b in ((0, 0), (0, 1), (1, 0), (1, 1)):
                a = placed(rng.standard_normal((k, m) if turned_a else (m, k)).astype(dtype))
                b = placed(rng.standard_normal((n, k) if turned_b else (k, n)).astype(dtype))
                turned = {"transpose_a": bool(turned_a), "transpose_b": bool(turned_b)}
                said = f"matmul {m, n, k} {turned_a}{turned_b} {dtype.__name__}"
                call(said, kernels.matmul, a, b, **turned)
                more = {"bias": bias, "residual": residual, "pre": pre, "activation": "gelu", "out": out, "beta": 0.5}
                call(said + " whole", kernels.matmul, a, b, **turned, **more)
                if dtype is np.float32:
                    call(said + " bfloat16", kernels.matmul, a, b, precision="bfloat16", **turned)
        x, w = placed(rng.standard_normal((m, k)).astype(np.float32)), rng.standard_normal((n, k)).astype(np.float32)
        q, scale = (placed(y) for y in kernels.quantize_int8(w))
        out, bias = placed(np.zeros((m, n), np.float32), arrays.empty), placed(np.zeros(n, np.float32))
        call(f"matmul_int8 {m, n, k}", kernels.matmul_int8, x, q, scale, bias, out)


def attention():
    from tests.kernels.attention_problems import KINDS, options, solve

    rng = np.random.default_rng(3)
    for (T, S), (K, V) in (((1, 1), (1, 1)), ((5, 9), (20, 7)), ((70, 131), (33, 24)), ((64, 64), (64, 64)), ((200, 67), (16, 40))):
        for dtype in (np.float32, np.float64):
            B, H, Hkv = 2, 4, 2
            shapes = (B, H, T, K), (B, Hkv, S, K), (B, Hkv, S, V), (B, H, T, V)
            q, k, v, g = (placed(rng.standard_normal(shape).astype(dtype)) for shape in shapes)
            for kind in KINDS:
                chosen = options(kind, rng, (B, H, T, S), dtype).items()
                chosen = {name: placed(x) if isinstance(x, np.ndarray) else x for name, x in chosen}
                call(f"attention {kind} {T, S, K, V} {dtype.__name__}", solve, kernels, q, k, v, g, chosen)
            lengths = placed(np.array([S, S // 2]))
            new = placed(q[:, :, :3])
            call(f"decode {T, S, K, V} {dtype.__name__}", kernels.attention_decode, new, k, v, lengths)
            bias = placed(rng.standard_normal((1, H, min(T, 3), S)).astype(dtype))
            call(f"decode with a bias {T, S, K, V} {dtype.__name__}", kernels.attention_decode, new, k, v, lengths, bias=bias)
    k, v = (placed(rng.standard_normal((1, 2, 2100, width)).astype(np.float32)) for width in (20, 64))
    for new in (1, 2):
        q = placed(rng.standard_normal((1, 4, new, 20)).astype(np.float32))
        call(f"decode {new} in splits", kernels.attention_decode, q, k, v, [2100])


if __name__ == "__main__":
    empty_input, arrays.empty = (make_empty(edge) for edge in sys.argv[1:])
    arrays.WORTH_IT = 0
    np.seterr(all="ignore")
    rows(), outs(), products(), attention()
    print("all")
