"""Side-by-side benchmarks: validate, warm up, interleave, repeat until the ratio is certain.

Your own function against another, in five lines:

    import numpy as np
    from tinygrad_llm.bench import versus
    x = np.random.default_rng(0).standard_normal((512, 512))
    result = versus({"mine": lambda: np.einsum("ij,jk->ik", x, x), "numpy": lambda: x @ x}, seconds=1)
    print(result.table())

A question for `tinygrad-llm bench my_file.py` is a file with a docstring and `cases(options)`, which yields `Case`s:

    "How fast is a product of two matrices?"
    import kernels
    from tinygrad_llm.bench import Case, randn

    def cases(options):
        for n in options.sizes(64, 256, 1024):
            yield matmul_case(n, options)

    def matmul_case(n, options):
        case = Case(f"matmul {n}", inputs=lambda rng: randn(rng, options.dtype, (n, n), (n, n)), flops=2 * n**3)

        @case.contestant("ours")
        def _(a, b):                            # set-up, outside of the clock; imports belong here
            return lambda: kernels.matmul(a, b)     # timed; what it returns is validated

        @case.contestant("torch")
        def _(a, b):
            import torch
            a, b = torch.from_numpy(a), torch.from_numpy(b)
            return lambda: torch.matmul(a, b)

        return case

Each contestant of a question runs in a process of its own, with its own thread pool, and they take turns.
"""

from tinygrad_llm.bench.case import Case, Options, Skip, randn
from tinygrad_llm.bench.race import ValidationError, versus

__all__ = ["Case", "Options", "Skip", "ValidationError", "randn", "versus"]
