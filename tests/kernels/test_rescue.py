"""A helper that lost its core in the middle of a part is brought to the caller's core, sent off it again, and comes home."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import kernels
from kernels._jit import COMPILED, jit_tasks

pytestmark = pytest.mark.skipif(
    not COMPILED or not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2,
    reason="compiled kernels on Linux with two cores",
)


@jit_tasks
def count(task, tasks, seen):
    for _ in range(20_000):
        seen[task] += 1


@pytest.fixture
def standing():
    """(its number, what is known of it in memory): a thread that stands still, as one whose core was taken."""
    from kernels import _rescue

    memory = np.zeros(_rescue.size(1), np.uint8)
    _rescue.fill_in(memory.ctypes.data)
    go_on, numbers = threading.Event(), []
    thread = threading.Thread(target=lambda: (numbers.append(threading.get_native_id()), go_on.wait()))
    thread.start()
    while not numbers:
        time.sleep(0.001)
    _rescue.name(memory.ctypes.data, 0, numbers[0])
    time.sleep(0.05)
    yield numbers[0], memory
    go_on.set()
    thread.join()


def test_who_stands_still_is_brought_and_sent_off(standing):
    from kernels import _rescue

    number, memory = standing
    everywhere, rescue = os.sched_getaffinity(number), memory.ctypes.data
    words = memory[_rescue.THREADS :].view(np.int64)
    assert not _rescue.look_after(rescue, 1), "it holds no part"
    words[_rescue.WORKS // 8] = 1
    assert not _rescue.look_after(rescue, 1), "it was not looked at before"
    assert os.sched_getaffinity(number) == everywhere
    assert _rescue.look_after(rescue, 1) and words[_rescue.STATE // 8] == _rescue.BROUGHT
    (core,) = os.sched_getaffinity(number)
    assert core in everywhere and not _rescue.look_after(rescue, 1), "it is here already"
    _rescue.send_off(rescue, 1)
    assert os.sched_getaffinity(number) == everywhere - {core} and words[_rescue.STATE // 8] == _rescue.SENT_OFF


def test_a_thread_comes_home_by_itself(standing):
    from kernels import _rescue

    _, memory = standing
    before, rescue = os.sched_getaffinity(0), memory.ctypes.data
    words = memory[_rescue.THREADS :].view(np.int64)
    words[_rescue.ID // 8] = threading.get_native_id()
    assert _rescue.bring(rescue, rescue + _rescue.THREADS)
    assert len(os.sched_getaffinity(0)) == 1
    _rescue.come_home(rescue, rescue + _rescue.THREADS)
    assert os.sched_getaffinity(0) == before and words[_rescue.STATE // 8] == _rescue.AT_HOME


def test_who_runs_is_left_alone(standing):
    from kernels import _rescue

    _, memory = standing
    rescue = memory.ctypes.data
    words = memory[_rescue.THREADS :].view(np.int64)
    words[[_rescue.ID // 8, _rescue.WORKS // 8]] = threading.get_native_id(), 1  # this very thread: it has run between two looks
    assert not any(_rescue.look_after(rescue, 1) for _ in range(100))


def test_who_may_not_run_here_stays_where_it_is(standing):
    from kernels import _rescue

    number, memory = standing
    everywhere = sorted(os.sched_getaffinity(number))
    os.sched_setaffinity(number, {everywhere[0]})
    assert not _rescue.bring(memory.ctypes.data, memory.ctypes.data + _rescue.THREADS)
    assert os.sched_getaffinity(number) == {everywhere[0]}


def test_next_to_a_busy_core_every_part_is_done_once_and_threads_end_at_home(same_threads_after):
    from kernels import _pool

    kernels.set_num_threads(2)

    allowed = os.sched_getaffinity(0)
    loop = f"import os\nos.sched_setaffinity(0, {{{max(allowed)}}})\nwhile os.getppid() == {os.getpid()}: pass"
    busy = subprocess.Popen([sys.executable, "-c", loop])
    try:
        for _ in range(300):
            seen = np.zeros(16, np.int64)
            count(2, 16, seen)
            assert (seen == 20_000).all()
    finally:
        busy.kill()
        busy.wait()
    for _ in range(3):  # a thread that was sent off comes home when it runs again
        count(2, 16, np.zeros(16, np.int64))
    time.sleep(0.1)
    for number in filter(None, _pool._pool.names):
        assert os.sched_getaffinity(number) == allowed
