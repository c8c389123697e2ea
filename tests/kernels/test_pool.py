"""The pool: every part exactly once, whoever calls, however often threads fall asleep in between."""

import ctypes
import os
import threading
import time

import numpy as np
import pytest

import kernels
import kernels._threads
from kernels import _pool
from kernels._jit import COMPILED, jit_tasks
from tests.kernels.fresh import python

pytestmark = pytest.mark.skipif(not COMPILED, reason="threads belong to compiled kernels")


@jit_tasks
def count(task, tasks, seen):
    seen[task] += 1


@jit_tasks
def refuse(task, tasks, seen):
    seen[task] += 1
    if task == 3:
        raise ValueError("the third task does not want to")


@pytest.fixture(autouse=True)
def all_threads():
    before = kernels.get_num_threads()
    kernels.set_num_threads(64)
    yield
    kernels.set_num_threads(before)


def every_task_once(calls, seed):
    rng = np.random.default_rng(seed)
    for tasks in rng.integers(1, 40, calls):
        seen = np.zeros(tasks, np.int64)
        count(2, int(tasks), seen)
        assert (seen == 1).all()


def occupied():
    """Whether the pool believes that a call is running."""
    return ctypes.c_int64.from_address(_pool._pool.address + _pool.BUSY).value != 0


def test_every_task_runs_once():
    every_task_once(5000, 0)


@pytest.mark.skipif(kernels._threads.pool_size() < 2, reason="no pool")
def test_the_pool_is_free_again_after_each_call():
    """Else all later ones would be done by their callers alone, right but slow."""
    every_task_once(3, 9)
    assert not occupied()
    with pytest.raises(ValueError, match="the third task"):
        refuse(2, 9, np.zeros(9, np.int64))
    assert not occupied()


def test_every_task_runs_once_when_the_threads_were_asleep():
    for pause in (0.0005, 0.002, 0.02):
        for _ in range(20):
            time.sleep(pause)
            every_task_once(3, 1)


def test_several_python_threads_call_at_once():
    failures = []

    def caller(seed):
        try:
            every_task_once(1500, seed)
        except BaseException as error:
            failures.append(error)
            raise

    callers = [threading.Thread(target=caller, args=(seed,)) for seed in range(4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert not failures


def test_the_number_of_threads_may_change_between_calls():
    for n in (1, 2, 64, 1, 2):
        kernels.set_num_threads(n)
        every_task_once(50, n)


def test_an_exception_in_a_task_reaches_the_caller_and_the_pool_goes_on():
    for _ in range(20):
        with pytest.raises(ValueError, match="the third task"):
            refuse(2, 9, np.zeros(9, np.int64))
        every_task_once(2, 2)


@pytest.mark.parametrize("granted", [0, 1])
def test_where_no_more_threads_are_granted_calls_go_on_with_those_that_there_are(granted, monkeypatch):
    start, started = threading.Thread.start, []

    def grudging(thread):
        if len(started) == granted:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(_pool._threads, "pool_size", lambda: 4)
    monkeypatch.setattr(_pool._threads, "allowed", 4)
    monkeypatch.setattr(_pool, "_pool", None)
    monkeypatch.setattr(threading.Thread, "start", grudging)
    every_task_once(100, 6)
    assert len(started) == granted and _pool._pool is not None


@pytest.mark.skipif(kernels._threads.pool_size() < 2, reason="no pool")
def test_a_thread_that_an_interrupted_call_did_not_wake_is_woken_by_the_next(monkeypatch):
    every_task_once(1, 7)
    pool, keep_off = _pool._pool, _pool._keep_off
    while not any(pool.dozing):
        time.sleep(0.001)

    def interrupt(thread, core):
        monkeypatch.setattr(_pool, "_keep_off", keep_off)
        raise KeyboardInterrupt

    monkeypatch.setattr(_pool, "_keep_off", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.wake()
    assert any(pool.dozing) and pool.asleep.value
    every_task_once(10, 8)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own():
    every_task_once(10, 3)
    child = os.fork()
    if child == 0:
        try:
            every_task_once(200, 4)
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    every_task_once(10, 5)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or kernels._threads.pool_size() < 2, reason="nowhere to move a thread")
def test_a_thread_wakes_off_its_callers_core_and_gets_all_cores_back():
    every_task_once(3, 4)
    cores = os.sched_getaffinity(0)
    helper = _pool._pool.names[0]
    until(lambda: _pool._pool.dozing[0])
    had = _pool._keep_off(helper, min(cores))
    try:
        assert had == cores and os.sched_getaffinity(helper) == cores - {min(cores)}
    finally:
        os.sched_setaffinity(helper, cores)
    assert _pool._keep_off(helper, -1) is None and _pool._keep_off(helper, max(cores) + 1) is None
    for _ in range(5):
        until(lambda: _pool._pool.dozing[0])
        every_task_once(3, 5)
        until(lambda: os.sched_getaffinity(helper) == cores)


@pytest.mark.skipif(kernels._threads.pool_size() < 2, reason="nobody to wake")
def test_small_work_wakes_nobody_unless_it_comes_in_a_rush(monkeypatch):
    every_task_once(3, 6)
    pool = _pool._pool
    assert _pool.if_awake(1) == 0
    until(lambda: every_task_once(3, 6) or _pool.if_awake(2) == pool.address)  # awake for a millisecond, which may pass unused
    until(lambda: all(pool.dozing))
    for _ in range(2):
        time.sleep(0.01)
        assert _pool.if_awake(2) == 0 and all(pool.dozing)
    monkeypatch.setattr(_pool, "RUSH", 60.0)
    assert _pool.if_awake(2) == pool.address and not any(pool.dozing)


@pytest.mark.skipif(kernels._threads.pool_size() < 2, reason="nobody to wake")
def test_a_small_product_is_the_same_with_a_thread_asleep_or_awake():
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((2, 64, 64), dtype=np.float32)
    results = []
    for pause in (0, 0.02):
        every_task_once(3, 8)
        time.sleep(pause)
        results.append(kernels.matmul(a, b))
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], a @ b, atol=1e-4)


ALLOWED = """
import threading, time
import kernels
from kernels import _pool, _threads
kernels.set_num_threads(3)
pool = _pool._start()
assert pool.limit.value == 2
end = time.monotonic() + 10
while not all(pool.dozing) and time.monotonic() < end:
    time.sleep(0.002)
assert all(pool.dozing) and pool.asleep.value == 2
_pool._start().wake()
assert pool.dozing[2], "the third is not to work"
for asked, got in ((2, 2), (1, 1), (10**6, 4)):
    kernels.set_num_threads(asked)
    assert (kernels.get_num_threads(), pool.limit.value) == (got, got - 1)
print("as many as allowed")
"""


def test_as_many_threads_are_woken_as_are_allowed():
    assert python(ALLOWED, NUMBA_NUM_THREADS="4") == "as many as allowed"


def test_a_thread_that_has_one_core_alone_stays_on_it(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *to: pytest.fail("no core would be left"), raising=False)
    assert _pool._keep_off(1, 3) is None


@pytest.mark.skipif(not hasattr(os, "fork") or kernels._threads.pool_size() < 2, reason="nobody to start")
def test_a_child_forked_while_the_pool_was_starting_does_not_wait_for_that():
    assert python("""
        import os, signal
        from kernels import _pool
        with _pool._starting:
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                os._exit(0 if _pool.ready(2) else 1)
        print(os.waitpid(child, 0)[1])
    """) == "0"


def until(true):
    """Wait, at most ten seconds."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "waited ten seconds in vain"
        time.sleep(0.002)
