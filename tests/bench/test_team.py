"""Both ends of a contestant's process, without the process."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_llm.bench import Options, team, worker

OPTIONS = Options(threads=3, seed=5)


class Process:
    """Stands in for `subprocess.Popen`: what it answers is written down before."""

    pid, stubborn, dead = 4711, False, False

    def __init__(self, command, stderr, env, **how):
        self.command, self.env, self.how = command, env, how
        self.stdin, self.stdout = io.StringIO(), io.StringIO()

    def wait(self, timeout=None):
        if self.stubborn and timeout is not None:
            raise subprocess.TimeoutExpired("worker", timeout)
        self.dead = True
        return 7

    def poll(self):
        return 7 if self.dead else None


@pytest.fixture
def contestant(monkeypatch):
    pinned, killed = [], []
    monkeypatch.setattr(team.subprocess, "Popen", Process)
    monkeypatch.setattr(team.os, "sched_getaffinity", lambda pid: {6, 2, 4, 0}, raising=False)
    monkeypatch.setattr(team.os, "sched_setaffinity", lambda pid, cores: pinned.append((pid, cores)), raising=False)
    monkeypatch.setattr(team.os, "killpg", lambda pid, number: killed.append((pid, number)), raising=False)

    def contestant(name="ours", options=OPTIONS):
        made = team.Contestant(Path("mine.py"), name, options)
        made.pinned, made.killed = pinned, killed
        return made

    return contestant


def test_a_process_has_its_threads_its_cores_and_the_allocator_of_its_users(contestant, monkeypatch):
    monkeypatch.delenv("TINYGRAD_LLM_MALLOC", raising=False)
    for name, allocator in (("ours", None), ("ours int8", None), ("torch", "system")):
        made = contestant(name)
        assert {made.process.env[v] for v in team.THREAD_VARIABLES} == {"3"} and made.process.env.get(
            "TINYGRAD_LLM_MALLOC"
        ) == allocator
        assert made.process.command[1:] == ["-m", "tinygrad_llm.bench.worker", "mine.py", name, json.dumps(OPTIONS.to_json())]
        assert made.process.how["start_new_session"] is True
    contestant(options=Options(threads=1))
    assert made.pinned == [(4711, [0, 2, 4])] * 3 + [(4711, [0])]
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"} <= set(team.THREAD_VARIABLES)


def answers(contestant, *replies):
    contestant.process.stdout = io.StringIO("".join(json.dumps(reply) + "\n" for reply in replies))
    return contestant


def test_an_answer_is_a_result_a_skip_or_a_failure(contestant):
    made = answers(contestant("torch"), {"bytes": 300, "before": 100})
    assert made.peak() == {"bytes": 300, "before": 100} and json.loads(made.process.stdin.getvalue()) == {"do": "peak"}
    made = answers(contestant("torch"), {"seconds": 1.5}, {"skip": "too large"}, {"error": "Traceback ..."})
    assert made.lap()(8) == 1.5 and json.loads(made.process.stdin.getvalue()) == {"do": "lap", "calls": 8}
    with pytest.raises(team.Skipped, match="^too large$"):
        made.ask("setup", case=0)
    with pytest.raises(team.Failed, match=r"^torch: Traceback \.\.\.$"):
        made.ask("setup", case=1)
    made.stderr.write("".join(f"line {i}\n" for i in range(30)))
    with pytest.raises(team.Failed, match="^the process of 'torch' ended with code 7:\nline 10\n(?s:.*)line 29\n$") as caught:
        made.ask("peak")
    assert len(str(caught.value).splitlines()) == 21


def test_a_pipe_that_broke_is_a_process_that_ended(contestant, monkeypatch):
    made = answers(contestant(), {"seconds": 1.0})
    made.stderr.write("Killed")
    monkeypatch.setattr(made.process.stdin, "write", lambda text: (_ for _ in ()).throw(BrokenPipeError))
    with pytest.raises(team.Failed, match="'ours' ended with code 7:\nKilled$"):
        made.ask("peak")


def test_outputs_come_through_a_file_in_their_order(contestant, tmp_path, monkeypatch):
    def ask(do, to, **_):
        np.savez(to, *range(12))
        return {"seconds": 2.5}

    made, outputs = contestant("torch"), {}
    monkeypatch.setattr(made, "ask", ask)
    assert [int(a) for a in made.output(tmp_path)] == list(range(12))
    assert made.run(tmp_path, outputs)(1) == 2.5 and [int(a) for a in outputs["torch"]] == list(range(12))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no process groups to end")
def test_a_process_that_will_not_end_is_killed_with_all_that_it_started(contestant):
    made = contestant()
    made.close()
    assert made.process.stdin.closed and made.stderr.closed and made.process.dead and not made.killed
    made.kill()
    assert not made.killed, "it has ended"
    for end in (team.Contestant.close, team.Contestant.kill):
        made = contestant()
        made.killed.clear()
        made.process.stubborn = True
        end(made)
        assert made.killed == [(4711, signal.SIGKILL)] and made.process.dead and made.stderr.closed


def test_where_there_are_no_groups_the_process_alone_is_killed(contestant, monkeypatch):
    monkeypatch.delattr(team.os, "killpg")
    made, ended = contestant(), []
    made.process.kill = lambda: ended.append(made.process.pid)
    made.kill()
    assert ended == [4711] and made.process.dead and not made.killed


QUESTION = '''"""Counted."""
import numpy as np
from tinygrad_llm.bench import Case, Skip

def cases(options):
    for i in range(4):
        yield counting(i)

def counting(i):
    case = Case(f"case {i}", inputs=lambda rng: (rng.random(2),))

    @case.contestant("ours")
    def _(x):
        if i == 1:
            raise Skip("not this one")
        if i == 2:
            import a_package_nobody_has
        return lambda: (i, x)
    return case
'''


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    path = tmp_path / "counted.py"
    path.write_text(QUESTION)
    told = []
    monkeypatch.setattr(worker, "use_threads", lambda contestant, threads: told.append((contestant, threads)))
    made = worker.Worker(str(path), "ours", OPTIONS)
    made.told = told
    return made


def saved(path):
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def test_a_worker_holds_one_case_at_a_time_with_the_seeds_inputs(at_work, tmp_path, monkeypatch):
    sizes = iter([1000, 4000])
    monkeypatch.setattr(worker, "peak_memory", lambda: next(sizes))
    with pytest.raises(RuntimeError, match="no case is set up"):
        at_work.output(str(tmp_path / "o.npz"))
    assert at_work.setup(0) == {} and at_work.told == [("ours", 3)]
    assert at_work.peak() == {"bytes": 4000, "before": 1000}
    assert at_work.output(str(tmp_path / "o.npz")) == {}
    number, x = saved(tmp_path / "o.npz")
    assert number == 0 and np.array_equal(x, np.random.default_rng(5).random(2))


def test_a_worker_skips_to_the_case_asked_for_and_never_back(at_work, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "peak_memory", lambda: 0)
    assert at_work.setup(0) == {} and at_work.setup(1) == {"skip": "not this one"}
    with pytest.raises(RuntimeError, match="no case is set up"):
        at_work.timed()
    assert at_work.setup(2) == {"skip": "needs the package 'a_package_nobody_has', which is not installed"}
    with pytest.raises(RuntimeError, match="no case is set up"):
        at_work.timed_lap(1)
    assert at_work.setup(3) == {}
    at_work.output(str(tmp_path / "o.npz"))
    assert saved(tmp_path / "o.npz")[0] == 3
    for back in (3, 0):
        with pytest.raises(IndexError, match=rf"case {back} comes before the current one \(3\)"):
            at_work.setup(back)


def test_a_whole_run_is_timed_alone(at_work, tmp_path, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(worker, "time", clock)
    monkeypatch.setattr(worker, "rest", lambda: setattr(clock, "now", clock.now + 50))
    at_work.take(lambda: setattr(clock, "now", clock.now + 2.5))
    assert at_work.run(str(tmp_path / "o.npz")) == {"seconds": 2.5} and saved(tmp_path / "o.npz") == [] and clock.now == 152.5
    at_work.timed_lap = lambda calls: calls / 8
    assert at_work.lap(4) == {"seconds": 0.5}


def test_every_command_has_one_line_of_answer(at_work, monkeypatch):
    monkeypatch.setattr(worker, "peak_memory", lambda: 8)
    written = io.StringIO()
    commands = [{"do": "setup", "case": 1}, {"do": "peak"}, {"do": "lap", "calls": 1}]
    worker.serve(at_work, io.StringIO("".join(json.dumps(c) + "\n" for c in commands)), written)
    skip, peak, error = map(json.loads, written.getvalue().splitlines())
    assert skip == {"skip": "not this one"} and peak == {"bytes": 8, "before": 8}
    assert list(error) == ["error"] and error["error"].endswith("RuntimeError: no case is set up\n")


def test_libraries_with_a_switch_for_threads_are_told(monkeypatch):
    import kernels

    told = []
    monkeypatch.setattr(kernels, "set_num_threads", lambda n: told.append(("kernels", n)))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=lambda n: told.append(("torch", n))))
    for name, library in (
        ("ours", "kernels"),
        ("ours int8", "kernels"),
        ("torch", "torch"),
        ("compile", "torch"),
        ("transformers", "torch"),
    ):
        told.clear()
        worker.use_threads(name, 2)
        assert told == [(library, 2)], name
    told.clear()
    worker.use_threads("numpy", 2)
    assert not told


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc")
def test_the_peak_is_the_largest_there_was():
    more = np.ones(1 << 22)
    resident = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
    peak = worker.peak_memory()
    assert peak > 0.95 * resident > more.nbytes and peak < 1000 * resident
    del more
    assert worker.peak_memory() >= peak


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd", 1024)])
def test_the_peak_is_in_bytes_where_there_is_no_proc(monkeypatch, platform, unit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(worker, "Path", lambda name: SimpleNamespace(is_file=lambda: False))
    monkeypatch.setattr(worker, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=10))
    assert worker.peak_memory() == 10 * unit
