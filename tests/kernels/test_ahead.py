"""What idle threads fetch ahead: the follower of the last time, each thread its own share, never a byte outside the matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from kernels._jit import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="threads belong to compiled kernels")
if COMPILED:
    from kernels import _ahead


def notes():
    memory = np.zeros(_ahead.SIZE // 8, np.int64)
    return memory, memory.ctypes.data


def shares(note, thread, threads):
    """All that one thread asks for, (start, stop) after (start, stop)."""
    done, found = 0, []
    while (span := _ahead.share(note, thread, threads, done)) != (0, 0):
        found.append(span)
        done += span[1] - span[0]
    return found


def test_the_second_round_knows_what_follows():
    memory, at = notes()
    matrices = [0x7F0000001000 + 4096 * 577 * i for i in range(12)]
    assert all(_ahead.expect(at, m, 4096, 8) == 0 for m in matrices)
    for m, following in zip(matrices, [*matrices[1:], matrices[0]], strict=True):
        note = _ahead.expect(at, m, 4096, 8)
        if following != matrices[0]:
            assert note and memory[(note - at + _ahead.FOLLOWER) // 8] == following
    # another order: the note of the last time counts
    _ahead.expect(at, matrices[3], 4096, 8)
    _ahead.expect(at, matrices[7], 4096, 8)
    note = _ahead.expect(at, matrices[3], 4096, 8)
    assert memory[(note - at + _ahead.FOLLOWER) // 8] == matrices[7]


@given(piece=st.integers(1, 600_000), pieces=st.integers(1, 40), threads=st.integers(1, 5))
def test_each_thread_has_a_share_of_its_own_inside_the_matrix(piece, pieces, threads):
    memory, at = notes()
    matrix = 1 << 40
    for m in (64, matrix, 64):
        note = _ahead.expect(at, m, piece, pieces)
    assert note
    seen = np.zeros(pieces + 1, np.int64)
    for thread in range(threads):
        spans = shares(note, thread, threads)
        assert sum(stop - start for start, stop in spans) <= _ahead.MOST + _ahead.FETCH
        for start, stop in spans:
            assert matrix <= start < stop <= matrix + piece * pieces and stop - start <= _ahead.FETCH
            assert (start - matrix) // piece == (stop - 1 - matrix) // piece
            seen[(start - matrix) // piece] += stop - start
    middle = (pieces - 1) / 2
    assert all(n <= piece for i, n in enumerate(seen) if i != middle)  # both ends may meet in the middle piece
    if threads > 1:
        assert shares(note, 1, threads)[0][0] == matrix + (pieces - 1) * piece  # the first helper begins at the back


def test_products_of_one_row_are_the_same_whatever_idle_threads_guessed():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 512), np.float32)
    weights = [rng.standard_normal((n, 512), np.float32) for n in (512, 1040, 2048, 16)]
    kernels.set_num_threads(1)
    alone = [kernels.matmul(x, w, transpose_b=True) for w in weights]
    kernels.set_num_threads(64)
    for order in ([0, 1, 2, 3], [0, 1, 2, 3], [3, 1, 0, 2], [2, 2, 1, 0]):
        for i in order:
            np.testing.assert_array_equal(kernels.matmul(x, weights[i], transpose_b=True), alone[i])
    del weights[1:]  # what is expected next is no more
    np.testing.assert_array_equal(kernels.matmul(x, weights[0], transpose_b=True), alone[0])
