"""Models that cannot fit are refused, not begun: the system would end the process without a word."""

import pytest

import tinygrad_llm as tg
from tinygrad_llm.models import memory_limit

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nSwapTotal:       2000000 kB\nHugePages_Total:       0\n"


@pytest.fixture
def machine(tmp_path):
    """machine(meminfo, cgroup, **{path: content}) -> the root of a file system that says so."""

    def make(meminfo=MEMINFO, cgroup=None, limits=()):
        files = {"proc/meminfo": meminfo, **({"proc/self/cgroup": cgroup} if cgroup else {}), **dict(limits)}
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        return tmp_path

    return make


def test_memory_and_swap_are_the_limit(machine, tmp_path):
    assert memory_limit.memory_limit(tmp_path) is None  # a system without /proc
    assert memory_limit.memory_limit(machine()) == 18_000_000 << 10
    assert memory_limit.memory_limit(machine("MemTotal:       16000000 kB\n")) == 16_000_000 << 10  # a kernel without swap


def test_bytes_have_a_digit_before_the_point():
    sizes = {0: "0 kB", 999_999: "1,000 kB", 10**6: "1 MB", 10**9: "1 GB", 10**12: "1 TB", 1.5e12: "1.5 TB", 2.5e15: "2,500 TB"}
    assert {n: memory_limit.readable(n) for n in sizes} == sizes


@pytest.mark.parametrize(
    "cgroup, limits, expected",
    [
        ("0::/user/job\n", {"sys/fs/cgroup/user/job/memory.max": "max\n", "sys/fs/cgroup/user/memory.max": "5000\n"}, 5000),
        ("0::/\n", {"sys/fs/cgroup/memory.max": "7000\n"}, 7000),
        ("0::/outside/of/the/container\n", {"sys/fs/cgroup/memory.max": "7000\n"}, 7000),
        ("4:memory:/job\n0::/\n", {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": "6000\n"}, 6000),
        ("4:memory:/\n3:cpu:/\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 18_000_000 << 10),
    ],
)
def test_a_control_group_may_have_less(machine, cgroup, limits, expected):
    assert memory_limit.memory_limit(machine(cgroup=cgroup, limits=limits)) == expected


def test_what_cannot_be_read_is_no_limit(machine):
    limits = {"sys/fs/cgroup/job/memory.max/a": "", "sys/fs/cgroup/memory.max": "7000\n"}  # a folder: reading it fails for root, too
    assert memory_limit.memory_limit(machine(cgroup="0::/job\n", limits=limits)) == 7000
    assert memory_limit.memory_limit(machine(meminfo="")) == 7000
    assert memory_limit.memory_limit(machine(meminfo="", cgroup="1:cpu:/\n")) is None
    assert memory_limit.memory_limit(machine(meminfo="", cgroup="0::/job\n", limits={"sys/fs/cgroup/memory.max": ""})) is None


def test_where_the_system_does_not_tell_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory_limit, "memory_limit", lambda: None)
    memory_limit.check_room("a model", 10**30)


def test_weights_that_cannot_fit_are_refused_before_they_are_made(monkeypatch, tmp_path):
    sizes = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 8, "vocab_size": 20}
    model = tg.models.create("gpt2", **sizes)
    model.save(tmp_path)
    n = model.num_parameters()
    monkeypatch.setattr(memory_limit, "memory_limit", lambda: 4 * n)
    tg.models.create("gpt2", **sizes)
    tg.models.load(tmp_path)
    message = f"GPT2LMHeadModel with {n:,} parameters in float64 needs .* kB, the machine has .* kB; use a smaller model"
    with pytest.raises(MemoryError, match=message):
        tg.models.create("gpt2", dtype="float64", **sizes)
    with pytest.raises(MemoryError, match=message):
        tg.models.load(tmp_path, dtype="float64")
    assert tg.models.skeleton("gpt3-175b").num_parameters() == 174_604_259_328  # nothing is allocated, so nothing is refused
