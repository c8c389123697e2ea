import numpy as np
import pytest

from kernels.arrays import PAGE, WORTH_IT, empty


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 5), (1,), (7, 5), (WORTH_IT // 4,), (3, WORTH_IT // 4 + 1), (129, 2, 65)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, "i8"])
def test_an_array_as_any_other_but_on_a_page_where_it_is_large(shape, dtype):
    for _ in range(5):
        x = empty(shape, dtype)
        assert (x.shape, x.dtype) == (shape, np.dtype(dtype)) and x.flags.c_contiguous and x.flags.writeable
        if x.nbytes >= WORTH_IT:
            assert x.ctypes.data % PAGE == 0
        x[...] = 3
        assert (x == 3).all()


def test_zeros_are_zero_and_two_arrays_share_nothing():
    x, y = empty((200, 65), np.float32, np.zeros), empty((200, 65), np.float32, np.zeros)
    assert not x.any() and not y.any() and not np.shares_memory(x, y)
    x += 1
    assert not y.any()


@pytest.mark.numba_side
def test_results_of_kernels_begin_on_a_page():
    import kernels

    x = np.ones((130, 197), np.float32)
    for made in (kernels.matmul(x, x.T), kernels.gelu_forward(x), kernels.layer_norm_forward(x, x[0], x[0])[0]):
        assert made.ctypes.data % PAGE == 0
