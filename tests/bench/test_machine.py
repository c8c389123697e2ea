"""What is written down of the machine."""

import numpy as np
import pytest

from tinygrad_llm.bench import limits
from tinygrad_llm.bench.case import Case, Options
from tinygrad_llm.bench.limits import CHAINS, multiply_add_kernel
from tinygrad_llm.bench.machine import identity, processor

CORE = "processor\t: {}\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: {}\nmodel name\t: AMD EPYC\nflags\t\t: fma: avx2\n\n"


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_measured_with_multiply_adds_of_the_dtype(dtype):
    total = multiply_add_kernel(4, dtype)(3, np.dtype(dtype).type(0.1))
    exact = CHAINS * (((1.0 * 0.1 + 0.1) * 0.1 + 0.1) * 0.1 + 0.1)
    assert abs(total - exact) < 20 * np.finfo(dtype).eps * exact
    assert (abs(total - exact) < 1e-12) == (dtype == "float64")


def test_reading_reads_every_number_once(monkeypatch):
    monkeypatch.setattr(limits, "READ_BYTES", 1 << 14)
    totals = limits.reading(2)()()
    assert totals.tolist() == [1 << 11, 1 << 11]


def test_the_limit_that_binds_is_the_one_that_takes_longer():
    roof = {"gflops": 100.0, "gbytes": 10.0}
    assert limits.binding(Case("product", flops=1e9, bytes=1e6), roof) == 0
    assert limits.binding(Case("copy", flops=1e6, bytes=1e9), roof) == 1
    assert limits.binding(Case("of one kind", bytes=1.0), roof) == 1
    assert limits.binding(Case("nothing counted"), roof) is None and limits.binding(Case("no roof", flops=1.0), {}) is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_limits_are_cases_that_run(dtype, monkeypatch):
    monkeypatch.setattr(limits, "ROUNDS", 1 << 16)
    monkeypatch.setattr(limits, "READ_BYTES", 1 << 22)
    found = limits.best(2, dtype, long_enough=0)
    assert found["threads"] == 2 and found["gflops"] > 0 and found["gbytes"] > 0
    adds, reads = limits.cases(Options(2, dtype))
    assert adds.flops == 2 * limits.vector_bytes() // np.dtype(dtype).itemsize * 12 * 2**16 * 2 and reads.bytes == 1 << 22
