"""What is written down of the machine."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_llm.bench import child, limits, machine
from tinygrad_llm.bench.case import Case, Options
from tinygrad_llm.bench.limits import CHAINS, multiply_add_kernel
from tinygrad_llm.bench.machine import identity, processor

CORE = (
    "processor\t: {}\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: {}\nmodel name\t: AMD EPYC\nflags\t\t: fma: avx2\n\n"
)


def named(tmp_path, text):
    (tmp_path / "cpuinfo").write_text(text)
    return processor(tmp_path / "cpuinfo")


def test_generations_that_share_a_name_are_told_apart(tmp_path):
    older, newer = (named(tmp_path, CORE.format(0, model) + CORE.format(1, model)) for model in (1, 17))
    assert older == "AMD EPYC (family 25, model 1)" and newer == "AMD EPYC (family 25, model 17)"
    records = [{"processor": name, "cores": 2, "system": "Linux x86_64"} for name in (older, newer)]
    assert identity(records[0]) != identity(records[1])


def test_other_architectures_and_systems_have_a_name_too(tmp_path):
    assert named(tmp_path, "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\n\n")
    assert processor(tmp_path / "nowhere")


@pytest.mark.skipif(shutil.which("git") is None, reason="asks git")
def test_a_revision_says_whether_it_is_what_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.revision() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@x"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    full = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert machine.revision() == full[:12]
    (tmp_path / "new").write_text("")
    assert machine.revision() == full[:12] + "+changes"


def test_the_limits_are_measured_by_a_process_with_as_many_threads(monkeypatch):
    asked = []
    monkeypatch.setattr(machine, "output_of", lambda *words, **variables: asked.append((words, variables)) or '{"gflops": 8.5}')
    record = json.loads(json.dumps(machine.describe(3, "float64")))
    assert asked == [(("-m", "tinygrad_llm.bench.limits", "3", "float64"), {"NUMBA_NUM_THREADS": "3"})]
    assert record["gflops"] == 8.5 and record["cores"] == os.cpu_count() and identity(record) == identity(machine.describe(1))
    for key in ("processor", "cores", "system"):
        assert identity(record | {key: "another"}) != identity(record)
    if sys.platform == "linux":
        assert 1 << 28 < record["memory_bytes"] < 1 << 48


def test_a_child_finds_this_package_first_and_keeps_bytecode(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    variables = child.environment(NUMBA_NUM_THREADS="3")
    assert variables["PYTHONPATH"] == os.pathsep.join([str(child.ROOT), "elsewhere"]) and variables["NUMBA_NUM_THREADS"] == "3"
    assert "PYTHONDONTWRITEBYTECODE" not in variables and variables["PATH"] == os.environ["PATH"]
    monkeypatch.delenv("PYTHONPATH")
    assert child.environment()["PYTHONPATH"] == str(child.ROOT)
    assert child.output_of("-c", "import os; print(os.environ['SAID'])", SAID="aloud") == "aloud\n"
    with pytest.raises(RuntimeError, match=r"(?s)^python -c 1/0 failed:\n.*ZeroDivisionError"):
        child.output_of("-c", "1/0")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_measured_with_multiply_adds_of_the_dtype(dtype):
    total = multiply_add_kernel(4, dtype)(3, np.dtype(dtype).type(0.1))
    exact = CHAINS * (((1.0 * 0.1 + 0.1) * 0.1 + 0.1) * 0.1 + 0.1)
    assert abs(total - exact) < 20 * np.finfo(dtype).eps * exact
    assert (abs(total - exact) < 1e-12) == (dtype == "float64")


def test_reading_reads_every_number_once(monkeypatch):
    monkeypatch.setattr(limits, "READ_BYTES", 1 << 14)
    totals = limits.reading(2)()
    assert totals.tolist() == [1 << 11, 1 << 11]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_thread_does_all_rounds_in_the_widest_vectors(dtype, monkeypatch):
    from numba import njit

    asked = []
    monkeypatch.setattr(limits, "ROUNDS", 8)
    monkeypatch.setattr(limits, "multiply_add_kernel", lambda *how: asked.append(how) or njit(lambda n, seed: n + seed))
    totals = limits.adding(2, dtype)()
    assert totals.dtype == dtype and totals.tolist() == [8.5, 8.5]
    assert asked == [(limits.vector_bytes() // np.dtype(dtype).itemsize, dtype)]


def test_the_limit_that_binds_is_the_one_that_takes_longer():
    roof = {"gflops": 100.0, "gbytes": 10.0}
    assert limits.binding(Case("product", flops=1e9, bytes=1e6), roof) == 0
    assert limits.binding(Case("copy", flops=1e6, bytes=1e9), roof) == 1
    assert limits.binding(Case("of one kind", bytes=1.0), roof) == 1
    assert limits.binding(Case("nothing counted"), roof) is None and limits.binding(Case("no roof", flops=1.0), {}) is None


def test_the_best_of_three_calls_or_of_a_while_is_the_limit(monkeypatch):
    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    def cases(options):
        """Five calls of the first fit into the while, none of the second; the first call of each is not timed."""
        for durations in ((0.01, 0.25, 0.125, 0.25, 0.25, 0.5), (0.01, 4.0, 8.0, 2.0)):
            left = iter(durations)
            yield limits.limit_case("one", lambda left=left: lambda: setattr(clock, "now", clock.now + next(left)))

    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    monkeypatch.setattr(limits, "cases", cases)
    monkeypatch.setattr(limits, "amounts", lambda options: (1e9, 16e9))
    assert limits.best(2, "float32", 1.2) == {"threads": 2, "gflops": 8.0, "gbytes": 8.0}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_limits_are_cases_that_run(dtype, monkeypatch):
    monkeypatch.setattr(limits, "ROUNDS", 1 << 16)
    monkeypatch.setattr(limits, "READ_BYTES", 1 << 22)
    found = limits.best(2, dtype, long_enough=0)
    assert found["threads"] == 2 and found["gflops"] > 0 and found["gbytes"] > 0
    adds, reads = limits.cases(Options(2, dtype))
    assert adds.flops == 2 * limits.vector_bytes() // np.dtype(dtype).itemsize * 12 * 2**16 * 2 and reads.bytes == 1 << 22
