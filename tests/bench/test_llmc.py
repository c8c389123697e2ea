"""llm.c as a contestant: the files it reads, and a stand-in program that is stopped between its turns."""

import sys
import time

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.bench import discover

FAKE = """#!{python}
import time
print("[GPT-2]")
for step in range(12):
    print(f"step {{step}}: train loss {{5 - step / 10}} (took 12.5 ms)")
    time.sleep(0.05)
raise SystemExit(3)
"""


@pytest.fixture(scope="module")
def llmc():
    discover.load_question(discover.find_question("llmc"))  # puts the helpers' folder on the path
    import _llmc

    return _llmc


def test_a_checkpoint_becomes_llmc_s_file(llmc, tmp_path):
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=8, n_positions=6, vocab_size=130)
    model.save(tmp_path)
    llmc.write_model(tmp_path, tmp_path / "model.bin")
    raw = (tmp_path / "model.bin").read_bytes()
    assert np.frombuffer(raw, np.int32, 9).tolist() == [20240326, 3, 6, 130, 2, 2, 8, 256, 0]
    numbers = np.frombuffer(raw, np.float32, offset=1024)
    D, padding = 8, (256 - 130) * 8
    assert numbers.size == model.num_parameters() + padding
    tokens = numbers[: 256 * D].reshape(256, D)
    np.testing.assert_array_equal(tokens[:130], model.transformer.tokens.weight.data)
    assert not tokens[130:].any()
    np.testing.assert_array_equal(numbers[256 * D :][: 6 * D].reshape(6, D), model.transformer.positions.weight.data)
    first = 262 * D + 4 * D  # both layers' ln_1 weights and biases, then q, k, v of the first layer as (out, in)
    qkv = numbers[first : first + 3 * D * D].reshape(3, D, D)
    attention = model.transformer.layers[0].attn
    for packed, part in zip(qkv, (attention.q, attention.k, attention.v)):
        np.testing.assert_array_equal(packed, part.weight.data)


def test_the_token_file(llmc, tmp_path):
    llmc.write_tokens(np.arange(257), tmp_path)
    raw = (tmp_path / "dev" / "data" / "tinyshakespeare" / "tiny_shakespeare_val.bin").read_bytes()
    assert np.frombuffer(raw, np.int32, 3).tolist() == [20240520, 1, 257]
    assert np.frombuffer(raw, np.uint16, offset=1024).tolist() == list(range(257))


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process by a signal")
def test_the_program_runs_in_its_turns_only(llmc, tmp_path):
    fake = tmp_path / "train_gpt2"
    fake.write_text(FAKE.format(python=sys.executable))
    fake.chmod(0o755)
    program = llmc.Program(fake, tmp_path)
    try:
        program.run_to(1)
        assert program.steps == [(5.0, 12.5), (4.9, 12.5)]
        time.sleep(0.3)
        start = time.perf_counter()
        program.run_to(5)
        assert time.perf_counter() - start > 0.1, "it made its steps while it should have stood still"
        assert len(program.steps) == 6
        with pytest.raises(ValueError, match="comes after an evaluation"):
            program.run_to(10)
    finally:
        program.end()


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process by a signal")
def test_a_program_that_ends_early_is_quoted(llmc, tmp_path):
    fake = tmp_path / "train_gpt2"
    fake.write_text(f"#!{sys.executable}\nprint('Bad magic model file')\nraise SystemExit(1)\n")
    fake.chmod(0o755)
    program = llmc.Program(fake, tmp_path)
    with pytest.raises(RuntimeError, match="ended with code 1:\n.*Bad magic"):
        program.run_to(0)
    program.end()
