"""Row kernels run otherwise: tasks in any order, bits at 1, 2, 4 and 8 threads, checked bounds, and the loops as plain Python."""
import numpy as np
import pytest

import kernels
from kernels import _jit
from tests.kernels.fresh import python
from tests.kernels.row_problems import PROBLEMS

AGAINST_REFERENCE = """
import numpy as np
import kernels
from kernels import reference
from tests.kernels.row_problems import PROBLEMS

np.seterr(all="ignore")
for name, make in PROBLEMS.items():
    problem = make(np.random.default_rng(0), LEAD, WIDTH)
    truth = problem.solve(reference, np.float64)
    for dtype in DTYPES:
        for output, y in problem.solve(kernels, dtype).items():
            assert y.dtype == truth[output].dtype or dtype == 'f', (name, output)
            np.testing.assert_allclose(y, truth[output], rtol=1e-4, atol=1e-4, err_msg=f"{name} {output}")
print("all", len(PROBLEMS))
"""

SAME_BITS = """
import numpy as np
import kernels
from tests.kernels.row_problems import PROBLEMS

for name, make in PROBLEMS.items():
    problem = make(np.random.default_rng(0), (9, 41), 203)
    bits = set()
    for threads in (1, 2, 4, 8):
        kernels.set_num_threads(threads)
        assert kernels.get_num_threads() == threads
        bits.add(b"".join(y.tobytes() for y in problem.solve(kernels).values()))
    assert len(bits) == 1, name
print("all", len(PROBLEMS))
"""


ALL = f"all {len(PROBLEMS)}"


@pytest.fixture(scope="module")
def last_first():
    """In place of the pool: its address, where the code that starts threads finds a launcher that takes the last part first."""
    from numba import int64

    from kernels import _pool
    from kernels.simd import call_address

    @_jit.jit
    def launch(pool, parts, worker, argument):
        for part in range(parts - 1, -1, -1):
            call_address(worker, argument, part, 0, 0)

    memory = np.zeros(_pool.LAUNCH // 8 + 1, np.int64)
    memory[_pool.LAUNCH // 8] = _jit.address_of(launch, *[int64] * 4)
    return memory


@pytest.mark.numba_side
@pytest.mark.skipif(not _jit.COMPILED, reason="tasks of compiled kernels")
@pytest.mark.parametrize("name", PROBLEMS)
def test_bits_do_not_depend_on_the_order_of_tasks(name, last_first, monkeypatch):
    """Two tasks that write or add to one place leave other numbers there when the last comes first; threads seldom show it."""
    problem = PROBLEMS[name](np.random.default_rng(0), (9, 41), 203)
    orders = []
    for pool in (0, last_first.ctypes.data):
        monkeypatch.setattr(_jit._Tasks, "__call__", lambda self, threads, tasks, *arguments, pool=pool:
                            (self._entry or self._make_entry())(tasks, tasks, pool, *arguments))
        orders.append(problem.solve(kernels))
    for output, y in orders[0].items():
        np.testing.assert_array_equal(orders[1][output], y, err_msg=output)


@pytest.mark.slow
def test_bits_do_not_depend_on_the_number_of_threads():
    assert python(SAME_BITS, NUMBA_NUM_THREADS="8") == ALL


@pytest.mark.slow
def test_no_index_leaves_its_array():
    several_tasks = "LEAD, WIDTH, DTYPES = (9, 41), 203, ['f']"
    assert python(several_tasks + AGAINST_REFERENCE, NUMBA_BOUNDSCHECK="1") == ALL


def test_exponentials_that_overflow_are_inf_as_plain_python_too():
    """math.expm1 raises an error where compiled code has inf."""
    told = """
        import numpy as np, kernels
        x = np.array([709.782712893384, np.nextafter(709.782712893384, 800), 1e300, np.inf, -np.inf, np.nan])
        print(kernels.expm1_forward(x).tolist(), kernels.expm1_backward(np.ones_like(x), x).tolist()[1:])
    """
    assert python(told, NUMBA_DISABLE_JIT="1") == ("[1.7976931348622732e+308, inf, inf, inf, -1.0, nan] "
                                                   "[inf, inf, inf, 0.0, nan]")


def test_the_loops_run_as_plain_python():
    assert python("LEAD, WIDTH, DTYPES = (2, 3), 5, ['f', 'd']" + AGAINST_REFERENCE, NUMBA_DISABLE_JIT="1") == ALL
