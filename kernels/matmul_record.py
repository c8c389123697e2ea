"""What the compiled loops of a product read off its plan and a call's addresses, the two records of `matmul_plan`."""

from ._jit import jit
from .matmul_plan import A1, A2, B1, B2, C1, C2, N2, P_A, P_B, P_C
from .simd import field


@jit
def matrices(plan, args, batch):
    """The addresses of A, B and C at one index of the batch."""
    first, second = batch // field(plan, N2), batch % field(plan, N2)
    a = field(args, P_A) + first * field(plan, A1) + second * field(plan, A2)
    b = field(args, P_B) + first * field(plan, B1) + second * field(plan, B2)
    c = field(args, P_C) + first * field(plan, C1) + second * field(plan, C2)
    return a, b, c
