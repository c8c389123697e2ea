"""What is written down of the machine."""

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
