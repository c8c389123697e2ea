"""How fast are matrix products, against the best of NumPy and PyTorch?

Squares, the products of a transformer's layers with both their gradients, the logits of GPT-2, batches as attention makes them,
and one or eight rows against a weight, as in generation. "tn" means that the left operand is stored transposed, "nt" the right.
Every contestant writes into an array that is there already.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_llm.bench import Case, Options, randn

SQUARES = (64, 128, 256, 512, 1024, 2048)
# name, batch, rows, columns, depth, transposed operands
SHAPES = (
    ("FFN 512 x 768 x 3072, nt", 1, 512, 3072, 768, "nt"),
    ("its input gradient", 1, 512, 768, 3072, "nn"),
    ("its weight gradient, tn", 1, 3072, 768, 512, "tn"),
    ("2048 x 384 x 1536, nt", 1, 2048, 1536, 384, "nt"),
    ("logits 256 x 768 x 50257, nt", 1, 256, 50257, 768, "nt"),
    ("logits' input gradient", 1, 256, 768, 50257, "nn"),
    ("logits' weight gradient, tn", 1, 50257, 768, 256, "tn"),
    ("batch 96 of 64 x 64 x 64", 96, 64, 64, 64, "nn"),
    ("batch 96 of 256 x 64 x 256, nt", 96, 256, 256, 64, "nt"),
    ("batch 96 of 256 x 256 x 64", 96, 256, 64, 256, "nn"),
    ("1 row, 768 x 50257, nt", 1, 1, 50257, 768, "nt"),
    ("8 rows, 768 x 50257, nt", 1, 8, 50257, 768, "nt"),
    ("1 row, 768 x 3072", 1, 1, 3072, 768, "nn"),
    ("8 rows, 768 x 3072", 1, 8, 3072, 768, "nn"),
)


def cases(options: Options) -> Iterator[Case]:
    for n in options.sizes(*SQUARES):
        yield product_case(f"{n}³", 1, n, n, n, "nn", options)
    if not options.size:
        for shape in SHAPES:
            yield product_case(*shape, options)


def product_case(name: str, batch: int, m: int, n: int, k: int, stored: str, options: Options) -> Case:
    lead = (batch,) if batch > 1 else ()
    transpose_a, transpose_b = stored[0] == "t", stored[1] == "t"

    def inputs(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        left, right = (k, m) if transpose_a else (m, k), (n, k) if transpose_b else (k, n)
        return randn(rng, options.dtype, (*lead, *left), (*lead, *right))

    def as_numpy(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b

    size = np.dtype(options.dtype).itemsize
    case = Case(name, inputs, flops=2.0 * batch * m * n * k, bytes=float(size * batch * (m * k + k * n + m * n)), tol=1e-4)

    @case.contestant("ours")
    def _(a: np.ndarray, b: np.ndarray) -> Any:
        import kernels

        out = np.empty((*lead, m, n), options.dtype)
        return lambda: kernels.matmul(a, b, out, transpose_a=transpose_a, transpose_b=transpose_b)

    @case.contestant("numpy")
    def _(a: np.ndarray, b: np.ndarray) -> Any:
        out = np.empty((*lead, m, n), options.dtype)
        left, right = as_numpy(a, b)
        return lambda: np.matmul(left, right, out=out)

    @case.contestant("torch")
    def _(a: np.ndarray, b: np.ndarray) -> Any:
        import torch

        left, right = (torch.from_numpy(x) for x in as_numpy(a, b))
        out = torch.empty((*lead, m, n), dtype=left.dtype)
        return lambda: torch.matmul(left, right, out=out)

    return case
