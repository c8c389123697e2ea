"""Declarations of ops_linalg.py, ops_decompose.py and ops_einsum.py."""

import numpy as np

from .forms import call, draw, general

SHAPES = (
    ((2, 3), (3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (3,)), ((3,), (5, 3, 2)), ((2, 1, 2, 3), (4, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((0, 2, 3), (3, 1)),
)  # fmt: skip
EXPRESSIONS = (
    ("ij,jk->ik", (2, 3), (3, 4)), ("bij,bjk->bik", (2, 2, 3), (2, 3, 4)), ("ij->ji", (2, 3)), ("ij->", (2, 3)),
    ("ii->", (3, 3)), ("ii->i", (3, 3)), ("ij,ij->", (2, 3), (2, 3)), ("i,j,k->ijk", (2,), (3,), (2,)),
    ("iji,j->", (2, 3, 2), (3,)), ("ab,b,c->a", (2, 3), (3,), (2,)), ("ij,ji->i", (2, 3), (3, 2)), (",i->i", (), (3,)),
    ("iij->ji", (2, 2, 3)), ("ij,kj->ik", (0, 3), (2, 3)),
)  # fmt: skip


def _square(*lead):
    """Well-conditioned matrices: the diagonal outweighs the rest."""
    return lambda rng: draw(rng, (*lead, 3, 3), -1, 1) + 3 * np.eye(3)


def _positive(*lead, n=3):
    """Symmetric positive definite matrices."""
    def make(rng):
        x = draw(rng, (*lead, n, n), -1, 1)
        return x @ np.swapaxes(x, -1, -2) + 2 * np.eye(n)

    return make


def _apart(*shape):
    """Matrices whose eigenvalues, and singular values, lie apart."""
    m, n = shape[-2:]
    return lambda rng: draw(rng, shape, -0.4, 0.4) + np.eye(m, n) * (1.5 + 2 * np.arange(n))


def _symmetric(x):
    return (x + np.swapaxes(x, -1, -2)) / 2


general("matmul", np.matmul, *(call(a, b) for a, b in SHAPES), complex_step=True, float32_error=8e-6)
general(
    "einsum", lambda *operands, subscripts: np.einsum(subscripts, *operands),
    *(call(*shapes, subscripts=text) for text, *shapes in EXPRESSIONS), complex_step=True, float32_error=8e-6,
)
general("inv", np.linalg.inv, call(_square()), call(_square(2)), complex_step=True, float32_error=1e-5)
general("solve", np.linalg.solve, call(_square(), (3, 2)), call(_square(2), (2, 3, 1)), float32_error=1e-5)
general("det", np.linalg.det, call(_square()), call(_square(2)), float32_error=1e-5)
general("logabsdet", lambda x: np.linalg.slogdet(x)[1], call(_square()), call(_square(2)), float32_error=1e-5)
general("cholesky", lambda x: np.linalg.cholesky(_symmetric(x)), call(_positive()), call(_positive(2, n=2)), float32_error=1e-5)
general(
    "eigh", lambda x: np.linalg.eigh(_symmetric(x)), call(_apart(3, 3)), call(_apart(2, 2, 2)), call((1, 1)), call((0, 0)),
    call((0, 3, 3)), float32_error=1e-5,
)
general(
    "svd", lambda x: np.linalg.svd(x, full_matrices=False), call(_apart(3, 3)), call(_apart(2, 4, 2)), call(_apart(2, 4)),
    call((1, 3)), call((0, 3)), float32_error=1e-5,
)
general("qr", np.linalg.qr, call(_apart(3, 3)), call(_apart(2, 4, 2)), call((3, 1)), call((3, 0)), float32_error=1e-5)
general(
    "pinv", np.linalg.pinv, call(_apart(3, 3)), call(_apart(2, 4, 2)), call(_apart(2, 4)), call((1, 1)), call((0, 3)),
    float32_error=1e-5,
)
